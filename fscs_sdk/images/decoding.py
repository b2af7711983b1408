"""Anything a caller may hold -> a PIL image or an array, upright: files, bytes, file objects, PIL images, tensors."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, Union

from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from fscs_sdk.images.containers import identify
from fscs_sdk.images.errors import ImageError
from fscs_sdk.images.tiff import load_tiff

if TYPE_CHECKING:
    import torch

DEFAULT_MAX_PIXELS = 100_000_000
"""The largest photo or mask that is decoded unless the caller says otherwise, in pixels."""

MIN_SIDE = 8
"""The smallest height or width of a photo, in pixels: anything below is an icon or a mistake."""

ImageSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, Image.Image, NDArray[Any], "torch.Tensor"
]
"""What a photo may be given as."""

MaskSource: TypeAlias = ImageSource
"""What a mask may be given as."""

#: Formats whose levels are not exact. WebP and JPEG 2000 may be, but do not say so.
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "HEIF"})

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def name_of(source: object, label: str | None, kind: str) -> str:
    """What messages call the source; always encodable as UTF-8 (repr escapes the surrogates of odd file names)."""
    if label is not None:
        label = label.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(source, (str, os.PathLike)):
        path = repr(os.fsdecode(source))
        return path if label is None else f"{label} ({path})"
    if label is not None:
        return label
    if isinstance(source, Image.Image):
        return f"the {kind} given as a PIL image"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the {kind} given as bytes"
    return f"the {kind} given as {type(source).__module__}.{type(source).__name__}"


@contextlib.contextmanager
def open_image(source: object, name: str) -> Iterator[Image.Image]:
    """The PIL image of a path, bytes, a file object or a PIL image: header read, pixels not yet decoded."""
    if isinstance(source, Image.Image):
        with _decoding(name):
            yield source
        return
    with _stream(source, name) as stream, _decoding(name):
        yield identify(stream, name)


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turns whatever Pillow raises on bad content, which may be nearly any exception, into an ImageError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} holds more pixels than Pillow decodes: make it smaller") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the content
            raise type(error)(f"{name} cannot be read ({error.strerror}): check the disk, then try again") from error
        reason = str(error).encode("utf-8", "backslashreplace").decode("utf-8") or type(error).__name__
        raise ImageError(
            f"{name} is damaged, cut short or of a kind that cannot be decoded ({reason}): save or copy it again, "
            "if need be as PNG or JPEG"
        ) from error


def _stream(source: object, name: str) -> BinaryIO:
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fsdecode(source), name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(bytes(source))
    if not hasattr(source, "read"):
        raise ImageError(
            f"{name} is of type {type(source).__name__}: pass a path, bytes, a binary file, a PIL image, a numpy array "
            "or a torch tensor"
        )
    # Pillow would rewind the caller's file to its very start; the rest of it, copied, begins at the image.
    try:
        content = source.read()
    except ValueError as error:  # closed, or opened for writing only
        raise ImageError(f"{name} cannot be read ({error}): open it with mode 'rb'") from error
    if not content and _stands_behind_its_start(source):
        raise ImageError(f"{name} has been read or written to its end: go back to its start with seek(0)")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageError(f"{name} was opened as text: open it with mode 'rb'")
    return io.BytesIO(bytes(content))


def _stands_behind_its_start(file: Any) -> bool:
    try:
        return bool(file.tell() > 0)
    except (AttributeError, OSError, ValueError):  # a pipe, say
        return False


def _open_path(path: str, name: str) -> BinaryIO:
    if _URL.match(path):
        raise ImageError(f"{name} is an address and nothing is downloaded here: fetch it first, then pass the file")
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{name} is a folder: pass one of the files in it") from error
    except PermissionError as error:
        if os.path.isdir(path):  # what Windows says of a folder
            raise IsADirectoryError(f"{name} is a folder: pass one of the files in it") from error
        raise PermissionError(f"{name} may not be read by this user: change its permissions") from error
    except OSError as error:
        raise type(error)(f"{name} cannot be opened ({error.strerror}): check the path") from error
    except UnicodeEncodeError as error:
        raise ImageError(
            f"{name} cannot be opened, as file names are {error.encoding} in this process's locale: start it with "
            "PYTHONUTF8=1"
        ) from error
    except ValueError as error:
        raise ImageError(f"{name} cannot be a path ({error}): check it") from error


def decode(image: Image.Image, source: object) -> tuple[Image.Image, list[str]]:
    """The pixels, upright as EXIF says, and what is to be told of them; the image itself if there is nothing to turn.

    Of a file with several pictures the first is taken, of a PIL image the one that the caller chose. A JPEG's further
    pictures (MPO) are previews, other exposures or depth, and need no word.
    """
    several = source is not image and image.format != "MPO" and getattr(image, "is_animated", False)
    remarks = ["holds several pictures, of which only the first is used"] if several else []
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return upright(load_tiff(image), orientation_of(image)), remarks
    image.load()  # before the EXIF: in a PNG it may follow the pixels
    return upright(image, orientation_of(image)), remarks


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; of a PNG only once it is loaded."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  a broken EXIF block raises nearly anything; the pixels are taken as stored
        return 1
    return orientation if orientation in range(1, 9) else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned by its EXIF orientation; the image itself where there is nothing to turn."""
    if orientation == 1:
        return image
    bare = image.copy()
    bare.info = {}  # what else is in the EXIF block would be written anew, which fails where it is odd
    bare.getexif()[ExifTags.Base.Orientation] = orientation
    turned = ImageOps.exif_transpose(bare)
    turned.info = image.info
    return turned


def check_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise ImageError(f"max_pixels is {max_pixels!r}: it must be a whole number of pixels above 0")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} (width x height), {height * width} pixels and the limit is {max_pixels}: "
            "make it smaller or raise max_pixels"
        )


def check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    check_pixels(height, width, name, max_pixels)
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"{name} is {width} x {height} pixels (width x height) and each side must be at least {MIN_SIDE}: "
            "pass a larger photo"
        )


def is_tensor(source: object) -> TypeGuard[torch.Tensor]:
    # Whoever holds a tensor has imported torch; so a caller without tensors never pays for that import.
    return isinstance(source, getattr(sys.modules.get("torch"), "Tensor", ()))


def tensor_to_array(tensor: torch.Tensor, name: str) -> NDArray[Any]:
    try:
        if tensor.is_floating_point() and tensor.element_size() < 4:
            tensor = tensor.float()  # numpy has no bfloat16
        array: NDArray[Any] = tensor.numpy(force=True)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ImageError(
            f"{name} is a {tensor.dtype} tensor on {tensor.device} that has no plain values ({error}): "
            "pass an ordinary tensor"
        ) from error
    return array
