"""What goes wrong: every answer of an evaluation judged, the episodes ranked, and the causes counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.evaluation.datasets.labels import UNKNOWN, classes_in
from fscs_sdk.evaluation.episodes import Episode
from fscs_sdk.evaluation.metrics import Counts

Cause = Literal["good", "poor mask", "missed", "rightly absent", "false alarm"]
#: A class that is there and was found has a good mask from this IoU on.
GOOD_IOU = 0.5
#: Shares of a photo that part small objects from large ones, in percent.
SIZES = (2, 10, 30)
#: Confusions that the report lists.
CONFUSIONS = 10
_THERE: tuple[Cause, ...] = ("good", "poor mask", "missed")
_AWAY: tuple[Cause, ...] = ("rightly absent", "false alarm")


@dataclass(frozen=True)
class Question:
    """One class asked of one photo, and what became of it.

    Attributes:
        asked: the class.
        shown: the classes that the query photo has, ascending.
        size: share of the query photo that the class covers, in [0, 1]; 0 where it is not there.
        support_size: the mean of the same over the class's support photos.
        cause: presence wrong: ``missed`` or ``false alarm``; right: ``rightly absent``, or by the mask's IoU.
        iou: of this episode alone; 0 where the class is neither there nor drawn.
        wrong: where presence is wrong, the share of the photo that was missed, or drawn for nothing, else 0.
    """

    asked: int
    shown: tuple[int, ...]
    size: float
    support_size: float
    cause: Cause
    iou: float
    wrong: float

    @property
    def right(self) -> bool:
        """Whether the presence is right, whatever the mask."""
        return self.cause not in ("missed", "false alarm")


_Groups = Mapping[str, Sequence[Question]]


@dataclass(frozen=True)
class Judged:
    """An episode with its questions, one for each class."""

    episode: Episode
    questions: tuple[Question, ...]

    @property
    def right(self) -> bool:
        """Whether every presence is right."""
        return all(question.right for question in self.questions)

    @property
    def iou(self) -> float | None:
        """The mean IoU of the classes that are there and were found; None where there are none."""
        found = [question.iou for question in self.questions if question.cause in ("good", "poor mask")]
        return fmean(found) if found else None


def judge(episode: Episode, counts: Counts, labels: Mapping[str, NDArray[np.uint16]]) -> Judged:
    """What became of an episode.

    Args:
        counts: one method's, at one threshold, of the task ``fs-cs``.
        labels: of the query and the supports, by photo; values of 65535 are unknown.
    """
    shown = classes_in(labels[episode.query])
    total = counts.two_way_union[0] + counts.two_way_intersection[1]
    questions = []
    for position, (number, supports) in enumerate(zip(episode.classes, episode.supports, strict=True)):
        right, union = bool(counts.right[position]), float(counts.union[position])
        iou = float(counts.intersection[position]) / union if union else 0.0
        questions.append(
            Question(
                asked=number,
                shown=shown,
                size=_share(labels[episode.query], number),
                support_size=fmean(_share(labels[photo], number) for photo in supports),
                cause=_cause(right, there=number in shown, iou=iou),
                iou=iou,
                wrong=0.0 if right or not total else union / float(total),
            )
        )
    return Judged(episode, tuple(questions))


def worst(judged: Iterable[Judged], count: int) -> list[Judged]:
    """Wrong presences first, those first that missed, or drew for nothing, most of their photo; then the lowest IoU."""
    judged = list(judged)
    wrong = sorted(
        (one for one in judged if not one.right), key=lambda one: -max(question.wrong for question in one.questions)
    )
    return (wrong + _by_iou(judged))[:count]


def typical(judged: Iterable[Judged], count: int) -> list[Judged]:
    """Those around the median IoU of the episodes whose presences are right and that have a class in them."""
    found = _by_iou(judged)
    start = max(0, (len(found) - count) // 2)
    return found[start : start + count]


def report(judged: Iterable[Judged], names: Mapping[int, str]) -> str:
    """The causes counted, as Markdown tables: by class, by the sizes of objects, and which classes were confused."""
    questions = [question for one in judged for question in one.questions]
    there = [question for question in questions if question.size]
    away = [question for question in questions if not question.size]
    tables = {
        "there, by class": _table("class", _by_class(there, names), _THERE),
        "there, by the share of the photo that they cover": _table(
            "size", _by_size(there, lambda one: one.size), _THERE
        ),
        "there, by the share of the support photo that they cover": _table(
            "support", _by_size(there, lambda one: one.support_size), _THERE
        ),
        "not there, by class": _table("class", _by_class(away, names), _AWAY),
        "not there, by the share of the support photo that they cover": _table(
            "support", _by_size(away, lambda one: one.support_size), _AWAY
        ),
        f"not there, by what the photo shows: the {CONFUSIONS} pairs with the most false alarms": _confusions(
            away, names
        ),
    }
    return "\n".join("\n".join([f"Classes that are {title}.", "", *lines, ""]) for title, lines in tables.items())


def _share(labels: NDArray[np.uint16], number: int) -> float:
    return float((labels == number).sum()) / max(1, int((labels != UNKNOWN).sum()))


def _cause(right: bool, *, there: bool, iou: float) -> Cause:
    if not right:
        return "missed" if there else "false alarm"
    if not there:
        return "rightly absent"
    return "good" if iou >= GOOD_IOU else "poor mask"


def _by_iou(judged: Iterable[Judged]) -> list[Judged]:
    """The rightly answered episodes with a class in them, the lowest IoU first."""
    found = [(one.iou, one) for one in judged if one.right and one.iou is not None]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _by_class(questions: Sequence[Question], names: Mapping[int, str]) -> _Groups:
    classes = sorted({question.asked for question in questions})
    return {names[number]: [one for one in questions if one.asked == number] for number in classes}


def _by_size(questions: Sequence[Question], size: Callable[[Question], float]) -> _Groups:
    between = [f"{low}-{high} %" for low, high in pairwise(SIZES)]
    names = [f"< {SIZES[0]} %", *between, f">= {SIZES[-1]} %"]
    groups: dict[str, list[Question]] = {name: [] for name in names}
    for question in questions:
        groups[names[sum(100 * size(question) >= bound for bound in SIZES)]].append(question)
    return groups


def _table(title: str, groups: _Groups, causes: Sequence[Cause]) -> list[str]:
    """A row for each group that has questions, and one for all."""
    rows = [_line([title, "asked", *causes]), "|---" * (len(causes) + 2) + "|"]
    for name, questions in [*groups.items(), ("all", [one for group in groups.values() for one in group])]:
        found = [question.cause for question in questions]
        if found:
            rows.append(_line([name, str(len(found)), *(_part(found.count(cause), len(found)) for cause in causes)]))
    return rows


def _confusions(away: Sequence[Question], names: Mapping[int, str]) -> list[str]:
    pairs: dict[tuple[int, tuple[int, ...]], list[Cause]] = {}
    for question in away:
        pairs.setdefault((question.asked, question.shown), []).append(question.cause)
    alarms = {pair: causes.count("false alarm") for pair, causes in pairs.items()}
    rows = [_line(["asked for", "photo shows", "asked", "false alarm"]), "|---|---|---|---|"]
    for asked, shown in sorted((pair for pair in pairs if alarms[pair]), key=lambda pair: (-alarms[pair], pair)):
        count = len(pairs[asked, shown])
        together = " + ".join(names.get(number, str(number)) for number in shown) or "no class"
        rows.append(_line([names[asked], together, str(count), _part(alarms[asked, shown], count)]))
    return rows[: CONFUSIONS + 2]


def _part(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f} %)"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
