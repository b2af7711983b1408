"""The areas that a prediction names: one for each class, or one for each connected part of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.prediction import Prediction

#: Pixels that are counted at once: OpenCV's counts are float32, exact up to here.
COUNTED_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False)
class Region:
    """Some pixels of one class.

    Attributes:
        number: the class's value in ``mask``, from 1.
        box: left, top, width and height in pixels.
        area: bool (height, width), the pixels inside the box. At least one in each of its outermost rows and columns.
    """

    number: int
    box: tuple[int, int, int, int]
    area: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box in the mask."""
        left, top, width, height = self.box
        return slice(top, top + height), slice(left, left + width)


def regions(prediction: Prediction, *, instances: bool = False) -> Iterator[Region]:
    """The classes' areas in the order of the classes; classes without a pixel have none.

    Args:
        instances: give each connected part of a class (corners connect) by itself. This tells objects apart only
            where they do not touch.
    """
    for number in np.flatnonzero(count_pixels(prediction.mask, len(prediction.names))).tolist():
        if number == 0:
            continue
        area = prediction.mask == number
        whole = Region(number, _box(area), area)
        whole = Region(number, whole.box, area[whole.window])
        yield from _parts(whole) if instances else [whole]


def count_pixels(mask: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """(classes + 1,), how many pixels of a mask have each value."""
    import cv2

    if mask.dtype not in (np.uint8, np.uint16):
        mask = mask.astype(np.uint16)
    parts = np.array_split(mask.ravel(), -(-mask.size // COUNTED_AT_ONCE))
    counts = [cv2.calcHist([part], [0], None, [classes + 1], [0, classes + 1]).ravel() for part in parts]
    total: NDArray[np.int64] = np.sum(counts, axis=0, dtype=np.int64)
    return total


def _box(area: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    import cv2

    left, top, width, height = cv2.boundingRect(area.view(np.uint8))
    return int(left), int(top), int(width), int(height)


def _parts(whole: Region) -> Iterator[Region]:
    import cv2

    left, top = whole.box[:2]
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(whole.area.view(np.uint8), connectivity=8)
    for label in range(1, count):
        x, y, width, height = (int(value) for value in boxes[label, :4])
        area = labels[y : y + height, x : x + width] == label
        yield Region(whole.number, (left + x, top + y, width, height), area)
