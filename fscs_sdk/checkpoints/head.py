"""A head's file: its weights, and what it says of itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fscs_sdk.checkpoints.fingerprint import check_fingerprint, fingerprint
from fscs_sdk.checkpoints.tensors import read_tensors, write_tensors
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import BACKBONES
from fscs_sdk.model.heads import HEADS
from fscs_sdk.model.ifsl import PROTOCOLS, ProtocolName

#: Of the description below. A file of a later format asks for an update; one without a number is of the first.
FORMAT_VERSION = 2
#: Keys of a head's metadata: its description, the fingerprint of the backbone that it was trained on, and the settings
#: of its training, as JSON.
METADATA_KEY = "fscs_head"
FINGERPRINT_KEY = "fscs_backbone_fingerprint"
TRAINING_KEY = "fscs_training"
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
        protocol: whose rules of inference it was trained for, a key of ``fscs_sdk.model.ifsl.PROTOCOLS``: what it is
            asked by where nothing else is said.
    """

    method: str
    backbone: str
    input_side: int
    adapter: bool = False
    threshold: float = 0.5
    close_up: float = 0.0
    protocol: ProtocolName = "paper"


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
    training: str | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a head with its description: kernels in ``dtype``, tensors of up to 4,096 elements always in float32.

    The small ones are the norms, the biases and the first embeddings, to whose rounding answers are most sensitive:
    3 % of a head, and the largest change of a probability falls to a tenth.

    Args:
        adapter: written in float32 after the head, where ``config.adapter`` says that there is one.
        backbone: the weights that the head was trained on (:func:`weights_of`), whose fingerprint is recorded: the head
            loads on no others. Without them it loads on any that fit.
        training: the settings of its training, a JSON object, for :func:`training_settings`.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {
        name: tensor.to(dtype) if tensor.numel() > LARGEST_EXACT else tensor.float()
        for name, tensor in head.state_dict().items()
    }
    if adapter is not None:
        tensors |= {name: tensor.float() for name, tensor in adapter.state_dict(prefix=ADAPTER_PREFIX).items()}
    on = None if backbone is None else fingerprint(backbone)
    write_tensors(path, tensors, head_metadata(config, on, training=training))


def head_metadata(config: HeadConfig, backbone: str | None, *, training: str | None = None) -> dict[str, str]:
    """What a head's file says beside its tensors.

    Args:
        backbone: the fingerprint of the weights that the head was trained on; None if it is to load on any that fit.
        training: the settings of its training, a JSON object.
    """
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT_VERSION, **asdict(config)}, sort_keys=True)}
    more = {FINGERPRINT_KEY: backbone, TRAINING_KEY: training}
    return metadata | {key: text for key, text in more.items() if text is not None}


def training_settings(path: Path) -> dict[str, Any]:
    """The settings of a head's training, under the names that they had then; none where its file does not tell.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get(TRAINING_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged: {error}; get it again") from None
    return told if isinstance(told, dict) else {}


def read_head(path: Path) -> HeadFile:
    """Read what :func:`save_head` wrote, of this format or an earlier one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no head, is damaged, or is of a later version.
    """
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        told = dict(json.loads(metadata.get(METADATA_KEY, "")))
        version = told.pop("format", 1)
    except (ValueError, TypeError):
        raise ValueError(f"'{path}' is not a head of this SDK: its metadata does not describe one") from None
    if version not in range(1, FORMAT_VERSION + 1):
        raise ValueError(
            f"'{path}' is a head of format {version!r}, this version reads up to {FORMAT_VERSION}; update fscs-sdk"
        )
    try:
        config = HeadConfig(**told)
        texts = all(isinstance(text, str) for text in (config.method, config.backbone, config.protocol))
        if not texts or type(config.input_side) is not int or type(config.adapter) is not bool:
            raise TypeError("three names, a whole number and a yes or no are needed")
        for share in (config.threshold, config.close_up):
            if isinstance(share, bool) or not 0 <= share <= 1:
                raise ValueError("threshold and close_up must be numbers from 0 to 1")
    except (ValueError, TypeError):
        raise ValueError(f"'{path}' is not a head of this SDK: its metadata does not describe one") from None
    known = config.method in HEADS and config.backbone in BACKBONES and config.protocol in PROTOCOLS
    if not known or config.input_side not in INPUT_SIDES:
        raise ValueError(f"'{path}' describes a model that this version does not know ({config}); update fscs-sdk")
    recorded = metadata.get(FINGERPRINT_KEY)
    try:
        if recorded is not None:
            check_fingerprint(recorded)
    except ValueError as error:
        raise ValueError(f"'{path}' does not tell which backbone it needs: {error}; get it again") from None
    return HeadFile(path, config, tensors, recorded)
