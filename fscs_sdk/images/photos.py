"""A photo in any form -> one RGB array, upright and in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.decoding import (
    DEFAULT_MAX_PIXELS,
    ImageError,
    ImageSource,
    check_size,
    check_unit_range,
    is_tensor,
    name_of,
    open_image,
    sixteen_to_eight,
    tensor_to_array,
    to_rgba,
    turned_upright,
)

if TYPE_CHECKING:
    import torch


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
    name = name_of(source, label, "photo")
    if is_tensor(source):
        return _photo_from_array(_photo_tensor_to_array(source, name, max_pixels), name, max_pixels)
    if isinstance(source, np.ndarray):
        return _photo_from_array(source, name, max_pixels)
    with open_image(source, name) as image:
        check_size(image.height, image.width, name, max_pixels)
        return _photo_from_pil(turned_upright(image), name)


def _photo_tensor_to_array(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
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


def _photo_from_array(array: NDArray[Any], name: str, max_pixels: int) -> NDArray[np.uint8]:
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (1, 3, 4)):
        cure = "pass one photo at a time"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            cure = "move the channels last with array.transpose(1, 2, 0)"
        raise ImageError(f"{name} has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): {cure}")
    check_size(array.shape[0], array.shape[1], name, max_pixels)
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
        return sixteen_to_eight(array)
    if array.dtype.kind == "f":
        check_unit_range(array, name)
        wide = array.astype(np.promote_types(array.dtype, np.float32))
        eight: NDArray[np.uint8] = np.clip(np.rint(wide * 255), 0, 255).astype(np.uint8)
        return eight
    raise ImageError(
        f"{name} holds {array.dtype} values: pass uint8 (0 to 255), uint16 (0 to 65535) or floats from 0 to 1"
    )


def _photo_from_pil(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode == "F":
        return np.repeat(_to_uint8(np.asarray(image), name)[:, :, None], 3, axis=2)
    if image.mode.startswith("I"):
        return _photo_from_wide_grey(image, name)
    if image.has_transparency_data:
        image = _over_white(to_rgba(image))
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
    grey = sixteen_to_eight(values)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _over_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=image)
    return canvas
