"""Does a mask's outline lie on the photo's edges, or does it lie on them better when it is moved?

The outline is laid over the photo at every offset up to about half of the mask's box, and asked how strong the
edges are that run along it there. Cross-correlation answers for all offsets at once.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Plane = NDArray[np.float64]

#: Offsets that are tried: this share of the mask's box each way, and this share of the photo beyond.
REACH, MARGIN = 0.6, 1 / 72
#: Offsets that still count as not moved, masks being drawn by hand: a share of the box's shorter side, of the photo.
NEAR, NEAREST = 0.12, 1 / 48
#: How much of an outline or mask may be moved out of the photo.
CUT_OFF = 0.5
#: What standard deviations of a found map count beside those of the edges.
FOUND_WEIGHT = 2.0
#: An outline of fewer pixels says nothing.
SHORTEST = 8


@dataclass(frozen=True)
class Moved:
    """Where an outline fits best.

    Attributes:
        gain: how much better it fits at the best offset than where it is, in standard deviations over all offsets;
            below 0 where it fits best as it is.
        down, right: that offset, as shares of the photo.
    """

    gain: float
    down: float
    right: float


def best_offset(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], found: Plane) -> Moved:
    """Where a mask fits a photo's edges and what others find in it best.

    Args:
        pixels: (side, side, 3).
        mask: (side, side).
        found: (h, w), a map that is higher where the object seems to be.
    """
    nothing = Moved(0.0, 0.0, 0.0)
    if not mask.any():
        return nothing
    side = len(mask)
    along = _edges_along(pixels, mask)
    if along is None:
        return nothing
    there = _found_inside(mask, found, along.shape[0] // 2)
    places = np.argwhere(mask)
    box = places.max(axis=0) + 1 - places.min(axis=0)
    steps = (np.arange(len(along)) - len(along) // 2) * 2  # in pixels
    far = [np.abs(steps) <= REACH * length + MARGIN * side for length in box]
    tried = far[0][:, None] & far[1][None] & np.isfinite(along) & np.isfinite(there)
    still = np.abs(steps) <= max(NEAREST * side, NEAR * box.min())
    near = tried & still[:, None] & still[None]
    if (tried & ~near).sum() < 5 or not near.any():
        return nothing
    values = along[tried]
    fit = np.where(tried, (along - values.mean()) / (values.std() + 1e-3) + FOUND_WEIGHT * there, -np.inf)
    elsewhere = np.where(near, -np.inf, fit)
    row, column = np.unravel_index(int(elsewhere.argmax()), fit.shape)
    return Moved(float(elsewhere.max() - fit[near].max()), float(steps[row] / side), float(steps[column] / side))


def _edges_along(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Plane | None:
    """The mean strength of edges along the outline for every offset in steps of two pixels, no offset in the middle.

    An edge across the outline counts nothing: strengths are weighted by the squared cosine between the two, which is
    (1 + cos 2 (a - b)) / 2 and so the sum of three cross-correlations. None where there is no outline.
    """
    outline, normal = _outline(mask)
    if outline.sum() < SHORTEST:
        return None
    strength, angle = _gradients(pixels)
    fields = [strength, strength * np.cos(2 * angle), strength * np.sin(2 * angle)]
    weights = [outline, outline * np.cos(2 * normal), outline * np.sin(2 * normal)]
    small = [_halve(one) for one in weights]
    total = sum(_correlate(weight, _halve(one)) for weight, one in zip(small, fields, strict=True)) / 2
    inside = _correlate(small[0], np.ones_like(small[0]))
    return np.where(inside > CUT_OFF * small[0].sum(), total / np.maximum(inside, 1e-6), np.nan)


def _found_inside(mask: NDArray[np.bool_], found: Plane, side: int) -> Plane:
    """The mean of a map inside the mask less that outside, in its deviations, for the same offsets."""
    grid = torch.from_numpy((found - found.mean()) / (found.std() + 0.1))[None, None]
    level = F.interpolate(grid, (side, side), mode="bilinear", align_corners=False)[0, 0].numpy()
    covered = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].double(), side)[0].numpy()
    count, total = _correlate(covered, np.ones_like(covered)), _correlate(covered, level)
    outside = (level.sum() - total) / np.maximum(level.size - count, 1e-6)
    return np.where(count > CUT_OFF * covered.sum(), total / np.maximum(count, 1e-6) - outside, np.nan)


def _gradients(pixels: NDArray[np.uint8]) -> tuple[Plane, Plane]:
    """Strength and direction of the steepest colour's gradient; strengths are compared with the photo's usual one."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    smooth = F.avg_pool2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    down, right = (one[0].numpy() for one in _differences(smooth))
    steepest = (down**2 + right**2).argmax(axis=0)[None]
    down, right = (np.take_along_axis(one, steepest, axis=0)[0] for one in (down, right))
    strength = np.hypot(down, right)
    usual = np.median(strength) + strength.mean() + 1e-6
    return np.log1p(2 * strength / usual), np.arctan2(down, right)


def _outline(mask: NDArray[np.bool_]) -> tuple[Plane, Plane]:
    """The mask's pixels that touch others, but not those at the photo's border, and the direction away from it."""
    solid = torch.from_numpy(mask)[None, None].double()
    smooth = F.avg_pool2d(F.pad(solid, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    down, right = (one[0, 0].numpy() for one in _differences(smooth))
    touched = F.max_pool2d(F.pad(1 - solid, (1, 1, 1, 1)), 3, stride=1)[0, 0].numpy() > 0.5
    return (mask & touched).astype(np.float64), np.arctan2(down, right)


def _differences(planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences (..., H, W) downwards and to the right."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    return padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1], padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]


def _halve(plane: Plane) -> Plane:
    return np.asarray(F.avg_pool2d(torch.from_numpy(plane)[None], 2)[0].numpy())


def _correlate(mask: Plane, plane: Plane) -> Plane:
    """The sum of ``mask x plane`` with the mask moved by every offset; no offset is at (h, w) of (2 h, 2 w)."""
    shape = (2 * plane.shape[0], 2 * plane.shape[1])
    product = np.conj(np.fft.rfft2(mask, shape)) * np.fft.rfft2(plane, shape)
    return np.asarray(np.fft.fftshift(np.fft.irfft2(product, shape)))
