"""Hypercorrelation (eq. 8): cosine similarity of every query position with every support position, map by map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to a feature's norm before the division, as in the authors' program.
NORM_EPSILON = 1e-5


#: Largest side that levels 3 and 2 of a support may have; see ``asnet.SUPPORT_SIDES``.
LARGEST_SUPPORT_SIDE = 32

#: Maps (B, C_l, H, W) for each level: [level 4, level 3, level 2], within a level in order of depth.
Pyramid = Sequence[Sequence[Tensor]]


def query_pyramid(features: Pyramid) -> list[list[Tensor]]:
    """A backbone's maps, normalised for the query side of :func:`correlate`."""
    return [[normalize(feature) for feature in level] for level in features]


def support_pyramid(features: Pyramid) -> list[list[Tensor]]:
    """A backbone's maps, pooled (table a.6, "pool support dims. by half") and normalised for the support side."""
    return [[normalize(pool(feature, LARGEST_SUPPORT_SIDE)) for feature in level] for level in features]


def normalize(feature: Tensor) -> Tensor:
    """Divide a map (..., C, H, W) by its L2 norm over C plus 1e-5, so that products become cosines."""
    norm: Tensor = torch.linalg.vector_norm(feature, dim=-3, keepdim=True)
    return feature / (norm + NORM_EPSILON)


def pool(feature: Tensor, side: int) -> Tensor:
    """Halve a map (P, C, h, w) by 3x3 average pooling (stride 2, zeros counted) until no side is above ``side``."""
    while max(feature.shape[-2:]) > side:
        feature = F.avg_pool2d(feature, kernel_size=3, stride=2, padding=1)
    return feature


def correlate(query: Sequence[Tensor], support: Sequence[Tensor]) -> Tensor:
    """Hypercorrelation of one pyramid level (eq. 8).

    Args:
        query: L normalised maps (P, C_l, H, W), or (1, C_l, H, W) where one query meets P supports.
        support: L normalised maps (P, C_l, h, w).

    Returns:
        (P, L, h, w, Q), values in [0, 1]: negative cosines are clamped to 0.
    """
    correlations = [_cosines(*maps) for maps in zip(query, support, strict=True)]
    return torch.stack(correlations, dim=1).relu_()


def _cosines(query: Tensor, support: Tensor) -> Tensor:
    """(P, C, H, W) or (1, C, H, W), and (P, C, h, w) -> (P, h, w, Q): products of normalised features."""
    if len(query) > 1:
        products = torch.bmm(support.flatten(2).transpose(1, 2), query.flatten(2))
        return products.view(len(query), *support.shape[2:], -1)
    positions = query[0].flatten(1).t()  # (Q, C), as channels-last features lie in memory
    return F.linear(support.permute(0, 2, 3, 1), positions)
