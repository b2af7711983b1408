"""Foreground maps that follow the photo's edges: a guided filter with a radius that fits the object.

A network's map has some 70 to 100 positions a side, so what it outlines are blobs. The guided filter (He, Sun & Tang,
TPAMI 2013, with a colour guide) explains the map in every window by a linear function of the photo's colours,
``q = a . I + b``, and so moves its edges to the photo's. Its coefficients are smooth: they are computed on a small grid
and applied at the photo's own size (He & Sun, *Fast guided filter*, 2015). Not in the few-shot paper.

One thing is ours: a window counts as far as its colours explain the map in it, by the share of the map's variance that
the linear function has. Where they do not (a road and the roofs beside it under one blob) the map stays as it is. With
all windows alike, masks of such sources got worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: What a map must reach to have an outline; one that reaches it nowhere is left as it is.
OUTLINE = 0.5
#: Positions a side of the grid that coefficients are computed on.
GRID = 192
#: Weight against steep coefficients, for colours in [0, 1]: what varies less than its root is taken for texture.
EPSILON = 1e-4
#: Radius of the windows: this share of the object's thickness, within these bounds, in positions of the grid.
REACH, SMALLEST, LARGEST = 0.7, 2, 16
#: A window counts nothing if its colours explain less than SOME of the map's variance in it, and fully from MUCH on.
SOME, MUCH = 0.2, 0.5
#: Variance below which a map is flat: no share of it is explained.
FLAT = 1e-6
#: Rows and columns of the pieces in which coefficients are applied. They bound the memory, and are the same whatever is
#: asked for beside them, so that a class's map does not depend on the other classes.
TILE_ROWS, TILE_COLUMNS = 64, 512
#: A piece is left as it is where the filter would change no pixel by more than about this.
UNCHANGED = 0.1


class Edges:
    """What moves the maps of one query to the edges of its photo.

    Args:
        photo: uint8 (H, W, 3), RGB, on the device of the maps.
        maps: of N classes, as the network gives them: float32 (n, h, w) in [0, 1] of neighbours, and so on.
    """

    def __init__(self, photo: Tensor, maps: Sequence[Tensor]) -> None:
        self.photo = photo
        planes = photo.permute(2, 0, 1)[None]
        if photo.device.type != "cpu":  # only CPUs resize whole numbers
            planes = planes.float()
        small = F.interpolate(planes, (GRID, GRID), mode="bilinear", antialias=True, align_corners=False)
        self._colours = small[0].float() / 255
        self._of_radius: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        coarse = [F.interpolate(some[None], (GRID, GRID), mode="bilinear", align_corners=True)[0] for some in maps]
        fitted = [self._fit(plane) for planes in coarse for plane in planes]
        self._coefficients = torch.stack([coefficients for coefficients, _ in fitted])
        self._busy = torch.stack([busy for _, busy in fitted])
        height, width = photo.shape[:2]
        self._columns = [Span.of(left, TILE_COLUMNS, width, photo.device) for left in range(0, width, TILE_COLUMNS)]
        self._height = height

    def follow(self, maps: Tensor, first: int) -> None:
        """Change rows of the maps, float32 (N, rows, W) in [0, 1] at the photo's size, in place.

        Args:
            maps: ``TILE_ROWS`` rows, or what is left of them at the photo's end.
            first: the first row, a multiple of ``TILE_ROWS``.
        """
        rows = Span.of(first, TILE_ROWS, self._height, maps.device)
        for columns in self._columns:
            busy = self._busy[:, rows.positions, columns.positions].flatten(1).any(dim=1)
            # what is left as it is need not be computed, but only a CPU knows it without waiting for the device
            ways = torch.nonzero(busy)[:, 0].tolist() if maps.device.type == "cpu" else range(len(maps))
            if not ways:
                continue
            channels = [plane.float() for plane in self.photo[rows.pixels, columns.pixels].unbind(dim=2)]
            for way in ways:
                coarse = self._coefficients[way, :, rows.positions, columns.positions]
                fine = rows.weights @ (coarse @ columns.weights.T)  # in this order: a piece is wider than high
                found = fine[3]
                for slope, channel in zip(fine, channels, strict=False):
                    found.addcmul_(slope, channel)
                found.clamp_(0, 1)
                piece = maps[way, :, columns.pixels]
                piece.copy_(found if maps.device.type == "cpu" else torch.where(busy[way], found, piece))

    def _fit(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        """Of a map (GRID, GRID): a, for colours to 255, and b as (4, GRID, GRID), and bool where they matter.

        In every window a and b are those of He et al. for a colour guide; then they are averaged over the windows that
        hold a position, each as far as its colours explain the map there (see the module), the map itself for the rest.
        """
        outlined = plane.max() >= OUTLINE
        if plane.device.type == "cpu" and not bool(outlined):
            return plane.new_zeros(4, GRID, GRID), torch.zeros_like(plane, dtype=torch.bool)
        window, mean, spread, inverse = self._windows(_radius(plane))
        products = window @ torch.cat([plane[None], plane[None] ** 2, self._colours * plane]) @ window.T
        shared = products[2:] - mean * products[0]
        slope = torch.einsum("ijyx,jyx->iyx", inverse, shared)
        offset = products[0] - (slope * mean).sum(dim=0)
        explained = (slope * shared).sum(dim=0) / (products[1] - products[0] ** 2).clamp(min=FLAT)
        weight = ((explained - SOME) / (MUCH - SOME)).clamp(0, 1)
        smooth = window @ torch.cat([weight * slope, (weight * offset)[None], weight[None]]) @ window.T
        slope, offset = smooth[:3], smooth[3] + (1 - smooth[4]) * plane
        change = (slope.abs() * 2 * spread).sum(dim=0) + ((slope * mean).sum(dim=0) + offset - plane).abs()
        busy = outlined & (change > UNCHANGED)
        return torch.cat([slope / 255, offset[None]]), busy

    def _windows(self, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a radius: the window (:func:`_window`), and in it the colours' means and standard deviations, each
        (3, GRID, GRID), and the inverse of their covariance (3, 3, GRID, GRID). Classes of one radius share them, where
        reading it makes nobody wait."""
        if radius.device.type == "cpu" and int(radius) in self._of_radius:
            return self._of_radius[int(radius)]
        window, colours = _window(radius), self._colours
        pairs = (colours[:, None] * colours[None]).flatten(0, 1)
        means = window @ torch.cat([colours, pairs]) @ window.T
        covariance = means[3:].view(3, 3, GRID, GRID) - means[:3, None] * means[None, :3]
        covariance = covariance.permute(2, 3, 0, 1) + EPSILON * torch.eye(3, device=colours.device)
        spread = covariance.diagonal(dim1=2, dim2=3).permute(2, 0, 1).sqrt()
        found = window, means[:3], spread, _inverse(covariance).permute(2, 3, 0, 1).contiguous()
        if radius.device.type == "cpu":
            self._of_radius[int(radius)] = found
        return found


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
    def of(cls, start: int, count: int, length: int, device: torch.device) -> "Span":
        """Up to ``count`` pixels from ``start`` of an axis of ``length`` pixels."""
        stop = min(start + count, length)
        first, last = (min(max((pixel + 0.5) * GRID / length - 0.5, 0), GRID - 1) for pixel in (start, stop - 1))
        positions = slice(int(first), min(int(last) + 2, GRID))
        pixels = torch.arange(start, stop, dtype=torch.float32, device=device)
        places = ((pixels + 0.5) * (GRID / length) - 0.5).clamp_(0, GRID - 1)
        grid = torch.arange(positions.start, positions.stop, device=device)
        weights = (1 - (places[:, None] - grid).abs()).clamp_(min=0)
        return cls(slice(start, stop), positions, weights)


def _window(radius: Tensor) -> Tensor:
    """(GRID, GRID): a product with it is the mean over windows, cut at the borders, along an axis."""
    place = torch.arange(GRID, device=radius.device)
    near = ((place[:, None] - place).abs() <= radius).float()
    return near / near.sum(dim=1, keepdim=True)


def _radius(coarse: Tensor) -> Tensor:
    """Thin objects need small windows: thickness is twice the area over the length of the outline."""
    inside = (coarse >= OUTLINE).float()
    eroded = -F.max_pool2d(-inside[None], 3, stride=1, padding=1)[0]
    area, outline = inside.sum(), (inside - eroded).sum()
    return (REACH * 2 * area / outline.clamp(min=1)).round().clamp(SMALLEST, LARGEST)


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
