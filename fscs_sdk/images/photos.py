"""A photo in any form -> one RGB array, upright and in colour."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.decoding import (
    DEFAULT_MAX_PIXELS,
    ImageSource,
    check_size,
    decode,
    is_tensor,
    name_of,
    open_image,
    tensor_to_array,
)
from fscs_sdk.images.errors import ImageError, ImageWarning
from fscs_sdk.images.levels import over_white, to_rgba, to_uint8
from fscs_sdk.images.tiff import depth_of, has_sixteen_bits

if TYPE_CHECKING:
    import torch

#: Levels from black, or from white, within which nothing can be recognised.
BLANK = 16
#: A photo whose pixels are all but so many blank shows nothing.
VISIBLE = 0.001
#: Rows that are copied at once: few enough for the processor's caches.
ROWS_AT_ONCE = 64
#: About so many pixels, evenly spread, are looked at to see whether a photo is blank.
LOOKED_AT = 100_000


def read_image(
    source: ImageSource, *, label: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Reads one photo, upright and in colour.

    Files, bytes, file objects (read from where they stand, left open) and PIL images: EXIF orientation is applied,
    transparency is laid over white, wider grey is brought to 8 bits and rounded, every other mode becomes RGB. Of an
    animation or a multi-page file the first frame is taken (of a PIL image the frame it stands at).

    Arrays: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Tensors, on any device: (1, H, W), (3, H, W) or (4, H, W).
    Both: uint8, uint16 (0 to 65535), or floats in [0, 1].

    Values of 16 bits that end at 255, 1023, 4095 or 16383 are a camera's 8, 10, 12 or 14 bits: they are scaled so that
    the largest of these is white, which is told unless the file says it.

    Args:
        source: the photo.
        label: what messages call it, such as "query 3"; a path names itself.
        max_pixels: more pixels than this are refused, from the file's header, before anything is decoded.

    Returns:
        uint8 (H, W, 3), RGB, 0 to 255.

    Raises:
        ImageError: the content cannot be used.
        OSError: the file cannot be opened (FileNotFoundError, IsADirectoryError, PermissionError, ...).

    Warns:
        ImageWarning: the photo is black, white or transparent all over, its depth was guessed, or the file has further
            frames.
    """
    name = name_of(source, label, "photo")
    remarks: list[str] = []
    if is_tensor(source):
        photo = _photo_of_array(_array_of_tensor(source, name, max_pixels), name, max_pixels, remarks)
    elif isinstance(source, np.ndarray):
        photo = _photo_of_array(source, name, max_pixels, remarks)
    else:
        with open_image(source, name) as image:
            check_size(image.height, image.width, name, max_pixels)
            deep = _is_deep_colour(image)
            decoded, told = decode(image, source)
            remarks += told
            photo = _photo_of_pil(decoded, name, remarks, bits=depth_of(image))
            if deep and photo.max() < 64:
                remarks.append("holds small values in 16 bits, so it comes out dark: scale its values to 8 bits")
    if not remarks:
        remarks += _blankness(photo)
    for remark in remarks:
        warnings.warn(f"{name} {remark}", ImageWarning, stacklevel=2)
    return photo


def _blankness(photo: NDArray[np.uint8]) -> list[str]:
    """What is to be told of a photo that shows nothing."""
    step = max(1, int((photo.shape[0] * photo.shape[1] / LOOKED_AT) ** 0.5))
    some = photo[::step, ::step]
    for blank, called in ((some <= BLANK, "black"), (some >= 255 - BLANK, "white")):
        if 1 - blank.mean() < VISIBLE:
            return [f"is {called} all over, or nearly: check that it was saved and exposed as it should be"]
    return []


def _is_deep_colour(image: Image.Image) -> bool:
    """A file with 16 bits a colour, of which Pillow keeps the upper eight."""
    # What Pillow notes of planes in a TIFF is the layout of bytes.
    return image.mode in ("RGB", "RGBA") and (";16" in str(getattr(image, "tile", "")) or has_sixteen_bits(image))


def _array_of_tensor(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
    shape = tuple(tensor.shape)
    if len(shape) != 3 or shape[0] not in (1, 3, 4):
        cure = "pass one photo at a time"
        if len(shape) == 2:
            cure = "add the channel with tensor.unsqueeze(0)"
        elif len(shape) == 3 and shape[2] in (1, 3, 4):
            cure = "move the channels first with tensor.permute(2, 0, 1)"
        raise ImageError(f"{name} is a tensor of shape {shape}, not (3, H, W), (1, H, W) or (4, H, W): {cure}")
    check_size(shape[1], shape[2], name, max_pixels)
    return np.moveaxis(tensor_to_array(tensor, name), 0, 2)


def _photo_of_array(array: NDArray[Any], name: str, max_pixels: int, remarks: list[str]) -> NDArray[np.uint8]:
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (1, 3, 4)):
        cure = "pass one photo at a time"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            cure = "move the channels last with array.transpose(1, 2, 0)"
        raise ImageError(f"{name} has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): {cure}")
    check_size(array.shape[0], array.shape[1], name, max_pixels)
    if array.dtype.kind != "f" and not (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        raise ImageError(
            f"{name} holds {array.dtype} values: pass uint8 (0 to 255), uint16 (0 to 65535) or floats from 0 to 1"
        )
    channels = array if array.ndim == 3 else array[:, :, None]
    if channels.shape[2] == 4:  # whose depths may differ
        colours = to_uint8(np.ascontiguousarray(channels[:, :, :3]), name, remarks)
        alpha = to_uint8(np.ascontiguousarray(channels[:, :, 3:]), name, [])
        return _opaque(Image.fromarray(np.concatenate([colours, alpha], axis=2)), remarks)
    values = to_uint8(channels, name, remarks)
    if values.shape[2] == 1:
        return np.repeat(values, 3, axis=2)
    return np.array(values, order="C")


def _photo_of_pil(image: Image.Image, name: str, remarks: list[str], *, bits: int | None) -> NDArray[np.uint8]:
    if image.mode == "F" or image.mode.startswith("I"):  # mode I is how older Pillow decodes a 16-bit PNG
        values = np.asarray(image)
        grey = np.array(to_uint8(values, name, remarks, bits=bits))
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        return _opaque(to_rgba(image), remarks)
    return _pixels(image if image.mode == "RGB" else image.convert("RGB"))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) of a picture in mode RGB, some rows at a time: Pillow hands pixels out by way of two copies, which for
    a large photo take longer than its decoding."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _opaque(rgba: Image.Image, remarks: list[str]) -> NDArray[np.uint8]:
    """Colours over white, as a page shows them; but where that would show nothing, the colours alone."""
    if rgba.getchannel("A").getbbox() is None:
        remarks.append("is transparent all over, so its colours are taken as if it were not")
        return _pixels(rgba.convert("RGB"))
    return _pixels(over_white(rgba))
