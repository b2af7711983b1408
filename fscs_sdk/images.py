"""Photos and masks in: anything a caller may hold -> one RGB array, or one binary mask.

Every door of the SDK decodes here, so that a path, its bytes, an open file, a PIL image and an array of the same photo
give exactly the same pixels. Nothing is downloaded, nothing the caller passed is changed, and no result shares memory
with it.

A file may be PNG, JPEG (also MPO), WebP, TIFF, GIF, BMP, PPM/PGM, JPEG 2000 or AVIF, and HEIF where a plugin has
registered it with Pillow. Colour profiles are not applied.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, Union

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

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

# Only formats with a signature and a decoder inside Pillow: EPS would start Ghostscript, TGA would claim any bytes.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_VOID = (255, 65535)  # "do not count this pixel" in the label maps of Pascal VOC and its heirs; 65535 in 16-bit files
_NEAR = 24  # grey levels of JPEG noise around pure black and pure white
_CONTEXT = 2  # side of a close-up, in lengths of its object
_FLOAT_SLACK = 1e-5  # resizing a float photo leaves values such as 1.0000001


class ImageError(ValueError):
    """The content of a photo or mask cannot be used; the message names the thing and the cure."""


class ImageWarning(UserWarning):
    """A mask is readable but says nothing: it marks no pixel, or every pixel."""


def read_image(
    source: ImageSource, *, label: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Reads one photo, upright and in colour.

    Files, bytes, file objects (read from where they stand, left open) and PIL images: EXIF orientation is applied,
    transparency is laid over white, 16-bit grey is divided by 257 and rounded, every other mode becomes RGB. Of an
    animation or a multi-page file the first frame is taken (of a PIL image the frame it stands at).

    Arrays: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Tensors, on any device: (1, H, W), (3, H, W) or (4, H, W).
    Both: uint8, uint16 (0 to 65535), or floats in [0, 1].

    Args:
        source: the photo.
        label: what error messages call it, such as "query 3"; a path names itself.
        max_pixels: more pixels than this are refused, from the file's header, before anything is decoded.

    Returns:
        uint8 (H, W, 3), RGB, 0 to 255.

    Raises:
        ImageError: the content cannot be used.
        OSError: the file cannot be opened (FileNotFoundError, IsADirectoryError, PermissionError, ...).
    """
    name = _name(source, label, "photo")
    if _is_tensor(source):
        return _photo_from_array(_photo_tensor_to_array(source, name, max_pixels), name, max_pixels)
    if isinstance(source, np.ndarray):
        return _photo_from_array(source, name, max_pixels)
    with _opened(source, name) as image:
        _check_size(image.height, image.width, name, max_pixels)
        return _photo_from_pil(_upright(image), name)


def read_mask(
    source: MaskSource, *, size: tuple[int, int], label: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.bool_]:
    """Reads one binary mask, upright like its photo.

    The rules, in order:

    - bool and 1-bit: as they are. Floats must lie in [0, 1]; 0.5 and above is foreground.
    - Palette images count by index, not by colour: 0 is background, 255 is void and counts as background, and one
      other index is the foreground. (A palette that is the plain grey ramp is a grey image.)
    - Grey images and integer arrays, 8 or 16 bit: {0, v} for any v, so also {0, 1} and {0, 255}.
    - Soft edges, from JPEG or anti-aliasing, are cut at half the maximum: the maximum is at least 200, at least 90 %
      of the pixels lie within 24 of 0 or of the maximum, and the values between form no 3 x 3 patch of one value,
      which would be the region of an id. Small ids under a void of 255 are not soft either, unless the file is a JPEG.
    - {0, v, 255} that is not soft: v is the foreground and 255 (in 16 bit also 65535) is void.
    - An alpha channel that is not constant is the mask, cut at half its maximum. Otherwise the largest of the colour
      channels is read as grey, and the foreground must be of one colour.
    - Everything else is refused: a label map with several ids needs the caller's choice, ``mask == id``.

    Args:
        source: the mask, as for `read_image`; arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, integers or
            floats, tensors (H, W) or (1, H, W).
        size: (height, width) of the photo as `read_image` returns it.
        label: what error messages call it, such as "mask of dog, shot 1"; a path names itself.
        max_pixels: as for `read_image`.

    Returns:
        bool (H, W), True for the foreground.

    Raises:
        ImageError: the content cannot be used, or its size is not the photo's.
        OSError: the file cannot be opened.

    Warns:
        ImageWarning: no pixel, or every pixel, is foreground.
    """
    name = _name(source, label, "mask")
    if _is_tensor(source):
        source = _mask_tensor_to_array(source, name, max_pixels)
    if isinstance(source, np.ndarray):
        _check_mask_shape(source, name)
        _check_pixels(source.shape[0], source.shape[1], name, max_pixels)
        _check_same_size(source.shape[:2], size, name)
        mask = _foreground(source, name, lossy=False)
    else:
        with _opened(source, name) as image:
            _check_pixels(image.height, image.width, name, max_pixels)
            upright = _upright(image)
            _check_same_size((upright.height, upright.width), size, name)
            mask = _mask_from_pil(upright, name, lossy=image.format in ("JPEG", "MPO"))
    if not mask.any():
        warnings.warn(f"{name} has no foreground pixel, so it points at nothing", ImageWarning, stacklevel=2)
    elif mask.all():
        warnings.warn(f"{name} is full: every pixel is foreground", ImageWarning, stacklevel=2)
    return mask


