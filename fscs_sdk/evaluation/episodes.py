"""Split lists and the evaluation episodes drawn from them, the same ones that the authors' program draws."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

Task = Literal["fs-cs", "fs-s", "fs-c"]
"""What is asked of a query (sections 3 and 6.2 of the paper): which classes are there and where (``fs-cs``); where
they are, given that all are there (``fs-s``); which one of them is there, given that one is (``fs-c``)."""

_LINE = re.compile(r"(?P<photo>\S+)(?:\s+|__)(?P<number>[0-9]{1,9})")
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Episode:
    """One N-way K-shot task, as names only.

    Attributes:
        query: id of the query photo.
        query_class: the class that the query is listed with; it need not be among ``classes``.
        classes: the N support class ids, in the order drawn.
        supports: for each of the N classes its K photo ids, distinct and never the query.
    """

    query: str
    query_class: int
    classes: tuple[int, ...]
    supports: tuple[tuple[str, ...], ...]


class EpisodeSampler:
    """Episodes from a split list; for ``fs-cs`` by the rule of section 6.1 as the authors' program implements it.

    For ``fs-s`` and ``fs-c`` one of the N classes is the query's listed class. The others are drawn, all equally
    probable, from the classes that the list has for the query's photo too (``fs-s``) or has not (``fs-c``), and the N
    are shuffled. Only pairs that leave enough classes to draw from are queries. (The paper says no more than this, in
    its footnote 2; the authors' own episodes for these two tasks may be others.)

    An episode depends on its index and the list alone, so shards of indices can be evaluated anywhere, in any order.
    """

    def __init__(self, pairs: Sequence[tuple[str, int]], *, ways: int, shots: int, task: Task = "fs-cs") -> None:
        """Check once that every episode can be drawn.

        Args:
            pairs: (photo id, class id) in the order of the split file, as from :func:`read_split`.
            ways: N, support classes per episode.
            shots: K, support photos per class.
            task: decides which classes are asked for.

        Raises:
            ValueError: ``ways`` or ``shots`` below 1, fewer classes than ``ways``, no photo that ``task`` could ask
                for, or a class without K + 1 photos (K supports beside a query of the same class).
        """
        if ways < 1 or shots < 1:
            raise ValueError(f"ways={ways} and shots={shots} were asked for, both must be at least 1.")
        photos: dict[int, list[str]] = {}
        shown: dict[str, set[int]] = {}
        for photo, number in pairs:
            photos.setdefault(number, []).append(photo)
            shown.setdefault(photo, set()).add(number)
        if len(photos) < ways:
            raise ValueError(f"The list has {len(photos)} classes, too few for ways={ways}; use fewer ways.")
        for number, listed in sorted(photos.items()):
            if len(set(listed)) <= shots:
                raise ValueError(
                    f"Class {number} has {len(set(listed))} photos, too few for shots={shots}, which takes "
                    f"{shots + 1} with the query; use fewer shots, or leave out classes with fewer photos."
                )
        self.ways = ways
        self.shots = shots
        self.task = task
        self._classes = tuple(sorted(photos))
        self._photos = photos
        self._shown = shown
        self._queries = tuple(pair for pair in pairs if len(self._others(*pair)) >= ways - 1)
        if not self._queries:
            kind = "with" if task == "fs-s" else "with one and without the others of"
            raise ValueError(f"The list has no photo {kind} {ways} classes, which {task} asks for; use fewer ways.")

    def episode(self, index: int) -> Episode:
        """Draw episode ``index``; the query is photo ``index`` modulo the number of queries.

        Raises:
            ValueError: ``index`` is outside 0..2^32 - 1 (it is the seed).
        """
        if not 0 <= index <= _LARGEST_SEED:
            raise ValueError(f"Episode index {index} must lie in 0..{_LARGEST_SEED}, because it is the random seed.")
        query, query_class = self._queries[index % len(self._queries)]
        # A local legacy generator gives the stream of np.random.seed(index) without touching the global one.
        state = np.random.RandomState(index)
        classes = self._draw_classes(state, query, query_class)
        supports = tuple(self._draw_photos(state, number, query) for number in classes)
        return Episode(query, query_class, classes, supports)

    def _others(self, query: str, query_class: int) -> list[int]:
        """The classes that may be asked for beside the query's listed one."""
        others = [number for number in self._classes if number != query_class]
        if self.task == "fs-cs":
            return others
        return [number for number in others if (number in self._shown[query]) == (self.task == "fs-s")]

    def _draw_classes(self, state: np.random.RandomState, query: str, query_class: int) -> tuple[int, ...]:
        if self.task == "fs-cs":
            drawn = state.choice(len(self._classes), self.ways, replace=False, p=self._probabilities(query_class))
            return tuple(self._classes[position] for position in drawn)
        others = state.choice(self._others(query, query_class), self.ways - 1, replace=False) if self.ways > 1 else ()
        return tuple(int(number) for number in state.permutation([query_class, *others]))

    def _probabilities(self, query_class: int) -> list[float]:
        others = len(self._classes) - 1
        if others == 0:
            return [1.0]
        return [0.5 if number == query_class else 0.5 / others for number in self._classes]

    def _draw_photos(self, state: np.random.RandomState, number: int, query: str) -> tuple[str, ...]:
        listed = self._photos[number]
        chosen: list[str] = []
        while len(chosen) < self.shots:
            # replace=False is what the authors' stream needs: it shuffles the whole list to take one photo.
            photo = listed[state.choice(len(listed), 1, replace=False)[0]]
            if photo != query and photo not in chosen:
                chosen.append(photo)
        return tuple(chosen)


def read_split(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """Read a split list: one ``<photo id> <class>`` or ``<photo id>__<class>`` per line, classes from 1.

    Leading zeros of the class are dropped, blank lines skipped; the order is kept, because episodes depend on it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8 text, lists nothing, or a line is malformed; the message names file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not UTF-8 text; give a split list in plain text.") from error
    pairs: list[tuple[str, int]] = []
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or int(match["number"]) == 0:
            raise ValueError(
                f"{os.fspath(path)}, line {line_number}: {line.strip()[:80]!r} must be "
                "'<photo id> <class>' or '<photo id>__<class>' with a class number from 1 up."
            )
        pairs.append((match["photo"], int(match["number"])))
    if not pairs:
        raise ValueError(f"{os.fspath(path)} lists no photo; give a split list with one photo and class per line.")
    return pairs


def well_filled(pairs: Sequence[tuple[str, int]], *, minimum: int = 8) -> list[tuple[str, int]]:
    """Keep the pairs, in order, of classes with at least ``minimum`` different photos in the list."""
    photos: dict[int, set[str]] = {}
    for photo, number in pairs:
        photos.setdefault(number, set()).add(photo)
    return [(photo, number) for photo, number in pairs if len(photos[number]) >= minimum]


def is_held_out(photo: str, one_in: int) -> bool:
    """Whether a photo is kept from training, one in so many (0 = none): decided by a hash of its id alone."""
    return one_in > 0 and int(sha256(photo.encode()).hexdigest(), 16) % one_in == 0
