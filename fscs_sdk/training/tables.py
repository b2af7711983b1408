"""The paper's tables on VOC-animals, from the heads of ``comparison`` and any others of a folder.

A head is the file ``<method>-fold<k>.safetensors``. Every method, fold and question is measured once, in a folder of
its own that an interrupted run goes on from, and the tables are views of those numbers. A cell whose head is not there
stays empty.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscs_sdk.evaluation import benchmark
from fscs_sdk.evaluation.benchmark import Settings
from fscs_sdk.evaluation.datasets import BENCHMARKS
from fscs_sdk.evaluation.results import Result
from fscs_sdk.evaluation.training_free import SIMILARITIES
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.training.comparison import FOLDS

logger = logging.getLogger(__name__)

BENCHMARK = BENCHMARKS["voc-animals"]
DELTAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
#: What every method is asked at, whatever its file names: the paper's.
DELTA = 0.5
EMPTY = "-"

ONE_WAY = Settings(thresholds=DELTAS, minimum_photos=BENCHMARK.minimum_photos)
TWO_WAY = Settings(ways=2, thresholds=(DELTA,), minimum_photos=BENCHMARK.minimum_photos)
#: A fold has three classes with enough photos.
THREE_WAY = Settings(ways=3, thresholds=(DELTA,), minimum_photos=BENCHMARK.minimum_photos)
FIVE_SHOT = Settings(shots=5, thresholds=(DELTA,), minimum_photos=BENCHMARK.minimum_photos)
WEAK = dataclasses.replace(ONE_WAY, weak=True, thresholds=(DELTA,))
CONVENTIONAL = Settings(task="fs-s", minimum_photos=BENCHMARK.minimum_photos)
#: The training-free baselines' numbers come with this method's, on its backbone and adapter, for these questions.
WITH_BASELINES, THEIR_QUESTIONS = "asnet", (ONE_WAY, TWO_WAY, FIVE_SHOT)


@dataclass(frozen=True)
class Row:
    """A method's answers to one question on all folds. ``delta``: of eq. 2, None where the task has none."""

    label: str
    method: str
    settings: Settings
    delta: float | None = DELTA


@dataclass(frozen=True)
class Table:
    """``source``: what it answers in the paper."""

    title: str
    source: str
    rows: tuple[Row, ...]


def _methods(settings: Settings, *methods: str) -> tuple[Row, ...]:
    return tuple(Row(method, method, settings, DELTA if settings.task == "fs-cs" else None) for method in methods)


_LEARNED = ("asnet", "hsnet", "pfenet", "panet")
_TRAINING_FREE = tuple(f"{name}{added}" for added in ("", " + adapter") for name in SIMILARITIES)
_MAIN = (*_LEARNED, *_TRAINING_FREE, "asnet-mini", "asnet-base")
TABLES: Mapping[str, Table] = {
    "1-way-1-shot": Table("1-way 1-shot", "tables 1 and a.10", _methods(ONE_WAY, *_MAIN)),
    "2-way-1-shot": Table("2-way 1-shot", "tables 1 and a.10", _methods(TWO_WAY, *_MAIN)),
    "1-way-5-shot": Table("1-way 5-shot", "table a.10", _methods(FIVE_SHOT, *_MAIN)),
    "ways": Table(
        "N ways, 1 shot",
        "table a.13",
        tuple(
            Row(f"{method}, N = {settings.ways}", method, settings)
            for method in ("asnet", "asnet-mini")
            for settings in (ONE_WAY, TWO_WAY, THREE_WAY)
        ),
    ),
    "layer": Table(
        "Ablations of the attentive squeeze layer, 1-way 1-shot",
        "table 5",
        _methods(ONE_WAY, "asnet", "asnet-local", "asnet-unmasked", "asnet-unfused"),
    ),
    "losses": Table(
        "Classification loss (eq. 6), segmentation loss (eq. 7) and both, 1-way 1-shot",
        "table a.7",
        (
            Row("classification", "asnet-classification", ONE_WAY),
            Row("segmentation", "asnet", ONE_WAY),
            Row("both", "asnet-both", ONE_WAY),
        ),
    ),
    "tasks": Table(
        "Trained for FS-S against FS-CS",
        "figure 5",
        tuple(
            Row(f"{label}, asked {settings.task.upper()}, N = {settings.ways}", method, settings, delta)
            for settings, delta in ((ONE_WAY, DELTA), (TWO_WAY, DELTA), (THREE_WAY, DELTA), (CONVENTIONAL, None))
            for label, method in (("FS-CS", "asnet"), ("FS-S", "asnet-fs-s"))
        ),
    ),
    "thresholds": Table(
        "The threshold delta of eq. 2, 1-way 1-shot",
        "figure a.7",
        tuple(
            Row(f"{method}, delta {delta:g}", method, ONE_WAY, delta)
            for method in ("asnet", "asnet-base")
            for delta in DELTAS
        ),
    ),
    "tags": Table(
        "Supports without masks (class tags), 1-way 1-shot", "section 6.3", _methods(WEAK, "asnet-mini", "asnet-base")
    ),
}


