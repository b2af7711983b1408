"""Every example runs as it stands, and leaves what it says."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fscs_sdk import SupportSet
from fscs_sdk.demo import PHOTOS

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def run(tmp_path: Path):
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


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_test(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 40
    assert f'run("{example.stem}"' in Path(__file__).read_text(encoding="utf-8")


def test_one_shot(run, tmp_path: Path) -> None:
    assert "'cat': True" in run("one_shot")
    with Image.open(tmp_path / "one_shot.png") as overlay:
        assert overlay.mode == "RGB"


def test_five_shots_are_saved(run, tmp_path: Path) -> None:
    printed = run("five_shots_saved")
    assert "person_query.jpg" in printed
    assert "coffee.jpg" in printed
    supports = SupportSet.load(tmp_path / "pets_and_people.safetensors")
    assert supports.names == ("cat", "person")
    assert supports.class_index.tolist() == [0] * 5 + [1] * 5


def test_photos_are_sorted(run, tmp_path: Path) -> None:
    run("sort_by_presence")
    folder = tmp_path / "sorted_photos"
    assert (folder / "cat" / "cat_query.jpg").is_file()
    assert (folder / "none" / "coffee.jpg").is_file()
    assert not (folder / "none" / "cat_query.jpg").exists()


def test_every_frame_is_answered(run, tmp_path: Path) -> None:
    assert run("video_frames").count("Prediction(") == 4
    video = cv2.VideoCapture(str(tmp_path / "video_overlay.avi"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4


def test_a_folder_becomes_coco(run, tmp_path: Path) -> None:
    printed = run("folder_to_coco")
    assert "4 answered" in printed
    assert "cat: in 2 photos" in printed
    assert (tmp_path / "coco" / "annotations.coco.json").is_file()


def test_failures_are_drawn(run, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the example takes photos from scikit-image")
    printed = run("failures")
    assert "cat: 1.00" in printed
    with Image.open(tmp_path / "failures.jpg") as sheet:
        assert sheet.size == (1200, 960)


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
