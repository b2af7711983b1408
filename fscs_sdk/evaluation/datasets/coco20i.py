"""COCO-20i: fold i measures classes i + 1, i + 5, ..., i + 77 of COCO 2014.

The layout is COCO's own: ``train2014/``, ``val2014/`` and ``annotations/instances_{train,val}2014.json``. Class n is
the n-th category by COCO's id, so classes are 1 to 80. A photo is named by its file, without ``.jpg``.

The lists come from a folder (``<photo> <class>`` a line; a folder before the photo's name is dropped) or are derived:
``val`` takes val2014 and ``trn`` train2014; photos in the order of COCO's image ids, each listed once, in ascending
order, for every class of the fold with at least one annotation that is not a crowd.

A label map is drawn from the annotations, large areas first, so that small objects lie on top. What only a crowd
covers is unknown, because a crowd's outline holds more than its class.
"""

import contextlib
import io
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.datasets.labels import UNKNOWN
from fscs_sdk.evaluation.datasets.lists import SplitLists
from fscs_sdk.images import read_image

_PHOTO = re.compile(r"COCO_(train2014|val2014)_([0-9]{12})")
_FOLDS = 4


class Coco20i:
    """COCO 2014; see the module. Each of the two JSON files is read when a photo or a list first needs it."""

    def __init__(self, data: Path, splits: Path | None = None) -> None:
        """Find the folders; nothing large is read.

        Args:
            data: holds ``annotations``, ``val2014`` and perhaps ``train2014``.
            splits: the folder of the lists; None derives them.

        Raises:
            FileNotFoundError: a folder or file is not there.
        """
        for name in ("val2014", "annotations/instances_val2014.json"):
            if not (data / name).exists():
                raise FileNotFoundError(f"'{data}' has no {name}; give the folder of COCO 2014, with annotations/")
        self.data = data
        self._lists = None if splits is None else SplitLists.find(splits)

    @property
    def names(self) -> Mapping[int, str]:
        return self._val.names

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(range(_FOLDS)) if self._lists is None else self._lists.folds

    @property
    def has_training_lists(self) -> bool:
        if self._lists is not None:
            return self._lists.has_training_lists
        return (self.data / "annotations" / "instances_train2014.json").is_file()

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        if self._lists is not None:
            return [(photo.rpartition("/")[2], number) for photo, number in self._lists.pairs(which, fold)]
        pairs = (self._val if which == "val" else self._train).pairs()
        return [(photo, number) for photo, number in pairs if (number - 1) % _FOLDS == fold]

    def image(self, photo: str) -> NDArray[np.uint8]:
        return read_image(self.data / _parts(photo)[0] / f"{photo}.jpg")

    def labels(self, photo: str) -> NDArray[np.uint16]:
        half, number = _parts(photo)
        return (self._val if half == "val2014" else self._train).labels(number)

    @cached_property
    def _val(self) -> "Instances":
        return Instances(self.data / "annotations" / "instances_val2014.json")

    @cached_property
    def _train(self) -> "Instances":
        return Instances(self.data / "annotations" / "instances_train2014.json")


class Instances:
    """One file of COCO's instance annotations."""

    def __init__(self, path: Path) -> None:
        """Read it, which takes a while and much memory.

        Raises:
            ImportError: pycocotools is not there.
            ValueError: the file is not COCO's.
            OSError: it cannot be read.
        """
        try:
            from pycocotools.coco import COCO
        except ImportError:
            raise ImportError(
                "COCO-20i needs pycocotools; install it with: pip install 'fscs-sdk[evaluation]'"
            ) from None
        self.path = path
        self._coco = COCO()
        try:
            self._coco.dataset = json.loads(path.read_bytes())
            with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
                self._coco.createIndex()
            categories = [self._coco.cats[number] for number in sorted(self._coco.cats)]
            self.names = {number: str(category["name"]) for number, category in enumerate(categories, start=1)}
            self._class_of = {category["id"]: number for number, category in enumerate(categories, start=1)}
            self._images = {int(number): str(image["file_name"]) for number, image in self._coco.imgs.items()}
            if not self._images or not self.names:
                raise ValueError("it lists no image or no category")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from error

    def pairs(self) -> list[tuple[str, int]]:
        """(photo, class) for every class of every photo, crowds aside."""
        try:
            found = {
                (annotation["image_id"], self._class_of[annotation["category_id"]])
                for annotation in self._coco.anns.values()
                if not annotation["iscrowd"]
            }
            return [(Path(self._images[image]).stem, number) for image, number in sorted(found)]
        except (KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def labels(self, image: int) -> NDArray[np.uint16]:
        """The label map (H, W) of a photo by COCO's id."""
        if image not in self._coco.imgs:
            raise ValueError(f"'{self.path}' has no image {image}; check the list that names it")
        try:
            size = self._coco.imgs[image]["height"], self._coco.imgs[image]["width"]
            labels = np.zeros(size, np.uint16)
            for annotation in sorted(self._coco.imgToAnns[image], key=_drawn_first):
                number = UNKNOWN if annotation["iscrowd"] else self._class_of[annotation["category_id"]]
                labels[self._coco.annToMask(annotation) > 0] = number
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._damaged(error) from error
        return labels

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"'{self.path}' is not COCO's file of instances or is damaged ({error!r}); get it again")


def _drawn_first(annotation: Mapping[str, Any]) -> tuple[bool, float, int]:
    """Crowds lie under everything; then large areas come first, and of equal ones the lower id."""
    return not annotation["iscrowd"], -annotation["area"], annotation["id"]


def _parts(photo: str) -> tuple[str, int]:
    match = _PHOTO.fullmatch(photo)
    if match is None:
        raise ValueError(f"{photo!r} is no photo of COCO 2014, such as COCO_val2014_000000000042; check the list")
    return match[1], int(match[2])
