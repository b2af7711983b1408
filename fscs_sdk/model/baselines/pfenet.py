"""Prior Guided Feature Enrichment Network (Tian et al., TPAMI 2020): a prior mask, enriched features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.baselines.prototypes import Projection, masked_average
from fscs_sdk.model.baselines.support_mask import foreground_seen, foreground_share
from fscs_sdk.model.correlation import Pyramid, correlate

WIDTH = 256
#: Sides of the enrichment's scales over the query's: the paper's 60, 30, 15 and 8 on its maps of side 60.
SCALES = (1, 1 / 2, 1 / 4, 2 / 15)
#: Keeps a prior of equal values at 0.
PRIOR_EPSILON = 1e-7


def prior_mask(query_map: Tensor, support_map: Tensor, support_mask: Tensor | None) -> Tensor:
    """How much each query position resembles the support's foreground in high-level features (section 3.2).

    The largest cosine with any foreground position, moved and scaled to [0, 1] over the query. Negative cosines count
    as 0, which the paper's features, taken after a ReLU, do not have.

    Args:
        query_map: normalised (P, C, H, W), or (1, C, H, W) for one query.
        support_map: normalised (P, C, h, w).
        support_mask: float (P, mask height, mask width); None = the whole photo is foreground.

    Returns:
        (P, 1, H, W) in [0, 1]; 0 where no position sees foreground.
    """
    seen = foreground_seen(support_mask, support_map)
    cosines = correlate([query_map], [support_map * seen]).float().amax(dim=(2, 3))
    lowest, highest = cosines.aminmax(dim=2, keepdim=True)
    prior = (cosines - lowest) / (highest - lowest + PRIOR_EPSILON)
    return prior.view(-1, 1, *query_map.shape[-2:])


class Scale(nn.Module):
    """One scale of the feature enrichment module (section 3.3): inter-source enrichment, then inter-scale interaction.

    Args:
        finest: whether there is no finer scale whose features come in.
    """

    def __init__(self, *, finest: bool) -> None:
        super().__init__()
        self.merge_sources = nn.Conv2d(2 * WIDTH + 1, WIDTH, 1, bias=False)
        self.merge_finer = None if finest else nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False)
        self.refine = _two_convolutions()

    def forward(self, query: Tensor, prototype: Tensor, prior: Tensor, finer: Tensor | None) -> Tensor:
        """Query and finer features (1 or P, 256, H, W), prototype (P, 256), prior (P, 1, H', W') -> (P, 256, H, W)."""
        height, width = query.shape[-2:]
        pairs = len(prototype)
        spread = prototype[:, :, None, None].expand(-1, -1, height, width)
        sources = [query.expand(pairs, -1, -1, -1), spread, _resize(prior, (height, width))]
        x = F.relu(self.merge_sources(torch.cat(sources, dim=1)))
        if self.merge_finer is not None and finer is not None:
            x = x + F.relu(self.merge_finer(torch.cat([x, _resize(finer, (height, width))], dim=1)))
        out: Tensor = x + self.refine(x)
        return out


class PFENet(nn.Module):
    """PFENet as a head of iFSL (table 1 of the iFSL paper): 8,455,682 learnable parameters for ResNet-50.

    The paper's 10.8 M hold 2.4 M more, of classifiers at every scale for intermediate losses: here every method has
    the same, single loss, so they are left out. With a mask of None the whole photo is foreground. Other deviations:

    * The backbone is not dilated: level 3 is brought from stride 16, and the prior from stride 32, to level 2's grid.
    * Features arrive with vectors of length 1 and are scaled to a mean square of 1 (:class:`~.prototypes.Projection`).
    * Scales are fractions of the query's sides, not fixed sizes, so that small maps and windows of maps have them too.
    * The support is averaged with the share of each cell that is foreground, so that small objects do not vanish.
    * K shots: iFSL averages logits (its section 5.1) where PFENet averages prototypes and priors.
    * No dropout; logits are brought to twice level 2's grid, where all heads are trained and judged.

    Args:
        channels: of the last maps of levels 4, 3 and 2.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.reduce_query = Projection(channels[1:], WIDTH)
        self.reduce_support = Projection(channels[1:], WIDTH)
        self.scales = nn.ModuleList([Scale(finest=index == 0) for index in range(len(SCALES))])
        self.concentrate = nn.Conv2d(len(SCALES) * WIDTH, WIDTH, 1, bias=False)
        self.refine = _two_convolutions()
        self.classify = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(WIDTH, 2, 1)
        )

    def forward(self, query: Pyramid, support: Pyramid, support_mask: Tensor | None) -> Tensor:
        """Foreground logits (P, 2, 2H, 2W) of P pairs for level 2's H, W; arguments as for :class:`~.asnet.ASNet`."""
        query_features = F.relu(self.reduce_query(query[1:]))
        support_features = F.relu(self.reduce_support(support[1:]))
        prototype = masked_average(support_features, foreground_share(support_mask, support_features))
        prior = prior_mask(query[0][-1], support[0][-1], support_mask)
        x = F.relu(self.concentrate(self._enrich(query_features, prototype, prior)))
        x = self.classify(x + self.refine(x))
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    def _enrich(self, query: Tensor, prototype: Tensor, prior: Tensor) -> Tensor:
        """The enrichment module: scales from fine to coarse -> (P, 4 * 256, H, W), all at the query's grid."""
        height, width = query.shape[-2:]
        enriched: list[Tensor] = []
        for scale, share in zip(self.scales, SCALES, strict=True):
            pooled = F.adaptive_avg_pool2d(query, (max(1, round(height * share)), max(1, round(width * share))))
            enriched.append(scale(pooled, prototype, prior, enriched[-1] if enriched else None))
        return torch.cat([_resize(features, (height, width)) for features in enriched], dim=1)


def _two_convolutions() -> nn.Sequential:
    first, second = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
