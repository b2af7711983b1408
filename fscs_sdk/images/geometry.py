"""Photos and masks at the size that a network takes, whole or as a close-up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.errors import ImageError

#: Share of a resized mask that may be missing from it.
SPECKS = 0.01
_CONTEXT = 2  # side of a close-up, in lengths of its object


def resize_image(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resizes a photo (H, W, 3) to (side, side, 3), bilinear, not keeping the aspect.

    The same pixels as torchvision's ``Resize((side, side))`` gives for a PIL image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"a photo to resize is uint8 (H, W, 3), not {_described(image)}: pass what read_image returns")
    _check_side(side)
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def resize_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Resizes a mask (H, W) to (side, side), not keeping the aspect: by nearest neighbour, as the paper does.

    Of what is thinner than a position nearest neighbour leaves by chance a part, or nothing. So positions that the
    foreground touches are kept, too, where nearest neighbour has no foreground there or right beside it, unless they
    are less than a hundredth of what it has: specks beside a large object. So most masks are as the paper has them.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ImageError(f"a mask to resize is bool (H, W), not {_described(mask)}: pass what read_mask returns")
    _check_side(side)
    grey = Image.fromarray(mask.astype(np.uint8))
    nearest = np.array(grey.resize((side, side), Image.Resampling.NEAREST)).astype(np.bool_)
    if min(mask.shape) <= side and max(mask.shape) <= side:
        return nearest  # nothing is left out
    touched = np.asarray(grey.convert("F").resize((side, side), Image.Resampling.BOX)) > 0
    lost = touched & ~_grown(nearest)
    return nearest | lost if lost.sum() >= SPECKS * nearest.sum() else nearest


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask and all positions beside it, corners included."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


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


def cut_tiles(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The tiles in the corners of a photo: uint8 (S, S, 3) -> (4, side, side, 3), row by row."""
    starts = (0, len(image) - side)
    return np.stack([image[top : top + side, left : left + side] for top in starts for left in starts])


def fullest_tile(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], share: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Of a photo's four tiles, each ``share`` of it both ways, the one with most of the mask: views of both.

    The first of equal ones; a mask that is empty leaves the photo whole.
    """
    if not mask.any():
        return image, mask
    height, width = (max(1, round(share * size)) for size in mask.shape)
    tops, lefts = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    tile = max(((rows, columns) for rows in tops for columns in lefts), key=lambda tile: mask[tile].sum())
    return image[tile], mask[tile]


def _around(middle: int, length: int, size: int) -> slice:
    """``length`` of ``size`` pixels around one of them, moved inside."""
    start = max(0, min(middle - length // 2, size - length))
    return slice(start, min(start + length, size))


def _check_side(side: int) -> None:
    if side < 1:
        raise ImageError(f"side is {side}: it must be at least 1 pixel")


def _described(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {tuple(array.shape)}"
