"""Labelled photos -> batches of samples and the pairs of query and supports to learn from."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.training.augmentation import blind_crop_box, crop_box, jitter, mosaic
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.corpus import LabelledPhoto, read_source

UNKNOWN = -1
#: What a photo of the source may show without its mask saying so: never ask such a photo for these classes.
UNLABELLED = {
    "photos": {"person"},
    "domains/fire_truck": {"person", "car", "truck"},
    "domains/car_damage": {"person", "car"},
    "domains/epfl_roads": {"car"},
    "domains/pwfid": {"pottedplant"},
}
#: A source whose classes may stand unlabelled in every other source, and the reverse.
ALONE = {
    "clothing",
    *(
        f"domains/{name}"
        for name in ("campus_indoor", "car_parts", "football", "indonesian_food", "ruralscape", "trains")
    ),
}
#: Share of a source's draws that go to classes of a single photo, where it has both kinds.
SINGLES_SHARE = 0.25


@dataclass(frozen=True)
class Sample:
    """One view of a photo.

    Attributes:
        source: the photo's.
        image: uint8 (side, side, 3).
        labels: int32 (side, side), class index, 0 = none, or UNKNOWN; without a mask UNKNOWN everywhere.
        tags: indices of the classes that it shows.
        has_mask: whether ``labels`` tell anything.
    """

    source: str
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    tags: frozenset[int]
    has_mask: bool


@dataclass(frozen=True)
class Pair:
    """A query and the K supports of one class, as indices into a batch's samples.

    Attributes:
        query, supports: of K different photos or views, none of them the query.
        label: index of the supports' class.
        strong: learned from the query's mask; otherwise from its class tag.
        masked: the head is given the supports' masks.
    """

    query: int
    supports: tuple[int, ...]
    label: int
    strong: bool
    masked: bool


@dataclass(frozen=True)
class Batch:
    """Samples, each passed through the backbone once, and the pairs that share them."""

    samples: tuple[Sample, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class _Choice:
    """A source's classes: those of a single photo; the others, with the probabilities to draw them."""

    singles: tuple[str, ...]
    named: tuple[str, ...]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, by_class: Mapping[str, Sequence[LabelledPhoto]]) -> "_Choice":
        """Probabilities go by the square root of a class's photos."""
        named = tuple(label for label, photos in by_class.items() if len(photos) > 1)
        weights = np.sqrt([len(by_class[label]) for label in named])
        singles = tuple(label for label, photos in by_class.items() if len(photos) == 1)
        return cls(singles, named, weights / max(weights.sum(), 1))


