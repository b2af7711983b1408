"""Pascal-5i: fold i measures classes 5i + 1 to 5i + 5 of Pascal VOC 2012, with the masks of SBD.

The layout is VOC's own with one folder added: ``JPEGImages/<photo>.jpg`` and ``SegmentationClassAug/<photo>.png``.

The field's lists come from a folder. Without one they are derived: ``val`` takes the photos of
``ImageSets/Segmentation/val.txt`` in its order, ``trn`` all other masks in the order of their names; a photo is listed
for every class of the fold that has a pixel in its mask, in ascending order. The field's own lists leave out some
photos whose object is small, so episodes and figures differ a little between the two.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.datasets.labels import classes_in, read_labels
from fscs_sdk.evaluation.datasets.lists import SplitLists
from fscs_sdk.images import read_image

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class Pascal5i:
    """VOC 2012 with SBD's masks; see the module."""

    names: Mapping[int, str] = MappingProxyType(dict(enumerate(CLASSES, start=1)))

    def __init__(self, data: Path, splits: Path | None = None) -> None:
        """Find the folders; no photo is opened.

        Args:
            data: ``VOC2012``.
            splits: the folder of the lists; None derives them.

        Raises:
            FileNotFoundError: a folder is not there, or what the lists come from.
        """
        for name in ("JPEGImages", "SegmentationClassAug"):
            if not (data / name).is_dir():
                raise FileNotFoundError(
                    f"'{data}' has no folder {name}; give VOC2012, with the masks of SBD in SegmentationClassAug"
                )
        self.data = data
        self._lists = None if splits is None else SplitLists.find(splits)
        self._validation = data / "ImageSets" / "Segmentation" / "val.txt"
        if splits is None and not self._validation.is_file():
            raise FileNotFoundError(
                f"there is no '{self._validation}' to derive the lists from; give the folder of the lists with --splits"
            )
        self._classes_in = lru_cache(maxsize=None)(lambda photo: classes_in(self.labels(photo)))

    @property
    def folds(self) -> tuple[int, ...]:
        return (0, 1, 2, 3) if self._lists is None else self._lists.folds

    @property
    def has_training_lists(self) -> bool:
        return self._lists is None or self._lists.has_training_lists

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        if self._lists is not None:
            return self._lists.pairs(which, fold)
        classes = range(5 * (fold or 0) + 1, 5 * (fold or 0) + 6)
        photos = self._validation.read_text(encoding="utf-8", errors="replace").split()
        if which == "trn":
            masks = {path.stem for path in (self.data / "SegmentationClassAug").glob("*.png")}
            photos = sorted(masks - set(photos))
        return [(photo, number) for photo in photos for number in self._classes_in(photo) if number in classes]

    def image(self, photo: str) -> NDArray[np.uint8]:
        return read_image(self.data / "JPEGImages" / f"{photo}.jpg")

    def labels(self, photo: str) -> NDArray[np.uint16]:
        return read_labels(self.data / "SegmentationClassAug" / f"{photo}.png")
