"""Pixels as PNG and JPEG, by OpenCV: what is written of a large photo takes it a fraction of Pillow's time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The longest side of a JPEG.
JPEG_SIDE = 65500


def png(pixels: NDArray[Any]) -> bytes:
    """8-bit grey (H, W) or RGB (H, W, 3), without loss, quickly rather than small."""
    import cv2

    return _encoded(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels, [])


def jpeg(pixels: NDArray[np.uint8], *, sharp_colours: bool = False) -> bytes:
    """RGB (H, W, 3), neither side above ``JPEG_SIDE``, at quality 90.

    Args:
        sharp_colours: keep colours at the size of the brightness, for lines that are drawn.
    """
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, 90]
    if sharp_colours:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encoded(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)


def _encoded(ending: str, pixels: NDArray[Any], options: list[int]) -> bytes:
    import cv2

    _, data = cv2.imencode(ending, pixels, options)  # raises where it cannot
    return data.tobytes()
