"""Training-free baselines on the same backbone: what its features know before anything is learned.

Both compare the features of levels 4 and 3 and answer by the same rules (eqs. 1-5) as a trained head: the logit margin
of a position is its similarity above a fixed threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk.model.correlation import Pyramid

#: Logits per unit of similarity; it changes probabilities, but no presence and no 1-way mask.
SLOPE = 20.0
#: Where a head without weights is as likely right as wrong: its delta of eq. 2.
UNDECIDED = 0.5
#: How many levels are compared, from the coarsest.
COARSEST_LEVELS = 2


@dataclass(frozen=True)
class TrainingFree:
    """A head without weights.

    Attributes:
        similarity: normalised maps (1, C, H, W) and (P, C, h, w) and foreground weights (P, h * w) -> (P, H * W).
        threshold: the similarity at which a position is as likely foreground as background.
    """

    similarity: Callable[[Tensor, Tensor, Tensor], Tensor]
    threshold: float

    def __call__(self, query: Pyramid, support: Pyramid, support_mask: Tensor | None) -> Tensor:
        margin = SLOPE * (similarity_map(self.similarity, query, support, support_mask) - self.threshold)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def similarity_map(
    similarity: Callable[[Tensor, Tensor, Tensor], Tensor], query: Pyramid, support: Pyramid, mask: Tensor | None
) -> Tensor:
    """Mean similarity over the maps of levels 4 and 3, at level 3's resolution: (P, H, W) in [-1, 1]."""
    size = query[COARSEST_LEVELS - 1][0].shape[-2:]
    levels = []
    for query_level, support_level in zip(query[:COARSEST_LEVELS], support[:COARSEST_LEVELS], strict=True):
        pairs, _, height, width = support_level[0].shape
        if mask is None:
            weights = torch.ones(pairs, height * width, device=support_level[0].device)
        else:
            weights = F.interpolate(mask[:, None], (height, width), mode="area").flatten(1)
        maps = [similarity(q.float(), s.float(), weights) for q, s in zip(query_level, support_level, strict=True)]
        mean = torch.stack(maps).mean(dim=0).view(pairs, 1, *query_level[0].shape[-2:])
        levels.append(F.interpolate(mean, size, mode="bilinear", align_corners=True)[:, 0])
    return torch.stack(levels).mean(dim=0)


def nearest_feature(query: Tensor, support: Tensor, weights: Tensor) -> Tensor:
    """Cosine with the most similar foreground position of the support (at least half foreground, or the most so)."""
    cosines = support.flatten(2).transpose(1, 2) @ query.flatten(2)
    foreground = weights >= weights.amax(dim=1, keepdim=True).clamp(max=0.5)
    return cosines.masked_fill(~foreground[:, :, None], -1.0).amax(dim=1)


def mean_prototype(query: Tensor, support: Tensor, weights: Tensor) -> Tensor:
    """Cosine with the support's mean foreground feature."""
    prototype = (support.flatten(2) * weights[:, None]).sum(dim=2)
    return (F.normalize(prototype, dim=1)[:, None] @ query.flatten(2))[:, 0]


SIMILARITIES = {"nearest feature": nearest_feature, "mean prototype": mean_prototype}
