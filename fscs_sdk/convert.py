"""Names: a learner in the authors' checkpoint layout -> ours."""

import re
from collections.abc import Mapping

from torch import Tensor

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
_LAYER_NAME = re.compile(r"(encoder_layer\w+)\.(\d)\.(.+)\.(weight|bias)")


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
    if stem in _DECODER:
        return f"{_DECODER[stem]}.{leaf}"
    match = _LAYER_NAME.fullmatch(name)
    if match is None or match[1] not in _LEVELS or match[3] not in _PARTS:
        raise ValueError(f"'learner.{name}' is not a tensor of the authors' ASNet learner")
    return f"{_LEVELS[match[1]]}.{match[2]}.{_PARTS[match[3]]}.{match[4]}"
