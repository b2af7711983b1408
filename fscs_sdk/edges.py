"""Foreground maps that follow the photo's edges: a guided filter with a radius that fits the object.

A network's map has some 70 to 100 positions a side, so what it outlines are blobs. The guided filter (He, Sun & Tang,
TPAMI 2013, with a colour guide) explains the map in every window by a linear function of the photo's colours,
``q = a . I + b``, and so moves its edges to the photo's. Its coefficients are smooth: they are computed on a small grid
and applied at the photo's own size (He & Sun, *Fast guided filter*, 2015). Not in the few-shot paper.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Positions a side of the grid that coefficients are computed on.
GRID = 192
#: Weight against steep coefficients, for colours in [0, 1]: what varies less than its root is taken for texture.
EPSILON = 1e-4
#: Radius of the windows: this share of the object's thickness, within these bounds, in positions of the grid.
REACH, SMALLEST, LARGEST = 0.7, 2, 16
#: Pixels a side of the pieces in which coefficients are applied: they bound the memory.
TILE = 256
#: A piece is left as it is where the filter would change no pixel by more than this.
UNCHANGED = 0.05


class EdgeGuide:
    """A photo that maps are to follow; what depends on it alone is computed once for all classes.

    Args:
        photo: uint8 (H, W, 3), RGB, on the device of the maps.
    """

    def __init__(self, photo: Tensor) -> None:
        self.photo = photo
        planes = photo.permute(2, 0, 1)[None]
        if photo.device.type != "cpu":  # only CPUs resize whole numbers
            planes = planes.float()
        small = F.interpolate(planes, (GRID, GRID), mode="bilinear", antialias=True, align_corners=False)
        self._small = small[0].float() / 255
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}

    def follow(self, probabilities: Tensor) -> Tensor:
        """One class's map at the photo's size, moved to the photo's edges.

        Args:
            probabilities: float32 (h, w) in [0, 1], as the network gives them.

        Returns:
            float32 (H, W) in [0, 1]. Far from edges of the map it is the map, brought to (H, W) bilinearly, corners
            aligned, as without this filter.
        """
        height, width = self.photo.shape[:2]
        out = _resize(probabilities, (height, width))
        coarse = _resize(probabilities, (GRID, GRID))
        slope, offset = self._coefficients(coarse, _radius(coarse))
        busy = slope.abs().sum(dim=0) + (offset - coarse).abs() > UNCHANGED
        coefficients = torch.cat([slope / 255, offset[None]])
        spans = [Span.of(left, width, out.device) for left in range(0, width, TILE)]
        for top in range(0, height, TILE):
            rows = Span.of(top, height, out.device)
            for columns in spans:
                if not bool(busy[rows.positions, columns.positions].any()):
                    continue
                fine = rows.weights @ coefficients[:, rows.positions, columns.positions] @ columns.weights.T
                found = fine[3]
                for channel, values in enumerate(self.photo[rows.pixels, columns.pixels].unbind(dim=2)):
                    found.addcmul_(fine[channel], values.float())
                out[rows.pixels, columns.pixels] = found.clamp_(0, 1)
        return out

    def _coefficients(self, coarse: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """a (3, GRID, GRID) and b (GRID, GRID) of every window, averaged over the windows that hold a position."""
        window = _window(radius, coarse.device)
        colours, mean, inverse = self._of_photo(radius, window)
        products = window @ torch.cat([coarse[None], colours * coarse]) @ window.T
        covariance = products[1:] - mean * products[0]
        slope = torch.einsum("ijyx,jyx->iyx", inverse, covariance)
        offset = products[0] - (slope * mean).sum(dim=0)
        smooth = window @ torch.cat([slope, offset[None]]) @ window.T
        return smooth[:3], smooth[3]

    def _of_photo(self, radius: int, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The colours, their means in every window, and the inverse (3, 3, GRID, GRID) of their covariance."""
        if radius not in self._moments:
            colours = self._small
            pairs = (colours[:, None] * colours[None]).flatten(0, 1)
            means = window @ torch.cat([colours, pairs]) @ window.T
            mean = means[:3]
            covariance = means[3:].view(3, 3, GRID, GRID) - mean[:, None] * mean[None]
            covariance = covariance.permute(2, 3, 0, 1) + EPSILON * torch.eye(3, device=colours.device)
            self._moments[radius] = mean, _inverse(covariance).permute(2, 3, 0, 1).contiguous()
        return (self._small, *self._moments[radius])


@dataclass(frozen=True)
class Span:
    """Where a run of pixels lies between positions of the grid, along one axis.

    Attributes:
        pixels: of the photo.
        positions: of the grid, those that the run needs.
        weights: float32 (pixels, positions), linear interpolation.
    """

    pixels: slice
    positions: slice
    weights: Tensor

    @classmethod
    def of(cls, start: int, length: int, device: torch.device) -> "Span":
        """Up to ``TILE`` pixels from ``start`` of an axis of ``length`` pixels."""
        stop = min(start + TILE, length)
        places = ((torch.arange(start, stop, device=device) + 0.5) * (GRID / length) - 0.5).clamp(0, GRID - 1)
        first, last = int(places[0]), min(int(places[-1]) + 2, GRID)
        weights = (1 - (places[:, None] - torch.arange(first, last, device=device)).abs()).clamp_(min=0)
        return cls(slice(start, stop), slice(first, last), weights)


def _resize(plane: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(plane[None, None], size, mode="bilinear", align_corners=True)[0, 0]


def _window(radius: int, device: torch.device) -> Tensor:
    """(GRID, GRID): a product with it is the mean over windows, cut at the borders, along an axis."""
    place = torch.arange(GRID, device=device)
    near = ((place[:, None] - place).abs() <= radius).float()
    return near / near.sum(dim=1, keepdim=True)


def _radius(coarse: Tensor) -> int:
    """Thin objects need small windows: thickness is twice the area over the length of the outline."""
    inside = (coarse >= 0.5).float()
    eroded = -F.max_pool2d(-inside[None], 3, stride=1, padding=1)[0]
    area, outline = inside.sum(), (inside - eroded).sum()
    thickness = float(2 * area / outline.clamp(min=1))
    return min(max(round(REACH * thickness), SMALLEST), LARGEST)


def _inverse(m: Tensor) -> Tensor:
    """Of symmetric positive definite matrices (..., 3, 3), by cofactors: a hundred times faster than a solver."""
    a, b, c, d, e, f = m[..., 0, 0], m[..., 0, 1], m[..., 0, 2], m[..., 1, 1], m[..., 1, 2], m[..., 2, 2]
    cofactors = torch.stack(
        [
            *(d * f - e * e, c * e - b * f, b * e - c * d),
            *(c * e - b * f, a * f - c * c, b * c - a * e),
            *(b * e - c * d, b * c - a * e, a * d - b * b),
        ],
        dim=-1,
    )
    determinant = a * cofactors[..., 0] + b * cofactors[..., 1] + c * cofactors[..., 2]
    return (cofactors / determinant[..., None]).view(m.shape)
