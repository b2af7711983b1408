"""A mask in any form -> one binary array, upright like its photo."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.decoding import (
    DEFAULT_MAX_PIXELS,
    ImageError,
    ImageWarning,
    MaskSource,
    check_pixels,
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

_VOID = (255, 65535)  # "do not count this pixel" in the label maps of Pascal VOC and its heirs; 65535 in 16-bit files
_NEAR = 24  # grey levels of JPEG noise around pure black and pure white


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
    name = name_of(source, label, "mask")
    if is_tensor(source):
        source = _mask_tensor_to_array(source, name, max_pixels)
    if isinstance(source, np.ndarray):
        _check_mask_shape(source, name)
        check_pixels(source.shape[0], source.shape[1], name, max_pixels)
        _check_same_size(source.shape[:2], size, name)
        mask = _foreground(source, name, lossy=False)
    else:
        with open_image(source, name) as image:
            check_pixels(image.height, image.width, name, max_pixels)
            upright = turned_upright(image)
            _check_same_size((upright.height, upright.width), size, name)
            mask = _mask_from_pil(upright, name, lossy=image.format in ("JPEG", "MPO"))
    if not mask.any():
        warnings.warn(f"{name} has no foreground pixel, so it points at nothing", ImageWarning, stacklevel=2)
    elif mask.all():
        warnings.warn(f"{name} is full: every pixel is foreground", ImageWarning, stacklevel=2)
    return mask


def _mask_tensor_to_array(tensor: torch.Tensor, name: str, max_pixels: int) -> NDArray[Any]:
    shape = tuple(tensor.shape)
    if len(shape) != 2 and (len(shape) != 3 or shape[0] != 1):
        raise ImageError(f"{name} is a tensor of shape {shape}, not (H, W) or (1, H, W): pass one mask at a time")
    check_pixels(shape[-2], shape[-1], name, max_pixels)
    array = tensor_to_array(tensor, name)
    return array if array.ndim == 2 else array[0]


def _check_mask_shape(array: NDArray[Any], name: str) -> None:
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


def _mask_from_pil(image: Image.Image, name: str, *, lossy: bool) -> NDArray[np.bool_]:
    if image.mode == "P":
        return _foreground_of_palette(image, name)
    if image.has_transparency_data:
        image = to_rgba(image)
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
        check_unit_range(plane, name)
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
    soft = _is_soft(sixteen_to_eight(plane) if ids[-1] > 255 else plane.astype(np.uint8), lossy=lossy)
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


def _listed(ids: NDArray[Any]) -> str:
    shown = ", ".join(str(i) for i in ids[:12].tolist())
    return shown if len(ids) <= 12 else f"{shown}, ... ({len(ids)} different values)"