def resize_image(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resizes a photo (H, W, 3) to (side, side, 3), bilinear, not keeping the aspect.

    The same pixels as torchvision's ``Resize((side, side))`` gives for a PIL image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"a photo to resize is uint8 (H, W, 3), not {_signature(image)}: pass what read_image returns")
    _check_side(side)
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def resize_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Resizes a mask (H, W) to (side, side) by nearest neighbour, not keeping the aspect."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ImageError(f"a mask to resize is bool (H, W), not {_signature(mask)}: pass what read_mask returns")
    _check_side(side)
    grey = Image.fromarray(mask.astype(np.uint8))
    return np.array(grey.resize((side, side), Image.Resampling.NEAREST)).astype(np.bool_)


def close_up(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], below: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A photo (H, W, 3) and its mask (H, W), both cropped around an object that is small in it.

    At a network's input side a small object is a position or two of the coarsest maps, most of them background. So
    where the object's box is shorter than ``below`` of the photo both ways, a square around it is kept, twice as long
    as the box's longer side and no larger than the photo. Not in the paper, which takes photos whole.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W), of any number of parts; one box is put around all. An empty one leaves the photo whole.
        below: share of the photo's height and width, 0 to 1; 0 leaves every photo whole.

    Returns:
        Views of both, (h, w, 3) and (h, w).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return image, mask
    spans = [(rows[0], rows[-1] + 1, mask.shape[0]), (columns[0], columns[-1] + 1, mask.shape[1])]
    if any(end - start >= below * size for start, end, size in spans):
        return image, mask
    side = _CONTEXT * max(int(end - start) for start, end, _ in spans)
    kept = tuple(_around(int(start + end) // 2, side, size) for start, end, size in spans)
    return image[kept], mask[kept]


def _around(middle: int, length: int, size: int) -> slice:
    """``length`` of ``size`` pixels around one of them, moved inside."""
    start = max(0, min(middle - length // 2, size - length))
    return slice(start, min(start + length, size))


# ---------------------------------------------------------------------------------------------- names for messages


def _name(source: object, label: str | None, kind: str) -> str:
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


def _signature(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {tuple(array.shape)}"


def _listed(ids: NDArray[Any]) -> str:
    shown = ", ".join(str(i) for i in ids[:12].tolist())
    return shown if len(ids) <= 12 else f"{shown}, ... ({len(ids)} different values)"


# ------------------------------------------------------------------------------------------------- files and bytes


@contextlib.contextmanager
def _opened(source: object, name: str) -> Iterator[Image.Image]:
    """The PIL image of a path, bytes, a file object or a PIL image: header read, pixels not yet decoded."""
    if isinstance(source, Image.Image):
        with _decoding(name):
            yield source
        return
    with _stream(source, name) as stream, _decoding(name):
        yield _identified(stream, name)


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
            f"{name} is damaged, cut short or of a kind that cannot be decoded ({reason}): save or copy it again"
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
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageError(f"{name} was opened as text: open it with mode 'rb'")
    return io.BytesIO(bytes(content))


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
    except ValueError as error:
        raise ImageError(f"{name} cannot be a path ({error}): check it") from error


def _identified(stream: BinaryIO, name: str) -> Image.Image:
    """Finds the decoder by the file's signature.

    Not `Image.open`: that checks Pillow's own pixel limit, a global, and warns in its own words; here the caller's
    ``max_pixels`` is the limit.
    """
    Image.init()
    prefix = stream.read(16)
    stream.seek(0)
    if not prefix:
        raise ImageError(f"{name} is empty (0 bytes): save or copy it again")
    for file_format in _FORMATS:
        factory, accepts = Image.OPEN.get(file_format, (None, None))
        if factory is not None and accepts is not None and accepts(prefix) is True:
            return factory(stream, "")
    raise ImageError(f"{name} is not an image in a format that can be read here: convert it to PNG or JPEG")


def _upright(image: Image.Image) -> Image.Image:
    """Decodes, then applies the EXIF orientation. Returns the image itself where there is nothing to turn."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
        # Pillow checks its own pixel limit a second time where a TIFF has no pixel buffer yet.
        image.im = Image.new(image.mode, (image.tag_v2[256], image.tag_v2[257])).im
    image.load()  # before the EXIF: in a PNG it may follow the pixels
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  a broken EXIF block raises nearly anything; the pixels are taken as stored
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


# ---------------------------------------------------------------------------------------------------------- checks


def _check_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} (width x height), {height * width} pixels and the limit is {max_pixels}: "
            "make it smaller or raise max_pixels"
        )


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    _check_pixels(height, width, name, max_pixels)
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"{name} is {width} x {height} pixels (width x height) and each side must be at least {MIN_SIDE}: "
            "pass a larger photo"
        )


def _check_same_size(found: tuple[int, ...], size: tuple[int, int], name: str) -> None:
    if tuple(found) == tuple(size):
        return
    turned = " (turned by 90 degrees against it)" if tuple(found) == tuple(size)[::-1] else ""
    raise ImageError(
        f"{name} is {found[1]} x {found[0]} but its photo is {size[1]} x {size[0]} (width x height){turned}: "
        "draw the mask on this photo, or resize it with nearest neighbour"
    )


def _check_mask_shape(array: NDArray[Any], name: str) -> None:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
        return
    cure = "pass one mask at a time"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        cure = "move the channels last with mask.transpose(1, 2, 0)"
    raise ImageError(f"{name} has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): {cure}")


def _check_unit_range(array: NDArray[Any], name: str) -> None:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max hand a NaN on
        raise ImageError(f"{name} holds NaN or infinite values: replace them with numbers from 0 to 1")
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        raise ImageError(
            f"{name} holds floats from {low:.6g} to {high:.6g}, not from 0 to 1: divide by 255 if they are 0 to 255, "
            "undo the normalisation if there was one"
        )


def _check_side(side: int) -> None:
    if side < 1:
        raise ImageError(f"side is {side}: it must be at least 1 pixel")


# --------------------------------------------------------------------------------------------------------- tensors


def _is_tensor(source: object) -> TypeGuard[torch.Tensor]:
    # Whoever holds a tensor has imported torch; so a caller without tensors never pays for that import.
    return isinstance(source, getattr(sys.modules.get("torch"), "Tensor", ()))


def _photo_tensor_to_array(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
    shape = tuple(tensor.shape)
    if len(shape) != 3 or shape[0] not in (1, 3, 4):
        cure = "pass one photo at a time"
        if len(shape) == 2:
            cure = "add the channel with tensor.unsqueeze(0)"
        elif len(shape) == 3 and shape[2] in (1, 3, 4):
            cure = "move the channels first with tensor.permute(2, 0, 1)"
        raise ImageError(f"{name} is a tensor of shape {shape}, not (3, H, W), (1, H, W) or (4, H, W): {cure}")
    _check_size(shape[1], shape[2], name, max_pixels)
    return np.moveaxis(_tensor_to_array(tensor, name), 0, 2)


def _mask_tensor_to_array(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
    shape = tuple(tensor.shape)
    if len(shape) != 2 and (len(shape) != 3 or shape[0] != 1):
        raise ImageError(f"{name} is a tensor of shape {shape}, not (H, W) or (1, H, W): pass one mask at a time")
    _check_pixels(shape[-2], shape[-1], name, max_pixels)
    array = _tensor_to_array(tensor, name)
    return array if array.ndim == 2 else array[0]


def _tensor_to_array(tensor: torch.Tensor, name: str) -> NDArray[Any]:
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


# ---------------------------------------------------------------------------------------------------------- photos


def _photo_from_array(array: NDArray[Any], name: str, max_pixels: int) -> NDArray[np.uint8]:
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (1, 3, 4)):
        cure = "pass one photo at a time"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            cure = "move the channels last with array.transpose(1, 2, 0)"
        raise ImageError(f"{name} has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): {cure}")
    _check_size(array.shape[0], array.shape[1], name, max_pixels)
    channels = array if array.ndim == 3 else array[:, :, None]
    values = _to_uint8(channels, name)
    if values.shape[2] == 4:
        return np.array(_over_white(Image.fromarray(values)))
    if values.shape[2] == 1:
        return np.repeat(values, 3, axis=2)
    return np.array(values, order="C")


def _to_uint8(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """The same values on the 8-bit scale; may be the array itself."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either byte order
        return _sixteen_to_eight(array)
    if array.dtype.kind == "f":
        _check_unit_range(array, name)
        wide = array.astype(np.promote_types(array.dtype, np.float32))
        eight: NDArray[np.uint8] = np.clip(np.rint(wide * 255), 0, 255).astype(np.uint8)
        return eight
    raise ImageError(
        f"{name} holds {array.dtype} values: pass uint8 (0 to 255), uint16 (0 to 65535) or floats from 0 to 1"
    )


def _sixteen_to_eight(array: NDArray[Any]) -> NDArray[np.uint8]:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 is odd: there are no ties to break


def _photo_from_pil(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode == "F":
        return np.repeat(_to_uint8(np.asarray(image), name)[:, :, None], 3, axis=2)
    if image.mode.startswith("I"):
        return _photo_from_wide_grey(image, name)
    if image.has_transparency_data:
        image = _over_white(_to_rgba(image))
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def _photo_from_wide_grey(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Modes I;16, I;16L, I;16B, and I, which is how older Pillow decodes a 16-bit PNG."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} holds 32-bit values from {low} to {high}, not from 0 to 65535: scale it to 8 or 16 bits"
        )
    grey = _sixteen_to_eight(values)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # the only mode that Pillow converts it to
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # From a 16-bit PNG: Pillow keeps the high byte of the pixels but both bytes of the transparent colour.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA")


def _over_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=image)
    return canvas


# ----------------------------------------------------------------------------------------------------------- masks


def _mask_from_pil(image: Image.Image, name: str, *, lossy: bool) -> NDArray[np.bool_]:
    if image.mode == "P":
        return _foreground_of_palette(image, name)
    if image.has_transparency_data:
        image = _to_rgba(image)
    elif image.mode not in ("1", "L", "F", "RGB") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    return _foreground(np.array(image), name, lossy=lossy)


def _foreground_of_palette(image: Image.Image, name: str) -> NDArray[np.bool_]:
    indices = np.array(image)
    ids = _ids(indices)
    palette = image.getpalette("RGB") or []
    if all(palette[3 * i : 3 * i + 3] == [i, i, i] for i in ids.tolist()):
        return _foreground_of_integers(indices, name, lossy=False)
    classes = ids[(ids != 0) & (ids != 255)]
    if len(classes) > 1:
        raise _several_ids(ids, name)
    return indices == classes[0] if len(classes) else np.zeros(indices.shape, np.bool_)


def _foreground(array: NDArray[Any], name: str, *, lossy: bool) -> NDArray[np.bool_]:
    """The foreground of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
    if array.size == 0:
        raise ImageError(f"{name} has no pixels: pass a mask as large as its photo")
    if array.dtype.kind not in "buif":
        raise ImageError(f"{name} holds {array.dtype} values: pass bool, integers, or floats from 0 to 1")
    if array.ndim == 2:
        return _foreground_of_plane(array, name, lossy=lossy)
    if array.shape[2] == 4 and (array[:, :, 3] != array[0, 0, 3]).any():
        return _foreground_of_alpha(array[:, :, 3], name)
    colours = array[:, :, :3]
    plane = functools.reduce(np.maximum, np.moveaxis(colours, 2, 0))  # several times faster than max(axis=2)
    mask = _foreground_of_plane(plane, name, lossy=lossy)
    if colours.shape[2] == 3:
        _check_one_colour(colours[mask], plane[mask], name)
    return mask


def _foreground_of_plane(plane: NDArray[Any], name: str, *, lossy: bool) -> NDArray[np.bool_]:
    if plane.dtype.kind == "b":
        return np.array(plane)
    if plane.dtype.kind == "f":
        _check_unit_range(plane, name)
        return np.asarray(plane >= 0.5)
    return _foreground_of_integers(plane, name, lossy=lossy)


def _foreground_of_alpha(alpha: NDArray[Any], name: str) -> NDArray[np.bool_]:
    if alpha.dtype.kind in "bf":
        return _foreground_of_plane(alpha, name, lossy=False)
    return np.asarray(alpha >= alpha.max() / 2)


def _foreground_of_integers(plane: NDArray[Any], name: str, *, lossy: bool) -> NDArray[np.bool_]:
    ids = _ids(plane)
    if ids[0] < 0 or ids[-1] > 65535:
        raise _several_ids(ids, name)
    marks = ids[ids != 0]
    if len(marks) <= 1:  # a lone 255 is white, not void
        return np.asarray(plane != 0)
    soft = _is_soft(_sixteen_to_eight(plane) if ids[-1] > 255 else plane.astype(np.uint8), lossy=lossy)
    if soft:
        return np.asarray(plane >= ids[-1] / 2)
    classes = marks[~np.isin(marks, _VOID)]
    if len(classes) != 1 or lossy:
        raise _several_ids(ids, name)
    return np.asarray(plane == classes[0])


def _ids(plane: NDArray[Any]) -> NDArray[Any]:
    """The different values, ascending; counting is much faster than np.unique's sort."""
    if plane.dtype.kind == "u" and plane.dtype.itemsize <= 2:
        return np.flatnonzero(np.bincount(plane.ravel()))
    return np.unique(plane)


def _is_soft(grey: NDArray[np.uint8], *, lossy: bool) -> bool:
    """Whether several grey levels are one blurred or compressed shape, rather than the ids of a label map."""
    top = int(grey.max())
    between = (grey > _NEAR) & (grey < top - _NEAR)
    if top < 200 or between.mean() > 0.1:
        return False
    if not lossy and not ((grey > _NEAR) & (grey < top)).any():
        return False  # small ids and a void of 255, as in a grey Pascal VOC label map, which no one keeps as JPEG
    # An edge is a ramp; a 3 x 3 patch of one and the same value in between is the region of an id.
    flat = between[1:-1, 1:-1].copy()
    height, width = grey.shape
    for row in range(3):
        for column in range(3):
            flat &= grey[row : row + max(height - 2, 0), column : column + max(width - 2, 0)] == grey[1:-1, 1:-1]
    return not flat.any()


def _check_one_colour(colours: NDArray[Any], levels: NDArray[Any], name: str) -> None:
    """The largest channel alone would merge the classes of a colour-coded label map, such as red and green."""
    if len(levels) == 0:
        return
    top = float(levels.max())
    exact = bool((levels == levels[0]).all())
    core = colours[levels >= top * (1 - _NEAR / 255)].astype(np.float32)
    usual = np.median(core[:: 1 + len(core) // 10_000], axis=0)
    strays = (np.abs(core - usual) > top / 5).any(axis=1).mean()
    if strays > (0.0 if exact else 0.05):  # a JPEG bleeds colour at the edges
        raise ImageError(
            f"{name} has foreground of several colours, so it may hold several classes: "
            "pass an array that is True where your class is"
        )


def _several_ids(ids: NDArray[Any], name: str) -> ImageError:
    return ImageError(
        f"{name} is not binary, it holds the values {_listed(ids)}: choose one and pass `mask == id` as an array"
    )
