"""What Pillow does not tell of TIFF files: raw photos behind a preview, planes of 16 bits, white at 0, depth."""

from __future__ import annotations

import struct
import sys
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, TiffImagePlugin

from fscs_sdk.images.levels import DEPTHS

NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR, MAX_SAMPLE, SUB_DIRECTORIES = 254, 258, 262, 284, 281, 330
DNG_VERSION = 50706
WHITE_IS_ZERO, COLOUR_FILTER_ARRAY, LINEAR_RAW = 0, 32803, 34892
#: Bytes of a whole number of each TIFF type, and how many numbers of a tag are looked at.
_WIDTHS, MOST_NUMBERS = {1: 1, 3: 2, 4: 4, 13: 4}, 16
#: What follows the header in raw files of Canon and Phase One.
_RAW_MARKS = (b"CR", b"IIII", b"MMMM")


def is_raw(stream: BinaryIO, prefix: bytes) -> bool:
    """Is this TIFF a camera's raw photo, whose first picture is a thumbnail or the sensor's values?

    Args:
        stream: at the file's start, where it stands again afterwards.
        prefix: its first 16 bytes.
    """
    if not prefix.startswith((b"II*\0", b"MM\0*")):
        return False
    if prefix[8:].startswith(_RAW_MARKS):
        return True
    order: Literal["little", "big"] = "little" if prefix.startswith(b"II") else "big"
    first = _directory(stream, order, int.from_bytes(prefix[4:8], order))
    others = [_directory(stream, order, offset) for offset in first.get(SUB_DIRECTORIES, ())]
    stream.seek(0)
    kinds = {number for directory in (first, *others) for number in directory.get(PHOTOMETRIC, ())}
    reduced = any(number & 1 for number in first.get(NEW_SUBFILE_TYPE, ()))
    return DNG_VERSION in first or reduced or not kinds.isdisjoint((COLOUR_FILTER_ARRAY, LINEAR_RAW))


def _directory(stream: BinaryIO, order: Literal["little", "big"], offset: int) -> dict[int, tuple[int, ...]]:
    """Tag -> its whole numbers, of a TIFF directory, as far as it is there.

    Pillow's own reader of directories gives up where one is cut short, and warns.
    """
    stream.seek(offset)
    entries = stream.read(12 * int.from_bytes(stream.read(2), order))
    directory = {}
    for start in range(0, len(entries) - 11, 12):
        tag, kind, count, _ = struct.unpack(f"{'<' if order == 'little' else '>'}HHI4s", entries[start : start + 12])
        width, count = _WIDTHS.get(kind, 0), min(count, MOST_NUMBERS)
        data = entries[start + 8 : start + 8 + width * count]
        if width * count > 4:
            stream.seek(int.from_bytes(entries[start + 8 : start + 12], order))
            data = stream.read(width * count)
        directory[tag] = tuple(
            int.from_bytes(data[at : at + width], order) for at in range(0, len(data) - width + 1, width or 1)
        )
    return directory


def load_tiff(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Decode a TIFF: black is 0, and planes are read by their depth."""
    tags = image.tag_v2
    if image.tile:
        # Pillow checks its own pixel limit a second time where a TIFF has no pixel buffer yet.
        image.im = Image.new(image.mode, (tags[256], tags[257])).im
        image.tile = [_mended(image, tile) for tile in image.tile]
    image.load()
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and image.mode in ("I;16", "F"):  # others are turned by Pillow
        values = np.asarray(image)
        bits = depth_of(image) or next(depth for depth in DEPTHS if values.max() < 2**depth)
        top = 1 if image.mode == "F" else 2**bits - 1
        inverted = Image.fromarray((top - values).astype(values.dtype))
        inverted.info = image.info
        return inverted
    return image


def _mended(image: TiffImagePlugin.TiffImageFile, tile: Any) -> Any:
    """A tile, with another word for how its bytes are laid out where Pillow takes them for something else."""
    if not isinstance(tile.args, tuple):
        return tile
    layout, *others = tile.args
    if tile.codec_name == "libtiff" and layout == "F;32BF" and sys.byteorder == "little":
        layout = "F;32F"  # the codec has turned the bytes already
    planes = image.tag_v2.get(PLANAR) == 2 and layout in tuple("RGBA")
    if planes and has_sixteen_bits(image):
        layout += ";16B" if image.tag_v2.prefix == b"MM" else ";16L"  # planes of bytes, says Pillow
    return tile._replace(args=(layout, *others))


def has_sixteen_bits(image: Image.Image) -> bool:
    """A TIFF that keeps every value in 16 bits."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and set(_numbers(image, BITS_PER_SAMPLE)) == {16}


def depth_of(image: Image.Image) -> int | None:
    """How many bits the values of a grey TIFF have, if it says so and they are fewer than their place has."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    bits, top = _numbers(image, BITS_PER_SAMPLE)[0], _numbers(image, MAX_SAMPLE)[0]
    if bits in (10, 12, 14):
        return bits
    return next((depth for depth in (10, 12, 14, 16) if top == 2**depth - 1), None)


def _numbers(image: TiffImagePlugin.TiffImageFile, tag: int) -> tuple[int, ...]:
    """A tag's values; 0 where it is not there."""
    values = image.tag_v2.get(tag, 0)
    return values if isinstance(values, tuple) else (int(values or 0),)
