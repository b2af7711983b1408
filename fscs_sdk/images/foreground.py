"""Which pixels of a mask are foreground: by what it looks like as a picture, or refused where that is not certain.

The guide has the whole rule as one table. A picture that is white, or one colour, on black is a mask whatever the order
of its palette; a map of class numbers is one if it holds a single number beside 0. Nothing here knows of files: it gets
arrays, and PIL images that stand upright.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.errors import ImageError
from fscs_sdk.images.levels import to_rgba

#: "Do not count this pixel" in the label maps of Pascal VOC and its heirs; the larger in 16-bit files.
VOID = (255, 65535)
#: The colour of VOC's void in its palette, where it stands for nothing else.
VOID_COLOUR = (224, 224, 192)
#: Share of the void value up to which a value beside it is a class number; above, it may as well be half-transparent.
LARGEST_NUMBER = 0.4
#: Levels of noise around black and around the peak, of 255.
NEAR = 24
#: A soft mask is certain if what is above a third of its peak and what is above two thirds have this much in common.
ALIKE = 0.6
#: More colours than these are a photo's, not those of a label map.
COLOURS = 32
#: Values that a message lists; more are levels of grey, rather than class numbers.
LISTED = 12
#: Share of a picture that may be transparent without alpha being more than a few erased pixels or a faded border.
ERASED = 0.1

Plane = NDArray[Any]
Mask = NDArray[np.bool_]


def foreground_of_image(image: Image.Image, name: str, *, lossy: bool, remarks: list[str]) -> Mask:
    """The foreground, bool (H, W), of a picture.

    Args:
        lossy: it was compressed with losses, so that its levels are not exact.
        remarks: what the caller should be told is added to it.

    Raises:
        ImageError: what is foreground is not certain.
    """
    if image.mode == "P" and (not image.has_transparency_data or np.asarray(to_rgba(image))[..., 3].min() == 255):
        return _foreground_of_palette(image, name)
    if image.has_transparency_data:
        image = to_rgba(image)
    elif image.mode not in ("1", "L", "F", "RGB") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    return foreground_of_array(np.array(image), name, lossy=lossy, remarks=remarks)


def foreground_of_array(array: Plane, name: str, *, lossy: bool = False, remarks: list[str]) -> Mask:
    """As :func:`foreground_of_image` for an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
    if array.size == 0:
        raise ImageError(f"{name} has no pixels: pass a mask as large as its photo")
    if array.dtype.kind not in "buif":
        raise ImageError(f"{name} holds {array.dtype} values: pass bool, integers, or floats from 0 to 1")
    if array.ndim == 2:
        return _foreground_of_plane(array, name, lossy=lossy)
    if array.shape[2] == 4:
        return _foreground_of_rgba(array, name, lossy=lossy, remarks=remarks)
    return _foreground_of_colours(array, name, lossy=lossy)


# ---------------------------------------------------------------------------------------------------- one channel


def _foreground_of_plane(plane: Plane, name: str, *, lossy: bool = False, numbers: bool = True) -> Mask:
    if plane.dtype.kind == "b":
        return np.array(plane)
    if plane.dtype.kind == "f":
        return _foreground_of_floats(plane, name)
    return _foreground_of_integers(plane, name, lossy=lossy, numbers=numbers)


