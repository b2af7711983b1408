"""Any folder with ``images/``, ``masks/`` and ``classes.json``, and perhaps ``splits/``.

``images/<photo>.jpg`` (or another ending) goes with ``masks/<photo>.png``, a label map; both may have subfolders.
``classes.json`` maps class ids to names: ``{"1": "cat", "2": "chair"}``. With lists in ``splits/`` there are folds.
Without, there are none, and the list is derived: the masks in the order of their paths, each listed once for every
class that has a pixel in it, in ascending order.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.datasets.labels import UNKNOWN, classes_in, read_labels
from fscs_sdk.evaluation.datasets.lists import SplitLists
from fscs_sdk.images import read_image

_ENDINGS = tuple(case for end in (".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp") for case in (end, end.upper()))


class LabelFolder:
    """Photos, label maps and names of a folder; see the module."""

    def __init__(self, data: Path, splits: Path | None = None) -> None:
        """Read the names and find the lists; no photo is opened.

        Args:
            splits: the folder of the lists, where it is not ``data/splits``.

        Raises:
            ValueError: ``classes.json`` is malformed.
            OSError: it or a given folder of lists is not there.
        """
        self.data = data
        self.names: Mapping[int, str] = read_class_names(data / "classes.json")
        given = data / "splits" if splits is None and (data / "splits").is_dir() else splits
        self._lists = None if given is None else SplitLists.find(given)

    @property
    def folds(self) -> tuple[int, ...]:
        return () if self._lists is None else self._lists.folds

    @property
    def has_training_lists(self) -> bool:
        return self._lists is not None and self._lists.has_training_lists

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        if self._lists is not None:
            return self._lists.pairs(which, fold)
        return self._derived()

    def image(self, photo: str) -> NDArray[np.uint8]:
        paths = [self.data / "images" / f"{photo}{ending}" for ending in _ENDINGS]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"there is no photo '{paths[0]}', nor one with another ending; check the list")
        return read_image(found)

    def labels(self, photo: str) -> NDArray[np.uint16]:
        return read_labels(self.data / "masks" / f"{photo}.png")

    def _derived(self) -> list[tuple[str, int]]:
        folder = self.data / "masks"
        pairs = []
        for path in sorted(folder.rglob("*.png")):
            photo = path.relative_to(folder).with_suffix("").as_posix()
            for number in classes_in(self.labels(photo)):
                if number not in self.names:
                    raise ValueError(f"'{path}' holds the class {number}, which classes.json does not name; add it")
                pairs.append((photo, number))
        if not pairs:
            raise ValueError(f"'{folder}' holds no .png with a class in it; put the label maps there")
        return pairs


def read_class_names(path: Path) -> dict[int, str]:
    """Class id -> name from JSON such as ``{"1": "cat", "2": "chair"}``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not that, an id is not between 1 and 65534, or two names are the same.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"'{path.parent}' has no classes.json: give a folder with images, masks and it"
        ) from None
    try:
        names = {int(number): str(name) for number, name in dict(json.loads(text)).items()}
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"""'{path}' is not a JSON object of class ids and names, such as {{"1": "cat"}}""") from None
    if not names or not all(1 <= number < UNKNOWN for number in names) or len(set(names.values())) != len(names):
        raise ValueError(f"'{path}' must give ids from 1 to {UNKNOWN - 1} different names, and at least one")
    return names
