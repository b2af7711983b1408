import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fscs_sdk.evaluation.metrics import Metrics


@dataclass(frozen=True)
class Case:
    classes: tuple[int, ...]
    predicted_presence: list[bool]
    target_presence: list[bool]
    predicted_mask: NDArray[Any]
    target_mask: NDArray[Any]
    ignore: NDArray[Any]


def collect(cases: list[Case]) -> Metrics:
    metrics = Metrics()
    for case in cases:
        metrics.update(
            case.classes,
            predicted_presence=case.predicted_presence,
            target_presence=case.target_presence,
            predicted_mask=case.predicted_mask,
            target_mask=case.target_mask,
            ignore=case.ignore,
        )
    return metrics


def random_case(generator: np.random.Generator, *, ways: int | None = None) -> Case:
    ways = ways or int(generator.integers(1, 4))
    shape = tuple(generator.integers(1, 6, size=2))
    target = generator.integers(0, ways + 1, shape).astype(np.uint8)
    target[generator.random(shape) < 0.1] = 255
    return Case(
        classes=tuple(int(number) for number in generator.choice(np.arange(5, 10), ways, replace=False)),
        predicted_presence=[bool(bit) for bit in generator.integers(0, 2, ways)],
        target_presence=[bool(bit) for bit in generator.integers(0, 2, ways)],
        predicted_mask=generator.integers(0, ways + 1, shape),
        target_mask=target,
        ignore=generator.random(shape) < 0.2,
    )


def slow_summary(cases: list[Case]) -> dict[str, Any]:
    """The definitions, pixel by pixel."""
    exact, accuracy = [], []
    intersection: dict[int, int] = {}
    union: dict[int, int] = {}
    rights: dict[int, list[bool]] = {}
    two_way_intersection, two_way_union = [0, 0], [0, 0]
    for case in cases:
        right = [a == b for a, b in zip(case.predicted_presence, case.target_presence, strict=True)]
        exact.append(all(right))
        accuracy.append(sum(right) / len(right))
        for number, is_right in zip(case.classes, right, strict=True):
            rights.setdefault(number, []).append(is_right)
        rows = zip(case.predicted_mask.tolist(), case.target_mask.tolist(), case.ignore.tolist(), strict=True)
        pixels = [pixel for row in rows for pixel in zip(*row, strict=True)]
        for predicted, target, ignored in pixels:
            if ignored or target == 255:
                continue
            for position, number in enumerate(case.classes, start=1):
                intersection[number] = intersection.get(number, 0) + (predicted == target == position)
                union[number] = union.get(number, 0) + (predicted == position or target == position)
            for part in (0, 1):
                two_way_intersection[part] += (predicted > 0) == (target > 0) == bool(part)
                two_way_union[part] += (predicted > 0) == bool(part) or (target > 0) == bool(part)
    class_iou = {number: 100 * intersection[number] / union[number] for number in union if union[number]}
    two_way = [100 * a / b for a, b in zip(two_way_intersection, two_way_union, strict=True) if b]
    return {
        "exact_ratio": 100 * sum(exact) / len(exact),
        "accuracy": 100 * sum(accuracy) / len(accuracy),
        "mean_iou": sum(class_iou.values()) / len(class_iou) if class_iou else math.nan,
        "foreground_background_iou": sum(two_way) / len(two_way) if two_way else math.nan,
        "class_iou": class_iou,
        "class_accuracy": {number: 100 * sum(listed) / len(listed) for number, listed in rights.items()},
        "episodes": len(cases),
    }


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_summary_equals_the_plain_definition(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    cases = [random_case(generator) for _ in range(count)]
    summary = vars(collect(cases).summary())
    expected = slow_summary(cases)
    assert list(summary["class_iou"]) == sorted(expected["class_iou"])
    assert list(summary["class_accuracy"]) == sorted(expected["class_accuracy"])
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, nan_ok=True), name