def _foreground_of_floats(plane: Plane, name: str) -> Mask:
    """Probabilities, cut at one half; or numbers that were integers before somebody made floats of them."""
    low, high = float(plane.min()), float(plane.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max hand a NaN on
        raise ImageError(f"{name} holds NaN or infinite values: replace them, or pass a bool array")
    if (plane == np.rint(plane)).all():
        return _foreground_of_integers(plane.astype(np.int64), name)
    if low < -1e-5 or high > 1 + 1e-5:
        raise ImageError(
            f"{name} holds floats from {low:.6g} to {high:.6g}, not from 0 to 1, so where its object ends is not "
            "known: pass a bool array, such as `mask > 0` for logits"
        )
    levels = np.clip(np.rint(plane * 255), 0, 255).astype(np.uint8)
    if np.abs(plane * 255 - levels).max() < 1e-3 + 255 * np.finfo(plane.dtype).eps:
        values = _values(levels)
        numbers, void = values[values != 255], bool(values[-1] == 255)
        small = 1 < len(values) <= 16 and int(numbers.max()) <= LARGEST_NUMBER * 255
        if small and void and numbers.max() > NEAR:  # or shares, such as 0.2 and 1
            raise _several_values(values, f"{name} (in 255ths)")
        if small or (len(values) == 3 and void):  # n / 255: what a "to tensor" makes of class numbers, and of a trimap
            return _foreground_of_integers(levels, name)
    marked = plane[plane > 0]
    two_values = 0 < marked.size < plane.size and marked.min() == high
    return np.asarray(plane > 0 if two_values else plane >= 0.5)


def _foreground_of_integers(plane: Plane, name: str, *, lossy: bool = False, numbers: bool = True) -> Mask:
    """``numbers``: the values may be class numbers, so that the largest may be void."""
    values = _values(plane)
    top = int(values[-1])
    if values[0] < 0 or top > 65535:
        raise _several_values(values, name)
    if lossy and len(values) > 1 and top <= NEAR:
        raise ImageError(f"{name} is almost black, and small numbers do not survive lossy compression: save it as PNG")
    if len(values) == 1 or (len(values) == 2 and values[0] == 0):  # a lone 255 is white, not void
        return np.asarray(plane != 0)
    numbers = numbers and not lossy and len(values) == 3 and values[0] == 0 and top in VOID
    if numbers and values[1] <= LARGEST_NUMBER * top:
        number = plane == values[1]
        _check_number_beside_void(number, plane == top, values, name)
        return np.asarray(number)
    if numbers and _has_patch(plane == values[1]):
        raise _several_values(values, name)  # a trimap, or a high number beside void: not the noise of white
    levels = np.rint(plane * (255 / top)).astype(np.uint8)
    if not _is_soft(levels, _values(levels), bright=top >= (200 if top <= 255 else 200 * 257), lossy=lossy):
        raise _several_values(values, name)
    _check_certain(levels, name)
    return np.asarray(plane >= top / 2)


def _check_number_beside_void(number: Mask, void: Mask, values: Plane, name: str) -> None:
    """{0, v, 255} may also be white on black with a thin grey edge, or with a few stray pixels."""
    edge = values[1] * 255 / values[2] > NEAR and number.mean() <= 0.1
    stray = 10 * number.sum() < void.sum()
    if (edge or stray) and not _has_patch(number):
        raise ImageError(
            f"{name} holds the values {_listed(values)}: either {values[1]} is a class number and {values[2]} void, or "
            f"it is white on black with stray pixels; pass `mask == {values[1]}` or `mask == {values[2]}` as an array"
        )


def _is_soft(levels: NDArray[np.uint8], values: Plane, *, bright: bool, lossy: bool) -> bool:
    """Whether several levels, peak 255, are one shape with blurred or compressed edges, rather than a label map.

    An edge is a ramp of several levels, or noise of one level close to an end; a label map has patches of one value.
    """
    middle = ((values > NEAR) & (values < 255 - NEAR)).sum()
    if not lossy:
        low = ((values > 0) & (values <= NEAR)).any()
        high = ((values >= 255 - NEAR) & (values < 255)).any()
        if middle == 0 and not (high and bright):
            return False  # small numbers and a void of 255, as in a grey VOC label map
        if 0 < middle < 3 and (low or not bright):
            return False
    between = (levels > NEAR) & (levels < 255 - NEAR)
    return bool(between.mean() <= 0.5) and not _has_region(levels, between, lossy=lossy)


def _has_region(levels: NDArray[np.uint8], between: Mask, *, lossy: bool) -> bool:
    """Is there a patch of one and the same level (after lossy compression: of nearly one) between black and peak?"""
    side, spread = (5, 6) if lossy else (3, 0)
    if min(levels.shape) < side or not between.any():
        return False
    rows, columns = (np.flatnonzero(between.any(axis=axis)) for axis in (1, 0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bool((_extreme(levels[window], side, np.maximum) - _extreme(levels[window], side, np.minimum) <= spread)[
        _extreme(between[window], side, np.logical_and)
    ].any())  # fmt: skip


def _has_patch(mask: Mask) -> bool:
    return bool(_extreme(mask, 3, np.logical_and).any())


def _extreme(plane: Plane, side: int, of: np.ufunc) -> Plane:
    """The largest or smallest value of every square of ``side`` pixels; empty where the plane is smaller than that."""
    for axis in (0, 1):
        length = max(0, plane.shape[axis] - side + 1)
        slices = (
            plane[start : start + length] if axis == 0 else plane[:, start : start + length] for start in range(side)
        )
        plane = functools.reduce(of, slices)
    return plane


def _check_certain(levels: NDArray[np.uint8], name: str) -> None:
    """Refuse a matte whose object depends on where it is cut."""
    inner, outer = (levels > 170).sum(), (levels > 85).sum()
    if inner < ALIKE * outer:
        raise ImageError(
            f"{name} is so soft that where its object ends is not known ({inner} pixels are above two thirds of its "
            f"peak, {outer} above one third): pass a bool array, such as `mask > 127`"
        )


def _values(plane: Plane) -> Plane:
    """The different values, ascending; counting is much faster than np.unique's sort."""
    if plane.dtype.kind in "ui" and plane.min() >= 0 and plane.max() <= 65535:
        return np.flatnonzero(np.bincount(plane.astype(np.uint16, copy=False).ravel()))
    return np.unique(plane)


# ----------------------------------------------------------------------------------------------------- in colour


def _foreground_of_colours(colours: Plane, name: str, *, lossy: bool = False) -> Mask:
    """One colour on black, or grey: the largest channel says where."""
    plane = functools.reduce(np.maximum, np.moveaxis(colours, 2, 0))  # several times faster than max(axis=2)
    grey = all((colours[:, :, channel] == plane).all() for channel in range(colours.shape[2]))
    mask = _foreground_of_plane(plane, name, lossy=lossy, numbers=grey)
    if not grey:
        _check_one_colour(colours[mask], plane[mask], name)
    return mask


def _check_one_colour(colours: Plane, levels: Plane, name: str) -> None:
    """The largest channel alone would merge the classes of a colour-coded label map, such as red and green."""
    if len(levels) == 0:
        return
    top = float(levels.max())
    exact = bool((levels == levels[0]).all())
    core = colours[levels >= top * (1 - NEAR / 255)].astype(np.float32)
    usual = np.median(core[:: 1 + len(core) // 10_000], axis=0)
    strays = (np.abs(core - usual) > top / 5).any(axis=1).mean()
    if strays > (0.0 if exact else 0.05):  # a JPEG bleeds colour at the edges
        raise _several_colours(name)


def _foreground_of_palette(image: Image.Image, name: str) -> Mask:
    """An indexed picture without transparency: black and white in any order, or class numbers in colours on black."""
    indices = np.array(image)
    used = _values(indices)
    palette = np.zeros((256, 3), np.uint8)
    given = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(given)] = given
    colours = palette[used]
    if len(used) > 1 and (colours == colours[0]).all():
        raise ImageError(f"{name} paints its values {_listed(used)} in one colour: pass `mask == id` as an array")
    if (colours == colours[:, :1]).all():
        return _foreground_of_integers(palette[indices, 0], name)
    if len(used) > COLOURS:
        return _foreground_of_colours(palette[indices], name)
    black = used[(colours == 0).all(axis=1)]
    void = [255] if 255 in used and (tuple(palette[255]) == VOID_COLOUR or len(used) > 2) else []
    numbers = np.setdiff1d(used, [*black, *void])
    if len(numbers) > 1:
        raise _several_values(used, name)
    if len(black) > 1 or (len(used) > 1 and len(black) == 0 and 0 in used):
        raise ImageError(
            f"{name} holds the values {_listed(used)} in colours of which none, or more than one, is black, so it "
            "is not known which is the background: pass `mask == id` as an array"
        )
    return np.isin(indices, numbers)


# --------------------------------------------------------------------------------------------------------- alpha


def _foreground_of_rgba(array: Plane, name: str, *, lossy: bool, remarks: list[str]) -> Mask:
    """Alpha is the mask where it shows a photo or one colour, but not where what it shows is a mask itself."""
    colours, alpha = array[:, :, :3], array[:, :, 3]
    if alpha.dtype.kind in "if" and not (alpha.min() >= 0 and alpha.max() < np.inf):  # nor NaN
        raise ImageError(f"{name} has an alpha channel with values below 0, or not finite: pass a bool array")
    opaque = alpha if alpha.dtype.kind == "b" else alpha >= alpha.max() / 2
    if opaque.all() or not alpha.any():
        if not alpha.any():
            remarks.append("is transparent all over, so its colours are read")
        return _foreground_of_colours(colours, name, lossy=lossy)
    share = float(opaque.mean())
    shown = _eight_bits(colours)[opaque]
    counts = _colour_counts(shown)
    levels = functools.reduce(np.maximum, shown.T)
    painted = _is_black_and_bright(levels)
    if share >= 1 - ERASED and levels.max() <= NEAR:
        raise ImageError(f"{name} is black with a few transparent pixels: save it without transparency")
    if share >= 1 - ERASED and painted:
        return _foreground_of_colours(np.where(opaque[..., None], colours, 0), name, lossy=lossy)
    if painted:
        raise ImageError(
            f"{name} is black and white and has transparent parts, so which of both is the mask is not known: save it "
            "without transparency, or pass its alpha as an array"
        )
    large = counts[counts >= 0.01 * counts.sum()]
    if len(large) > 1 and len(counts) <= COLOURS and not lossy:
        raise _several_colours(name)
    if share > 0.98 and len(counts) > COLOURS:
        raise ImageError(f"{name} is a photo with a few transparent pixels, not a mask: pass the mask itself")
    if alpha.dtype.kind != "b":
        _check_certain(np.rint(alpha * (255 / float(alpha.max()))).astype(np.uint8), name)
    return np.array(opaque)


def _is_black_and_bright(levels: NDArray[np.uint8]) -> bool:
    """Are nine tenths of the levels near 0 or near their peak, and both there: a mask, rather than a photo?"""
    peak = int(levels.max())
    ends = (levels <= NEAR) | (levels >= peak - NEAR)
    return bool(peak >= 64 and levels.min() <= NEAR and ends.mean() >= 0.9)


def _eight_bits(colours: Plane) -> NDArray[np.uint8]:
    """Colours of any type on the 8-bit scale, as near as a look at them needs."""
    if colours.dtype == np.uint8:
        return colours
    peak = 1 if colours.dtype.kind in "bf" and colours.max() <= 1 else 255 if colours.max() <= 255 else 65535
    return np.clip(colours * (255 / peak), 0, 255).astype(np.uint8)


def _colour_counts(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels (n, 3) have each of the colours that occur."""
    red, green, blue = colours.T.astype(np.uint32)
    counts = np.bincount(red | green << 8 | blue << 16)
    return counts[counts > 0]


# ------------------------------------------------------------------------------------------------------ refusals


def _several_colours(name: str) -> ImageError:
    return ImageError(
        f"{name} has foreground of several colours, so it may hold several classes: "
        "pass an array that is True where your class is"
    )


def _several_values(values: Plane, name: str) -> ImageError:
    if len(values) > LISTED and values[0] >= 0:
        return ImageError(
            f"{name} holds {len(values)} different levels and is neither white on black nor one class number: pass a "
            "bool array that is True where your class is, such as `mask > 127`"
        )
    return ImageError(
        f"{name} is not binary, it holds the values {_listed(values)}: choose one and pass `mask == id` as an array"
    )


def _listed(values: Plane) -> str:
    shown = ", ".join(str(value) for value in values[:LISTED].tolist())
    return shown if len(values) <= LISTED else f"{shown}, ... ({len(values)} different values)"
