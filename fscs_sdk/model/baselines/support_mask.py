"""A support's mask at the resolution of its maps, in the two ways that the baselines use it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def foreground_seen(support_mask: Tensor | None, support_map: Tensor) -> Tensor:
    """Which positions of a map see foreground: the mask, sampled there bilinearly (align_corners), is above 0.

    Args:
        support_mask: float (P, mask height, mask width), 1 = foreground; None = the whole photo is.
        support_map: (P, C, h, w).

    Returns:
        (P, 1, h, w) of the map's type, 0 or 1. A mask that lies between the sampled points is seen nowhere.
    """
    if support_mask is None:
        return torch.ones_like(support_map[:, :1])
    sampled = F.interpolate(support_mask[:, None], support_map.shape[-2:], mode="bilinear", align_corners=True)
    return (sampled > 0).to(support_map.dtype)


def foreground_share(support_mask: Tensor | None, support_map: Tensor) -> Tensor:
    """The share of each position's cell that is foreground: (P, 1, h, w) in [0, 1]. No foreground is missed.

    Arguments as for :func:`foreground_seen`.
    """
    if support_mask is None:
        return torch.ones_like(support_map[:, :1])
    height, width = support_map.shape[-2:]
    return F.adaptive_avg_pool2d(support_mask[:, None], (height, width)).to(support_map.dtype)
