"""A folder of folders, each as in :mod:`.masked_folder`: sets of photos from different trades.

Every folder with several classes is a fold, in the order of their names. Folders with a single class show it in every
photo, so that its presence could not be asked for: together they are one more fold, the last, in which the photos of
one are those without the others' classes. Class ids are numbered through all folders, names are ``<folder>/<class>``,
and a photo is named ``<folder>/<photo>``.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.datasets.labels import UNKNOWN
from fscs_sdk.evaluation.datasets.masked_folder import LabelFolder

#: Classes with fewer photos are not asked for: five shots and a query need six.
MINIMUM_PHOTOS = 8


class Domains:
    """Folders of photos, label maps and names; see the module."""

    has_training_lists = False

    def __init__(self, data: Path, splits: Path | None = None) -> None:
        """Read the names of all folders; no photo is opened.

        Args:
            splits: there are none; a value is refused.

        Raises:
            ValueError: lists are given, no folder holds photos, or a ``classes.json`` is malformed.
        """
        if splits is not None:
            raise ValueError("domains have no lists; leave out --splits")
        folders = sorted(path for path in data.iterdir() if (path / "classes.json").is_file())
        if not folders:
            raise ValueError(
                f"'{data}' holds no folder with images, masks and classes.json; give the folder above them"
            )
        self._folders = {path.name: LabelFolder(path) for path in folders}
        self._numbers: dict[str, dict[int, int]] = {}
        names: dict[int, str] = {}
        for name, folder in self._folders.items():
            self._numbers[name] = {own: len(names) + place for place, own in enumerate(sorted(folder.names), start=1)}
            names |= {self._numbers[name][own]: f"{name}/{called}" for own, called in folder.names.items()}
        self.names: Mapping[int, str] = names
        several = [(name,) for name, folder in self._folders.items() if len(folder.names) > 1]
        single = tuple(name for name, folder in self._folders.items() if len(folder.names) == 1)
        self._folds = [*several, single] if single else several

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(range(len(self._folds)))

    def folders_of(self, fold: int) -> tuple[str, ...]:
        """The names of a fold's folders."""
        return self._folds[fold]

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        found = []
        for name in self._folds[0 if fold is None else fold]:
            listed = self._folders[name].pairs(which, None)
            found += [(f"{name}/{photo}", self._numbers[name][number]) for photo, number in listed]
        return found

    def image(self, photo: str) -> NDArray[np.uint8]:
        name, _, own = photo.partition("/")
        return self._folders[name].image(own)

    def labels(self, photo: str) -> NDArray[np.uint16]:
        name, _, own = photo.partition("/")
        labels = self._folders[name].labels(own)
        moved = np.zeros(UNKNOWN + 1, dtype=np.uint16)
        moved[UNKNOWN] = UNKNOWN
        for number, everywhere in self._numbers[name].items():
            moved[number] = everywhere
        return np.asarray(moved[labels])
