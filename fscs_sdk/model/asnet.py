"""Attentive Squeeze Network (section 5.1, table a.6): hypercorrelation pyramid -> two-channel map for every pair."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.correlation import Pyramid, correlate
from fscs_sdk.model.squeeze import AttentiveSqueeze, KeyMasks, SqueezeStack

#: Support sides that levels 3 and 2 can squeeze to exactly 2x2 with two layers of kernel 5 and stride 4.
SUPPORT_SIDES = range(17, 33)


class ASNet(nn.Module):
    """The learner of the paper. One set of weights serves any number of ways and shots, with masks or without.

    Args:
        maps: number of feature maps of levels 4, 3 and 2, e.g. (3, 6, 4) for ResNet-50.
        touched: let keys see foreground that no key's point meets (:func:`.squeeze.visible_keys`). Not in the paper.
    """

    def __init__(self, maps: tuple[int, int, int], *, touched: bool = False) -> None:
        super().__init__()
        self.maps = maps
        self.touched = touched
        self.level4 = SqueezeStack([AttentiveSqueeze(maps[0], 32, 5, 4), AttentiveSqueeze(32, 128, 3, 2)])
        self.level3 = _pyramid_branch(maps[1])
        self.level2 = _pyramid_branch(maps[2])
        self.mix43 = _mixing_branch()
        self.mix32 = _mixing_branch()
        self.decoder = nn.ModuleList(
            [
                nn.Conv2d(128, 128, 3, padding=1),
                nn.Conv2d(128, 64, 3, padding=1),
                nn.Conv2d(64, 64, 3, padding=1),
                nn.Conv2d(64, 2, 3, padding=1),
            ]
        )
        for layer in self.modules():
            if isinstance(layer, AttentiveSqueeze):
                layer.touched = touched

    def forward(self, query: Pyramid, support: Pyramid, support_mask: Tensor | KeyMasks | None) -> Tensor:
        """Foreground logits of P (query, support) pairs from their feature maps.

        Args:
            query: from :func:`~.correlation.query_pyramid`, maps (P, C_l, H, W), or (1, C_l, H, W) for one query.
            support: from :func:`~.correlation.support_pyramid`, maps (P, C_l, h, w).
            support_mask: float (P, mask height, mask width), 1 = foreground, 0 = background; None = no masking.

        Returns:
            (P, 2, 2H, 2W) logits for level 2's H, W: channel 0 background, channel 1 foreground.

        Raises:
            ValueError: levels 3 and 2 of the supports cannot be squeezed to 2x2.
        """
        for level in support[1:]:
            _check_support_side(level[0])
        levels = list(zip(query, support, strict=True))
        sizes = [(level[0].shape[-2], level[0].shape[-1]) for level in query]
        return self.squeeze((correlate(q, s) for q, s in levels), sizes, support_mask)

    def squeeze(
        self,
        correlations: Iterable[Tensor],
        query_sizes: Sequence[tuple[int, int]],
        support_mask: Tensor | KeyMasks | None,
    ) -> Tensor:
        """The learner alone: a hypercorrelation pyramid -> logits (P, 2, 2H, 2W).

        Args:
            correlations: levels 4, 3 and 2, each (P, L, h, w, Q) from :func:`~.correlation.correlate`. One is asked for
                at a time, so that not all of them need to be in memory.
            query_sizes: (H, W) with H * W = Q for each level.
            support_mask: as in :meth:`forward`.
        """
        levels = iter(correlations)
        squeezed: Tensor = self.level4(next(levels), support_mask).mean(dim=(2, 3), keepdim=True)
        steps = zip((self.level3, self.level2), (self.mix43, self.mix32), pairwise(query_sizes), strict=False)
        for branch, mixer, (size, finer_size) in steps:
            finer = branch(next(levels), support_mask)
            squeezed = mixer(finer + _upsample(squeezed, size, finer_size), support_mask)
        return self._decode(squeezed.flatten(1).view(-1, 128, *query_sizes[-1]))

    def _decode(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)  # convolutions in place of copies to it and back
        x = F.relu(self.decoder[0](x))
        x = F.relu(self.decoder[1](x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = F.relu(self.decoder[2](x))
        out: Tensor = self.decoder[3](x)
        return out


def _check_support_side(support_map: Tensor) -> None:
    height, width = support_map.shape[-2:]
    if height not in SUPPORT_SIDES or width not in SUPPORT_SIDES:
        raise ValueError(
            f"a support map of {height}x{width} positions cannot be squeezed: levels 3 and 2 need "
            f"{SUPPORT_SIDES.start} to {SUPPORT_SIDES.stop - 1} a side; use an input side of 272 pixels or more"
        )


def _pyramid_branch(maps: int) -> SqueezeStack:
    return SqueezeStack(
        [
            AttentiveSqueeze(maps, 32, 5, 4, pool_key_value=True),
            AttentiveSqueeze(32, 128, 5, 4, pool_key_value=True),
        ]
    )


def _mixing_branch() -> SqueezeStack:
    return SqueezeStack([AttentiveSqueeze(128, 128, 1, 1), AttentiveSqueeze(128, 128, 2, 1)])


def _upsample(squeezed: Tensor, size: tuple[int, int], finer: tuple[int, int]) -> Tensor:
    """(P, C, 1, 1, Q) -> (P, C, 1, 1, Q') bilinearly over query positions."""
    plane = squeezed.flatten(1).view(squeezed.shape[0], -1, *size)
    plane = F.interpolate(plane, finer, mode="bilinear", align_corners=True)
    return plane.flatten(2)[:, :, None, None]