@dataclass(frozen=True)
class Measurements:
    """Measures on demand and keeps everything.

    Attributes:
        heads: the folder of the heads.
        data: VOC-animals.
        out: gets a folder for each method and fold.
        episodes: of each fold.
        dtype: as for ``FewShotSegmenter.from_pretrained``.
    """

    heads: Path
    data: Path
    out: Path
    episodes: int
    dtype: str = "float32"

    def row(self, row: Row) -> list[Result | None]:
        """A row's results, fold by fold; None without a head.

        Raises:
            ValueError, OSError: as :func:`fscs_sdk.evaluation.benchmark.evaluate`.
        """
        found: list[Result | None] = []
        for fold in FOLDS:
            measured = self._measure(WITH_BASELINES if row.method in _TRAINING_FREE else row.method, fold, row.settings)
            matching = [one for one in measured if one.method == row.method and one.threshold in (row.delta, None)]
            found.append(matching[0] if matching else None)
        return found

    def _measure(self, method: str, fold: int, settings: Settings) -> list[Result]:
        head = self.heads / f"{method}-fold{fold}.safetensors"
        if not head.is_file():
            return []
        baselines = method == WITH_BASELINES and settings in THEIR_QUESTIONS
        settings = dataclasses.replace(settings, episodes=self.episodes)
        dataset = BENCHMARK.open(self.data, None)
        segmenters = {method: FewShotSegmenter.from_pretrained(head, dtype=self.dtype, edges=False)}
        folds = (fold,)
        recorded = benchmark.describe(
            segmenters, dataset, settings, benchmark="voc-animals", folds=folds, baselines=baselines
        )
        question = f"{settings.task}-{settings.ways}-way-{settings.shots}-shot{'-tags' if settings.weak else ''}"
        logger.info("%s, fold %d, %s", method, fold, question)
        return benchmark.evaluate(
            segmenters,
            dataset,
            settings,
            folds=folds,
            baselines=baselines,
            recorded=recorded,
            out=self.out / head.stem / question,
        )


def to_markdown(table: Table, rows: Sequence[Sequence[Result | None]]) -> str:
    """A table: of each fold ER and mIoU in percent with their 95 % intervals, and their means over the folds."""
    columns = [f"{number} fold {fold}" for fold in FOLDS for number in ("ER", "mIoU")]
    lines = [f"### {table.title}", "", f"In the paper: {table.source}.", ""]
    lines += ["| | " + " | ".join([*columns, "mean ER", "mean mIoU"]) + " |", "|---" * (len(columns) + 3) + "|"]
    for row, results in zip(table.rows, rows, strict=True):
        lines.append(f"| {row.label} | " + " | ".join(_cells(results)) + " |")
    return "\n".join(lines) + "\n"


def to_dict(table: Table, rows: Sequence[Sequence[Result | None]]) -> dict[str, Any]:
    """What :func:`to_markdown` shows and all that it rounds or leaves out, ready for JSON; None stands for no head."""
    return {
        "title": table.title,
        "in_the_paper": table.source,
        "rows": [
            {"label": row.label, "folds": [None if result is None else result.to_dict() for result in results]}
            for row, results in zip(table.rows, rows, strict=True)
        ],
    }


def _cells(results: Sequence[Result | None]) -> list[str]:
    cells = []
    for result in results:
        if result is None:
            cells += [EMPTY, EMPTY]
            continue
        summary, interval = result.summary, result.interval
        presence = _with_interval(summary.exact_ratio, interval.exact_ratio)
        cells += [EMPTY if result.task == "fs-s" else presence, _with_interval(summary.mean_iou, interval.mean_iou)]
    there = [result for result in results if result is not None]
    if len(there) < len(results):
        return [*cells, EMPTY, EMPTY]
    exact = sum(result.summary.exact_ratio for result in there) / len(there)
    mean_iou = sum(result.summary.mean_iou for result in there) / len(there)
    return [*cells, EMPTY if there[0].task == "fs-s" else f"{exact:.1f}", f"{mean_iou:.1f}"]


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.1f} ({interval[0]:.0f}-{interval[1]:.0f})"
