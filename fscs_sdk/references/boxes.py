"""A box around an object -> its mask: GrabCut inside the box, by what its surroundings look like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The longer side, in pixels, at which GrabCut works.
SIDE = 256
#: Rounds of GrabCut.
ROUNDS = 5
#: What is looked at on each side of a box, in lengths of the box.
AROUND = 0.5
#: A mask of less than this share of its box is a failure of GrabCut, and the box is filled.
LEAST = 0.15

Edges = tuple[float, float, float, float]


def parse_boxes(given: Any, size: tuple[int, int], label: str) -> list[Edges]:
    """The boxes of a shot, cut at the photo's borders.

    Args:
        given: left, top, right and bottom edge in pixels, or a list of such.
        size: (height, width) of the upright photo.
        label: what errors call the shot.

    Raises:
        ValueError: they are not four finite numbers in that order, or lie outside the photo.
    """
    form = f"the box of {label} must be (x0, y0, x1, y1) in pixels, or a list of such boxes"
    try:
        boxes = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{form}, not {given!r:.80}") from None
    if boxes.shape == (4,):
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or not np.isfinite(boxes).all():
        raise ValueError(f"{form}, not {given!r:.80}")
    height, width = size
    parsed = []
    for left, top, right, bottom in boxes.tolist():
        if not (left < right and top < bottom):
            raise ValueError(f"{form}, with x0 < x1 and y0 < y1, not {[left, top, right, bottom]}")
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
            raise ValueError(f"the box {[left, top, right, bottom]} of {label} is outside its {width} x {height} photo")
        parsed.append(inside)
    return parsed


def box_mask(image: NDArray[np.uint8], boxes: Sequence[Edges]) -> NDArray[np.bool_]:
    """The object's pixels in a photo (H, W, 3), as far as boxes around it tell: bool (H, W).

    Inside each box GrabCut (Rother et al., SIGGRAPH 2004) parts the object from colours that are also around the box,
    at no more than 256 pixels a side, whatever the photo's size. Where it finds next to nothing, or the box leaves
    nothing around it, the box itself is taken.
    """
    mask = np.zeros(image.shape[:2], np.bool_)
    for edges in boxes:
        left, top, right, bottom = (round(edge) for edge in edges)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        mask[top:bottom, left:right] |= _cut_out(image, left, top, right, bottom)
    return mask


def _cut_out(image: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    """The object's pixels in a box, bool (bottom - top, right - left)."""
    import cv2

    height, width = image.shape[:2]
    across, down = round(AROUND * (right - left)) + 1, round(AROUND * (bottom - top)) + 1
    x, y = max(0, left - across), max(0, top - down)
    view = image[y : min(height, bottom + down), x : min(width, right + across)]
    whole = np.ones((bottom - top, right - left), np.bool_)
    scale = min(1.0, SIDE / max(view.shape[:2]))
    small = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    rows = slice(round((top - y) * scale), max(round((bottom - y) * scale), round((top - y) * scale) + 1))
    columns = slice(round((left - x) * scale), max(round((right - x) * scale), round((left - x) * scale) + 1))
    labels[rows, columns] = cv2.GC_PR_FGD
    if (labels == cv2.GC_BGD).mean() < LEAST / 10:
        return whole
    cv2.setRNGSeed(0)  # this thread's, from which GrabCut draws its first colours: the same box gives the same mask
    cv2.grabCut(small, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = (labels[rows, columns] & 1).astype(np.uint8)  # certain and probable foreground are 1 and 3
    if inside.mean() < LEAST:
        return whole
    found = cv2.resize(inside, whole.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    return found if found.any() else whole
