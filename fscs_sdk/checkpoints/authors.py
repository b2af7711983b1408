"""Other people's pickled weights -> safetensors that :mod:`fscs_sdk.checkpoints.assembly` reads.

The authors' checkpoints (``.ckpt``) become a folder with a head and its description; a backbone of torchvision
(``.pth``) becomes a folder with ``backbone.safetensors``.
"""

import argparse
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from fscs_sdk import __version__
from fscs_sdk.atomic import write_atomically
from fscs_sdk.checkpoints.assembly import load_network, read_backbone
from fscs_sdk.checkpoints.head import HeadConfig, save_head
from fscs_sdk.checkpoints.tensors import check_finite, check_fit, weights_of, write_tensors
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.weights import BACKBONE_FILE, ModelFiles
from fscs_sdk.weights.hub import HubOptions
from fscs_sdk.weights.imagenet import backbone_file, describe_sources, feature_name, feature_tensors
from fscs_sdk.weights.pickles import is_state, unpickle
from fscs_sdk.weights.sources import hub_options
from fscs_sdk.weights.verification import file_sha256

Task: TypeAlias = Literal["FS-CS", "FS-S"]
CONFIG_FILE = "config.json"
#: Input side of all the authors' models, in pixels.
AUTHORS_SIDE = 400
AUTHORS_BACKBONES = ("resnet50", "resnet101", "vgg16")


class _TrainingClass:
    """Stands for classes of the authors' training program that a checkpoint names and weights do not need."""

    __slots__ = ()


