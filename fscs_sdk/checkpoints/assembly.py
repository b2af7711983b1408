"""A head and the backbone that it names -> a network."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from fscs_sdk.checkpoints.fingerprint import differences
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX, HeadFile, read_head
from fscs_sdk.checkpoints.tensors import load_state, read_tensors
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import BACKBONES, Backbone, BackboneSpec
from fscs_sdk.model.heads import build_head
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.weights import ModelFiles
from fscs_sdk.weights.hub import HubOptions
from fscs_sdk.weights.imagenet import backbone_file, describe_sources, feature_name
from fscs_sdk.weights.sources import hub_options


def load_network(
    files: ModelFiles,
    *,
    backbone: Path | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> FewShotNetwork:
    """Read a head and the backbone that it names.

    The backbone is the file given, else the one beside the head, else one of the manifest's sources that holds the
    weights that the head was trained on.

    Args:
        backbone: a safetensors file in torchvision's or timm's names.
        cache_dir, token, local_files_only: of the manifest's sources, as in ``huggingface_hub``.

    Raises:
        ValueError: a file is damaged, or the two do not fit together.
        OSError: a file is missing or cannot be read.
    """
    head = read_head(files.head)
    with torch.device("meta"):  # weights are read, not drawn
        network = Backbone(head.config.backbone)
    try:
        network.spec.check_side(head.config.input_side)
    except ValueError as error:
        raise ValueError(f"'{files.head}' cannot be asked on {network.name}: {error}") from None
    chosen = backbone if backbone is not None else files.backbone if files.backbone.is_file() else None
    if chosen is not None:
        _load_chosen(network, chosen, head, beside=backbone is None)
    else:
        options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only)
        _load_found(network, files, head, options)
    network.fold()
    learner, adapter = _load_learner(head, network.spec)
    config = head.config
    return FewShotNetwork(
        network,
        learner,
        config.input_side,
        adapter,
        threshold=config.threshold,
        close_up=config.close_up,
        protocol=config.protocol,
    )


def _load_learner(head: HeadFile, spec: BackboneSpec) -> tuple[nn.Module, Adapter | None]:
    with torch.device("meta"):  # weights are read, not drawn
        learner = build_head(head.config.method, spec)
    if not head.config.adapter:
        load_state(learner, head.tensors, head.path)
        return learner, None
    own: dict[str, Tensor] = {}
    its: dict[str, Tensor] = {}
    for name, tensor in head.tensors.items():
        (its if name.startswith(ADAPTER_PREFIX) else own)[name.removeprefix(ADAPTER_PREFIX)] = tensor
    load_state(learner, own, head.path)
    with torch.device("meta"):  # weights are read, not drawn
        adapter = Adapter(spec.channels).requires_grad_(False)
    load_state(adapter, its, head.path)
    return learner, adapter


def read_backbone(path: Path, name: str) -> dict[str, Tensor]:
    """The weights in a safetensors file of torchvision, of timm or of ours, by the names of ``Backbone(name).network``.

    Raises:
        ValueError: the file is not safetensors, or is damaged.
        OSError: it cannot be read.
    """
    unused = BACKBONES[name].unused

    def ours(stored: str) -> str | None:
        renamed = feature_name(stored)
        return None if renamed is None or renamed.partition(".")[0] in unused else renamed

    return read_tensors(path, rename=ours)


class _OtherWeightsError(ValueError):
    """A file holds weights of the right shapes that are not those that a head was trained on."""


_WHY = (
    "a head compares maps of exactly the weights that it was trained on, so its answers would be wrong and nothing "
    "would show it"
)


def _load_chosen(network: Backbone, path: Path, head: HeadFile, *, beside: bool) -> None:
    """Load the file that the caller gave, or that lies beside the head."""
    if path.suffix != ".safetensors":
        raise ValueError(
            f"the backbone '{path}' is not a .safetensors file; make one of torchvision's .pth file with "
            "`fscs convert FILE.pth OUT` and give OUT/backbone.safetensors"
        )
    try:
        _load_backbone(network, path, head)
    except _OtherWeightsError as error:
        sources = describe_sources(network.name)
        cure = "remove the file" if beside else "leave `backbone` out"
        found = f"to have the right weights found ({sources})" if sources else "and get the weights that it came with"
        raise ValueError(f"{error}; {_WHY}; {cure} {found}") from None


def _load_found(network: Backbone, files: ModelFiles, head: HeadFile, options: HubOptions) -> None:
    """Load the first of the manifest's sources that holds the weights that the head was trained on."""
    others = []

    def load(path: Path) -> None:
        try:
            _load_backbone(network, path, head)
        except _OtherWeightsError:
            others.append(path)
            raise

    needs = f"the head '{files.head}' needs the backbone {network.name}"
    cure = f"put its weights at '{files.backbone}', or give backbone='FILE.safetensors'"
    try:
        found = backbone_file(
            network.name,
            accept=load,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
        )
    except ValueError as error:
        raise ValueError(f"{needs}: {cure}; {error}{f'; {_WHY}' if others else ''}") from None
    except OSError as error:
        raise FileNotFoundError(f"{needs}: {cure}; {error}") from error
    if found is None:
        raise FileNotFoundError(f"{needs}: {cure}")


def _load_backbone(network: Backbone, path: Path, head: HeadFile) -> None:
    """Fill a network, if the file holds the weights that the head was trained on, or the head does not tell."""
    tensors = read_backbone(path, network.name)
    load_state(network.network, tensors, path)
    wrong = [] if head.fingerprint is None else differences(head.fingerprint, tensors)
    if wrong:
        raise _OtherWeightsError(
            f"'{path}' holds a {network.name} of another training or precision than the one that '{head.path}' was "
            f"trained on ({len(wrong)} of {len(tensors)} tensors differ, such as '{wrong[0]}')"
        )
