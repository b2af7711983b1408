"""Prototype Alignment Network (Wang et al., ICCV 2019): the nearer of a foreground and a background prototype."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.baselines.prototypes import Projection, masked_average
from fscs_sdk.model.baselines.support_mask import foreground_share
from fscs_sdk.model.correlation import Pyramid

WIDTH = 512
#: Multiplier of the cosines before the softmax (section 3.3).
ALPHA = 20
#: Smallest length that a vector is divided by, so that an empty prototype has cosine 0 with everything.
LENGTH_EPSILON = 1e-5


class PANet(nn.Module):
    """PANet as a head of iFSL (table 1 of the iFSL paper): 1,835,008 learnable parameters for ResNet-50.

    Prototypes by masked average pooling of foreground (eq. 1) and background (eq. 2), compared with every query
    position by cosines times alpha = 20, softmax over them (eq. 3): the logits are those scaled cosines. A mask of None
    makes the whole photo foreground; a side without area has cosine 0 everywhere. Deviations, with reasons:

    * PANet has no parameters but its backbone's (14.7 M, VGG-16), which it fine-tunes. Ours is frozen, so the last maps
      of levels 4, 3 and 2 pass a learned 1x1 embedding to 512 channels, and prototypes live there.
    * Every pair has its own background prototype; the backgrounds of N classes and K shots meet in iFSL's averages
      (eq. 3 and section 5.1 of iFSL) where PANet averages them before the comparison.
    * The mask's share of each cell weights the support's map, where PANet enlarges the map to the mask.
    * Prototype alignment is a loss of training, and every method here has the same loss: it is left out.
    * Logits are brought to twice level 2's grid, where all heads are trained and judged.

    Args:
        channels: of the last maps of levels 4, 3 and 2.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.embed = Projection(channels, WIDTH)

    def forward(self, query: Pyramid, support: Pyramid, support_mask: Tensor | None) -> Tensor:
        """Foreground logits (P, 2, 2H, 2W) of P pairs for level 2's H, W; arguments as for :class:`~.asnet.ASNet`."""
        features = F.normalize(self.embed(query), dim=1, eps=LENGTH_EPSILON)
        directions = F.normalize(prototypes(self.embed(support), support_mask), dim=2, eps=LENGTH_EPSILON)
        cosines = torch.matmul(directions, features.flatten(2)).view(-1, 2, *features.shape[-2:])
        return F.interpolate(ALPHA * cosines, scale_factor=2, mode="bilinear", align_corners=True)


def prototypes(support_map: Tensor, support_mask: Tensor | None) -> Tensor:
    """Background and foreground prototype (eqs. 1 and 2) of P supports: (P, C, h, w) -> (P, 2, C).

    ``support_mask``: float (P, mask height, mask width), 1 = foreground; None = the whole photo is.
    """
    foreground = foreground_share(support_mask, support_map)
    return torch.stack([masked_average(support_map, weights) for weights in (1 - foreground, foreground)], dim=1)
