"""Weight files -> a network, and a head -> a weight file. Only safetensors are ever read."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fscs_sdk.files import write_atomically
from fscs_sdk.fingerprint import check_fingerprint, differences, fingerprint
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import BACKBONES, Backbone, BackboneSpec
from fscs_sdk.model.heads import HEADS, build_head, map_channels
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.weights import ModelFiles
from fscs_sdk.weights.backbones import backbone_file, describe_sources, feature_name
from fscs_sdk.weights.hub import HubOptions
from fscs_sdk.weights.sources import hub_options

#: Keys of a head's metadata: its description, and the fingerprint of the backbone that it was trained on.
METADATA_KEY = "fscs_head"
FINGERPRINT_KEY = "fscs_backbone_fingerprint"
#: Before the names of the tensors of a head's adapter.
ADAPTER_PREFIX = "adapter."
#: Input sides in pixels: fewer leave level 3 too few positions to squeeze (``asnet.SUPPORT_SIDES``).
INPUT_SIDES = range(272, 4097)
#: Elements up to which a head's tensor is stored in float32 whatever its kernels are stored in.
LARGEST_EXACT = 4096


@dataclass(frozen=True)
class HeadConfig:
    """What a head's file says of itself.

    Attributes:
        method: a key of ``fscs_sdk.model.heads.HEADS``.
        backbone: a key of ``fscs_sdk.model.backbone.BACKBONES``.
        input_side: side of the square input in pixels.
        adapter: whether the file also holds an :class:`~fscs_sdk.model.adapter.Adapter`.
        threshold, close_up: in [0, 1], as in :class:`~fscs_sdk.model.network.FewShotNetwork`.
    """

    method: str
    backbone: str
    input_side: int
    adapter: bool = False
    threshold: float = 0.5
    close_up: float = 0.0


@dataclass(frozen=True)
class HeadFile:
    """What a head's file holds: its description, its tensors, and its backbone's fingerprint (None in older files)."""

    path: Path
    config: HeadConfig
    tensors: dict[str, Tensor]
    fingerprint: str | None


def save_head(
    path: Path,
    head: nn.Module,
    config: HeadConfig,
    *,
    adapter: Adapter | None = None,
    backbone: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a head with its description: kernels in ``dtype``, tensors of up to 4,096 elements always in float32.

    The small ones are the norms, the biases and the first embeddings, to whose rounding answers are most sensitive:
    3 % of a head, and the largest change of a probability falls to a tenth.

    Args:
        adapter: written in float32 after the head, where ``config.adapter`` says that there is one.
        backbone: the weights that the head was trained on (:func:`weights_of`), whose fingerprint is recorded: the head
            loads on no others. Without them it loads on any that fit.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {
        name: tensor.to(dtype) if tensor.numel() > LARGEST_EXACT else tensor.float()
        for name, tensor in head.state_dict().items()
    }
    if adapter is not None:
        tensors |= {name: tensor.float() for name, tensor in adapter.state_dict(prefix=ADAPTER_PREFIX).items()}
    metadata = {METADATA_KEY: json.dumps(asdict(config), sort_keys=True)}
    if backbone is not None:
        metadata[FINGERPRINT_KEY] = fingerprint(backbone)
    write_tensors(path, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise OSError(f"cannot write '{path}': {error}; free some space, or choose another folder") from error


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
    head = _read_head(files.head)
    network = Backbone(head.config.backbone)
    chosen = backbone if backbone is not None else files.backbone if files.backbone.is_file() else None
    if chosen is not None:
        _load_chosen(network, chosen, head, beside=backbone is None)
    else:
        options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only)
        _load_found(network, files, head, options)
    learner, adapter = _load_learner(head, network.spec)
    config = head.config
    return FewShotNetwork(
        network, learner, config.input_side, adapter, threshold=config.threshold, close_up=config.close_up
    )


def _load_learner(head: HeadFile, spec: BackboneSpec) -> tuple[nn.Module, Adapter | None]:
    learner = build_head(head.config.method, spec, input_side=head.config.input_side)
    if not head.config.adapter:
        _load_state(learner, head.tensors, head.path)
        return learner, None
    own: dict[str, Tensor] = {}
    its: dict[str, Tensor] = {}
    for name, tensor in head.tensors.items():
        (its if name.startswith(ADAPTER_PREFIX) else own)[name.removeprefix(ADAPTER_PREFIX)] = tensor
    adapter = Adapter(map_channels(spec, input_side=head.config.input_side)).requires_grad_(False)
    _load_state(learner, own, head.path)
    _load_state(adapter, its, head.path)
    return learner, adapter


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors by name, without the counters of its batch normalisations."""
    return {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}


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

    return _read_tensors(path, rename=ours)


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
    _load_state(network.network, tensors, path)
    wrong = [] if head.fingerprint is None else differences(head.fingerprint, tensors)
    if wrong:
        raise _OtherWeightsError(
            f"'{path}' holds a {network.name} of another training or precision than the one that '{head.path}' was "
            f"trained on ({len(wrong)} of {len(tensors)} tensors differ, such as '{wrong[0]}')"
        )


