"""What was counted so far, kept in a file while an evaluation runs, so that the same command goes on where it stopped.

JSON Lines: first a line with the settings, then one for each fold whose baselines' thresholds were chosen and one for
each episode. A line is written at once; one that a kill cut short is dropped and its episode measured again.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fscs_sdk.atomic import write_atomically
from fscs_sdk.evaluation.metrics import Counts
from fscs_sdk.locks import locked_folder

JOURNAL = "episodes.jsonl"
_VERSION = 1


class Journal:
    """Counts by (fold, episode), one for each row of the table; with a file, added to it as they come."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.episodes: dict[tuple[int | None, int], list[Counts]] = {}
        self.thresholds: dict[int | None, dict[str, float]] = {}
        self._file = file

    def add_episode(self, fold: int | None, index: int, counts: Sequence[Counts]) -> None:
        """Keep what one episode gave, and write it."""
        self.episodes[fold, index] = list(counts)
        rows = [_pack(row) for row in counts]
        self._write({"fold": fold, "episode": index, "classes": list(counts[0].classes), "counts": rows})

    def add_thresholds(self, fold: int | None, thresholds: Mapping[str, float]) -> None:
        """Keep what was chosen for a fold's baselines, and write it."""
        self.thresholds[fold] = dict(thresholds)
        self._write({"fold": fold, "thresholds": self.thresholds[fold]})

    def restore(self, line: Mapping[str, Any]) -> None:
        """Keep what a line of the file says; a KeyError, TypeError or ValueError if it is not one."""
        if "thresholds" in line:
            self.thresholds[line["fold"]] = {str(name): float(value) for name, value in line["thresholds"].items()}
            return
        classes = tuple(int(number) for number in line["classes"])
        self.episodes[line["fold"], int(line["episode"])] = [_unpack(classes, row) for row in line["counts"]]

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()


@contextlib.contextmanager
def open_journal(out: Path | None, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of an output folder, which is made where it is not there and held against other runs.

    Args:
        out: None keeps the counts in memory only.
        settings: whatever the counts depend on, ready for JSON.

    Raises:
        ValueError: the folder holds an evaluation with other settings, or its journal is damaged.
        OSError: it cannot be used, or another run is writing to it.
    """
    if out is None:
        yield Journal()
        return
    out.mkdir(parents=True, exist_ok=True)
    with locked_folder(out):
        path = out / JOURNAL
        if not path.exists():
            write_atomically(path, json.dumps({"fscs_evaluation": _VERSION, "settings": settings}).encode() + b"\n")
        data = path.read_bytes()
        first, *lines = data[: data.rfind(b"\n") + 1].splitlines() or [b""]
        _check_settings(path, first, settings)
        with open(path, "r+b") as file:
            journal = Journal(file)
            for number, line in enumerate(lines, start=2):
                _restore(journal, line, path, number)
            file.truncate(data.rfind(b"\n") + 1)
            file.seek(0, 2)
            yield journal


def _restore(journal: Journal, line: bytes, path: Path, number: int) -> None:
    try:
        journal.restore(dict(json.loads(line)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise ValueError(
            f"line {number} of '{path}' is damaged; delete the line, so that its episode is measured again"
        ) from None


def _check_settings(path: Path, line: bytes, wanted: Mapping[str, Any]) -> None:
    try:
        header = dict(json.loads(line))
        version, found = header["fscs_evaluation"], dict(header["settings"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"'{path}' is not the journal of an evaluation; choose another --out") from None
    if version != _VERSION:
        raise ValueError(f"'{path}' is of another version of fscs-sdk; choose another --out")
    wanted = json.loads(json.dumps(wanted))
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"'{path.parent}' holds an evaluation with {name} {found.get(name)!r}, this one has "
                f"{wanted.get(name)!r}; give the same settings, or choose another --out"
            )


def _pack(counts: Counts) -> dict[str, list[int]]:
    return {
        "right": counts.right.astype(int).tolist(),
        "intersection": counts.intersection.astype(int).tolist(),
        "union": counts.union.astype(int).tolist(),
        "two_way_intersection": counts.two_way_intersection.astype(int).tolist(),
        "two_way_union": counts.two_way_union.astype(int).tolist(),
    }


def _unpack(classes: tuple[int, ...], row: Mapping[str, Any]) -> Counts:
    def pixels(name: str, length: int) -> Any:
        values = np.array(row[name], dtype=np.float64)
        if values.shape != (length,):
            raise ValueError(f"{name} must have {length} values")
        return values

    ways = len(classes)
    return Counts(
        classes=classes,
        right=pixels("right", ways).astype(np.bool_),
        intersection=pixels("intersection", ways),
        union=pixels("union", ways),
        two_way_intersection=pixels("two_way_intersection", 2),
        two_way_union=pixels("two_way_union", 2),
    )
