"""One logit map from those of a photo's four overlapping tiles. Not in the paper, which asks every photo whole."""

from typing import Literal, get_args

import torch
from torch import Tensor

#: How a class is looked for: in the query as it is, or in its tiles, with supports that are cropped to one.
Scale = Literal["whole", "tiles"]
SCALES: tuple[Scale, ...] = get_args(Scale)
ScaleChoice = Literal["auto", "whole", "tiles"]
#: Tiles of a photo.
TILES = 4
#: Side of a tile as a share of the photo's: neighbours have a third of a tile in common.
SHARE = 0.6


def tile_step(positions: int) -> int:
    """How many positions lie between the first of two neighbouring tiles, for tiles of so many positions a side."""
    return round((positions - 1) * (1 - SHARE) / SHARE)


def join_tiles(maps: Tensor) -> Tensor:
    """Logits of a photo's tiles -> logits of the photo, on a finer grid.

    Where tiles overlap their mean counts, by how far a position is from each tile's border: there a network sees least
    of what is around, and maps change over from one tile to the next without a seam.

    Args:
        maps: (4, P, C, h, w), of the tiles top left, top right, bottom left and bottom right.

    Returns:
        float32 (P, C, H, W) with ``H = h + tile_step(h)`` and ``W = w + tile_step(w)``.
    """
    height, width = maps.shape[-2:]
    down, right = tile_step(height), tile_step(width)
    weights = _from_border(height, maps.device)[:, None] * _from_border(width, maps.device)
    joined = torch.zeros((*maps.shape[1:3], height + down, width + right), device=maps.device)
    total = torch.zeros(joined.shape[-2:], device=maps.device)
    for index, tile in enumerate(maps):
        rows = slice(down * (index // 2), down * (index // 2) + height)
        columns = slice(right * (index % 2), right * (index % 2) + width)
        joined[..., rows, columns] += weights * tile.float()
        total[rows, columns] += weights
    return joined / total


def _from_border(positions: int, device: torch.device) -> Tensor:
    """(positions,), 1 at either end and rising towards the middle."""
    place = torch.arange(1, positions + 1, dtype=torch.float32, device=device)
    return torch.minimum(place, place.flip(0))