def test_known_one_way_numbers() -> None:
    metrics = Metrics()
    metrics.update(
        [7],
        predicted_presence=[True],
        target_presence=[True],
        predicted_mask=[[1, 1, 0, 0]],
        target_mask=[[1, 0, 1, 0]],
    )
    metrics.update(
        [9], predicted_presence=[1], target_presence=[0], predicted_mask=[[1, 0, 0, 0]], target_mask=[[0, 0, 0, 0]]
    )
    summary = metrics.summary()
    assert summary.exact_ratio == summary.accuracy == 50
    assert summary.class_iou == pytest.approx({7: 100 / 3, 9: 0})
    assert summary.mean_iou == pytest.approx(50 / 3)
    assert summary.class_accuracy == {7: 100, 9: 0}
    # Foreground 1 of 4 pixels, background 4 of 7.
    assert summary.foreground_background_iou == pytest.approx(100 * (1 / 4 + 4 / 7) / 2)
    assert summary.episodes == len(metrics) == 2


def test_known_two_way_numbers() -> None:
    metrics = Metrics()
    metrics.update(
        (3, 1),
        predicted_presence=[True, False],
        target_presence=[True, True],
        predicted_mask=[[1, 1, 1], [0, 0, 0]],
        target_mask=[[1, 1, 2], [2, 0, 255]],
    )
    summary = metrics.summary()
    assert (summary.exact_ratio, summary.accuracy) == (0, 50)
    assert summary.class_iou == pytest.approx({1: 0, 3: 200 / 3})
    assert list(summary.class_iou) == [1, 3]
    # As one foreground, the confused pixel is right: 3 of 4; background 1 of 2.
    assert summary.foreground_background_iou == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)


def test_iou_is_pooled_over_episodes_not_averaged() -> None:
    cases = []
    for side, value in ((10, 1), (1, 0)):  # 100 pixels right, 1 pixel wrong
        predicted = np.full((side, side), value)
        cases.append(Case((4,), [True], [True], predicted, np.ones_like(predicted), predicted > 1))
    assert collect(cases).summary().mean_iou == pytest.approx(100 * 100 / 101)


@pytest.mark.parametrize("by_value", [True, False])
def test_ignored_pixels_count_nowhere(by_value: bool) -> None:
    target, ignore = np.array([[1, 0, 0, 0]]), np.array([[False, False, True, True]])
    if by_value:
        target, ignore = np.where(ignore, 255, target), np.zeros_like(ignore)
    summary = collect([Case((4,), [True], [True], np.array([[1, 0, 1, 0]]), target, ignore)]).summary()
    assert summary.mean_iou == summary.foreground_background_iou == 100


def test_class_without_foreground_has_no_iou() -> None:
    empty = np.zeros((2, 2), dtype=np.uint8)
    nothing = Case((4,), [False], [False], empty, empty, empty > 0)
    summary = collect([nothing]).summary()
    assert summary.class_iou == {}
    assert math.isnan(summary.mean_iou)
    assert (summary.exact_ratio, summary.foreground_background_iou) == (100, 100)
    assert all(math.isnan(bound) for bound in collect([nothing]).interval().mean_iou)
    found = Case((5,), [True], [True], empty + 1, empty + 1, empty > 0)
    assert collect([nothing, found]).summary().class_iou == {5: 100}
    all_ignored = Case((4,), [False], [False], empty, empty, empty == 0)
    assert math.isnan(collect([all_ignored]).summary().foreground_background_iou)


def test_order_and_shards_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    cases = [random_case(generator) for _ in range(20)]
    whole, reversed_order = collect(cases), collect(cases[::-1])
    merged = collect(cases[:7])
    merged.merge(collect(cases[7:]))
    assert len(merged) == 20
    for other in (reversed_order, merged):
        for name, value in vars(whole.summary()).items():
            assert vars(other.summary())[name] == pytest.approx(value), name
    assert merged.interval() == whole.interval()


def test_counts_can_be_added_again() -> None:
    once, again = Metrics(), Metrics()
    for change in ({}, {"classes": [4, 7]}):
        again.add(once.update(**{**GOOD, **change}))
    assert again.summary() == once.summary()


