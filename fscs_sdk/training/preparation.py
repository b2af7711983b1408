"""A benchmark's training photos as a source, the folder that a run reads; and the classes that a fold keeps back."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fscs_sdk.atomic import write_atomically
from fscs_sdk.evaluation.datasets import Dataset
from fscs_sdk.evaluation.datasets.labels import UNKNOWN
from fscs_sdk.evaluation.episodes import read_split
from fscs_sdk.training.corpus import canonical

#: Of the photos, which are written anew.
JPEG_QUALITY = 95
#: What a source's masks hold where nobody knows.
UNKNOWN_HERE = 255


def write_source(dataset: Dataset, out: Path, *, advance: Callable[[int, int], object] | None = None) -> int:
    """Write the photos of all ``trn`` lists with their masks, names and lists; what is there already is kept.

    Args:
        dataset: with ``trn`` lists, fewer than 255 classes, and photos named without folders.
        out: the folder of the source.
        advance: called with the photos that are done and all of them.

    Returns:
        How many photos the source has.

    Raises:
        ValueError: the data has no ``trn`` lists or too many classes, or a photo or mask cannot be decoded.
        OSError: a file cannot be read or written.
    """
    if not dataset.has_training_lists or not dataset.folds:
        raise ValueError("this data has no trn lists, so there is nothing to train on")
    if max(dataset.names) >= UNKNOWN_HERE:
        raise ValueError(f"a source has at most {UNKNOWN_HERE - 1} classes, this data has {max(dataset.names)}")
    lists = {fold: dataset.pairs("trn", fold) for fold in dataset.folds}
    photos = sorted({photo for pairs in lists.values() for photo, _ in pairs})
    for done, photo in enumerate(photos, start=1):
        mask = out / "masks" / f"{photo}.png"
        if not mask.is_file():  # which is written last
            labels = dataset.labels(photo)
            narrow = np.where(labels == UNKNOWN, UNKNOWN_HERE, labels).astype(np.uint8)
            _write_image(out / "images" / f"{photo}.jpg", Image.fromarray(dataset.image(photo)), quality=JPEG_QUALITY)
            _write_image(mask, Image.fromarray(narrow))
        if advance is not None:
            advance(done, len(photos))
    for fold, pairs in lists.items():
        if not pairs:  # an empty list is taken for a damaged one
            continue
        path = out / "splits" / "trn" / f"fold{fold}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{photo} {number}\n" for photo, number in pairs).encode())
    write_atomically(out / "classes.json", json.dumps(dict(dataset.names), indent=1, ensure_ascii=False).encode())
    return len(photos)


def fold_classes(root: Path, sources: Sequence[str], fold: int) -> tuple[str, ...]:
    """The canonical names of a fold's classes: those that ``splits/trn/fold<fold>.txt`` of any source lists.

    Raises:
        ValueError: no source has such a list, or one is malformed.
        OSError: a file cannot be read.
    """
    found: set[str] = set()
    for source in sources:
        path = root / source / "splits" / "trn" / f"fold{fold}.txt"
        if path.is_file():
            names = json.loads((root / source / "classes.json").read_text(encoding="utf-8"))
            found |= {canonical(names[str(number)]) for _, number in read_split(path)}
    if not found:
        raise ValueError(f"none of the sources {', '.join(sources)} has splits/trn/fold{fold}.txt, which names a fold")
    return tuple(sorted(found))


def _write_image(path: Path, image: Image.Image, *, quality: int | None = None) -> None:
    content = io.BytesIO()
    image.save(content, "PNG" if quality is None else "JPEG", **({} if quality is None else {"quality": quality}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
