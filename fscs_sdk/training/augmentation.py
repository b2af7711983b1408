"""Random crops and colours of training photos, and new photos made of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

#: Left, upper, right and lower edge in pixels.
Box = tuple[int, int, int, int]
#: Smallest share of the area of a photo that a crop keeps: where a mask shows that the object is in it, and without.
SMALLEST_CROP, SMALLEST_BLIND_CROP = 0.3, 0.6
#: Longer side of an object that is pasted into another photo, as a share of that photo's side.
SMALLEST_PASTED, LARGEST_PASTED = 0.1, 0.5


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


def paste(
    photo: tuple[NDArray[np.uint8], NDArray[np.int32]],
    image: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    number: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A photo with an object of another one somewhere in it, small and perhaps mirrored.

    Args:
        photo: (side, side, 3) and its labels (side, side); not changed.
        image, wanted: (side, side, 3) and (side, side), the object's photo and where in it the object is.
        number: the object's label.
    """
    pixels, labels = photo[0].copy(), photo[1].copy()
    side = len(labels)
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    height, width = wanted[box].shape
    scale = side * np.exp(rng.uniform(np.log(SMALLEST_PASTED), np.log(LARGEST_PASTED))) / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = np.asarray(Image.fromarray(image[box]).resize(size, Image.Resampling.BILINEAR))
    shape = Image.fromarray(wanted[box].astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(shape) >= 128
    if rng.random() < 0.5:
        small, inside = small[:, ::-1], inside[:, ::-1]
    row, column = int(rng.integers(side - size[1] + 1)), int(rng.integers(side - size[0] + 1))
    place = slice(row, row + size[1]), slice(column, column + size[0])
    pixels[place][inside] = small[inside]
    labels[place][inside] = number
    return pixels, labels


def cover(
    photo: tuple[NDArray[np.uint8], NDArray[np.int32]], texture: Image.Image, number: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A photo with a random shape that shows a random piece of a texture.

    Args:
        photo: (side, side, 3) and its labels (side, side); not changed.
        texture: any photo.
        number: the shape's label.
    """
    pixels, labels = photo[0].copy(), photo[1].copy()
    side = len(labels)
    area = rng.uniform(0.15, 0.5)
    width, height = (max(1, round(np.sqrt(area) * length)) for length in texture.size)
    left, top = int(rng.integers(texture.width - width + 1)), int(rng.integers(texture.height - height + 1))
    piece = texture.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    turned = np.rot90(np.asarray(jitter(piece, rng)), int(rng.integers(4)))
    inside = _shape(side, rng)
    pixels[inside] = turned[inside]
    labels[inside] = number
    return pixels, labels


def _shape(side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A wavy disc somewhere, 15 to 80 % of the side wide."""
    row, column = rng.uniform(0.2, 0.8, size=2) * side
    radius = rng.uniform(0.15, 0.8) / 2 * side
    y, x = np.mgrid[:side, :side]
    angle = np.arctan2(y - row, x - column)
    waves = sum(rng.uniform(0, 0.25) * np.sin(count * angle + rng.uniform(0, 2 * np.pi)) for count in (2, 3, 5))
    return np.asarray(np.hypot(y - row, x - column) < radius * (1 + waves))