def _read_head(path: Path) -> HeadFile:
    tensors = _read_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        config = HeadConfig(**json.loads(metadata.get(METADATA_KEY, "")))
        texts = isinstance(config.method, str) and isinstance(config.backbone, str)
        if not texts or not isinstance(config.input_side, (int, float)) or not isinstance(config.adapter, bool):
            raise TypeError("two names, a number and a yes or no are needed")
        for share in (config.threshold, config.close_up):
            if isinstance(share, bool) or not 0 <= share <= 1:
                raise ValueError("threshold and close_up must be numbers from 0 to 1")
    except (ValueError, TypeError):
        raise ValueError(f"'{path}' is not a head of this SDK: its metadata does not describe one") from None
    if config.method not in HEADS or config.backbone not in BACKBONES or not _is_side(config.input_side):
        raise ValueError(f"'{path}' describes a model that this version does not know ({config}); update fscs-sdk")
    recorded = metadata.get(FINGERPRINT_KEY)
    try:
        if recorded is not None:
            check_fingerprint(recorded)
    except ValueError as error:
        raise ValueError(f"'{path}' does not tell which backbone it needs: {error}; get it again") from None
    return HeadFile(path, config, tensors, recorded)


def _is_side(side: object) -> bool:
    return isinstance(side, int) and side in INPUT_SIDES


def _read_tensors(path: Path, *, rename: Callable[[str], str | None] = str) -> dict[str, Tensor]:
    """The tensors of a file as float32, by what ``rename`` makes of their names; what it gives no name is not read."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file '{path}'; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            names = {stored: rename(stored) for stored in file.keys()}  # noqa: SIM118 (not a dict)
            return {name: file.get_tensor(stored).float() for stored, name in names.items() if name is not None}
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file or is damaged ({error}); get it again") from None


def _load_state(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Strictly: every weight must be there, in its shape, and nothing else (batch counters apart)."""
    check_fit(tensors, weights_of(module), f"'{path}' does not fit its network")
    check_finite(tensors, path)
    module.load_state_dict(tensors, strict=False)


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Do tensors have exactly the wanted names and shapes?

    Raises:
        ValueError: they do not; the message is ``what``, how many do not, and one of their names.
    """
    wrong = sorted(set(wanted) ^ set(found)) or sorted(n for n in wanted if wanted[n].shape != found[n].shape)
    if wrong:
        raise ValueError(f"{what}: {len(wrong)} tensors are missing, unknown or of another shape, such as {wrong[0]!r}")


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Make sure that the tensors of a file hold numbers only.

    Raises:
        ValueError: one of them does not; the message names it.
    """
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"'{path}' is damaged: {broken[0]!r} holds values that are not finite; get it again")
