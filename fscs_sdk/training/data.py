"""Photos with class masks -> batches of photos and the (query, support, class) pairs to learn from.

Every source is a folder with ``images/``, ``masks/`` (single-channel PNG; 0 background, 255 unknown) and
``classes.json`` (value -> name), or with one sub-folder per class whose masks are 0/1.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from fscs_sdk.evaluation.episodes import is_held_out, read_split
from fscs_sdk.training.config import TrainConfig

UNKNOWN = -1
#: Mask value in ``photos/`` for a single object without a second photo of its class: a class of its own.
UNNAMED = 254
#: Classes that several sources hold under different names; the rest are lower-cased and stripped of their source.
SYNONYMS = {
    "airplane": "aeroplane", "airplanes": "aeroplane", "couch": "sofa", "tv": "tvmonitor", "motorcycle": "motorbike",
    "motorbikes": "motorbike", "dining table": "diningtable", "potted plant": "pottedplant", "faces": "person",
    "faces_easy": "person", "dalmatian": "dog", "car_side": "car", "windsor_chair": "chair", "wild_cat": "cat",
    "ferry": "boat", "ketch": "boat", "schooner": "boat", "pigeon": "bird", "rooster": "bird", "flamingo": "bird",
    "ibis": "bird", "emu": "bird", "stop_sign": "stop sign", "cat2": "cat", "cellphone": "cell phone",
    **{f"dog{number}": "dog" for number in range(2, 9)},
}  # fmt: skip
#: What a photo of the source may show without its mask saying so: never ask such a photo for these classes.
UNLABELLED = {"photos": {"person"}}
#: A source whose classes may stand unlabelled in every other source, and the reverse.
ALONE = {"clothing"}


@dataclass(frozen=True)
class LabelledPhoto:
    """Paths of a photo and its mask; ``classes`` maps the mask's values to canonical class names.

    ``large`` names the classes that cover at least 1 % of the photo: only they are drawn.
    """

    source: str
    image: Path
    mask: Path
    classes: dict[int, str]
    large: frozenset[str]

    def open(self) -> tuple[Image.Image, Image.Image]:
        with Image.open(self.image) as image, Image.open(self.mask) as mask:
            return image.convert("RGB"), mask.copy()


@dataclass(frozen=True)
class Sample:
    """One augmented photo: ``image`` uint8 (side, side, 3); ``labels`` int32 (side, side), class index or UNKNOWN."""

    source: str
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Samples and pairs of indices into them: query, support, class index, and whether the support mask is given."""

    samples: tuple[Sample, ...]
    pairs: tuple[tuple[int, int, int, bool], ...]


def canonical(name: str) -> str:
    """A class name without its source, lower-cased, with synonyms of other sources resolved."""
    stem = name.rsplit("/", 1)[-1].lower()
    return SYNONYMS.get(stem, stem)


def read_source(root: Path, name: str, *, excluded: Sequence[str], held_out: int) -> list[LabelledPhoto]:
    """List a source's labelled photos that show at least one class large enough to be drawn.

    Raises:
        FileNotFoundError: the source's folder is not there.
    """
    folder = root / name
    if not (folder / "images").is_dir():
        raise FileNotFoundError(f"no folder '{folder / 'images'}': --data must name the folder that holds '{name}'")
    names = _class_names(folder)
    allowed = _voc_training_ids(folder, held_out) if (folder / "splits").is_dir() else None
    photos = []
    for mask in sorted((folder / "masks").rglob("*.png")):
        key = mask.relative_to(folder / "masks").with_suffix("")
        if allowed is not None and key.name not in allowed:
            continue
        image = (folder / "images" / key).with_suffix(".jpg")
        with Image.open(mask) as opened:
            counts = np.bincount(np.asarray(opened).reshape(-1), minlength=256)
        found = [int(value) for value in np.flatnonzero(counts[1:255]) + 1]
        if names is None:
            classes = {value: f"{name}/{key.parent}" for value in found}
        else:
            classes = {v: f"{name}/{key}" if v == UNNAMED else canonical(names[v]) for v in found}
        large = frozenset(classes[value] for value in found if counts[value] >= 0.01 * counts.sum())
        if large and not set(classes.values()) & set(excluded):
            photos.append(LabelledPhoto(name, image, mask, classes, large))
    return photos


