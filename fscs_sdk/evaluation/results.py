"""The numbers of an evaluation as a table, as Markdown and as JSON; each task shows those that it asks for."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscs_sdk.atomic import write_atomically
from fscs_sdk.evaluation.episodes import Task
from fscs_sdk.evaluation.metrics import Interval, Summary

RESULTS_JSON, RESULTS_MARKDOWN = "results.json", "results.md"
#: Column -> the number of a summary.
_NUMBERS = {
    "ER %": "exact_ratio",
    "accuracy %": "accuracy",
    "mIoU %": "mean_iou",
    "FB-IoU %": "foreground_background_iou",
}
#: Columns with an interval in the table; JSON has them all.
_WITH_INTERVAL = ("ER %", "mIoU %")
_PRESENCE, _MASKS = ("ER %", "accuracy %"), ("mIoU %", "FB-IoU %")
#: FS-S does not ask for presence, FS-C not for masks.
_COLUMNS: Mapping[Task, tuple[str, ...]] = {"fs-cs": (*_PRESENCE, *_MASKS), "fs-s": _MASKS, "fs-c": _PRESENCE}


@dataclass(frozen=True)
class Result:
    """One row: a method on one fold.

    Attributes:
        fold: None where the data has none.
        threshold: delta of eq. 2; None is the method's own, or a task without.
        classes: names by class id.
    """

    task: Task
    fold: int | None
    method: str
    threshold: float | None
    summary: Summary
    interval: Interval
    classes: Mapping[int, str]

    @property
    def label(self) -> str:
        """The method, with its threshold where that is not its own."""
        return self.method if self.threshold is None else f"{self.method}, delta {self.threshold:g}"

    def cells(self) -> list[str]:
        """Texts under :func:`header`."""
        numbers = []
        for column in _COLUMNS[self.task]:
            name = _NUMBERS[column]
            low, high = getattr(self.interval, name)
            between = f" ({low:.1f}-{high:.1f})" if column in _WITH_INTERVAL else ""
            numbers.append(f"{getattr(self.summary, name):.1f}{between}")
        by_class = ", ".join(f"{self.classes[number]} {value:.1f}" for number, value in self._by_class().items())
        return ["all" if self.fold is None else str(self.fold), self.label, *numbers, by_class]

    def to_dict(self) -> dict[str, Any]:
        """All numbers and their intervals, ready for JSON; None is a number that does not exist."""
        names = [_NUMBERS[column] for column in _COLUMNS[self.task]]
        names += ["class_iou"] if self.task != "fs-c" else []
        names += ["class_accuracy"] if self.task != "fs-s" else []
        return {
            "fold": self.fold,
            "method": self.method,
            "threshold": self.threshold,
            "episodes": self.summary.episodes,
            **{name: self._named(getattr(self.summary, name)) for name in names},
            "interval_95": {name: self._named(getattr(self.interval, name)) for name in names},
        }

    def _by_class(self) -> Mapping[int, float]:
        return self.summary.class_accuracy if self.task == "fs-c" else self.summary.class_iou

    def _named(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self.classes[number]: self._named(of_class) for number, of_class in value.items()}
        if isinstance(value, tuple):
            return [self._named(bound) for bound in value]
        return None if math.isnan(value) else value


def header(task: Task) -> list[str]:
    """The columns of a table."""
    return ["fold", "method", *_COLUMNS[task], "accuracy by class" if task == "fs-c" else "IoU by class"]


def rows(results: Sequence[Result]) -> list[list[str]]:
    """One row for each result; with several folds also each method's mean over them."""
    table = [result.cells() for result in results]
    if len({result.fold for result in results}) > 1:
        table += [
            ["mean", label, *(f"{value:.1f}" for value in numbers.values()), ""]
            for label, numbers in means(results).items()
        ]
    return table


def means(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Method -> column -> the mean over the folds."""
    labels = dict.fromkeys(result.label for result in results)
    of_label = {label: [result for result in results if result.label == label] for label in labels}
    return {
        label: {
            column: sum(getattr(result.summary, _NUMBERS[column]) for result in folds) / len(folds)
            for column in _COLUMNS[folds[0].task]
        }
        for label, folds in of_label.items()
    }


def write_results(
    out: Path,
    results: Sequence[Result],
    *,
    title: str,
    date: str,
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> None:
    """Write ``results.json`` and ``results.md`` into a folder, each whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    report = {
        "date": date,
        "settings": settings,
        "machine": machine,
        "results": [result.to_dict() for result in results],
    }
    write_atomically(out / RESULTS_JSON, (json.dumps(report, indent=2) + "\n").encode())
    lines = [f"# {title}", "", *_markdown_table([header(results[0].task), *rows(results)])]
    lines += ["", "In brackets: 95 % bootstrap intervals over episodes.", "", f"- date: {date}"]
    lines += [f"- {name}: {_plain(value)}" for part in (settings, machine) for name, value in part.items()]
    write_atomically(out / RESULTS_MARKDOWN, ("\n".join(lines) + "\n").encode())


def _markdown_table(table: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return [lines[0], "|---" * len(table[0]) + "|", *lines[1:]]


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
