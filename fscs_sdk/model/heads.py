"""Every method that can be trained and loaded, by name. To add one, add what builds it to ``HEADS``."""

from collections.abc import Callable

import torch
from torch import nn

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone, BackboneSpec
from fscs_sdk.model.baselines.ablations import LocalASNet, UnfusedASNet, UnmaskedASNet
from fscs_sdk.model.baselines.hsnet import HSNet
from fscs_sdk.model.baselines.panet import PANet
from fscs_sdk.model.baselines.pfenet import PFENet

#: From a backbone's description and the input side in pixels to a head with fresh weights.
Builder = Callable[[BackboneSpec, int], nn.Module]


def build_head(method: str, spec: BackboneSpec, *, input_side: int = 288) -> nn.Module:
    """A head with fresh weights, that turns the maps of P (query, support) pairs into logits (P, 2, 2H, 2W).

    Every head obeys :class:`fscs_sdk.model.network.Head`.

    Args:
        method: a key of ``HEADS``.
        spec: one of ``BACKBONES``, whose maps the head will get.
        input_side: of the photos in pixels.

    Raises:
        ValueError: no method of that name, or a backbone that is not in ``BACKBONES``.
    """
    if method not in HEADS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(HEADS)}")
    return HEADS[method](spec, input_side)


def map_channels(spec: BackboneSpec, *, input_side: int) -> tuple[tuple[int, ...], ...]:
    """Channels of every map of levels 4, 3 and 2: the backbone is run on a photo without values, which costs nothing.

    Raises:
        ValueError: the backbone is not in ``BACKBONES``.
    """
    name = next((name for name, known in BACKBONES.items() if known is spec), None)
    if name is None:
        raise ValueError("the channels of a backbone can be told only if it is in BACKBONES; add it there")
    with torch.device("meta"):
        pyramid = Backbone(name)(torch.empty(1, 3, input_side, input_side, dtype=torch.uint8))
    return tuple(tuple(feature.shape[1] for feature in level) for level in pyramid)


def _of_maps(head: Callable[[tuple[int, int, int]], nn.Module]) -> Builder:
    """For a head that needs the number of maps of each level."""
    return lambda spec, _: head(spec.maps)


def _of_channels(head: Callable[[tuple[int, int, int]], nn.Module]) -> Builder:
    """For a head that needs the channels of each level's last map."""

    def build(spec: BackboneSpec, input_side: int) -> nn.Module:
        level4, level3, level2 = (channels[-1] for channels in map_channels(spec, input_side=input_side))
        return head((level4, level3, level2))

    return build


HEADS: dict[str, Builder] = {
    "asnet": _of_maps(ASNet),
    "hsnet": _of_maps(HSNet),
    "pfenet": _of_channels(PFENet),
    "panet": _of_channels(PANet),
    "asnet-local": _of_maps(LocalASNet),
    "asnet-unmasked": _of_maps(UnmaskedASNet),
    "asnet-unfused": _of_maps(UnfusedASNet),
}
