"""Numbers that stand for brightness -> 8 bits, whatever their type, depth and transparency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.errors import ImageError

#: Bits of the cameras and scanners whose values are kept, as they are, in wider integers.
DEPTHS = (8, 10, 12, 14, 16)
_FLOAT_SLACK = 1e-5  # resizing a float photo leaves values such as 1.0000001


def to_uint8(array: NDArray[Any], name: str, remarks: list[str], *, bits: int | None = None) -> NDArray[np.uint8]:
    """The same values on the 8-bit scale; may be the array itself.

    Args:
        array: uint8, wider integers from 0 to 65535, or floats from 0 to 1.
        remarks: what the caller should be told is added to it.
        bits: of wider integers, where it is known; else the fewest that hold their largest value.

    Raises:
        ImageError: other types and ranges.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        _check_unit_range(array, name)
        wide = array.astype(np.promote_types(array.dtype, np.float32))
        eight: NDArray[np.uint8] = np.clip(np.rint(wide * 255), 0, 255).astype(np.uint8)
        return eight
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ImageError(f"{name} holds values from {low} to {high}, not from 0 to 65535: scale it to 8 or 16 bits")
    if bits is None or high >= 2**bits:
        bits = next(depth for depth in DEPTHS if high < 2**depth)
        if high > 0 and bits < 16:
            remarks.append(
                f"holds values up to {high} in wider integers, so it is read as {bits} bits, white at {2**bits - 1}: "
                "scale it to 8 bits yourself if it is darker than that"
            )
    top = 2**bits - 1  # odd: there are no ties to break
    scaled: NDArray[np.uint8] = ((array.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    return scaled


def _check_unit_range(array: NDArray[Any], name: str) -> None:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max hand a NaN on
        raise ImageError(f"{name} holds NaN or infinite values: replace them with numbers from 0 to 1")
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        raise ImageError(
            f"{name} holds floats from {low:.6g} to {high:.6g}, not from 0 to 1: divide by 255 if they are 0 to 255, "
            "undo the normalisation if there was one"
        )


def to_rgba(image: Image.Image) -> Image.Image:
    """A picture that may be transparent in mode RGBA."""
    if image.mode == "La":  # the only mode that Pillow converts it to
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # From a 16-bit PNG: Pillow keeps the high byte of the pixels but both bytes of the transparent colour.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA")


def over_white(image: Image.Image) -> Image.Image:
    """A picture in mode RGBA laid over white paper, in mode RGB."""
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, mask=image)
    return canvas