#: What a checkpoint may hold beside tensors and plain Python values: the authors' settings, and, as names only, the
#: classes under which PyTorch Lightning (1.3, theirs) files what its checkpointing callback remembers.
ALLOWED_GLOBALS = (
    argparse.Namespace,
    (_TrainingClass, "common.callbacks.CustomCheckpoint"),
    (_TrainingClass, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
)
#: A setting that only the authors' program for the task has.
_SETTING_OF_TASK: dict[str, Task] = {"way": "FS-CS", "use_original_imgsize": "FS-S"}

_LEVELS = {
    "encoder_layer4": "level4",
    "encoder_layer3": "level3",
    "encoder_layer2": "level2",
    "encoder_layer4to3": "mix43",
    "encoder_layer3to2": "mix32",
}
_PARTS = {
    "attn.qhead": "target",
    "attn.khead": "key",
    "attn.vhead": "value",
    "attn.short_cut.0": "shortcut.conv",
    "attn.short_cut.1": "shortcut.norm",
    "attn.agg.0": "aggregate_norm",
    "attn.agg.2": "aggregate.conv",
    "attn.agg.3": "aggregate.norm",
    "attn.out_norm": "attention_norm",
    "ff.ff.0": "feed_forward.conv",
    "ff.ff.1": "feed_forward.norm",
    "ff.ff.3": "feed_forward_out",
    "ff.out_norm": "output_norm",
}
_DECODER = {"decoder1.0": "decoder.0", "decoder1.2": "decoder.1", "decoder2.0": "decoder.2", "decoder2.2": "decoder.3"}
_LAYER_NAME = re.compile(r"(encoder_layer\w+)\.([01])\.(.+)\.(weight|bias)")


def learner_from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the ``learner.*`` tensors of the authors' state dict to those of :class:`fscs_sdk.model.asnet.ASNet`.

    Conv3d kernels (O, C, 1, k, k) become (O, C, k, k).

    Raises:
        ValueError: a name is not one of the authors' layout.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("learner."):
            renamed[_rename(name.removeprefix("learner."))] = tensor.squeeze(2) if tensor.dim() == 5 else tensor
    return renamed


def _rename(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    if stem in _DECODER and leaf in ("weight", "bias"):
        return f"{_DECODER[stem]}.{leaf}"
    match = _LAYER_NAME.fullmatch(name)
    if match is None or match[1] not in _LEVELS or match[3] not in _PARTS:
        raise ValueError(f"{f'learner.{name}'!r} is not a tensor of the authors' ASNet learner")
    return f"{_LEVELS[match[1]]}.{match[2]}.{_PARTS[match[3]]}.{match[4]}"


@dataclass(frozen=True)
class Checkpoint:
    """What was read of a file.

    Attributes:
        state: its tensors by name.
        settings: plain values of the training's settings, without paths; empty where the file has none.
        training: epoch, step and version of PyTorch Lightning, as far as the file tells.
    """

    state: dict[str, Tensor]
    settings: dict[str, bool | int | float | str] = field(default_factory=dict)
    training: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionReport:
    """What was found in a file and what became of it.

    Attributes:
        backbone: recognised from the learner's channels, or from the names of a backbone's tensors.
        task: what the model was trained for, where the file or the caller tells.
        learner_tensors: converted, all of them, under strict names and shapes; 0 if the file is a backbone.
        backbone_tensors: of the backbone in the file; 0 if it held none.
        backbone_kept: whether they were written to ``backbone.safetensors``.
        backbone_reason: why they were kept or not, in a sentence.
        ignored: names in the file that a model has no use for, such as an ImageNet classifier.
        settings, training: see :class:`Checkpoint`.
        folder: what to give to ``FewShotSegmenter.from_pretrained``, unless the file is a backbone.
    """

    backbone: str
    task: Task | None
    learner_tensors: int
    backbone_tensors: int
    backbone_kept: bool
    backbone_reason: str
    ignored: tuple[str, ...]
    settings: Mapping[str, bool | int | float | str]
    training: Mapping[str, int | str]
    folder: Path


def convert_checkpoint(
    path: Path,
    out: Path,
    *,
    task: Task | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> ConversionReport:
    """Convert an ASNet checkpoint of the authors, or a backbone of torchvision, into the folder ``out``.

    The file is unpickled with ``weights_only=True`` and an allow-list, never otherwise. Weights keep float32.

    A checkpoint (ResNet-50, ResNet-101 or VGG-16; FS-CS or FS-S) gives ``head.safetensors``, which records the
    fingerprint of the backbone that it holds, and ``config.json``. That backbone was frozen: it is written to
    ``backbone.safetensors`` only if no source of the manifest has it tensor for tensor, or none can be looked at.

    A backbone (any of ``BACKBONES``, with or without its classifier) gives ``backbone.safetensors``.

    Args:
        task: what the model was trained for, where the file does not tell.
        cache_dir, token, local_files_only: of the manifest's backbones, as in ``huggingface_hub``.

    Raises:
        ValueError: the file is damaged, holds anything that weights do not need, is not such a file, or tells of
            another task.
        OSError: it cannot be read, or ``out`` cannot be written.
    """
    checkpoint = read_checkpoint(path)
    if not any(name.startswith("learner.") for name in checkpoint.state):
        return _convert_backbone(path, out, checkpoint)
    options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    return _convert_model(path, out, checkpoint, _task(checkpoint, task, path), options)


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors and settings of a PyTorch-Lightning checkpoint or a state dict, unpickled by PyTorch's restricted
    unpickler only.

    Raises:
        ValueError: this PyTorch is too old to read such a file safely; the file is damaged, holds an object that is
            not allowed, or has no ``state_dict`` of tensors.
        OSError: it cannot be read.
    """
    content = unpickle(path, allowed=ALLOWED_GLOBALS)
    if is_state(content):
        return Checkpoint(content)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not is_state(state):
        raise ValueError(f"'{path}' holds no state_dict of tensors: it is not a checkpoint of the authors' program")
    told = {key: content.get(key) for key in ("epoch", "global_step", "pytorch-lightning_version")}
    training = {key: value for key, value in told.items() if isinstance(value, (int, str))}
    return Checkpoint(state, _plain_settings(content.get("hyper_parameters")), training)


def _convert_model(
    path: Path, out: Path, checkpoint: Checkpoint, task: Task | None, options: HubOptions
) -> ConversionReport:
    learner = learner_from_authors(checkpoint.state)
    name = _recognise_learner(learner, path)
    head = ASNet(BACKBONES[name].maps)
    check_fit(learner, head.state_dict(), f"'{path}': its learner is not ASNet's")
    check_finite(learner, path)
    head.load_state_dict(learner)
    backbone = _backbone_within(checkpoint.state, name, path)
    public, reason = _compare(backbone, name, options) if backbone else (False, "the file holds no backbone")
    report = ConversionReport(
        backbone=name,
        task=task,
        learner_tensors=len(learner),
        backbone_tensors=len(backbone),
        backbone_kept=bool(backbone) and not public,
        backbone_reason=reason,
        ignored=tuple(key for key in checkpoint.state if not _is_used(key, backbone)),
        settings=checkpoint.settings,
        training=checkpoint.training,
        folder=out,
    )
    files = ModelFiles.in_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    config = HeadConfig("asnet", name, AUTHORS_SIDE, protocol="authors")
    save_head(files.head, head, config, backbone=backbone or None, dtype=torch.float32)
    if report.backbone_kept:
        write_tensors(files.backbone, backbone)
    elif backbone:
        files.backbone.unlink(missing_ok=True)  # of an earlier conversion into the same folder
    if backbone:
        load_network(files, cache_dir=options.cache_dir, local_files_only=True)
    description = {"method": "asnet", "task": task, "protocol": "authors", "input_side": AUTHORS_SIDE}
    _write_config(report, description, path)
    return report


def _is_used(key: str, backbone: Mapping[str, Tensor]) -> bool:
    return key.startswith("learner.") or key.removeprefix("backbone.") in backbone


def _plain_settings(settings: object) -> dict[str, bool | int | float | str]:
    """Names and values, of nested settings too; not paths, which tell of a machine rather than of a model."""
    values = vars(settings) if isinstance(settings, argparse.Namespace) else settings
    plain: dict[str, bool | int | float | str] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, (argparse.Namespace, dict)):
            plain |= _plain_settings(value)
        elif isinstance(key, str) and key.isidentifier() and _is_plain(value):
            plain[key] = value
    return plain


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable() and not re.search(r"[/\\]", value)
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _task(checkpoint: Checkpoint, told: Task | None, path: Path) -> Task | None:
    found = next((task for key, task in _SETTING_OF_TASK.items() if key in checkpoint.settings), None)
    if found is not None and told is not None and found != told:
        raise ValueError(f"'{path}' was trained for {found}, as its settings show, not for {told}; leave the task out")
    return told if found is None else found


def _recognise_learner(learner: Mapping[str, Tensor], path: Path) -> str:
    weights = [learner.get(f"{level}.0.target.weight") for level in ("level4", "level3", "level2")]
    maps = tuple(weight.shape[1] if weight is not None and weight.dim() == 4 else 0 for weight in weights)
    for name in AUTHORS_BACKBONES:
        if BACKBONES[name].maps == maps:
            return name
    raise ValueError(
        f"'{path}' is not an ASNet on ResNet-50, ResNet-101 or VGG-16: its levels take {maps} maps; "
        "checkpoints of other methods are not converted"
    )


def _backbone_within(state: Mapping[str, Tensor], name: str, path: Path) -> dict[str, Tensor]:
    """The backbone's tensors in a checkpoint, under strict names and shapes; none if it holds none."""
    stored = {key.removeprefix("backbone."): t for key, t in state.items() if key.startswith("backbone.")}
    if not stored:
        return {}
    backbone = _features(stored, name)
    check_fit(backbone, _expected_tensors(name), f"'{path}': its backbone is not {name}")
    check_finite(backbone, path)
    return {key: tensor.float() for key, tensor in backbone.items()}


def _features(stored: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a stored backbone, less its classifier and what else our taps do not need."""
    unused = BACKBONES[name].unused
    return {key: t for key, t in feature_tensors(stored).items() if key.partition(".")[0] not in unused}


def _expected_tensors(name: str) -> dict[str, Tensor]:
    """The names and shapes of a backbone's tensors; they hold no values."""
    with torch.device("meta"):
        return weights_of(Backbone(name).network)


def _compare(backbone: Mapping[str, Tensor], name: str, options: HubOptions) -> tuple[bool, str]:
    """Does a source of the manifest have these very tensors? The answer, and a sentence on it."""
    compared = []

    def same(path: Path) -> None:
        reference = read_backbone(path, name)
        compared.append(path)
        wrong = [key for key, tensor in backbone.items() if key not in reference or not tensor.equal(reference[key])]
        if wrong:
            raise ValueError(f"{len(wrong)} of {len(backbone)} tensors differ, such as '{wrong[0]}'")

    try:
        found = backbone_file(
            name,
            accept=same,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
        )
    except (ValueError, OSError) as error:
        if compared:
            return False, f"it is not the public {name} ({error})"
        return False, f"no public {name} was here to compare it with ({error})"
    if found is None:
        return False, f"no public {name} is known to compare it with"
    return True, f"it equals the public {name}, tensor for tensor ({describe_sources(name)})"


def _convert_backbone(path: Path, out: Path, checkpoint: Checkpoint) -> ConversionReport:
    """A plain state dict that fits one of our backbones, strictly apart from its classifier."""
    name, found = _recognise_backbone(checkpoint.state, path)
    check_finite(found, path)
    backbone = {key: tensor.float() for key, tensor in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / BACKBONE_FILE, backbone)
    report = ConversionReport(
        backbone=name,
        task=None,
        learner_tensors=0,
        backbone_tensors=len(backbone),
        backbone_kept=True,
        backbone_reason=f"the file is a {name}",
        ignored=tuple(key for key in checkpoint.state if feature_name(key) not in backbone),
        settings=checkpoint.settings,
        training=checkpoint.training,
        folder=out,
    )
    _write_config(report, {}, path)
    return report


def _recognise_backbone(state: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Tensor]]:
    """Which of our backbones has exactly these tensors' names and shapes? Its name, and the tensors that it needs."""
    for name in BACKBONES:
        found, wanted = _features(state, name), _expected_tensors(name)
        if found.keys() == wanted.keys() and all(found[key].shape == wanted[key].shape for key in wanted):
            return name, found
    raise ValueError(
        f"'{path}' is neither a checkpoint of the authors' program (it has no learner) nor the weights of one of "
        f"{', '.join(BACKBONES)}"
    )


def _write_config(report: ConversionReport, description: Mapping[str, object], path: Path) -> None:
    """What the folder holds, where it comes from, what was found, and by which versions it was written."""
    found = {
        "learner_tensors": report.learner_tensors,
        "backbone_tensors": report.backbone_tensors,
        "backbone_kept": report.backbone_kept,
        "backbone": report.backbone_reason,
        "ignored_tensors": len(report.ignored),
        "settings": dict(report.settings),
        "training": dict(report.training),
    }
    content = {
        "backbone": report.backbone,
        **description,
        "origin": {"file": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size},
        "found": found,
        "versions": {"fscs-sdk": __version__, "torch": torch.__version__},
    }
    write_atomically(report.folder / CONFIG_FILE, f"{json.dumps(content, indent=2)}\n".encode())
