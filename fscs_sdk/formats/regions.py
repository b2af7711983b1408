"""The areas that a prediction names: one for each class, or one for each connected part of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Region:
    """Some pixels of one class.

    Attributes:
        number: the class's value in ``mask``, from 1.
        pixels: int64 (P,), ascending positions in the mask read column by column: x * H + y. At least one.
        box: left, top, width and height in pixels.
    """

    number: int
    pixels: NDArray[np.int64]
    box: tuple[int, int, int, int]


def regions(prediction: Prediction, *, instances: bool = False) -> Iterator[Region]:
    """The classes' areas in the order of the classes; classes without a pixel have none.

    Args:
        instances: give each connected part of a class (corners connect) by itself. This tells objects apart only
            where they do not touch.
    """
    labels = prediction.mask.astype(np.int32)
    number_of = list(range(len(prediction.names) + 1))
    if instances:
        labels, number_of = _parts(labels)
    height = labels.shape[0]
    by_column = labels.ravel(order="F")
    pixels = np.flatnonzero(by_column)
    pixels = pixels[np.argsort(by_column[pixels], kind="stable")]  # stable: ascending within a label
    cuts = np.flatnonzero(np.diff(by_column[pixels])) + 1
    for part in np.split(pixels, cuts) if len(pixels) else ():
        rows = part % height
        left, right = int(part[0]) // height, int(part[-1]) // height
        top, bottom = int(rows.min()), int(rows.max())
        box = (left, top, right - left + 1, bottom - top + 1)
        yield Region(number_of[int(by_column[part[0]])], part, box)


def _parts(mask: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[int]]:
    """Number all connected parts from 1, class by class; and the class's number for each of these, background first."""
    import cv2

    labels = np.zeros_like(mask)
    number_of = [0]
    for number in np.unique(mask[mask > 0]):
        area = mask == number
        count, parts = cv2.connectedComponents(area.astype(np.uint8), connectivity=8)
        labels[area] = parts[area] + len(number_of) - 1
        number_of += [int(number)] * (count - 1)
    return labels, number_of