class Catalogue:
    """All sources, and batches drawn from them: ``batch(step)`` depends on the settings and the step alone.

    Args:
        root: folder that holds the sources.

    Raises:
        FileNotFoundError: a source is not there.
        ValueError: a source shows too few classes for a batch, or its ``tags.json`` is malformed.
    """

    def __init__(self, root: Path, config: TrainConfig) -> None:
        self.config = config
        self.photos = {name: _read(root, name, config) for name, _ in config.sources}
        labels = {label for photos in self.photos.values() for photo in photos for label in photo.classes.values()}
        self.class_index = {label: index + 1 for index, label in enumerate(sorted(labels))}
        self.by_class = {name: _by_class(photos) for name, photos in self.photos.items()}
        if not config.geometric:  # a photo that is drawn twice would be paired with itself
            for by_class in self.by_class.values():
                for label in [label for label, photos in by_class.items() if len(photos) < config.photos_per_class]:
                    del by_class[label]
        self._check_classes(root)
        self._choices = {name: _Choice.of(by_class) for name, by_class in self.by_class.items()}

    def describe(self) -> str:
        counts = [
            f"{name}: {len(self.photos[name])} photos, {len(self.by_class[name])} classes" for name in self.photos
        ]
        return "; ".join(counts)

    def batch(self, step: int) -> Batch:
        """Photos of a few classes with their pairs; the same for the same step."""
        rng = np.random.default_rng((self.config.seed, step))
        drawn = self.draw_classes(rng)
        samples, owners = [], []
        for source, label in drawn:
            photos = self.by_class[source][label]
            replace = len(photos) < self.config.photos_per_class
            for index in rng.choice(len(photos), self.config.photos_per_class, replace=replace):
                samples.append(self.view(photos[index], rng, label=label))
                owners.append(label)
        for _ in range(self.config.mosaics):
            samples.append(_mosaic([samples[i] for i in rng.choice(len(owners), 4, replace=False)], rng))
        return Batch(tuple(samples), tuple(self._draw_pairs(samples, owners, rng)))

    def view(self, photo: LabelledPhoto, rng: np.random.Generator | None, *, label: str | None = None) -> Sample:
        """A photo as it is, resized, or (given ``rng``) augmented, as far as the settings say.

        Args:
            label: what a crop keeps a good part of; by default one of the photo's classes.
        """
        image, mask = photo.open()
        box, flip = None, False
        if rng is not None and self.config.geometric:
            box = self._draw_box(photo, image, mask, label or str(rng.choice(sorted(photo.large))), rng)
            flip = rng.random() < 0.5
        side = (self.config.side, self.config.side)
        image = image.resize(side, Image.Resampling.BILINEAR, box=box)
        if rng is not None and self.config.photometric:
            image = jitter(image, rng)
        pixels = np.asarray(image)
        if mask is None:
            labels, shown = np.full(side, UNKNOWN, np.int32), set(photo.classes.values())
        else:
            values = np.asarray(mask.resize(side, Image.Resampling.NEAREST, box=box))
            labels = self.table(photo)[values]
            seen = np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).tolist()
            shown = {name for value, name in photo.classes.items() if value in seen}
        if flip:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        tags = frozenset(self.class_index[name] for name in shown)
        image_array, label_array = np.ascontiguousarray(pixels), np.ascontiguousarray(labels)
        return Sample(photo.source, image_array, label_array, tags, has_mask=mask is not None)

    def draw_classes(self, rng: np.random.Generator) -> list[tuple[str, str]]:
        """(source, class) of a batch: all of one source, or of several; a source with too few is joined by others."""
        names = [name for name, _ in self.config.sources]
        weights = np.array([weight for _, weight in self.config.sources])
        first = str(rng.choice(names, p=weights / weights.sum()))
        alone = first in ALONE or rng.random() < self.config.same_source_share
        drawn: dict[str, str] = {}
        while len(drawn) < self.config.classes:
            source = first
            if drawn and (not alone or len(drawn) >= len(self.by_class[first])):
                source = str(rng.choice(names, p=weights / weights.sum()))
                if source in ALONE:
                    continue
            choice = self._choices[source]
            single = choice.singles and (not choice.named or rng.random() < SINGLES_SHARE)
            label = rng.choice(choice.singles) if single else rng.choice(choice.named, p=choice.weights)
            drawn.setdefault(str(label), source)
        return [(source, label) for label, source in drawn.items()]

    def _check_classes(self, root: Path) -> None:
        """Every source must fill a batch, by itself or together with those that may be mixed with it."""
        mixed = {label for name, by_class in self.by_class.items() if name not in ALONE for label in by_class}
        for name, by_class in self.by_class.items():
            enough = len(by_class) if name in ALONE else len(mixed) if by_class else 0
            if enough < self.config.classes:
                raise ValueError(
                    f"'{root / name}' has photos of {len(by_class)} classes to draw, and a batch is of "
                    f"{self.config.classes}; take it out of the sources, or lower classes"
                )

    def _draw_box(
        self, photo: LabelledPhoto, image: Image.Image, mask: Image.Image | None, label: str, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        if mask is None:
            return blind_crop_box(image.size, rng)
        wanted = np.isin(np.asarray(mask), [value for value, name in photo.classes.items() if name == label])
        return crop_box(wanted, rng, smallest=self.config.smallest_object)

    def table(self, photo: LabelledPhoto) -> NDArray[np.int32]:
        """Mask value -> class index."""
        table = np.zeros(256, np.int32)
        table[255] = UNKNOWN
        for value, name in photo.classes.items():
            table[value] = self.class_index[name]
        return table

    def _draw_pairs(self, samples: Sequence[Sample], owners: Sequence[str], rng: np.random.Generator) -> list[Pair]:
        pairs: list[Pair] = []
        mosaics = list(range(len(owners), len(samples)))
        while len(pairs) < self.config.pairs:
            support = len(pairs) if len(pairs) < len(owners) else int(rng.integers(len(owners)))
            label = self.class_index[owners[support]]
            if mosaics and (self.config.task == "fs-cs" or label in samples[mosaics[-1]].tags):
                query = mosaics.pop()
            else:
                query = self._draw_query(samples, owners, support, rng)
            supports = (support, *self._draw_more(owners, support, query, rng))
            given = rng.random() >= self.config.withheld_share
            strong = self._is_strong([samples[index] for index in (query, *supports)], rng)
            pair = Pair(query, supports, label, strong, strong and given)
            pairs.append(pair)
            if self.config.swap and query < len(owners) and owners[query] == owners[support]:
                pairs.append(dataclasses.replace(pair, query=support, supports=(query, *supports[1:])))
        return pairs[: self.config.pairs]

    def _draw_query(
        self, samples: Sequence[Sample], owners: Sequence[str], support: int, rng: np.random.Generator
    ) -> int:
        """Another photo of the support's class, or one that was drawn for another class."""
        label, share = owners[support], self.config.negative_share
        # with swap a positive draw makes two pairs: to be the share wanted of all, negatives are drawn more often
        chance = 2 * share / (1 + share) if self.config.swap else share
        positive = [i for i, owner in enumerate(owners) if i != support and owner == label]
        if self.config.task == "fs-cs" and rng.random() < chance:
            negative = [
                i
                for i, owner in enumerate(owners)
                if owner != label and label not in UNLABELLED.get(samples[i].source, ())
            ]
            return int(rng.choice(negative or positive))
        return int(rng.choice(positive))

    def _draw_more(self, owners: Sequence[str], support: int, query: int, rng: np.random.Generator) -> list[int]:
        """The other shots."""
        if self.config.shots == 1:
            return []
        others = [i for i, owner in enumerate(owners) if owner == owners[support] and i not in (support, query)]
        return [int(i) for i in rng.choice(others, self.config.shots - 1, replace=False)]

    def _is_strong(self, samples: Sequence[Sample], rng: np.random.Generator) -> bool:
        """The label that a pair is learned from is that of the photo that tells least."""
        if self.config.labels != "mixed":
            return self.config.labels == "strong"
        return rng.random() >= self.config.weak_share and all(sample.has_mask for sample in samples)


def _read(root: Path, name: str, config: TrainConfig) -> list[LabelledPhoto]:
    """The photos of a source that the settings' labels are for; under weak labels without their masks."""
    photos = read_source(
        root, name, excluded=config.excluded_classes, held_out=config.held_out, smallest=config.smallest_object
    )
    if config.labels == "weak":
        return [dataclasses.replace(photo, mask=None) for photo in photos]
    return [photo for photo in photos if photo.mask is not None or config.labels == "mixed"]


def _by_class(photos: Sequence[LabelledPhoto]) -> dict[str, list[LabelledPhoto]]:
    by_class: dict[str, list[LabelledPhoto]] = {}
    for photo in photos:
        for label in sorted(photo.large):
            by_class.setdefault(label, []).append(photo)
    return by_class


def _mosaic(samples: Sequence[Sample], rng: np.random.Generator) -> Sample:
    image, labels = mosaic([sample.image for sample in samples], [sample.labels for sample in samples], rng)
    tags = frozenset().union(*(sample.tags for sample in samples))
    return Sample(samples[0].source, image, labels, tags, has_mask=all(sample.has_mask for sample in samples))
