"""The authors' checkpoints (a pickled ``.ckpt``) -> a folder of safetensors that :mod:`fscs_sdk.loading` reads."""

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fscs_sdk.loading import HeadConfig, load_network, save_head
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, ModelFiles

#: The first PyTorch release whose restricted unpickler has neither CVE-2025-32434 nor CVE-2026-24747.
SAFE_TORCH = (2, 10)
#: What a checkpoint may hold beside tensors and plain Python values: the authors' hyper-parameters.
ALLOWED_GLOBALS = (argparse.Namespace,)
#: Input side of all the authors' models, in pixels.
AUTHORS_SIDE = 400

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
        raise ValueError(f"'learner.{name}' is not a tensor of the authors' ASNet learner")
    return f"{_LEVELS[match[1]]}.{match[2]}.{_PARTS[match[3]]}.{match[4]}"


@dataclass(frozen=True)
class ConversionReport:
    """What was found in a checkpoint and what became of it.

    Attributes:
        backbone: recognised from the learner's channels.
        learner_tensors: converted, all of them, under strict names and shapes.
        backbone_tensors: of the backbone in the checkpoint, written beside the head; 0 if it held none.
        ignored: names in the checkpoint that a model has no use for, such as an ImageNet classifier.
        folder: what to give to ``FewShotSegmenter.from_pretrained``.
    """

    backbone: str
    learner_tensors: int
    backbone_tensors: int
    ignored: tuple[str, ...]
    folder: Path


def convert_checkpoint(path: Path, out: Path) -> ConversionReport:
    """Convert an ASNet checkpoint of the authors (ResNet-50, ResNet-101 or VGG-16; FS-CS or FS-S) into ``out``.

    The file is unpickled with ``weights_only=True`` and an allow-list, never otherwise. Weights keep float32.

    Raises:
        ValueError: the file is damaged, holds anything that weights do not need, or is not such a checkpoint.
        OSError: it cannot be read, or ``out`` cannot be written.
    """
    state = read_checkpoint(path)
    learner = learner_from_authors(state)
    name = _recognise_backbone(learner, path)
    head = ASNet(BACKBONES[name].maps)
    _check_tensors(learner, head.state_dict(), f"'{path}': its learner")
    head.load_state_dict(learner)
    wanted = Backbone(name).network.state_dict()
    stored = {key.removeprefix("backbone."): t for key, t in state.items() if key.startswith("backbone.")}
    kept = {key: tensor.float().contiguous() for key, tensor in stored.items() if key in wanted}
    kept = {key: tensor for key, tensor in kept.items() if not key.endswith("num_batches_tracked")}
    if stored:
        _check_tensors(kept, wanted, f"'{path}': its backbone")
    out.mkdir(parents=True, exist_ok=True)
    save_head(out / HEAD_FILE, head, HeadConfig("asnet", name, AUTHORS_SIDE), dtype=torch.float32)
    if kept:
        save_file(kept, out / BACKBONE_FILE)
        load_network(ModelFiles.in_folder(out))
    used = {f"backbone.{key}" for key in kept}
    ignored = tuple(key for key in state if key not in used and not key.startswith("learner."))
    return ConversionReport(name, len(learner), len(kept), ignored, out)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The ``state_dict`` of a PyTorch-Lightning checkpoint, unpickled by PyTorch's restricted unpickler only.

    Raises:
        ValueError: this PyTorch is too old to read such a file safely; the file is damaged, holds an object that is
            not allowed, or has no ``state_dict`` of tensors.
        OSError: it cannot be read.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if release < SAFE_TORCH:
        raise ValueError(
            f"PyTorch {torch.__version__} cannot read a pickled checkpoint safely (CVE-2026-24747): "
            "pip install 'torch>=2.10' and convert again"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'; check the path")
    try:
        with torch.serialization.safe_globals(list(ALLOWED_GLOBALS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of old pickle protocols; what counts is what it raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[-1] if "Unsupported" not in str(error) else "an object of another kind"
        raise ValueError(
            f"'{path}' was not read: beside weights it holds things that could run code, or it is no checkpoint "
            f"({reason}); get it again from its authors"
        ) from None
    except Exception as error:  # noqa: BLE001 (an unpickler stumbles over damage in any way it likes)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"'{path}' is damaged or is no checkpoint ({reason}); get it again") from None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items()):
        raise ValueError(f"'{path}' holds no state_dict of tensors: it is not a checkpoint of the authors' program")
    return state


def _recognise_backbone(learner: Mapping[str, Tensor], path: Path) -> str:
    weights = [learner.get(f"{level}.0.target.weight") for level in ("level4", "level3", "level2")]
    maps = tuple(weight.shape[1] if weight is not None and weight.dim() == 4 else 0 for weight in weights)
    for name in ("resnet50", "resnet101", "vgg16"):
        if BACKBONES[name].maps == maps:
            return name
    raise ValueError(
        f"'{path}' is not an ASNet on ResNet-50, ResNet-101 or VGG-16: its levels take {maps} maps; "
        "checkpoints of other methods are not converted"
    )


def _check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    names = {name for name in wanted if not name.endswith("num_batches_tracked")}
    wrong = sorted(names ^ set(found)) or sorted(n for n in names if wanted[n].shape != found[n].shape)
    if wrong:
        raise ValueError(f"{what} has {len(wrong)} missing, unknown or misshapen tensors, such as '{wrong[0]}'")
