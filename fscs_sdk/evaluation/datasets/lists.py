"""A folder of split lists: ``val/fold<k>.txt`` and, where there are training photos, ``trn/fold<k>.txt``."""

import re
from dataclasses import dataclass
from pathlib import Path

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.episodes import read_split

_NAME = re.compile(r"fold([0-9]{1,3})\.txt")


@dataclass(frozen=True)
class SplitLists:
    """The lists of a folder.

    Attributes:
        folder: holds ``val`` and perhaps ``trn``; both list the classes of fold k under ``fold<k>.txt``.
        folds: those with a ``val`` list, ascending.
    """

    folder: Path
    folds: tuple[int, ...]

    @classmethod
    def find(cls, folder: Path) -> "SplitLists":
        """The lists that a folder holds.

        Raises:
            FileNotFoundError: it holds none.
        """
        found = [_NAME.fullmatch(path.name) for path in folder.glob("val/*.txt")]
        folds = tuple(sorted(int(match[1]) for match in found if match is not None))
        if not folds:
            raise FileNotFoundError(f"'{folder}' has no val/fold<k>.txt; give the folder of the split lists")
        return cls(folder, folds)

    @property
    def has_training_lists(self) -> bool:
        return (self.folder / "trn").is_dir()

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        """A list, as :func:`~fscs_sdk.evaluation.episodes.read_split` reads it."""
        return read_split(self.folder / which / f"fold{fold}.txt")
