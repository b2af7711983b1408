"""Every example runs as it stands, and leaves what it says: each has its check, by its file's name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fscs_sdk import SupportSet
from fscs_sdk.demo import PHOTOS

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
WITH_ARGUMENTS = ("onnx_without_torch", "spark_folder", "dask_folder")


#: Runs an example with arguments, in an empty folder, and returns what it prints.
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(name: str, *arguments: str | Path, without: tuple[str, ...] = ()) -> str:
        """What an example prints, where the packages of ``without`` cannot be imported."""
        for package in without:
            (tmp_path / f"{package}.py").write_text(f"raise ImportError('{package} is not here')\n")
        command = [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)]
        environment = os.environ | ({"PYTHONPATH": str(tmp_path)} if without else {})
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def check_one_shot(run: Run, folder: Path) -> None:
    assert "'cat': True" in run("one_shot")
    with Image.open(folder / "one_shot.png") as overlay:
        assert overlay.mode == "RGB"


def check_five_shots_saved(run: Run, folder: Path) -> None:
    printed = run("five_shots_saved")
    assert "person_query.jpg" in printed
    assert "coffee.jpg" in printed
    supports = SupportSet.load(folder / "pets_and_people.safetensors")
    assert supports.names == ("cat", "person")
    assert supports.class_index.tolist() == [0] * 5 + [1] * 5


def check_sort_by_presence(run: Run, folder: Path) -> None:
    run("sort_by_presence")
    assert (folder / "sorted_photos" / "cat" / "cat_query.jpg").is_file()
    assert (folder / "sorted_photos" / "none" / "coffee.jpg").is_file()
    assert not (folder / "sorted_photos" / "none" / "cat_query.jpg").exists()


def check_video_frames(run: Run, folder: Path) -> None:
    assert run("video_frames").count("Prediction(") == 4
    video = cv2.VideoCapture(str(folder / "video_overlay.avi"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4


def check_folder_to_coco(run: Run, folder: Path) -> None:
    printed = run("folder_to_coco")
    assert "4 answered" in printed
    assert "cat: in 2 photos" in printed
    assert (folder / "coco" / "annotations.coco.json").is_file()


def check_failures(run: Run, folder: Path) -> None:
    pytest.importorskip("skimage", reason="the example takes photos from scikit-image")
    assert "cat: 1.00" in run("failures")
    with Image.open(folder / "failures.jpg") as sheet:
        assert sheet.size == (1200, 960)


#: Of every example but those that take arguments, which have tests of their own below.
CHECKS = {
    "failures": check_failures,
    "five_shots_saved": check_five_shots_saved,
    "folder_to_coco": check_folder_to_coco,
    "one_shot": check_one_shot,
    "sort_by_presence": check_sort_by_presence,
    "video_frames": check_video_frames,
}


@pytest.mark.parametrize(
    "example", [example for example in EXAMPLES if example.stem not in WITH_ARGUMENTS], ids=lambda path: path.stem
)
def test_an_example_runs_and_leaves_what_it_says(example: Path, run: Run, tmp_path: Path) -> None:
    CHECKS[example.stem](run, tmp_path)


def test_examples_are_short() -> None:
    assert EXAMPLES
    assert {
        example.stem: lines
        for example in EXAMPLES
        if (lines := len(example.read_text(encoding="utf-8").splitlines())) > 40
    } == {}


@pytest.mark.parametrize("photo", ["cat_query.jpg", "person_query_gray.jpg", "coffee.jpg"])
def test_an_exported_model_answers_without_torch(run, tmp_path: Path, exported, model32, photo: str) -> None:
    pytest.importorskip("onnxruntime", reason="the example runs an ONNX file")
    path, supports = exported
    printed = run("onnx_without_torch", path, PHOTOS / photo, tmp_path / "mask.png", without=("torch", "fscs_sdk"))
    prediction = model32.predict(PHOTOS / photo, supports)
    expected = [f"{name}: {'present' if there else 'absent'}" for name, there in prediction.present.items()]
    assert [line.partition(" (")[0] for line in printed.splitlines()] == expected
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == prediction.mask.shape[::-1]
        assert (np.asarray(mask) == prediction.mask).mean() > 0.9999


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("tool", ["spark", "dask"])
def test_a_folder_answered_on_a_cluster_has_the_answers_of_the_model(
    tool: str, run: Run, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    for package in {"spark": ["pyspark"], "dask": ["dask.dataframe", "distributed"]}[tool]:
        pytest.importorskip(package, reason="the example is for those who have it")
    parquet = pytest.importorskip("pyarrow.parquet", reason="the answers are Parquet")
    coco = pytest.importorskip("pycocotools.mask", reason="masks are run lengths")
    supports = model.encode({"cat": (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png")})
    supports.save(tmp_path / "cat.safetensors")
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    names = ("cat_query.jpg", "sub/coffee.jpg")
    for name in names:
        shutil.copy(PHOTOS / Path(name).name, tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    run(f"{tool}_folder", tmp_path / "photos", tmp_path / "cat.safetensors", tmp_path / "answers")

    rows = {Path(row["path"]).name: row for row in parquet.read_table(tmp_path / "answers").to_pylist()}
    assert set(rows) == {"broken.jpg", "cat_query.jpg", "coffee.jpg"}
    assert "not an image" in rows["broken.jpg"]["error"]
    for name in names:
        expected, row = model.predict(tmp_path / "photos" / name, supports), rows[Path(name).name]
        assert row["error"] == ""
        assert row["present"] == [*expected.present.values()]
        assert row["scores"] == pytest.approx([*expected.scores.values()], rel=1e-6)
        masks = json.loads(row["masks"])
        area = coco.decode(masks["cat"]).astype(bool) if masks else np.zeros(expected.mask.shape, bool)
        assert (area == expected.class_mask("cat")).all()
