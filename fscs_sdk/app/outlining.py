"""Suggest an outline: from a box or a few strokes to the object's mask, at the photo's full size.

GrabCut (Rother, Kolmogorov and Blake, 2004) runs on a crop at a bounded size, whatever the photo's. Its edge comes back
to full size by the fast guided filter (He and Sun, 2015): near the edge the mask is fitted as a linear function of the
photo's colours at the small size, and the function, not the mask, is enlarged.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Longer side of the crop that GrabCut sees, its rounds, and how much of the box's size is seen around it.
SIDE, ROUNDS, MARGIN = 256, 3, 0.3
#: Of the guided filter: radius in pixels of the small crop, and the squared contrast (of 0 to 1) that is an edge.
RADIUS, CONTRAST = 4, 1e-3


def suggest(
    image: NDArray[np.uint8],
    *,
    box: tuple[int, int, int, int] | None,
    inside: NDArray[np.bool_] | None = None,
    outside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """The outline of the object in a box, or at some strokes.

    Args:
        image: uint8 RGB (H, W, 3).
        box: left, top, right, bottom in pixels: nothing outside is the object. Without one, the strokes' surroundings.
        inside: bool (H, W), pixels that certainly are the object.
        outside: bool (H, W), pixels that certainly are not.

    Returns:
        bool (H, W).

    Raises:
        ValueError: neither a box with an area nor a stroke is given.
    """
    height, width = image.shape[:2]
    box = _box_within(box, inside, (height, width))
    left, top, right, bottom = _grown(box, MARGIN, (height, width))
    scale = min(1.0, SIDE / max(bottom - top, right - left))
    size = max(8, round((right - left) * scale)), max(8, round((bottom - top) * scale))
    crop = image[top:bottom, left:right]
    small: NDArray[Any] = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)

    labels = np.full(small.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    x0, x1 = round((box[0] - left) * across), round((box[2] - left) * across)
    y0, y1 = round((box[1] - top) * down), round((box[3] - top) * down)
    labels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = cv2.GC_PR_FGD
    for strokes, label in ((inside, cv2.GC_FGD), (outside, cv2.GC_BGD)):
        if strokes is not None:  # a thin stroke must not fall between the small pixels
            part = strokes[top:bottom, left:right].astype(np.uint8) * 255
            labels[cv2.resize(part, size, interpolation=cv2.INTER_AREA) > 50] = label
    if (labels == cv2.GC_BGD).all() or not (labels == cv2.GC_BGD).any():  # it needs some of both
        labels[0, :] = labels[-1, :] = labels[:, 0] = labels[:, -1] = cv2.GC_BGD
        labels[small.shape[0] // 2, small.shape[1] // 2] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)  # its colour models start from a random clustering
    colors = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small[:, :, ::-1].copy(), labels, (0, 0, 1, 1), *colors, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = _largest_parts((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), labels == cv2.GC_FGD)

    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top:bottom, left:right] = _at_full_size(found, small, crop)
    keep = np.zeros_like(mask)
    keep[box[1] : box[3], box[0] : box[2]] = True
    mask &= keep
    if inside is not None:
        mask |= inside
    if outside is not None:
        mask &= ~outside
    return mask


def _box_within(
    box: tuple[int, int, int, int] | None, inside: NDArray[np.bool_] | None, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    height, width = size
    if box is not None:
        left, right = sorted((min(max(box[0], 0), width), min(max(box[2], 0), width)))
        top, bottom = sorted((min(max(box[1], 0), height), min(max(box[3], 0), height)))
        if right - left < 2 or bottom - top < 2:
            raise ValueError("the box is empty; draw it around the object")
        return left, top, right, bottom
    if inside is None or not inside.any():
        raise ValueError("there is nothing to start from; draw a box around the object, or a stroke on it")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    marked = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    longer = max(marked[2] - marked[0], marked[3] - marked[1])
    return (
        max(0, marked[0] - longer),
        max(0, marked[1] - longer),
        min(width, marked[2] + longer),
        min(height, marked[3] + longer),
    )


def _grown(box: tuple[int, int, int, int], share: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    across, down = round((right - left) * share) + 2, round((bottom - top) * share) + 2
    return max(0, left - across), max(0, top - down), min(size[1], right + across), min(size[0], bottom + down)


def _largest_parts(found: NDArray[np.bool_], certain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without crumbs: parts that are a twentieth of the largest, or that a stroke touches; holes smaller than that."""
    for sought in (True, False):
        count, parts, stats, _ = cv2.connectedComponentsWithStats((found == sought).astype(np.uint8), connectivity=4)
        if count < 2:
            continue
        area = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
        small = area < 0.05 * (area[1:].max() if sought else max(1, int(found.sum())))
        small[0] = False
        if sought:
            small[np.unique(parts[certain])] = False
        found = np.where(small[parts], not sought, found)
    return found


def _at_full_size(found: NDArray[np.bool_], small: NDArray[np.uint8], crop: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The mask of the small crop -> that of the crop, whose edge follows the colours of the crop itself."""
    size = crop.shape[1], crop.shape[0]
    guide = small.astype(np.float32) / 255
    target = found.astype(np.float32)
    window = (2 * RADIUS + 1, 2 * RADIUS + 1)
    mean = cv2.blur(guide, window)
    mean_target = cv2.blur(target, window)
    products = guide[:, :, :, None] * guide[:, :, None, :]
    covariance = cv2.blur(products.reshape(*target.shape, 9), window).reshape(products.shape)
    covariance = covariance - mean[:, :, :, None] * mean[:, :, None, :] + CONTRAST * np.eye(3, dtype=np.float32)
    with_target = cv2.blur(guide * target[:, :, None], window) - mean * mean_target[:, :, None]
    slope = np.linalg.solve(covariance, with_target[..., None])[..., 0].astype(np.float32)
    offset = mean_target - (slope * mean).sum(axis=2)
    coefficients = np.dstack([slope, offset])

    band = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    near = cv2.resize(band, size, interpolation=cv2.INTER_NEAREST).view(np.bool_)
    rows, columns = np.nonzero(near)
    mask: NDArray[np.bool_] = np.asarray(cv2.resize(found.astype(np.uint8) * 255, size) >= 128)
    if not len(rows):
        return mask
    fitted = _at(
        cv2.blur(coefficients, window),
        (rows + 0.5) * small.shape[0] / size[1],
        (columns + 0.5) * small.shape[1] / size[0],
    )
    mask[rows, columns] = (fitted[:, :3] * crop[rows, columns]).sum(axis=1) / 255 + fitted[:, 3] >= 0.5
    return mask


def _at(values: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Values (h, w, C) between the pixels at n places, (n, C), as when they are enlarged."""
    width = 8192  # OpenCV takes pictures, not lists, and none that is longer than 32767
    padded = -(-len(rows) // width) * width
    places = np.zeros((2, padded), dtype=np.float32)
    places[:, : len(rows)] = columns - 0.5, rows - 0.5
    across, down = places.reshape(2, -1, width)
    found = cv2.remap(values, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found).reshape(padded, -1)[: len(rows)]
