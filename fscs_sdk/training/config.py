"""Everything that decides what a training run does; saved as JSON beside its weights."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. Two runs with equal settings, data and thread count see the same pairs in the same order.

    Attributes:
        backbone: a key of ``fscs_sdk.model.backbone.BACKBONES``; its weights are frozen.
        side: input side in pixels.
        sources: names and relative weights of the data sets that batches are drawn from.
        excluded_classes: canonical class names left out of every source (for fold heads).
        held_out: one VOC photo in this many, chosen by a hash of its name, is never trained on (0 = none).
        steps: optimiser steps in all; the learning rate falls to zero along a cosine.
        classes, photos_per_class, pairs: of a batch; features are computed once per photo and shared by its pairs.
        pairs_at_once: pairs whose gradients are computed together; changes speed and memory, not results.
        negative_share: share of pairs whose query was drawn for another class.
        same_source_share: share of batches whose classes all come from one source (hard negatives).
        mosaics: queries per batch made of four of its photos (small objects, several classes).
        untagged_share: share of pairs whose support mask is withheld (class tag only).
        coarse_share, coarse_until: this share of batches, up to this share of the steps, is answered by levels 4 and 3
            alone, decoded at half the resolution: a third of the cost, on all query positions.
        whole_share: share of the other batches on all query positions; others use windows of ``window`` level-4 cells.
        final_whole: over this last share of the steps every batch is whole.
        learning_rate, warmup, weight_decay, clip, ema: of AdamW and the averaged weights that are kept.
        dice, presence: weights of these losses beside the cross-entropy (see ``losses``).
        seed: of everything random.
    """

    backbone: str = "efficientnet_lite0"
    side: int = 288
    sources: tuple[tuple[str, float], ...] = (
        ("voc", 0.50),
        ("photos", 0.33),
        ("coco", 0.08),
        ("clothing", 0.05),
        ("atwork", 0.04),
    )
    excluded_classes: tuple[str, ...] = ()
    held_out: int = 20
    steps: int = 4000
    classes: int = 3
    photos_per_class: int = 3
    pairs: int = 12
    pairs_at_once: int = 4
    negative_share: float = 0.5
    same_source_share: float = 0.75
    mosaics: int = 2
    untagged_share: float = 0.08
    coarse_share: float = 0.0
    coarse_until: float = 0.75
    whole_share: float = 0.25
    window: int = 6
    final_whole: float = 0.25
    learning_rate: float = 1e-3
    warmup: int = 150
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.998
    dice: float = 0.9
    presence: float = 0.4
    seed: int = 0

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        values = json.loads(path.read_text())
        values["sources"] = tuple((name, weight) for name, weight in values["sources"])
        values["excluded_classes"] = tuple(values["excluded_classes"])
        return cls(**values)
