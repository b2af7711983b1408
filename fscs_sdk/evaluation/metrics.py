"""The numbers of section 6.1 (exact ratio, accuracy, mIoU, FB-IoU), one episode at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORED = 255
"""Value of target pixels that count nowhere (VOC's border)."""


@dataclass(frozen=True)
class Summary:
    """Metrics over all episodes, in percent (0..100).

    Attributes:
        exact_ratio: 0/1 exact ratio (ER), the share of episodes with all N presences right.
        accuracy: share of right presences, averaged over the episodes.
        mean_iou: mean of ``class_iou``; NaN if that is empty.
        foreground_background_iou: FB-IoU, the mean of two pooled IoUs: all classes taken as one foreground, and
            background. One with an empty union is left out; NaN if both are.
        class_iou: per class id, intersection / union, each pooled over all episodes that ask for the class. A class
            with an empty union (never in a target nor in a prediction) has no IoU and is left out.
        class_accuracy: per class id, the share of right presences over the episodes that ask for the class.
        episodes: number of episodes.
    """

    exact_ratio: float
    accuracy: float
    mean_iou: float
    foreground_background_iou: float
    class_iou: Mapping[int, float]
    class_accuracy: Mapping[int, float]
    episodes: int


@dataclass(frozen=True)
class Interval:
    """95 % bootstrap intervals over episodes: (low, high) in percent, of each number of :class:`Summary`."""

    exact_ratio: tuple[float, float]
    accuracy: tuple[float, float]
    mean_iou: tuple[float, float]
    foreground_background_iou: tuple[float, float]
    class_iou: Mapping[int, tuple[float, float]]
    class_accuracy: Mapping[int, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Counts:
    """What one episode adds; pixel counts are float64, exact up to 2^53.

    Attributes:
        classes: the N class ids.
        right: (N,), whether each presence is right.
        intersection: (N,) pixels.
        union: (N,) pixels.
        two_way_intersection: (2,) pixels of background and of all classes taken as one foreground.
        two_way_union: (2,), likewise.
    """

    classes: tuple[int, ...]
    right: NDArray[np.bool_]
    intersection: NDArray[np.float64]
    union: NDArray[np.float64]
    two_way_intersection: NDArray[np.float64]
    two_way_union: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Table:
    """All episodes: class ids, ascending, and (episodes, classes) values, 0 where an episode does not ask."""

    classes: tuple[int, ...]
    asked: NDArray[np.float64]
    right: NDArray[np.float64]
    intersection: NDArray[np.float64]
    union: NDArray[np.float64]


class Metrics:
    """Collects episodes; the order in which they come does not change the summary."""

    def __init__(self) -> None:
        self._episodes: list[Counts] = []

    def __len__(self) -> int:
        return len(self._episodes)

    def update(
        self,
        classes: Sequence[int],
        *,
        predicted_presence: ArrayLike,
        target_presence: ArrayLike,
        predicted_mask: ArrayLike,
        target_mask: ArrayLike,
        ignore: ArrayLike | None = None,
    ) -> Counts:
        """Add one episode.

        Args:
            classes: the N different class ids; value n in the masks stands for ``classes[n - 1]``.
            predicted_presence: (N,) bool or 0/1.
            target_presence: (N,) bool or 0/1.
            predicted_mask: (H, W) integers 0..N, 0 = background.
            target_mask: (H, W) integers 0..N, 0 = background; pixels of value 255 count nowhere. To count VOC's
                border as background, as the authors' program does, set it to 0 first.
            ignore: (H, W) bool, True where pixels count nowhere, in addition to those of value 255.

        Returns:
            What was counted, which :meth:`add` takes again.

        Raises:
            ValueError: a shape, dtype or value does not fit; nothing is added then.
        """
        ways = len(classes)
        if not 1 <= ways < IGNORED or len(set(classes)) != ways:
            raise ValueError(f"classes={list(classes)} must be 1 to {IGNORED - 1} different class ids.")
        predicted_labels = _presence(predicted_presence, ways, "predicted_presence")
        target_labels = _presence(target_presence, ways, "target_presence")
        predicted = _mask(predicted_mask, "predicted_mask")
        target = _mask(target_mask, "target_mask")
        if predicted.shape != target.shape:
            raise ValueError(
                f"predicted_mask is {predicted.shape} but target_mask is {target.shape}; resize one to the other."
            )
        counted = target != IGNORED
        if ignore is not None:
            counted &= ~_ignored(ignore, target.shape)
        _check_values(predicted, ways, "predicted_mask")
        _check_values(target[target != IGNORED], ways, "target_mask")
        confusion = _confusion(predicted[counted], target[counted], ways)
        counts = _count(classes, predicted_labels == target_labels, confusion)
        self.add(counts)
        return counts

    def add(self, counts: Counts) -> None:
        """Add an episode that was counted before."""
        self._episodes.append(counts)

    def merge(self, other: "Metrics") -> None:
        """Add the episodes of another collection, such as another shard's."""
        self._episodes.extend(other._episodes)

    def summary(self) -> Summary:
        """Compute all metrics over the episodes so far.

        Raises:
            ValueError: there is no episode yet.
        """
        self._check_filled()
        table = self._table()
        class_iou = _percent(table.intersection.sum(axis=0), table.union.sum(axis=0))
        class_accuracy = _percent(table.right.sum(axis=0), table.asked.sum(axis=0))
        two_way_intersection, two_way_union = self._two_way()
        return Summary(
            exact_ratio=100 * float(np.mean(self._exact())),
            accuracy=100 * float(np.mean(self._accuracy())),
            mean_iou=float(_mean_of_known(class_iou)),
            foreground_background_iou=float(
                _mean_of_known(_percent(two_way_intersection.sum(axis=0), two_way_union.sum(axis=0)))
            ),
            class_iou={n: float(iou) for n, iou in zip(table.classes, class_iou, strict=True) if not np.isnan(iou)},
            class_accuracy={n: float(share) for n, share in zip(table.classes, class_accuracy, strict=True)},
            episodes=len(self._episodes),
        )

    def interval(self, *, samples: int = 1000, seed: int = 0) -> Interval:
        """Bootstrap over episodes: draw as many with replacement ``samples`` times, take the 2.5 and 97.5 percentiles.

        IoUs are pooled anew in each resample; resamples in which a number does not exist, such as the IoU of a class
        that they do not ask for, are left out of its percentiles.

        Raises:
            ValueError: there is no episode yet, or ``samples`` is below 1.
        """
        self._check_filled()
        if samples < 1:
            raise ValueError(f"samples={samples} must be at least 1.")
        count = len(self._episodes)
        # How often each episode was drawn, (samples, episodes): pooling a resample is then one matrix product.
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples).astype(float)
        table = self._table()
        class_iou = _percent(weights @ table.intersection, weights @ table.union)
        class_accuracy = _percent(weights @ table.right, weights @ table.asked)
        two_way_iou = _percent(*(weights @ pixels for pixels in self._two_way()))
        return Interval(
            exact_ratio=_percentiles(100 * (weights @ self._exact()) / count),
            accuracy=_percentiles(100 * (weights @ self._accuracy()) / count),
            mean_iou=_percentiles(_mean_of_known(class_iou)),
            foreground_background_iou=_percentiles(_mean_of_known(two_way_iou)),
            class_iou={
                number: _percentiles(column)
                for number, column in zip(table.classes, class_iou.T, strict=True)
                if not np.isnan(column).all()
            },
            class_accuracy={n: _percentiles(column) for n, column in zip(table.classes, class_accuracy.T, strict=True)},
        )

    def _check_filled(self) -> None:
        if not self._episodes:
            raise ValueError("There is no episode to compute metrics from; call update first.")

    def _exact(self) -> NDArray[np.float64]:
        return np.array([episode.right.all() for episode in self._episodes], dtype=np.float64)

    def _accuracy(self) -> NDArray[np.float64]:
        return np.array([episode.right.mean() for episode in self._episodes], dtype=np.float64)

    def _two_way(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(episodes, 2) intersections and unions of background and foreground."""
        return (
            np.array([episode.two_way_intersection for episode in self._episodes]),
            np.array([episode.two_way_union for episode in self._episodes]),
        )

    def _table(self) -> _Table:
        classes = tuple(sorted({number for episode in self._episodes for number in episode.classes}))
        column = {number: position for position, number in enumerate(classes)}
        asked, right, intersection, union = np.zeros((4, len(self._episodes), len(classes)))
        for row, episode in enumerate(self._episodes):
            columns = [column[number] for number in episode.classes]
            asked[row, columns] = 1
            right[row, columns] = episode.right
            intersection[row, columns] = episode.intersection
            union[row, columns] = episode.union
        return _Table(classes, asked, right, intersection, union)


def _count(classes: Sequence[int], right: NDArray[np.bool_], confusion: NDArray[np.float64]) -> Counts:
    """Counts of one episode from its (N+1, N+1) confusion matrix, rows = target, columns = predicted."""
    diagonal = np.diagonal(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - diagonal
    background, foreground, total = confusion[0, 0], confusion[1:, 1:].sum(), confusion.sum()
    return Counts(
        classes=tuple(int(number) for number in classes),
        right=right,
        intersection=diagonal[1:].copy(),
        union=union[1:],
        two_way_intersection=np.array([background, foreground]),
        two_way_union=np.array([total - foreground, total - background]),
    )


def _confusion(predicted: NDArray[Any], target: NDArray[Any], ways: int) -> NDArray[np.float64]:
    values = ways + 1
    pairs = target.astype(np.int64) * values + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=values * values).reshape(values, values).astype(np.float64)


def _percent(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """``part`` of ``whole`` in percent, NaN where the whole is empty."""
    percent = np.full_like(whole, np.nan)
    np.divide(100 * part, whole, out=percent, where=whole > 0)
    return percent


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaNs; NaN where nothing is left (np.nanmean would warn)."""
    known = (~np.isnan(values)).sum(axis=-1)
    total = np.asarray(np.nansum(values, axis=-1))
    mean = np.full_like(total, np.nan)
    np.divide(total, known, out=mean, where=known > 0)
    return mean


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of the values that are known; NaN where none is."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _presence(values: ArrayLike, ways: int, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.shape != (ways,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({ways},): one value per class.")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} is {array.tolist()}, expected only True/False or 0/1; threshold scores first.")
    return array.astype(np.bool_)


def _mask(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, expected integers of shape (H, W).")
    return array


def _ignored(values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.shape != shape or array.dtype != np.bool_:
        raise ValueError(f"ignore is {array.dtype} of shape {array.shape}, expected bool of shape {shape}.")
    return array


def _check_values(mask: NDArray[Any], ways: int, name: str) -> None:
    if mask.size and (mask.min() < 0 or mask.max() > ways):
        raise ValueError(
            f"{name} holds values {int(mask.min())}..{int(mask.max())}, expected 0 (background) to {ways}, "
            "the position of the class in classes."
        )
