"""Adapter: what a backbone's maps pass before their cosines are taken (eq. 8)."""

from collections.abc import Sequence

from torch import nn

from fscs_sdk.model.correlation import Pyramid


class Adapter(nn.Module):
    """One affine map per tapped feature map: C_l channels -> C_l channels at every position, the identity at first.

    ImageNet features tell apart what ImageNet tells apart, 120 breeds of dog among them, so the cosine of two dogs is
    no higher than that of a dog and a horse. An affine map before the normalisation re-centres and re-weights the
    channels; the cosine then is that of a learned metric. It is part of a head: the backbone stays as it is. Not in
    the paper, whose cosines are of the raw maps.

    Args:
        channels: C_l of every map, level by level.
    """

    def __init__(self, channels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.affines = nn.ModuleList([_identity(count) for level in channels for count in level])

    def forward(self, features: Pyramid) -> Pyramid:
        """Maps (B, C_l, H, W) of levels 4, 3, 2 -> maps of the same shapes."""
        affines = iter(self.affines)
        return tuple(tuple(next(affines)(feature) for feature in level) for level in features)


def _identity(channels: int) -> nn.Conv2d:
    affine = nn.Conv2d(channels, channels, kernel_size=1)
    nn.init.dirac_(affine.weight)
    nn.init.zeros_(affine.bias)  # type: ignore[arg-type]
    return affine
