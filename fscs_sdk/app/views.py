"""Photos and areas as the page shows them. What a user uploaded is never sent back, only pictures drawn from it."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.app.workspace import MOST_PIXELS, Photo
from fscs_sdk.atomic import write_atomically
from fscs_sdk.formats import class_colors
from fscs_sdk.images import read_image

#: Longer sides that the page may ask for, in pixels: tile, screen, and close to every pixel.
SIDES = (320, 2048, 6000)


@lru_cache(maxsize=2)
def decoded(path: Path, modified: int) -> NDArray[np.uint8]:
    """A photo's pixels, uint8 RGB (H, W, 3), kept for the next view or suggestion. Not to be changed."""
    return read_image(path, max_pixels=MOST_PIXELS)


def photo_view(photo: Photo, side: int, folder: Path) -> bytes:
    """A JPEG of a photo, upright, its longer side at most ``side``; kept in ``folder``.

    Raises:
        ValueError: the photo is damaged, or ``side`` is none of :data:`SIDES`.
    """
    if side not in SIDES:
        raise ValueError(f"there are views of {', '.join(map(str, SIDES))} pixels, not of {side}")
    kept = folder / f"{photo.id}-{photo.path.stat().st_mtime_ns}-{side}.jpg"
    if kept.exists():
        return kept.read_bytes()
    image = Image.fromarray(decoded(photo.path, photo.path.stat().st_mtime_ns))
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=82 if side == SIDES[0] else 90)
    write_atomically(kept, buffer.getvalue())
    return buffer.getvalue()


def areas(mask: NDArray[np.uint8], names: tuple[str, ...], side: int) -> bytes:
    """A PNG to lie over a photo: every class's area tinted and outlined in its colour, the rest transparent.

    Args:
        mask: (H, W), 0 = background, n = the n-th class.
        side: the longer side of the picture, in pixels.
    """
    height, width = mask.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    picture = np.zeros((*small.shape, 4), dtype=np.uint8)
    for number, color in enumerate(class_colors(names), start=1):
        area = (small == number).astype(np.uint8)
        inside = cv2.erode(area, np.ones((3, 3), np.uint8), borderValue=0)
        picture[area == 1] = (*color, 255)
        picture[inside == 1] = (*color, 105)
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
