"""Every method that can be trained and loaded, by name. To add one, add what builds it to ``HEADS``."""

from collections.abc import Callable

from torch import nn

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BackboneSpec
from fscs_sdk.model.baselines.ablations import LocalASNet, UnfusedASNet, UnmaskedASNet
from fscs_sdk.model.baselines.hsnet import HSNet
from fscs_sdk.model.baselines.panet import PANet
from fscs_sdk.model.baselines.pfenet import PFENet

#: Correlation heads need the number of maps of levels 4, 3 and 2; prototype heads the channels of each one's last map.
HEADS: dict[str, Callable[[BackboneSpec], nn.Module]] = {
    "asnet": lambda spec: ASNet(spec.maps),
    "asnet-touched": lambda spec: ASNet(spec.maps, touched=True),
    "hsnet": lambda spec: HSNet(spec.maps),
    "pfenet": lambda spec: PFENet(spec.last_channels),
    "panet": lambda spec: PANet(spec.last_channels),
    "asnet-local": lambda spec: LocalASNet(spec.maps),
    "asnet-unmasked": lambda spec: UnmaskedASNet(spec.maps),
    "asnet-unfused": lambda spec: UnfusedASNet(spec.maps),
}


def build_head(method: str, spec: BackboneSpec) -> nn.Module:
    """A head with fresh weights, that turns the maps of P (query, support) pairs into logits (P, 2, 2H, 2W).

    Every head obeys :class:`fscs_sdk.model.network.Head`.

    Args:
        method: a key of ``HEADS``.
        spec: of the backbone whose maps the head will get.

    Raises:
        ValueError: no method of that name.
    """
    if method not in HEADS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(HEADS)}")
    return HEADS[method](spec)
