"""What the authors' program (its learner and its rules of inference) gave for random weights and random inputs.

The files in ``data/authors`` are compressed safetensors: ``learner``, 1.3 M random weights in the authors' names;
``pairs``, hypercorrelations, masks and the logits that the learner gave for them; ``inference``, shot logits with
presence, log-probabilities and mask.
"""

import lzma
from functools import cache
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

FOLDER = Path(__file__).parent / "data" / "authors"
PAIRS = ("1way_box", "2way_box", "1way_tinymask", "1way_emptymask", "1way_nonemask")
INFERENCES = ("1way_1shot", "2way_1shot", "3way_5shot")


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """All tensors of a file."""
    return load(lzma.decompress((FOLDER / f"{name}.safetensors.xz").read_bytes()))


def learner_state() -> dict[str, Tensor]:
    """The learner's weights, in the authors' names."""
    return dict(tensors("learner"))


def pair(name: str) -> tuple[list[Tensor], Tensor | None, Tensor]:
    """One of ``PAIRS``: correlations (P, L, H, W, h, w) of levels 4, 3, 2; masks (P, 400, 400); logits (P, 2, h, w).

    Those that differ in their mask only share the correlations of the one without any.
    """
    found = tensors("pairs")
    source = name if f"{name}.hypercorrelation.layer4" in found else "1way_nonemask"
    correlations = [found[f"{source}.hypercorrelation.layer{level}"] for level in (4, 3, 2)]
    mask = found[f"{name}.support_mask"].float() if f"{name}.support_mask" in found else None
    return correlations, mask, found[f"{name}.logits"][0]


def inference(name: str) -> dict[str, Tensor]:
    """One of ``INFERENCES``: ``shot_logits`` (N, K, 2, h, w), ``presence`` (N,), ``log_prob`` (N + 1, H, W) of the
    background and the classes, ``mask`` (H, W)."""
    found = tensors("inference")
    return {key: found[f"{name}.{key}"][0] for key in ("shot_logits", "presence", "log_prob", "mask")}
