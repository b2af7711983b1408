"""The command line as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fscs_sdk import FewShotSegmenter
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS, run_demo


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom fscs_sdk.cli import main\n"
        "out = CliRunner().invoke(main, ['--help']).output\nassert 'demo' in out and 'evaluate' in out, out\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'timm', 'cv2'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_demo_answers_and_writes_an_overlay_for_every_photo(tmp_path: Path) -> None:
    code, output = run("demo", "--out", str(tmp_path / "new" / "folder"), "--device", "cpu")
    assert code == 0, output
    for query in QUERIES:
        assert query in output
        with Image.open(tmp_path / "new" / "folder" / f"{Path(query).stem}.png") as overlay:
            assert overlay.width >= 240
    with Image.open(tmp_path / "new" / "folder" / "overview.jpg") as sheet:
        assert sheet.height > sheet.width / 2
    assert str(tmp_path) in output.replace("\n", "")
    assert "fscs app my-photos/   (pip install 'fscs-sdk[app]')" in output


def test_all_answers_of_the_demo_are_right(model: FewShotSegmenter, tmp_path: Path) -> None:
    wrong = []
    for answer in run_demo(model, tmp_path):
        if {name for name, present in answer.prediction.present.items() if present} != set(answer.truth):
            wrong.append(answer.query)
    assert not wrong


def test_demo_masks_lie_on_the_objects(model: FewShotSegmenter) -> None:
    supports = model.encode(SUPPORTS)
    for query, truth in QUERIES.items():
        for name in truth:
            with Image.open(PHOTOS / f"{Path(query).stem}_mask.png") as drawn:
                target = np.asarray(drawn) > 0
            found = model.predict(PHOTOS / query, supports).class_mask(name)
            assert (found & target).sum() > 0.7 * found.sum() > 0, query


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("demo", "--model", "asnet-huge"), "there is no model 'asnet-huge'"),
        (("demo", "--device", "quantum"), "device 'quantum' is unknown"),
    ],
)
def test_an_error_is_one_sentence_without_a_traceback(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    code, output = run(*arguments, "--out", str(tmp_path))
    assert code == 1
    assert output.startswith("fscs: ")
    assert expected in output
    assert len(output.strip().splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(main, ["--debug", "demo", "--model", "asnet-huge"])
    assert isinstance(result.exception, ValueError)


def test_an_output_folder_that_is_a_file_is_misuse(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, output = run("demo", "--out", str(blocked))
    assert code == 2
    assert "is a file" in output


def make_benchmark(folder: Path, photos_per_class: int = 10) -> None:
    """A data folder like VOC-animals: fold 1 with two classes, textured squares on a plain ground."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "splits/val", "splits/trn"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps({"8": "cat", "9": "chair"}))
    lines = []
    for number in (8, 9):
        for index in range(photos_per_class):
            photo, mask = np.full((64, 80, 3), 90, np.uint8), np.zeros((64, 80), np.uint8)
            top, left = rng.integers(0, 30, 2)
            photo[top : top + 30, left : left + 30] = (
                rng.integers(0, 255, (30, 30, 3)) if number == 8 else (250, 40, 40)
            )
            mask[top : top + 30, left : left + 30] = number
            mask[0] = 255
            Image.fromarray(photo).save(folder / "images" / f"{number}_{index}.jpg")
            Image.fromarray(mask).save(folder / "masks" / f"{number}_{index}.png")
            lines.append(f"{number}_{index} {number}")
    (folder / "splits" / "val" / "fold1.txt").write_text("\n".join(lines))
    (folder / "splits" / "trn" / "fold1.txt").write_text("\n".join(lines))


def test_evaluate_prints_the_table_and_the_same_numbers_as_json(tmp_path: Path) -> None:
    make_benchmark(tmp_path)
    arguments = ("evaluate", "--data", str(tmp_path), "--fold", "1", "--episodes", "6", "--no-baselines")
    code, table = run(*arguments)
    assert code == 0, table
    assert "asnet-mini" in table
    code, output = run(*arguments, "--json")
    (result,) = json.loads(output)
    assert result["episodes"] == 6
    assert set(result["class_iou"]) <= {"cat", "chair"}
    assert 0 <= result["exact_ratio"] <= 100
    low, high = result["interval_95"]["exact_ratio"]
    assert low <= result["exact_ratio"] <= high


def test_evaluate_says_what_is_missing(tmp_path: Path) -> None:
    code, output = run("evaluate", "--data", str(tmp_path))
    assert code == 1
    assert "classes.json" in output
