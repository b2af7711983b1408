"""The paper's comparisons: equal terms for every run, and tables that say what was measured."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX
from fscs_sdk.evaluation.benchmark import Settings
from fscs_sdk.evaluation.metrics import Metrics
from fscs_sdk.evaluation.results import Result
from fscs_sdk.model.heads import HEADS
from fscs_sdk.training import comparison
from fscs_sdk.training.__main__ import main
from fscs_sdk.training.comparison import FOLDS, RECIPE, RUNS, Comparison
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.tables import TABLES, Row, Table, to_markdown
from training_stub import write_photo

NAMES = {**{number: f"class{number}" for number in range(1, 21)}, 3: "bird", 8: "cat", 12: "dog", 18: "sofa"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of birds and sofas to learn from, and eight cats and dogs to be asked for."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"val/fold1": [], "val/fold2": [], "trn/fold1": [], "trn/fold2": []}
    for number, count, fold in ((3, 3, None), (18, 3, None), (8, 8, 1), (12, 8, 2)):
        for index in range(count):
            key = f"{NAMES[number]}{index}"
            write_photo(root / "voc", key, {number: (5, 40 + index)}, rng)
            for each in ("trn/fold1", "trn/fold2") if fold is None else (f"val/fold{fold}",):
                lists[each].append(f"{key} {number}")
    (root / "voc" / "classes.json").write_text(json.dumps(NAMES))
    for name, lines in lists.items():
        path = root / "voc" / "splits" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    return root


def test_runs_differ_in_what_they_compare_and_cost_the_same(data: Path, tmp_path: Path) -> None:
    common = TrainConfig.load(RECIPE)
    for fold in FOLDS:
        for name, changes in RUNS.items():
            settings = Comparison(tmp_path, data).settings(name, fold)
            assert set(changes) <= {"head", "loss", "task", "whole_share"}
            assert settings.head in HEADS
            assert (settings.steps, settings.pairs, settings.seed) == (common.steps, common.pairs, common.seed)
            assert settings == dataclasses.replace(
                common, **changes, excluded_classes=tuple(NAMES[5 * fold + offset] for offset in range(1, 6))
            )
    with pytest.raises(ValueError, match="there is no run 'segnet'"):
        Comparison(tmp_path, data).settings("segnet", 1)


def test_every_row_of_a_table_has_a_head_that_something_makes() -> None:
    made = {*RUNS, "asnet-mini", "asnet-base"}
    free = {"nearest feature", "mean prototype", "nearest feature + adapter", "mean prototype + adapter"}
    for table in TABLES.values():
        assert {row.method for row in table.rows} <= made | free
        assert len({row.label for row in table.rows}) == len(table.rows)
    assert made <= {row.method for table in TABLES.values() for row in table.rows}


def result(fold: int, *, right: int, wrong: int, task: str = "fs-cs") -> Result:
    """Of episodes that are right in all and wrong in all."""
    metrics = Metrics()
    for answer in [True] * right + [False] * wrong:
        mask = np.full((2, 2), int(answer))
        metrics.update((8,), predicted_presence=[answer], target_presence=[True], predicted_mask=mask,
                       target_mask=np.ones((2, 2), int))  # fmt: skip
    return Result(task, fold, "any", None if task == "fs-s" else 0.5, metrics.summary(), metrics.interval(), NAMES)  # type: ignore[arg-type]


def test_a_table_has_means_only_where_no_fold_is_missing() -> None:
    rows = tuple(Row(label, label, Settings()) for label in ("full", "half", "none", "conventional"))
    table = Table("Title", "table 0", rows)
    full = [result(1, right=3, wrong=1), result(2, right=1, wrong=0)]
    only_masks = [result(1, right=3, wrong=1, task="fs-s"), result(2, right=1, wrong=0, task="fs-s")]
    lines = to_markdown(table, [full, [full[0], None], [None, None], only_masks]).splitlines()
    assert lines[0] == "### Title"
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines[6:]}
    assert [cell.split(" (")[0] for cell in cells["full"]] == ["75.0", "75.0", "100.0", "100.0", "87.5", "87.5"]
    assert [cell.split(" (")[0] for cell in cells["half"]] == ["75.0", "75.0", "-", "-", "-", "-"]
    assert cells["none"] == ["-"] * 6
    assert [cell.split(" (")[0] for cell in cells["conventional"]] == ["-", "75.0", "-", "100.0", "-", "87.5"]
    assert cells["full"][2].endswith("(100-100)")


def test_from_photos_to_tables(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, runs = tmp_path / "recipe.json", tmp_path / "runs"
    small = {"sources": (("voc", 1.0),), "steps": 1, "classes": 2, "photos_per_class": 2, "pairs": 2, "held_out": 0}
    dataclasses.replace(TrainConfig.load(RECIPE), **small).save(recipe)  # type: ignore[arg-type]
    monkeypatch.setattr(comparison, "RECIPE", recipe)
    command = ["compare", str(runs), "--data", str(data), "--run", "panet", "--fold", "1", "--adapter-steps", "100"]
    for _ in range(2):  # the second time there is nothing left to do
        made = CliRunner().invoke(main, command)
        assert made.exit_code == 0, made.output
        head = load_file(runs / "heads" / "panet-fold1.safetensors")
        assert any(name.startswith(ADAPTER_PREFIX) for name in head)
    assert FewShotSegmenter.from_pretrained(runs / "heads" / "panet-fold1.safetensors").network.input_side == 288
    measure = ["tables", str(runs / "heads"), "--data", str(data / "voc"), "--out", str(tmp_path / "measured")]
    measure += ["--results", str(tmp_path / "results")]
    printed = CliRunner().invoke(main, [*measure, "--table", "1-way-1-shot", "--episodes", "2"])
    assert printed.exit_code == 0, printed.output
    (row,) = [line for line in printed.output.splitlines() if line.startswith("| panet |")]
    assert row.count(" - |") == 4
    (file,) = (tmp_path / "results").iterdir()
    report = json.loads(file.read_text())
    assert file.name == f"tables-{report['date']}.json"
    assert report["episodes"] == 2
    (recorded,) = [one for one in report["tables"]["1-way-1-shot"]["rows"] if one["label"] == "panet"]
    (first, second) = recorded["folds"]
    assert second is None  # as in the table: there is no head
    assert f"{first['exact_ratio']:.1f} (" in row
    assert f"{first['mean_iou']:.1f} (" in row
    assert (tmp_path / "measured" / "panet-fold1" / "fs-cs-1-way-1-shot" / "episodes.jsonl").is_file()
