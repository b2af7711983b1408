"""Foreground maps that follow the photo's edges: a guided filter with a radius that fits the object.

A network's map has some 70 to 100 positions a side, so what it outlines are blobs. The guided filter (He, Sun & Tang,
TPAMI 2013, with a colour guide) explains the map in every window by a linear function of the photo's colours,
``q = a . I + b``, and so moves its edges to the photo's. Its coefficients are smooth: they are computed on a small grid
and applied at the photo's own size (He & Sun, *Fast guided filter*, 2015). Not in the few-shot paper.

Two things are ours. A window counts as far as its colours explain the map in it, by the share of the map's variance
that the linear function has. Where they do not (a road and the roofs beside it under one blob) the map stays as it is.
With all windows alike, masks of such sources got worse. And the grid holds what is to be *added* to the map, which is
nothing where it would be little: a map without an outline stays the paper's to the last digit, and the parts of a photo
to which nothing is added cost a CPU nothing.

The grid is filled from the photo as the network sees it, so that an exported graph, which is given no other, has the
same coefficients.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

#: What a map must reach to have an outline; one that reaches it nowhere is left as it is.
OUTLINE = 0.5
#: Pixels of the photo at the network's side to a position of the grid, along each axis.
POOL = 4
#: Weight against steep coefficients, for colours in [0, 1]: what varies less than its root is taken for texture.
EPSILON = 1e-4
#: Radius of the windows: this share of the object's thickness, within these bounds, in positions of the grid.
REACH, SMALLEST, LARGEST = 0.7, 1, 6
#: A window counts nothing if its colours explain less than SOME of the map's variance in it, and fully from MUCH on.
SOME, MUCH = 0.2, 0.5
#: Variance below which a map is flat: no share of it is explained.
FLAT = 1e-6
#: Nothing is added where no pixel would change by more than LITTLE, and all from VISIBLE on.
LITTLE, VISIBLE = 0.1, 0.15
#: Rows and columns of the pieces in which it is added at the photo's size. They bound the memory and change nothing.
PIECE_ROWS, PIECE_COLUMNS = 128, 512
#: Positions of the grid without an addition that a piece may span: between more there are two.
APART = 4


@dataclass(frozen=True)
class Edges:
    """A photo whose edges maps are to follow, on the maps' device.

    Attributes:
        photo: uint8 (H, W, 3), RGB.
        view: uint8 (side, side, 3), the same as the network sees it.
    """

    photo: Tensor
    view: Tensor

    def fit(self, maps: Sequence[Tensor]) -> "Addition":
        """What the maps of N classes lack, float32 (n, h, w) in [0, 1] of neighbours, and so on."""
        colours = grid_colours(self.view)
        planes = [on_grid(plane, len(self.view)) for some in maps for plane in some]
        if self.photo.device.type != "cpu":  # nobody waits for a device
            fitted = [Windows.of(colours, window_radius(plane)).explain(plane) for plane in planes]
            return Addition.of(self, torch.stack(fitted))
        found = colours.new_zeros(len(planes), 4, *colours.shape[1:])
        of_radius: dict[float, Windows] = {}  # classes of one radius share them
        for own, plane in zip(found, planes, strict=True):
            if bool(plane.max() >= OUTLINE):
                radius = window_radius(plane)
                windows = of_radius.setdefault(float(radius), Windows.of(colours, radius))
                own.copy_(windows.explain(plane))
        return Addition.of(self, found)


@dataclass(frozen=True)
class Addition:
    """What is added to the maps of N classes.

    Attributes:
        photo: uint8 (H, W, 3).
        coefficients: float32 (N, 4, G, G): of every position of the grid what a red, green and blue level, 0 to 255, is
            multiplied by, and a number for their sum.
        down: where the photo's rows lie on the grid; ``across``: its columns.
    """

    photo: Tensor
    coefficients: Tensor
    down: "Axis"
    across: "Axis"

    @classmethod
    def of(cls, edges: Edges, coefficients: Tensor) -> "Addition":
        """Ready for the maps of a photo."""
        height, width = edges.photo.shape[:2]
        down, across = (Axis.of(length, len(edges.view), edges.photo.device) for length in (height, width))
        return cls(edges.photo, coefficients, down, across)

    @cached_property
    def _busy(self) -> NDArray[np.bool_]:
        """(N, G, G), where anything is added."""
        return self.coefficients.any(dim=1).numpy()

    def to(self, maps: Tensor, first: int) -> None:
        """Change some rows of the maps, float32 (N, rows, W) in [0, 1] at the photo's size, in place.

        Args:
            first: the number of the first row.
        """
        for start in range(0, maps.shape[1], PIECE_ROWS):
            stop = min(start + PIECE_ROWS, maps.shape[1])
            rows = slice(first + start, first + stop)
            for way, plane in enumerate(maps[:, start:stop]):
                for columns in self._busy_columns(way, rows):
                    self._change(way, plane[:, columns], rows, columns)

    def _busy_columns(self, way: int, rows: slice) -> Iterator[slice]:
        """The columns in which anything is added to a class's map; all, where only a device knows which they are, so
        that nobody waits for it."""
        stretches = [(0, self.photo.shape[1])]
        if self.photo.device.type == "cpu":
            places = np.flatnonzero(self._busy[way, self.down.positions(rows)].any(axis=0))
            if not len(places):
                return
            runs = np.split(places, np.flatnonzero(np.diff(places) > APART) + 1)
            stretches = [self.across.pixels(int(run[0]), int(run[-1])) for run in runs]
        done = 0
        for first, last in stretches:
            for start in range(max(first, done), last, PIECE_COLUMNS):
                yield slice(start, min(start + PIECE_COLUMNS, last))
            done = last

    def _change(self, way: int, piece: Tensor, rows: slice, columns: slice) -> None:
        high, wide = self.down.positions(rows), self.across.positions(columns)
        coarse = self.coefficients[way, :, high, wide]
        levels = self.photo[rows, columns].permute(2, 0, 1).float().contiguous()
        piece.copy_(follow(piece, levels, coarse, self.down.weights[rows, high], self.across.weights[columns, wide]))


@dataclass(frozen=True)
class Axis:
    """Where the pixels of an axis lie between the positions of the grid.

    Attributes:
        weights: float32 (pixels, G), linear interpolation.
        scale: positions of the grid to a pixel.
    """

    weights: Tensor
    scale: float

    @classmethod
    def of(cls, length: int, side: int, device: torch.device) -> "Axis":
        """Of a photo's axis of ``length`` pixels, which the network sees as ``side``."""
        scale = side / POOL / length  # the last position may stick out
        grid = torch.arange(-(-side // POOL), device=device)
        pixels = torch.arange(length, dtype=torch.float32, device=device)
        places = ((pixels + 0.5) * scale - 0.5).clamp_(0, len(grid) - 1)
        return cls((1 - (places[:, None] - grid).abs()).clamp_(min=0), scale)

    def positions(self, pixels: slice) -> slice:
        """Those that pixels lie between."""
        first, last = ((pixel + 0.5) * self.scale - 0.5 for pixel in (pixels.start, pixels.stop - 1))
        most = self.weights.shape[1]
        return slice(min(max(math.floor(first), 0), most - 1), min(max(math.floor(last), 0) + 2, most))

    def pixels(self, first: int, last: int) -> tuple[int, int]:
        """From where to where pixels take something of some positions."""
        start, stop = ((position - 0.5) / self.scale - 0.5 for position in (first, last + 2))
        return max(math.floor(start), 0), min(math.ceil(stop) + 1, len(self.weights))


@dataclass(frozen=True)
class Windows:
    """A photo's colours in windows of one radius, around every position of the grid.

    Attributes:
        colours: float32 (3, G, G).
        window: (G, G): a product with it is the mean over windows, cut at the borders, along an axis.
        mean: (3, G, G).
        spread: (3, G, G), standard deviations.
        inverse: (6, G, G), of the covariance, in the order of :func:`pairs`.
    """

    colours: Tensor
    window: Tensor
    mean: Tensor
    spread: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, colours: Tensor, radius: Tensor) -> "Windows":
        """Of colours in [0, 1] and a radius in positions of the grid."""
        place = torch.arange(colours.shape[-1], device=colours.device)
        near = ((place[:, None] - place).abs() <= radius).float()
        window = near / near.sum(dim=1, keepdim=True)
        means = window @ torch.cat([colours, pairs(colours)]) @ window.T
        mean = means[:3]
        rr, rg, rb, gg, gb, bb = means[3:] - pairs(mean)
        rr, gg, bb = rr + EPSILON, gg + EPSILON, bb + EPSILON
        spread = torch.stack([rr, gg, bb]).clamp(min=0).sqrt()
        return cls(colours, window, mean, spread, inverses(rr, rg, rb, gg, gb, bb))

    def explain(self, plane: Tensor) -> Tensor:
        """What is to be added to a map (G, G): (4, G, G), see :class:`Addition`.

        In every window a and b are those of He et al. for a colour guide; then they are averaged over the windows that
        hold a position, each as far as its colours explain the map there (see the module), the map itself for the rest.
        """
        means = self._mean_over_windows(torch.cat([plane[None], plane[None] ** 2, self.colours * plane]))
        shared = means[2:] - self.mean * means[0]
        rr, rg, rb, gg, gb, bb = self.inverse
        red, green, blue = shared
        slope = torch.stack(
            [rr * red + rg * green + rb * blue, rg * red + gg * green + gb * blue, rb * red + gb * green + bb * blue]
        )
        offset = means[0] - (slope * self.mean).sum(dim=0)
        explained = (slope * shared).sum(dim=0) / (means[1] - means[0] ** 2).clamp(min=FLAT)
        counts = ((explained - SOME) / (MUCH - SOME)).clamp(0, 1)
        smooth = self._mean_over_windows(torch.cat([counts * slope, (counts * offset)[None], counts[None]]))
        slope, offset = smooth[:3], smooth[3] - smooth[4] * plane
        change = (slope.abs() * 2 * self.spread).sum(dim=0) + ((slope * self.mean).sum(dim=0) + offset).abs()
        kept = ((change - LITTLE) / (VISIBLE - LITTLE)).clamp(0, 1) * (plane.max() >= OUTLINE)
        return torch.cat([slope / 255, offset[None]]) * kept

    def _mean_over_windows(self, planes: Tensor) -> Tensor:
        return self.window @ planes @ self.window.T


def follow(piece: Tensor, levels: Tensor, coarse: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """A piece of a map at the photo's size, float32 (rows, columns), with what is added to it.

    Args:
        levels: float32 (3, rows, columns), the photo's, 0 to 255.
        coarse: float32 (4, r, c), coefficients (:class:`Addition`) of the part of the grid that the piece lies in.
        down: float32 (rows, r), ``across`` (columns, c): the weights of those (:class:`Axis`).
    """
    fine = down @ (coarse @ across.T)  # in this order: pieces are wider than high
    found = fine[3]
    for colour in range(3):
        found.addcmul_(fine[colour], levels[colour])
    return found.add_(piece).clamp_(0, 1)


def grid_colours(view: Tensor) -> Tensor:
    """A photo at the network's side, uint8 (side, side, 3) -> float32 (3, G, G) from 0 to 1: means of its pixels."""
    missing = -len(view) % POOL  # the last row and column once more, so that they fill positions
    if missing:
        view = torch.cat([view, view[-1:].expand(missing, -1, -1)])
        view = torch.cat([view, view[:, -1:].expand(-1, missing, -1)], dim=1)
    grid = len(view) // POOL
    rows = view.view(grid, POOL, -1).float().sum(dim=1)
    return rows.view(grid, grid, POOL, 3).sum(dim=2).permute(2, 0, 1).contiguous() / (255 * POOL**2)


def on_grid(plane: Tensor, side: int) -> Tensor:
    """A map (h, w) of a photo at the network's side -> (G, G), between its points, corners aligned."""
    grid = (torch.arange(-(-side // POOL), dtype=torch.float32, device=plane.device) + 0.5) * POOL - 0.5
    shares = [
        (1 - ((grid / (side - 1)).clamp(max=1)[:, None] * (count - 1) - torch.arange(count, device=plane.device)).abs())
        for count in plane.shape
    ]
    rows, columns = (share.clamp(min=0) for share in shares)
    return rows @ plane @ columns.T


def window_radius(plane: Tensor) -> Tensor:
    """Of a map (G, G): thin objects need small windows; thickness is twice the area over the length of the outline."""
    inside = (plane >= OUTLINE).float()
    eroded = -F.max_pool2d(-inside[None], 3, stride=1, padding=1)[0]
    area, outline = inside.sum(), (inside - eroded).sum()
    return (REACH * 2 * area / outline.clamp(min=1)).round().clamp(SMALLEST, LARGEST)


def pairs(colours: Tensor) -> Tensor:
    """Products of two of three colours (3, ...): (6, ...), what a symmetric matrix has from its diagonal on."""
    red, green, blue = colours[0], colours[1], colours[2]  # unpacked, they could not be exported
    return torch.stack([red * red, red * green, red * blue, green * green, green * blue, blue * blue])


def inverses(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """Of symmetric positive definite matrices ((a, b, c), (b, d, e), (c, e, f)), by cofactors: much faster than a
    solver. The same six numbers, stacked."""
    cofactors = torch.stack([d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b])
    return cofactors / (a * cofactors[0] + b * cofactors[1] + c * cofactors[2])
