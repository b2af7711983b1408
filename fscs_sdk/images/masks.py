"""A mask in any form -> one binary array, upright like its photo."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.images.decoding import (
    DEFAULT_MAX_PIXELS,
    LOSSY_FORMATS,
    MaskSource,
    check_pixels,
    decode,
    is_tensor,
    name_of,
    open_image,
    tensor_to_array,
)
from fscs_sdk.images.errors import ImageError, ImageWarning
from fscs_sdk.images.foreground import foreground_of_array, foreground_of_image

if TYPE_CHECKING:
    import torch

#: Share of a photo's border that is foreground from which on a mask may have been drawn the other way round.
SURROUNDED = 0.9


def read_mask(
    source: MaskSource, *, size: tuple[int, int], label: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.bool_]:
    """Reads one binary mask, upright like its photo.

    White, or one colour, on black; an alpha channel around an object; or class numbers, of which one may occur beside 0
    (background) and 255 (void). The guide's table of masks has every case. What is not certain is refused.

    Args:
        source: the mask, as for `read_image`; arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, integers or
            floats, tensors (H, W) or (1, H, W).
        size: (height, width) of the photo as `read_image` returns it.
        label: what messages call it, such as "mask of dog, shot 1"; a path names itself.
        max_pixels: as for `read_image`.

    Returns:
        bool (H, W), True for the foreground.

    Raises:
        ImageError: the content cannot be used, what it means is not certain, or its size is not the photo's.
        OSError: the file cannot be opened.

    Warns:
        ImageWarning: no pixel or every pixel is foreground, the foreground goes all around the rest (so the mask may be
            drawn the other way round), the file has further frames, or it is transparent all over.
    """
    name = name_of(source, label, "mask")
    remarks: list[str] = []
    if is_tensor(source):
        source = _array_of_tensor(source, name, max_pixels)
    if isinstance(source, np.ndarray):
        _check_shape(source, size, name)
        check_pixels(source.shape[0], source.shape[1], name, max_pixels)
        _check_same_size(source.shape[:2], size, name)
        mask = foreground_of_array(source, name, remarks=remarks)
    else:
        with open_image(source, name) as image:
            check_pixels(image.height, image.width, name, max_pixels)
            lossy = image.format in LOSSY_FORMATS
            upright, told = decode(image, source)
            remarks += told
            _check_same_size((upright.height, upright.width), size, name)
            mask = foreground_of_image(upright, name, lossy=lossy, remarks=remarks)
    remarks += _oddities(mask)
    for remark in remarks:
        warnings.warn(f"{name} {remark}", ImageWarning, stacklevel=2)
    return mask


def _oddities(mask: NDArray[np.bool_]) -> list[str]:
    """What is odd in a mask that can be used."""
    if not mask.any():
        return ["has no foreground pixel, so it points at nothing"]
    if mask.all():
        return ["is full: every pixel is foreground"]
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if border.mean() >= SURROUNDED:
        return [
            "has its foreground, what is white or not 0, all around the rest: if the object is what is black, invert it"
        ]
    return []


def _array_of_tensor(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
    shape = tuple(tensor.shape)
    if len(shape) != 2 and (len(shape) != 3 or shape[0] != 1):
        raise ImageError(f"{name} is a tensor of shape {shape}, not (H, W) or (1, H, W): pass one mask at a time")
    check_pixels(shape[-2], shape[-1], name, max_pixels)
    array = tensor_to_array(tensor, name)
    return array if array.ndim == 2 else array[0]


def _check_shape(array: NDArray[Any], size: tuple[int, int], name: str) -> None:
    if array.ndim == 2 and array.shape != tuple(size) and array.shape[1] in (2, 4):
        what = "points of a polygon" if array.shape[1] == 2 else "boxes"
        raise ImageError(
            f"{name} has shape {array.shape}, so it seems to hold {what}: pass a mask of the photo's size, such as one "
            "that is drawn with cv2.fillPoly or PIL.ImageDraw"
        )
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
        return
    cure = "pass one mask at a time"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        cure = "move the channels last with mask.transpose(1, 2, 0)"
    raise ImageError(f"{name} has shape {array.shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): {cure}")


def _check_same_size(found: tuple[int, ...], size: tuple[int, int], name: str) -> None:
    if tuple(found) == tuple(size):
        return
    turned = " (turned by 90 degrees against it)" if tuple(found) == tuple(size)[::-1] else ""
    raise ImageError(
        f"{name} is {found[1]} x {found[0]} but its photo is {size[1]} x {size[0]} (width x height){turned}: "
        "draw the mask on this photo, or resize it with nearest neighbour"
    )