def _class_names(folder: Path) -> dict[int, str] | None:
    path = folder / "classes.json"
    return {int(k): v for k, v in json.loads(path.read_text()).items()} if path.is_file() else None


def _voc_training_ids(folder: Path, held_out: int) -> set[str]:
    """Photos of the trn lists that stand on no val list; one in ``held_out`` of them is left out."""
    validation = _listed(folder / "splits" / "val")
    training = _listed(folder / "splits" / "trn") - validation
    return {key for key in training if not is_held_out(key, held_out)}


def _listed(folder: Path) -> set[str]:
    return {photo for path in sorted(folder.glob("*.txt")) for photo, _ in read_split(path)}


class Catalogue:
    """All sources, and batches drawn from them: ``batch(step)`` depends on the settings and the step alone."""

    def __init__(self, root: Path, config: TrainConfig) -> None:
        self.config = config
        self.photos = {
            name: read_source(root, name, excluded=config.excluded_classes, held_out=config.held_out)
            for name, _ in config.sources
        }
        labels = {label for photos in self.photos.values() for photo in photos for label in photo.classes.values()}
        self.class_index = {label: index + 1 for index, label in enumerate(sorted(labels))}
        self._by_class = {name: _by_class(photos) for name, photos in self.photos.items()}

    def describe(self) -> str:
        counts = [
            f"{name}: {len(self.photos[name])} photos, {len(self._by_class[name])} classes" for name in self.photos
        ]
        return "; ".join(counts)

    def batch(self, step: int) -> Batch:
        """Photos of a few classes with their pairs; the same for the same step."""
        rng = np.random.default_rng((self.config.seed, step))
        drawn = self._draw_classes(rng)
        samples, owners = [], []
        for source, label in drawn:
            photos = self._by_class[source][label]
            replace = len(photos) < self.config.photos_per_class
            for index in rng.choice(len(photos), self.config.photos_per_class, replace=replace):
                samples.append(self._augment(photos[index], label, rng))
                owners.append(label)
        for _ in range(self.config.mosaics):
            samples.append(_mosaic([samples[i] for i in rng.choice(len(owners), 4, replace=False)], rng))
        return Batch(tuple(samples), tuple(self._draw_pairs(samples, owners, rng)))

    def _draw_classes(self, rng: np.random.Generator) -> list[tuple[str, str]]:
        names = [name for name, _ in self.config.sources]
        weights = np.array([weight for _, weight in self.config.sources])
        first = str(rng.choice(names, p=weights / weights.sum()))
        alone = first in ALONE or rng.random() < self.config.same_source_share
        drawn: dict[str, str] = {}
        while len(drawn) < self.config.classes:
            source = first
            if not alone and drawn:
                source = str(rng.choice(names, p=weights / weights.sum()))
                if source in ALONE:
                    continue
            label = self._draw_class(source, rng)
            drawn.setdefault(label, source)
        return [(source, label) for label, source in drawn.items()]

    def _draw_class(self, source: str, rng: np.random.Generator) -> str:
        """A class with probability by the square root of its photos; unnamed single objects in one of four draws."""
        singles = [label for label, photos in self._by_class[source].items() if len(photos) == 1]
        named = [label for label, photos in self._by_class[source].items() if len(photos) > 1]
        if singles and rng.random() < 0.25:
            return str(rng.choice(singles))
        weights = np.sqrt([len(self._by_class[source][label]) for label in named])
        return str(rng.choice(named, p=weights / weights.sum()))

    def _draw_pairs(
        self, samples: list[Sample], owners: list[str], rng: np.random.Generator
    ) -> list[tuple[int, int, int, bool]]:
        pairs: list[tuple[int, int, int, bool]] = []
        mosaics = list(range(len(owners), len(samples)))
        while len(pairs) < self.config.pairs:
            support = len(pairs) % len(owners) if len(pairs) < len(owners) else int(rng.integers(len(owners)))
            label = owners[support]
            if mosaics:
                query = mosaics.pop()
            else:
                negative = rng.random() < self.config.negative_share
                candidates = [i for i, o in enumerate(owners) if i != support and (o != label) == negative]
                candidates = [
                    i for i in candidates if label not in UNLABELLED.get(samples[i].source, ()) or not negative
                ]
                if not candidates:
                    continue
                query = int(rng.choice(candidates))
            given = bool(rng.random() >= self.config.untagged_share)
            pairs.append((query, support, self.class_index[label], given))
        return pairs

    def _augment(self, photo: LabelledPhoto, label: str, rng: np.random.Generator) -> Sample:
        """Random resized crop that keeps a good part of the class, flip, light colour jitter."""
        image, mask = photo.open()
        values = np.asarray(mask)
        wanted = np.isin(values, [value for value, name in photo.classes.items() if name == label])
        box = _crop_box(wanted, rng)
        side = (self.config.side, self.config.side)
        flip = rng.random() < 0.5
        image = _jitter(image.resize(side, Image.Resampling.BILINEAR, box=box), rng)
        resized = np.asarray(mask.resize(side, Image.Resampling.NEAREST, box=box))
        table = np.zeros(256, np.int32)
        table[255] = UNKNOWN
        for value, name in photo.classes.items():
            table[value] = self.class_index[name]
        labels = table[resized]
        pixels = np.asarray(image)
        if flip:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        return Sample(photo.source, np.ascontiguousarray(pixels), np.ascontiguousarray(labels))


