"""Everything that decides what a training run does; saved as JSON beside its weights, and inside them."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fscs_sdk.atomic import write_atomically
from fscs_sdk.model.backbone import BACKBONES

Task = Literal["fs-cs", "fs-s"]
Labels = Literal["strong", "weak", "mixed"]
Loss = Literal["segmentation", "classification", "both"]

#: Settings by the names that they had in older files.
RENAMED = {"untagged_share": "withheld_share"}
#: Settings of older files that there are no more, with the value of a run that did without; None: any, as it changed
#: nothing but speed.
REMOVED: Mapping[str, float | None] = {"pasted": 0, "texture_share": 0, "cached_views": 0, "workers": None}
#: Heads that relate every query position to all others, and so need the whole query: PFENet scales its prior over it.
WHOLE_ONLY = ("pfenet",)
#: Settings that are shares, at least one, at least zero, and above zero.
SHARES = (
    "weak_share", "smallest_object", "negative_share", "same_source_share", "withheld_share", "coarse_share",
    "coarse_until", "whole_share", "final_whole", "ema", "threshold", "close_up",
    "several_share",
)  # fmt: skip
COUNTS = (
    "side", "steps", "classes", "photos_per_class", "pairs", "shots", "pairs_at_once", "window", "log_every",
    "groups",
)  # fmt: skip
NOT_NEGATIVE = (
    "held_out", "mosaics", "warmup", "weight_decay", "dice", "presence", "seed", "minutes",
    "resident_side", "adapter_rate",
)  # fmt: skip
#: Settings that batches made on the device do not know, with the one value that they may have there.
NOT_RESIDENT = {
    "task": "fs-cs", "labels": "strong", "shots": 1, "geometric": True, "photometric": True, "swap": False,
}  # fmt: skip
POSITIVE = ("learning_rate", "clip")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run. Two runs with equal settings, data and thread count see the same pairs in the same order.

    Attributes:
        head: a key of ``fscs_sdk.model.heads.HEADS``.
        threshold, close_up: what the head's file says of them (see ``FewShotNetwork``); training does not use them.
        task: ``fs-cs``: a share of the queries do not show the class. ``fs-s``: conventional few-shot segmentation, all
            do, so presence is not learned.
        labels: ``strong``: masks. ``weak``: class tags; masks are used nowhere, not even by the augmentation.
            ``mixed``: ``weak_share`` of the pairs are weak, and those with photos that have tags only.
        weak_share: share of weak pairs under ``mixed``.
        loss: what strong pairs are learned from (table a.7): ``segmentation`` (eq. 7, with the terms weighted by
            ``dice`` and ``presence``), ``classification`` (eq. 6) or ``both``. Weak pairs have eq. 6 alone.
        backbone: a key of ``fscs_sdk.model.backbone.BACKBONES``; its weights are frozen.
        side: input side in pixels.
        sources: names and relative weights of the data sets that batches are drawn from.
        excluded_classes: canonical class names left out of every source (for fold heads).
        held_out: one photo in this many of every source, by a hash of its name, is never trained on (0 = none).
        smallest_object: share of a photo that a class must cover for the photo to be drawn for it.
        geometric: augment by random crops and flips. Without it photos are taken whole.
        photometric: augment by brightness, contrast and saturation.
        steps: optimiser steps in all; the learning rate falls to zero along a cosine.
        minutes: with n > 0 the run ends after so many minutes, if ``steps`` do not end it before, and the cosine is
            that of the time. Two such runs differ.
        classes, photos_per_class, pairs: of a batch; features are computed once per photo and shared by its pairs.
        shots: supports of a pair; their logits are averaged before the loss (section 5.1).
        resident_side: with n > 0 all photos are held on the device, n x n pixels each, and batches are made there
            (see ``resident``).
        groups: of such a batch; each is of ``classes`` classes and ``pairs`` pairs of its own.
        several_share: share of such batches with ``photos_per_class - 1`` shots, and as many pairs fewer.
        swap: use every pair of two photos of a class in both directions; negatives keep their share of all pairs.
        pairs_at_once: pairs whose gradients are computed together; changes speed and memory, not results.
        negative_share: share of pairs whose query was drawn for another class.
        same_source_share: share of batches whose classes all come from one source (hard negatives).
        mosaics: queries per batch made of four of its photos (small objects, several classes).
        withheld_share: share of strong pairs whose support masks are withheld from the head, so that it learns to do
            with a class tag; the query's mask is learned from all the same.
        coarse_share, coarse_until: this share of batches, up to this share of the steps, is answered by levels 4 and 3
            alone, decoded at half the resolution: a third of the cost, on all query positions. ASNets only.
        whole_share: share of the other batches on all query positions; others use windows of ``window`` level-4 cells.
            Where eq. 6 is learned from, all are whole: a tag says nothing of a part of the photo.
        final_whole: over this last share of the steps every batch is whole.
        learning_rate, warmup, weight_decay, clip, ema: of AdamW and the averaged weights that are kept.
        adapter_rate: the adapter's learning rate as a share of the head's; 0 keeps it as it was given.
        dice, presence: weights of these losses beside the cross-entropy (see ``losses``).
        seed: of everything random.
        bfloat16: precision of the head's products; weights and losses are float32.
        backbone_bfloat16: the same of the backbone's.
        compile: compile the head with ``torch.compile``.
        log_every: steps between rows of ``log.csv``.
    """

    head: str = "asnet"
    threshold: float = 0.5
    close_up: float = 0.0
    task: Task = "fs-cs"
    labels: Labels = "strong"
    weak_share: float = 0.5
    loss: Loss = "segmentation"
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
    smallest_object: float = 0.01
    geometric: bool = True
    photometric: bool = True
    steps: int = 4000
    minutes: float = 0.0
    classes: int = 3
    photos_per_class: int = 3
    pairs: int = 12
    shots: int = 1
    resident_side: int = 0
    groups: int = 1
    several_share: float = 0.0
    swap: bool = False
    pairs_at_once: int = 4
    negative_share: float = 0.5
    same_source_share: float = 0.75
    mosaics: int = 2
    withheld_share: float = 0.08
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
    adapter_rate: float = 0.0
    dice: float = 0.9
    presence: float = 0.4
    seed: int = 0
    bfloat16: bool = True
    backbone_bfloat16: bool = False
    compile: bool = False
    log_every: int = 50

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ValueError: a value of another kind or out of range, or two that exclude each other.
        """
        for name, kind in get_type_hints(type(self)).items():
            _check_kind(name, getattr(self, name), kind)
        self._check_ranges()
        self._check_batches()
        self._check_resident()
        self._check_steps()

    @property
    def learns_from_tags(self) -> bool:
        """Whether any pair is learned from the classification loss (eq. 6)."""
        return self.labels != "strong" or self.loss != "segmentation"

    @property
    def uses_windows(self) -> bool:
        """Whether any batch is learned on windows of its queries."""
        whole = self.learns_from_tags or self.head in WHOLE_ONLY or self.whole_share == 1 or self.final_whole == 1
        return not whole

    def save(self, path: Path) -> None:
        write_atomically(path, f"{self.to_json()}\n".encode())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Read settings; those that a file does not name keep their defaults.

        Raises:
            ValueError: the file is no JSON object, or names a setting that there is not, or a value that cannot be.
            OSError: it cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("it must be a JSON object of settings")
            return cls.parse(values)
        except ValueError as error:
            raise ValueError(f"the settings in '{path}' cannot be used: {error}") from None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Settings from plain values, as JSON has them, under their names of today or of older versions.

        Raises:
            ValueError: a setting that there is not, or no more, or a value that cannot be.
        """
        for name in sorted(set(values) & set(REMOVED)):
            if REMOVED[name] is not None and values[name] != REMOVED[name]:
                raise ValueError(f"there is no setting {name!r} any more, and runs without it differ; leave it out")
        kept = {name: value for name, value in values.items() if name not in REMOVED}
        named = {RENAMED.get(name, name): _as_tuple(value) for name, value in kept.items()}
        unknown = sorted(set(named) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"there is no setting {unknown[0]!r}; see fscs_sdk.training.config.TrainConfig")
        return cls(**named)

    def _check_ranges(self) -> None:
        ranges: tuple[tuple[tuple[str, ...], str, Callable[[float], bool]], ...] = (
            (SHARES, "from 0 to 1", lambda value: 0 <= value <= 1),
            (COUNTS, "1 or more", lambda value: value >= 1),
            (NOT_NEGATIVE, "0 or more", lambda value: value >= 0),
            (POSITIVE, "above 0", lambda value: value > 0),
        )
        for names, words, holds in ranges:
            for name in names:
                if not holds(getattr(self, name)):
                    raise ValueError(f"{name} must be {words}, not {getattr(self, name)}")
        if not self.sources or any(weight <= 0 for _, weight in self.sources):
            raise ValueError("sources must name at least one data set, each with a weight above 0")

    def _check_batches(self) -> None:
        if self.photos_per_class <= self.shots:
            raise ValueError(
                f"a pair of {self.shots} shots needs {self.shots + 1} photos of its class; raise photos_per_class "
                f"({self.photos_per_class}) or lower shots"
            )
        if self.mosaics and self.classes * self.photos_per_class < 4:
            raise ValueError(
                "a mosaic needs four photos in a batch; raise classes or photos_per_class, or drop mosaics"
            )

    def _check_resident(self) -> None:
        if not self.resident_side:
            if self.groups > 1 or self.several_share:
                raise ValueError("groups and several_share are of batches made on the device; set resident_side too")
            return
        for name, only in NOT_RESIDENT.items():
            if getattr(self, name) != only:
                raise ValueError(f"batches made on the device (resident_side) need {name} {only!r}")
        if self.several_share and (self.photos_per_class < 3 or self.pairs < self.photos_per_class - 1):
            raise ValueError(
                "several_share asks for photos_per_class - 1 shots, at least two, and as many pairs; raise "
                f"photos_per_class ({self.photos_per_class}) or pairs ({self.pairs})"
            )

    def _check_steps(self) -> None:
        if self.task == "fs-s" and self.learns_from_tags:
            raise ValueError(
                "in task fs-s every query shows the class, so its tag teaches nothing; use labels 'strong' and loss "
                "'segmentation', or task 'fs-cs'"
            )
        if self.coarse_share and not self.head.startswith("asnet"):
            raise ValueError(f"coarse batches leave out level 2, which {self.head} cannot do; set coarse_share to 0")
        spec = BACKBONES.get(self.backbone)
        if spec is None:  # what builds it says which there are
            return
        try:
            spec.check_side(self.side)
        except ValueError as error:
            raise ValueError(
                f"side {self.side} does not suit the backbone {self.backbone}: {error} ('side' of --config)"
            ) from None
        if self.uses_windows and self.side % spec.stride:
            raise ValueError(
                f"windows need an input side that {spec.stride} divides, not {self.side}; change side, or set "
                "whole_share to 1"
            )


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _check_kind(name: str, value: object, kind: Any) -> None:
    """Is a setting's value of the type that its annotation tells?"""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, not {value!r}")
    elif not _is_of_kind(value, kind):
        raise ValueError(f"{name} must be {getattr(kind, '__name__', kind)}, not {value!r}")


def _is_of_kind(value: object, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is ...:
            return all(_is_of_kind(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_is_of_kind, value, kinds))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind
