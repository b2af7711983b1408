"""Weight files -> a network, and a head -> a weight file. Only safetensors are ever read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.weights import ModelFiles, packaged_backbone

METADATA_KEY = "fscs_head"
#: Input sides in pixels: fewer leave level 3 too few positions to squeeze (``asnet.SUPPORT_SIDES``).
INPUT_SIDES = range(272, 4097)
#: Elements up to which a head's tensor is stored in float32 whatever its kernels are stored in.
LARGEST_EXACT = 4096


@dataclass(frozen=True)
class HeadConfig:
    """What a head's file says of itself.

    Attributes:
        method: ``asnet``.
        backbone: a key of ``fscs_sdk.model.backbone.BACKBONES``.
        input_side: side of the square input in pixels.
    """

    method: Literal["asnet"]
    backbone: str
    input_side: int


def save_head(path: Path, head: nn.Module, config: HeadConfig, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a head with its description: kernels in ``dtype``, tensors of up to 4,096 elements always in float32.

    The small ones are the norms, the biases and the first embeddings, to whose rounding answers are most sensitive:
    3 % of a head, and the largest change of a probability falls to a tenth.
    """
    tensors = {
        name: (tensor.to(dtype) if tensor.numel() > LARGEST_EXACT else tensor.float()).contiguous()
        for name, tensor in head.state_dict().items()
    }
    save_file(tensors, path, {METADATA_KEY: json.dumps(asdict(config), sort_keys=True)})


def load_network(files: ModelFiles) -> FewShotNetwork:
    """Read a head and the backbone that it names.

    Raises:
        ValueError: a file is damaged, or the two do not fit together.
        OSError: a file is missing or cannot be read.
    """
    config, head_tensors = _read_head(files.head)
    backbone_path = files.backbone
    if not backbone_path.is_file():
        packaged = packaged_backbone(config.backbone)
        if packaged is None:
            raise FileNotFoundError(
                f"the head '{files.head}' needs the backbone {config.backbone}: put its weights at '{backbone_path}'"
            )
        backbone_path = packaged
    backbone = Backbone(config.backbone)
    _load_state(backbone.network, _read_tensors(backbone_path), backbone_path)
    head = ASNet(backbone.spec.maps)
    _load_state(head, head_tensors, files.head)
    return FewShotNetwork(backbone, head, config.input_side)


def _read_head(path: Path) -> tuple[HeadConfig, dict[str, Tensor]]:
    tensors = _read_tensors(path)
    with safe_open(path, framework="pt") as file:
        described = (file.metadata() or {}).get(METADATA_KEY)
    try:
        config = HeadConfig(**json.loads(described or ""))
        if not isinstance(config.backbone, str) or not isinstance(config.input_side, (int, float)):
            raise TypeError("a name and a number are needed")
    except (ValueError, TypeError):
        raise ValueError(f"'{path}' is not a head of this SDK: its metadata does not describe one") from None
    if config.method != "asnet" or config.backbone not in BACKBONES or not _is_side(config.input_side):
        raise ValueError(f"'{path}' describes a model that this version does not know ({config}); update fscs-sdk")
    return config, tensors


def _is_side(side: object) -> bool:
    return isinstance(side, int) and side in INPUT_SIDES


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, as float32."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file '{path}'; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file or is damaged ({error}); get it again") from None


def _load_state(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Strictly: every weight must be there, in its shape, and nothing else (batch counters apart)."""
    wanted = {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = sorted(set(wanted) ^ set(tensors)) or sorted(n for n in wanted if wanted[n].shape != tensors[n].shape)
    if wrong:
        raise ValueError(
            f"'{path}' does not fit its network: {len(wrong)} tensors are missing, unknown or of another shape, "
            f"such as '{wrong[0]}'"
        )
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"'{path}' is damaged: '{broken[0]}' holds values that are not finite; get it again")
    module.load_state_dict(tensors, strict=False)
