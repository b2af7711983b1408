"""Hypercorrelation Squeeze Network (Min, Kang & Cho, ICCV 2021): 4D convolutions on a hypercorrelation pyramid."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.baselines.support_mask import foreground_seen
from fscs_sdk.model.correlation import Pyramid, correlate
from fscs_sdk.model.squeeze import SupportConv

GROUPS = 4
#: Channels of the three convolutions of a squeezing block.
WIDTHS = (16, 64, 128)
#: (kernel, stride over the support) of a block's three convolutions.
Shape = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
LEVEL_4: Shape = ((3, 2), (3, 2), (3, 2))
LEVEL_3: Shape = ((5, 4), (3, 2), (3, 2))
LEVEL_2: Shape = ((5, 4), (5, 2), (3, 2))
MIX: Shape = ((3, 1), (3, 1), (3, 1))


class CenterPivotConv4d(nn.Module):
    """Center-pivot 4D convolution (section 4.2): of a 4D kernel the taps at the query's centre or the support's.

    So it is the sum of two 2D convolutions: one over the support at every query position, and one over the query at
    every support position that the stride keeps. The query side keeps its size.

    Args:
        in_channels, out_channels: C_in and C_out.
        kernel: side of both 2D kernels; odd, padded by half of it.
        stride: over the support.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.support = SupportConv(in_channels, out_channels, kernel, stride)
        self.query = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.stride = stride

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(P, C_in, h, w, Q) -> (P, C_out, ceil(h / stride), ceil(w / stride), Q); ``size`` is (H, W), Q = H * W."""
        pivots = x[:, :, :: self.stride, :: self.stride]
        pairs, channels, height, width, positions = pivots.shape
        planes = self.query(pivots.permute(0, 2, 3, 1, 4).reshape(-1, channels, *size))
        over_query = planes.view(pairs, height, width, -1, positions).permute(0, 3, 1, 2, 4)
        out: Tensor = self.support(x) + over_query
        return out


class SqueezingBlock(nn.Module):
    """Three times center-pivot 4D convolution, group normalisation over 4 groups, ReLU (section 4.2).

    Args:
        channels: of the input and of the three outputs.
        shapes: (kernel, stride) of the three convolutions.
    """

    def __init__(self, channels: Sequence[int], shapes: Shape) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [CenterPivotConv4d(*widths, *shape) for widths, shape in zip(pairwise(channels), shapes, strict=True)]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, width) for width in channels[1:]])

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(P, C_in, h, w, Q) -> (P, C_out, h', w', Q); ``size`` is (H, W), Q = H * W."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, size)))
        return x


class HSNet(nn.Module):
    """HSNet as a head of iFSL (table 1 of the iFSL paper): 2,573,794 learnable parameters for ResNet-50 (paper: 2.6 M).

    The support's background is masked out of its maps before they are correlated (section 4.1); a mask of None leaves
    the whole photo as foreground, and one that no position sees leaves correlations of 0. Deviations, with reasons:

    * Supports arrive pooled to a side of 32 at most, so level 2's second convolution has stride 2 in place of 4: every
      level still ends at 2x2.
    * The mask is applied to maps that are already normalised: in a cosine its value cancels, only where it is 0 counts.
    * Where two levels end at different support sides (inputs above 512 pixels) the coarser is averaged to the finer's.
    * K shots: iFSL averages logits (its section 5.1) where HSNet lets K masks vote.

    Args:
        maps: number of feature maps of levels 4, 3 and 2, e.g. (3, 6, 4) for ResNet-50.
    """

    def __init__(self, maps: tuple[int, int, int]) -> None:
        super().__init__()
        shapes = (LEVEL_4, LEVEL_3, LEVEL_2)
        self.levels = nn.ModuleList(
            [SqueezingBlock((count, *WIDTHS), shape) for count, shape in zip(maps, shapes, strict=True)]
        )
        self.mixers = nn.ModuleList([SqueezingBlock((WIDTHS[-1],) * 4, MIX) for _ in range(2)])
        self.decoder = nn.Sequential(
            nn.Conv2d(128, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 2, 3, padding=1),
        )

    def forward(self, query: Pyramid, support: Pyramid, support_mask: Tensor | None) -> Tensor:
        """Foreground logits (P, 2, 2H, 2W) of P pairs for level 2's H, W; arguments as for :class:`~.asnet.ASNet`."""
        sizes = [(level[0].shape[-2], level[0].shape[-1]) for level in query]
        levels = list(zip(query, support, strict=True))
        squeezed = [
            block(_correlate(*maps, support_mask), size)
            for block, maps, size in zip(self.levels, levels, sizes, strict=False)
        ]
        mixed = squeezed[0]
        for mixer, finer, (size, finer_size) in zip(self.mixers, squeezed[1:], pairwise(sizes), strict=False):
            mixed = mixer(finer + _resize(mixed, size, finer, finer_size), finer_size)
        out: Tensor = self.decoder(mixed.mean(dim=(2, 3)).view(len(mixed), -1, *sizes[-1]))
        return out


def _correlate(query: Sequence[Tensor], support: Sequence[Tensor], support_mask: Tensor | None) -> Tensor:
    """Hypercorrelation of one level with the supports' foreground."""
    return correlate(query, [feature * foreground_seen(support_mask, feature) for feature in support])


def _resize(coarse: Tensor, size: tuple[int, int], finer: Tensor, finer_size: tuple[int, int]) -> Tensor:
    """Bring (P, C, h, w, Q) to the shape of ``finer``: bilinearly over the query, by averages over the support."""
    pairs, channels, height, width, _ = coarse.shape
    planes = F.interpolate(coarse.reshape(pairs, -1, *size), finer_size, mode="bilinear", align_corners=True)
    resized = planes.view(pairs, channels, height, width, -1)
    return F.adaptive_avg_pool3d(resized, (finer.shape[2], finer.shape[3], finer.shape[4]))
