"""What an evaluation asks of its data, whatever the layout on the disk."""

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

List = Literal["val", "trn"]
"""``val`` is measured on; ``trn``, where it is there, has photos of the same classes that other folds may train on."""


class Dataset(Protocol):
    """Photos, their label maps, and lists of (photo, class) pairs; a photo is named by a text."""

    @property
    def names(self) -> Mapping[int, str]:
        """Class id, from 1 -> its name; no two are the same."""

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that there are lists of, ascending; empty where the data has no folds (``fold`` is None then)."""

    @property
    def has_training_lists(self) -> bool:
        """Whether there are ``trn`` lists."""

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        """The list of a fold, in the order that episodes depend on.

        Raises:
            ValueError: the list is malformed. OSError: it, or what it is derived from, cannot be read.
        """

    def image(self, photo: str) -> NDArray[np.uint8]:
        """The photo, RGB (H, W, 3).

        Raises:
            ValueError: it cannot be decoded. OSError: it cannot be read.
        """

    def labels(self, photo: str) -> NDArray[np.uint16]:
        """Class ids (H, W): 0 is background, :data:`~.labels.UNKNOWN` where nobody knows.

        Raises:
            ValueError: they cannot be decoded. OSError: they cannot be read.
        """
