"""Folders of photos -> what every photo shows.

Every source is a folder with ``images/`` (JPEG or WebP), ``masks/`` (single-channel PNG; 0 background, 255 unknown) and
``classes.json`` (value -> name), or with one sub-folder per class whose masks are 0/1. Photos without a mask are read
where ``tags.json`` names their classes: ``{"<path in images/ without its ending>": ["cat", "dog"]}``.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fscs_sdk.evaluation.episodes import is_held_out, read_split

Part = Literal["training", "held-out", "validation", "all"]

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


@dataclass(frozen=True)
class LabelledPhoto:
    """Paths of a photo and its mask, if it has one; ``source`` as it was asked for.

    ``classes`` maps the mask's values to canonical class names; without a mask its keys mean nothing. ``large`` names
    the classes that cover enough of the photo for it to be drawn for them; without a mask, all.
    """

    source: str
    image: Path
    mask: Path | None
    classes: dict[int, str]
    large: frozenset[str]

    def open(self) -> tuple[Image.Image, Image.Image | None]:
        """The photo as RGB, and its mask."""
        with Image.open(self.image) as opened:
            image = opened.convert("RGB")
        if self.mask is None:
            return image, None
        with Image.open(self.mask) as mask:
            return image, mask.copy()


def canonical(name: str) -> str:
    """A class name without its source, lower-cased, with synonyms of other sources resolved."""
    stem = name.rsplit("/", 1)[-1].lower()
    return SYNONYMS.get(stem, stem)


def read_source(
    root: Path, name: str, *, excluded: Sequence[str], held_out: int, smallest: float = 0.01, part: Part = "training"
) -> list[LabelledPhoto]:
    """List a source's labelled photos that show at least one class large enough to be drawn.

    Args:
        root, name: the folder of all sources, and the source's folder in it.
        excluded: canonical names of classes; photos that show one are left out.
        held_out: one photo in this many is left out (0 = none).
        smallest: share of the photo that a class must cover to be drawn.
        part: ``training``; ``held-out``: what it leaves out for ``held_out``; ``validation``: what stands on a val
            list; ``all``.

    Raises:
        FileNotFoundError: the source's folder is not there.
        ValueError: its ``tags.json`` or ``classes.json`` cannot be read.
    """
    folder = root / name
    if not (folder / "images").is_dir():
        raise FileNotFoundError(f"no folder '{folder / 'images'}': --data must name the folder that holds '{name}'")
    names, belongs = _class_names(folder), _membership(folder, held_out, part)
    masks = sorted((folder / "masks").rglob("*.png"))
    keys = [mask.relative_to(folder / "masks").with_suffix("").as_posix() for mask in masks]
    chosen = [(key, mask) for key, mask in zip(keys, masks, strict=True) if belongs(key)]

    def read(key: str, mask: Path) -> LabelledPhoto:
        return _with_mask(folder, name, key, mask, names, smallest)

    with ThreadPoolExecutor() as threads:
        photos = list(threads.map(read, *zip(*chosen, strict=True))) if chosen else []
    for key, tags in sorted(_tags(folder).items()):
        if not (folder / "masks" / f"{key}.png").is_file() and belongs(key):
            photos.append(_with_tags(folder, name, key, tags))
    return [photo for photo in photos if photo.large and not set(photo.classes.values()) & set(excluded)]


def _with_mask(
    folder: Path, source: str, key: str, mask: Path, names: dict[int, str] | None, smallest: float
) -> LabelledPhoto:
    with Image.open(mask) as opened:
        counts = np.bincount(np.asarray(opened).reshape(-1), minlength=256)
    found = [int(value) for value in np.flatnonzero(counts[1:255]) + 1]
    if names is None:
        classes = {value: f"{source}/{Path(key).parent}" for value in found}
    else:
        unknown = [value for value in found if value not in names and value != UNNAMED]
        if unknown:
            raise ValueError(f"'{mask}' holds the value {unknown[0]}, which '{folder / 'classes.json'}' does not name")
        classes = {v: f"{source}/{key}" if v == UNNAMED else canonical(names[v]) for v in found}
    large = frozenset(classes[value] for value in found if counts[value] >= smallest * counts.sum())
    return LabelledPhoto(source, _photo_file(folder, key), mask, classes, large)


def _with_tags(folder: Path, source: str, key: str, tags: list[str]) -> LabelledPhoto:
    classes = dict(enumerate(sorted({canonical(tag) for tag in tags}), start=1))
    return LabelledPhoto(source, _photo_file(folder, key), None, classes, frozenset(classes.values()))


def _photo_file(folder: Path, key: str) -> Path:
    webp = folder / "images" / f"{key}.webp"
    return webp if webp.is_file() else folder / "images" / f"{key}.jpg"


def _class_names(folder: Path) -> dict[int, str] | None:
    path = folder / "classes.json"
    if not path.is_file():
        return None
    try:
        return {int(value): str(name) for value, name in _read_json(path).items()}
    except ValueError as error:
        raise ValueError(f"'{path}' must name the values of masks: {error}") from None


def _tags(folder: Path) -> dict[str, list[str]]:
    path = folder / "tags.json"
    tags: dict[str, list[str]] = {}
    for key, names in _read_json(path).items() if path.is_file() else ():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"'{path}' must give a list of class names for {key!r}, not {names!r}")
        tags[key] = names
    return tags


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); mend it") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' must be a JSON object; see fscs_sdk.training.corpus")
    return content


def _membership(folder: Path, held_out: int, part: Part) -> Callable[[str], bool]:
    """Whether a photo is of a part of its source. Where there are lists, its name alone stands on them."""
    if part == "all":
        return lambda key: True
    lists = (folder / "splits").is_dir()
    validation = _listed(folder / "splits" / "val") if lists else set()
    if part == "validation":
        return lambda key: Path(key).name in validation
    training = _listed(folder / "splits" / "trn") - validation if lists else None

    def belongs(key: str) -> bool:
        identity = Path(key).name if lists else key
        listed = training is None or identity in training
        return listed and is_held_out(identity, held_out) == (part == "held-out")

    return belongs


def _listed(folder: Path) -> set[str]:
    return {photo for path in sorted(folder.glob("*.txt")) for photo, _ in read_split(path)}
