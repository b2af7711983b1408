"""Random crops and colours of training photos, and new photos made of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

#: Left, upper, right and lower edge in pixels.
Box = tuple[int, int, int, int]
#: Smallest share of the area of a photo that a crop keeps: where a mask shows that the object is in it, and without.
SMALLEST_CROP, SMALLEST_BLIND_CROP = 0.3, 0.6


def crop_box(wanted: NDArray[np.bool_], rng: np.random.Generator, *, smallest: float) -> Box:
    """A box of 30-100 % of the photo that keeps 40 % of the object and is covered by ``smallest``, else all of it.

    Args:
        wanted: (H, W), where the object is.
        smallest: share of the box's area.
    """
    height, width = wanted.shape
    total = wanted.sum()
    for _ in range(8):
        left, top, right, bottom = box = _random_box(width, height, SMALLEST_CROP, rng)
        inside = wanted[top:bottom, left:right].sum()
        if inside >= 0.4 * total and inside >= smallest * (bottom - top) * (right - left):
            return box
    return 0, 0, width, height


def blind_crop_box(size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A box of 60-100 % of a photo of (width, height) whose object nobody knows the place of."""
    return _random_box(*size, SMALLEST_BLIND_CROP, rng)


def _random_box(width: int, height: int, smallest: float, rng: np.random.Generator) -> Box:
    area, aspect = rng.uniform(smallest, 1.0), np.exp(rng.uniform(-0.35, 0.35))
    box_height = min(height, round(height * np.sqrt(area / aspect)))
    box_width = min(width, round(width * np.sqrt(area * aspect)))
    top = int(rng.integers(height - box_height + 1))
    left = int(rng.integers(width - box_width + 1))
    return left, top, left + box_width, top + box_height


def jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation, each by 0.7 to 1.3."""
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(float(rng.uniform(0.7, 1.3)))
    return image


def mosaic(
    images: Sequence[NDArray[np.uint8]], labels: Sequence[NDArray[np.int32]], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Four photos (side, side, 3) and their labels (side, side) on a 2 x 2 grid that is cut at a random point."""
    side = images[0].shape[0]
    row, column = (int(rng.uniform(0.35, 0.65) * side) for _ in range(2))
    joined, joined_labels = np.empty((side, side, 3), np.uint8), np.empty((side, side), np.int32)
    tiles = [(slice(0, row), slice(0, column)), (slice(0, row), slice(column, side))]
    tiles += [(slice(row, side), slice(0, column)), (slice(row, side), slice(column, side))]
    for image, label, (rows, columns) in zip(images, labels, tiles, strict=True):
        size = (columns.stop - columns.start, rows.stop - rows.start)
        joined[rows, columns] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        joined_labels[rows, columns] = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return joined, joined_labels