def _by_class(photos: list[LabelledPhoto]) -> dict[str, list[LabelledPhoto]]:
    by_class: dict[str, list[LabelledPhoto]] = {}
    for photo in photos:
        for label in sorted(photo.large):
            by_class.setdefault(label, []).append(photo)
    return by_class


def _crop_box(wanted: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A box of 30-100 % of the photo that keeps 40 % of the object and is covered by 1 %, else the whole photo."""
    height, width = wanted.shape
    total = wanted.sum()
    for _ in range(8):
        area, aspect = rng.uniform(0.3, 1.0), np.exp(rng.uniform(-0.35, 0.35))
        box_height = min(height, round(height * np.sqrt(area / aspect)))
        box_width = min(width, round(width * np.sqrt(area * aspect)))
        top = int(rng.integers(height - box_height + 1))
        left = int(rng.integers(width - box_width + 1))
        inside = wanted[top : top + box_height, left : left + box_width].sum()
        if inside >= 0.4 * total and inside >= 0.01 * box_height * box_width:
            return left, top, left + box_width, top + box_height
    return 0, 0, width, height


def _jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(float(rng.uniform(0.7, 1.3)))
    return image


def _mosaic(samples: list[Sample], rng: np.random.Generator) -> Sample:
    """Four photos on a 2 x 2 grid that is cut at a random point."""
    side = samples[0].image.shape[0]
    row, column = (int(rng.uniform(0.35, 0.65) * side) for _ in range(2))
    image = np.empty((side, side, 3), np.uint8)
    labels = np.empty((side, side), np.int32)
    tiles = [(slice(0, row), slice(0, column)), (slice(0, row), slice(column, side))]
    tiles += [(slice(row, side), slice(0, column)), (slice(row, side), slice(column, side))]
    for sample, (rows, columns) in zip(samples, tiles, strict=True):
        size = (columns.stop - columns.start, rows.stop - rows.start)
        image[rows, columns] = np.asarray(Image.fromarray(sample.image).resize(size, Image.Resampling.BILINEAR))
        labels[rows, columns] = np.asarray(Image.fromarray(sample.labels).resize(size, Image.Resampling.NEAREST))
    return Sample(samples[0].source, image, labels)
