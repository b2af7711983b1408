"""YOLO data sets: a text file of labels for each photo, with polygons and boxes, and a list of class names."""

import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations
from fscs_sdk.references.label_text import AnnotationError, read_text, reading
from fscs_sdk.references.shapes import RelativeRing, Shape, box, finite, ring_of

#: Lists of class names, one a line, that stand beside labels where there is no data.yaml.
NAME_LISTS = ("classes.txt", "obj.names")
#: Where shots are taken from: the first of these that has photos with labels.
SPLITS = ("train", "val", "test")
#: Photos that are looked at for labels beside them before a folder is taken for none of YOLO's.
LOOKED_AT = 100


def find_yolo(folder: Path) -> Path | None:
    """The file that makes a folder a YOLO data set: a YAML file with ``names``, or a list of names beside labels."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        content = _read_yaml(path)
        if isinstance(content, dict) and "names" in content:
            return path
    for name in NAME_LISTS:
        path = folder / name
        if path.is_file() and _has_labels(folder):
            return path
    return None


def _has_labels(folder: Path) -> bool:
    """Whether text files stand where labels do: below ``labels``, or beside photos of their names."""
    texts = itertools.chain((folder / "labels").rglob("*.txt"), folder.glob("obj_*_data/*.txt"))
    return any(texts) or any(_labels_of(photo) for photo in Album(folder).photos[:LOOKED_AT])


def read_yolo(path: Path) -> Annotations:
    """A YOLO data set from its YAML file or its list of names.

    Photos are those of ``train``, else of ``val``, else of ``test``: folders, or lists of paths. The labels of
    ``images/a/b.jpg`` are in ``labels/a/b.txt``, else beside the photo. A line is a class number and a polygon
    (segmentation, oriented boxes) or the middle and size of a box. Coordinates are shares of the upright photo.
    A photo with no line is one without the classes, and left out.

    Raises:
        ValueError: a file is broken, or it is a data set of poses.
        OSError: a file cannot be read.
    """
    found = Annotations(f"'{path}'")
    if path.name in NAME_LISTS:
        names = dict(enumerate(line.strip() for line in read_text(path).splitlines() if line.strip()))
        folder, splits = path.parent, [path.parent]
    else:
        with reading(f"'{path}'", "a YOLO data set"):
            names, folder, splits = _described(path)
    for name in names.values():
        found.name(name)
    album = Album(folder)
    for split in splits:
        for photo in _photos(split, album, found):
            labels = _labels_of(photo)
            if labels is not None:
                found.add(photo, photo.name, list(_areas(labels, names, found.left_out)), None)
        if found.photos:
            break
    return found


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError):
        raise AnnotationError(f"'{path}' is not YAML; export the data set again") from None


def _described(path: Path) -> tuple[dict[int, str], Path, list[Path]]:
    """Names by number, the data set's folder, and the folders or lists of its splits, those to take first."""
    content = _read_yaml(path)
    if "kpt_shape" in content:
        raise AnnotationError(f"'{path}' is a data set of poses, which mark no areas; give one with polygons or boxes")
    names = content["names"]
    listed = names.items() if isinstance(names, dict) else enumerate(names)
    folder = path.parent
    if content.get("path") and (folder / str(content["path"])).is_dir():
        folder = folder / str(content["path"])
    splits = []
    for split in SPLITS:
        given = content.get(split) or []
        for place in [given] if isinstance(given, str) else given:
            splits.append(_existing(folder, str(place)))
    return {int(number): str(name) for number, name in listed}, folder, splits or [folder]


def _existing(folder: Path, place: str) -> Path:
    """A split's folder or list; exporters write ``../train/images`` and mean ``train/images``."""
    parts = [part for part in PurePosixPath(place.replace("\\", "/")).parts if part not in ("..", ".")]
    candidates = [folder / place, folder.joinpath(*parts), *(folder.joinpath(*parts[skip:]) for skip in (1, 2))]
    return next((path for path in candidates if path.exists()), folder / place)


def _photos(split: Path, album: Album, found: Annotations) -> Iterator[Path]:
    """The photos of a folder, or of a list of paths."""
    if split.is_dir():
        yield from Album(split).photos
        return
    if not split.is_file():
        found.missing.append(str(split))
        return
    for line in read_text(split).splitlines():
        if line.strip():
            photo = album.find(line.strip())
            if photo is None:
                found.missing.append(line.strip())
            else:
                yield photo


def _labels_of(photo: Path) -> Path | None:
    parts = list(photo.parts[:-1])
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        beside = Path(*parts[:last], "labels", *parts[last + 1 :], photo.stem + ".txt")
        if beside.is_file():
            return beside
    own = photo.with_suffix(".txt")
    return own if own.is_file() else None


def _areas(path: Path, names: dict[int, str], left_out: list[str]) -> Iterator[tuple[str, Shape]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            with reading(f"line {number} of '{path}'", "a label of YOLO", left_out):
                words = line.split()
                index, values = int(float(words[0])), np.array([float(word) for word in words[1:]])
                if index not in names:
                    raise AnnotationError(f"line {number} of '{path}' is of class {index}, and there are {len(names)}")
                yield names[index], _shape(values)


def _shape(values: "np.ndarray[Any, np.dtype[np.float64]]") -> Shape:
    if len(values) and (finite(values).min() < -0.01 or values.max() > 1.01):
        raise ValueError("its coordinates are not shares from 0 to 1")
    if len(values) in (4, 5):  # a fifth is how sure the model was that made it
        x, y, width, height = values[:4]
        return box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, relative=True)
    if len(values) < 6:
        raise ValueError(f"it has {len(values)} numbers after the class")
    return RelativeRing(ring_of(values[: len(values) // 2 * 2]))
