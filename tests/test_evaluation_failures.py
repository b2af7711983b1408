"""Judging, ranking and counting what goes wrong, and the pictures of it."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fscs_sdk.cli import main
from fscs_sdk.evaluation.episodes import Episode
from fscs_sdk.evaluation.failures import Judged, judge, report, typical, worst
from fscs_sdk.evaluation.metrics import Metrics
from test_cli import make_benchmark

CAT, DOG = 8, 12
NAMES = {CAT: "cat", DOG: "dog"}


def rows_of(number: int, rows: int) -> np.ndarray:
    """Labels of 10 x 10: a class in the first rows, unknown pixels in the last."""
    labels = np.zeros((10, 10), np.uint16)
    labels[:rows] = number
    labels[9] = 65535
    return labels


def judged(query: str, *, asked: int, shown: int, rows: int, drawn: int | None) -> Judged:
    """A photo with ``shown`` in its first rows, answered with as many rows of ``asked``; None: answered absent."""
    labels = {query: rows_of(shown, rows), "support": rows_of(asked, 1)}
    target = np.where(labels[query] == asked, 1, 0)
    target[9] = 255
    predicted = np.zeros((10, 10), np.int64)
    predicted[: drawn or 0] = 1
    counts = Metrics().update(
        (asked,),
        predicted_presence=[drawn is not None],
        target_presence=[bool((target == 1).any())],
        predicted_mask=predicted,
        target_mask=target,
    )
    return judge(Episode(query, shown, (asked,), (("support",),)), counts, labels)


@pytest.fixture
def episodes() -> list[Judged]:
    return [
        judged("absent", asked=DOG, shown=CAT, rows=4, drawn=None),
        judged("half", asked=CAT, shown=CAT, rows=8, drawn=4),
        judged("third", asked=CAT, shown=CAT, rows=9, drawn=3),
        judged("small miss", asked=CAT, shown=CAT, rows=1, drawn=None),
        judged("large miss", asked=CAT, shown=CAT, rows=6, drawn=None),
        judged("false alarm", asked=DOG, shown=CAT, rows=2, drawn=3),
        judged("pixel-less alarm", asked=DOG, shown=CAT, rows=2, drawn=0),
        judged("exact", asked=CAT, shown=CAT, rows=2, drawn=2),
        judged("empty", asked=CAT, shown=CAT, rows=2, drawn=0),
    ]


def test_causes_and_shares_are_of_the_known_pixels(episodes: list[Judged]) -> None:
    questions = {one.episode.query: one.questions[0] for one in episodes}
    assert {query: question.cause for query, question in questions.items()} == {
        "absent": "rightly absent",
        "half": "good",
        "third": "poor mask",
        "small miss": "missed",
        "large miss": "missed",
        "false alarm": "false alarm",
        "pixel-less alarm": "false alarm",
        "exact": "good",
        "empty": "poor mask",
    }
    assert questions["third"].iou == pytest.approx(3 / 9)
    assert questions["large miss"].size == questions["large miss"].wrong == pytest.approx(60 / 90)
    assert questions["false alarm"].wrong == pytest.approx(30 / 90)
    assert questions["false alarm"].size == questions["third"].wrong == 0
    assert questions["false alarm"].shown == (CAT,)
    assert questions["exact"].support_size == pytest.approx(10 / 90)


def test_the_worst_are_wrong_presences_and_then_poor_masks(episodes: list[Judged]) -> None:
    order = [one.episode.query for one in worst(episodes, 9)]
    assert order == ["large miss", "false alarm", "small miss", "pixel-less alarm", "empty", "third", "half", "exact"]
    assert [one.episode.query for one in worst(episodes, 2)] == order[:2]


def test_the_typical_are_around_the_median_of_what_was_found(episodes: list[Judged]) -> None:
    assert [one.episode.query for one in typical(episodes, 2)] == ["third", "half"]
    assert len(typical(episodes, 9)) == 4
    assert typical(episodes[:1], 3) == []


def test_the_report_counts_every_question_once(episodes: list[Judged]) -> None:
    lines = report(episodes, NAMES).splitlines()
    for line in (
        "| cat | 6 | 2 (33 %) | 2 (33 %) | 2 (33 %) |",
        "| dog | 3 | 1 (33 %) | 2 (67 %) |",
        "| 10-30 % | 3 | 1 (33 %) | 1 (33 %) | 1 (33 %) |",
        "| >= 30 % | 3 | 1 (33 %) | 1 (33 %) | 1 (33 %) |",
        "| dog | cat | 3 | 2 (67 %) |",
    ):
        assert lines.count(line) == 1, line
    assert lines.count("| all | 6 | 2 (33 %) | 2 (33 %) | 2 (33 %) |") == 3


def test_the_command_draws_strips_silhouettes_and_the_report(tmp_path: Path) -> None:
    make_benchmark(tmp_path / "data", photos_per_class=4)
    out = tmp_path / "out"
    arguments = ["evaluate", "--benchmark", "folder", "--data", str(tmp_path / "data"), "--no-baselines"]
    arguments += ["--episodes", "6", "--ways", "2", "--threshold", "0", "--threshold", "0.5", "--out", str(out)]
    for pictures in ("4", "2"):  # the second time replaces them
        result = CliRunner().invoke(main, [*arguments, "--pictures", pictures])
        assert result.exit_code == 0, result.output
    drawn = sorted(path.name for path in (out / "pictures" / "fold1").iterdir())
    assert [name[:8] for name in drawn] == ["silhouet", "worst-01", "worst-02"]
    with Image.open(out / "pictures" / "fold1" / drawn[1]) as strip:
        assert strip.width > 4 * 300  # two supports, truth and answer
    text = (out / "pictures" / "failures.md").read_text()
    assert "# Failures of asnet-mini" in text
    # At the first threshold, 0, both classes are always answered present, and one of them is never there.
    assert "| all | 6 | 0 (0 %) | 6 (100 %) |" in text


def test_pictures_need_a_folder_and_the_whole_task(tmp_path: Path) -> None:
    make_benchmark(tmp_path, photos_per_class=4)
    arguments = ["evaluate", "--benchmark", "folder", "--data", str(tmp_path), "--pictures", "1"]
    assert "--pictures needs --out" in CliRunner().invoke(main, arguments).output
    result = CliRunner().invoke(main, [*arguments, "--task", "fs-s", "--out", str(tmp_path / "out")])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "fs-s does not both ask for" in result.output