def test_interval_equals_resampled_summaries() -> None:
    generator = np.random.default_rng(2)
    cases = [random_case(generator, ways=2) for _ in range(12)]
    samples, seed = 40, 5
    weights = np.random.default_rng(seed).multinomial(12, [1 / 12] * 12, size=samples)
    summaries = [
        collect([case for case, times in zip(cases, row, strict=True) for _ in range(times)]).summary()
        for row in weights
    ]
    interval = collect(cases).interval(samples=samples, seed=seed)
    for name in ("exact_ratio", "accuracy", "mean_iou", "foreground_background_iou"):
        expected = np.percentile([vars(summary)[name] for summary in summaries], [2.5, 97.5])
        assert vars(interval)[name] == pytest.approx(tuple(expected))
    for name in ("class_iou", "class_accuracy"):
        assert list(vars(interval)[name]) == sorted({number for case in cases for number in case.classes})
        for number, bounds in vars(interval)[name].items():
            known = [vars(summary)[name][number] for summary in summaries if number in vars(summary)[name]]
            assert bounds == pytest.approx(tuple(np.percentile(known, [2.5, 97.5])))


def test_interval_is_reproducible_and_holds_the_value() -> None:
    generator = np.random.default_rng(3)
    metrics = collect([random_case(generator, ways=1) for _ in range(200)])
    interval, summary = metrics.interval(), metrics.summary()
    assert interval == metrics.interval(seed=0) != metrics.interval(seed=1)
    assert interval.exact_ratio[0] < summary.exact_ratio < interval.exact_ratio[1]
    assert interval.mean_iou[0] < summary.mean_iou < interval.mean_iou[1]
    # A proportion of about one half over 200 episodes: 1.96 * sqrt(0.25 / 200) either side.
    assert interval.exact_ratio[1] - interval.exact_ratio[0] == pytest.approx(2 * 6.9, abs=1.5)


GOOD: dict[str, Any] = {
    "classes": [3, 4],
    "predicted_presence": [True, False],
    "target_presence": [True, False],
    "predicted_mask": [[0, 1, 2]],
    "target_mask": [[0, 1, 255]],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [3, 3]}, "different class ids"),
        ({"classes": []}, "different class ids"),
        ({"predicted_presence": [True]}, r"predicted_presence has shape \(1,\)"),
        ({"target_presence": [[True, False]]}, r"target_presence has shape \(1, 2\)"),
        ({"predicted_presence": [0.7, 0.1]}, "threshold scores"),
        ({"predicted_mask": [[0, 1]]}, "resize"),
        ({"predicted_mask": [0, 1, 2]}, r"predicted_mask is int\d+ of shape \(3,\)"),
        ({"target_mask": [[[0, 1, 2]]]}, r"target_mask is int\d+"),
        ({"predicted_mask": [[0.0, 1.0, 2.0]]}, "predicted_mask is float64"),
        ({"predicted_mask": [[0, 1, 3]]}, r"predicted_mask holds values 0\.\.3"),
        ({"predicted_mask": [[0, 1, 255]]}, "predicted_mask holds"),
        ({"target_mask": [[-1, 1, 2]]}, r"target_mask holds values -1\.\.2"),
        ({"target_mask": [[0, 3, 255]]}, r"target_mask holds values 0\.\.3"),
        ({"ignore": [[True, False]]}, r"ignore is bool of shape \(1, 2\)"),
        ({"ignore": [[0, 0, 255]]}, r"ignore is int\d+"),
    ],
)
def test_bad_input_is_refused_and_adds_nothing(change: dict[str, Any], message: str) -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match=message):
        metrics.update(**{**GOOD, **change})
    assert len(metrics) == 0
    metrics.update(**GOOD)
    assert len(metrics) == 1


def test_no_episodes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no episode"):
        Metrics().summary()
    with pytest.raises(ValueError, match="no episode"):
        Metrics().interval()


def test_interval_needs_samples() -> None:
    metrics = Metrics()
    metrics.update(**GOOD)
    with pytest.raises(ValueError, match="samples=0"):
        metrics.interval(samples=0)
