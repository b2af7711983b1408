"""What the prototype networks (PANet, PFENet) share: one map of a pyramid, and its average over the foreground."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.correlation import Pyramid

#: Added to the foreground's area, so that a mask without foreground gives a prototype of zeros.
AREA_EPSILON = 1e-5


class Projection(nn.Module):
    """A 1x1 convolution, without bias, of the last maps of some levels, stacked at the resolution of the finest one.

    Every level is convolved by itself and then resized, which is the same and cheaper: the two commute. Maps arrive
    with vectors of length 1; they are scaled to a mean square of 1, about what the papers' own features have.

    Args:
        channels: of the last map of each level.
        width: C of the result.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(count, width, 1, bias=False) for count in channels])

    def forward(self, levels: Pyramid) -> Tensor:
        """Levels of maps (P, C_l, H_l, W_l), the finest last -> (P, C, H, W) at the last level's H, W."""
        size = levels[-1][-1].shape[-2:]
        parts = [conv(level[-1] * level[-1].shape[1] ** 0.5) for conv, level in zip(self.convs, levels, strict=True)]
        resized = [F.interpolate(part, size, mode="bilinear", align_corners=True) for part in parts]
        return torch.stack(resized).sum(dim=0)


def masked_average(features: Tensor, weights: Tensor) -> Tensor:
    """Masked average pooling: (P, C, h, w) and weights (P, 1, h, w) in [0, 1] -> (P, C); zeros where no weight is."""
    total: Tensor = (features * weights).sum(dim=(2, 3))
    return total / (weights.sum(dim=(2, 3)) + AREA_EPSILON)
