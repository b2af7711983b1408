"""FSS-1000: a folder for each class, with pairs of ``N.jpg`` and its binary mask ``N.png``.

A file that names classes, one a line (the field's 240 test classes), chooses those that are asked for; without it all
are. There are no folds and no training lists. Classes are numbered in the order of their names, and a photo is named
``<class>/N``; the list has the classes in order, and of each its photos in the order of N.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.images import read_image, read_mask


class FSS1000:
    """Class folders; see the module."""

    folds: tuple[int, ...] = ()
    has_training_lists = False

    def __init__(self, data: Path, classes: Path | None = None) -> None:
        """Find the class folders; no photo is opened.

        Args:
            classes: the file of the test classes.

        Raises:
            ValueError: there are no classes, or the file names one that is not there.
            OSError: the file cannot be read.
        """
        there = {path.name for path in data.iterdir() if path.is_dir() and any(path.glob("*.png"))}
        if not there:
            raise ValueError(f"'{data}' holds no folder with N.jpg and N.png; give the folder of the class folders")
        chosen = there if classes is None else _read_names(classes)
        missing = sorted(chosen - there)
        if missing:
            raise ValueError(f"'{classes}' names the class {missing[0]!r}, which has no folder in '{data}'")
        self.data = data
        self.names: Mapping[int, str] = dict(enumerate(sorted(chosen), start=1))
        self._numbers = {name: number for number, name in self.names.items()}

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        pairs = []
        for number, name in self.names.items():
            stems = (path.stem for path in (self.data / name).glob("*.png") if path.with_suffix(".jpg").is_file())
            pairs += [(f"{name}/{stem}", number) for stem in sorted(stems, key=lambda stem: (len(stem), stem))]
        return pairs

    def image(self, photo: str) -> NDArray[np.uint8]:
        return read_image(self.data / f"{photo}.jpg")

    def labels(self, photo: str) -> NDArray[np.uint16]:
        mask = read_mask(self.data / f"{photo}.png", size=self.image(photo).shape[:2])
        return mask * np.uint16(self._numbers[photo.rpartition("/")[0]])


def _read_names(path: Path) -> set[str]:
    try:
        names = {line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
    except UnicodeDecodeError:
        raise ValueError(f"'{path}' is not UTF-8 text; give a list of class names, one a line") from None
    if not names:
        raise ValueError(f"'{path}' names no class; give a list of class names, one a line")
    return names
