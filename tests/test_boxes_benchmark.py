"""What the comparison of boxes and masks prints."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.boxes import WAYS, Labelled, box_of, evenly, main


@pytest.fixture
def folder(tmp_path):
    """Photos with a red square on blue, or without."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.json").write_text(json.dumps({"1": "square", "2": "nothing"}))
    for number in range(6):
        image, labels = np.full((64, 64, 3), (30, 60, 200), np.uint8), np.zeros((64, 64), np.uint8)
        if number < 4:
            labels[10 : 40 + number, 12:44] = 1
            image[labels == 1] = (200, 40, 30)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def test_a_row_for_each_class_and_the_mean(folder):
    result = CliRunner().invoke(main, [str(folder), "--shots", "2", "--queries", "2"], catch_exceptions=False)
    header, row, mean = (line.strip("| ").split(" | ") for line in result.stdout.splitlines())
    assert len(header) == len(row) == 2 + 3 * len(WAYS)
    assert row[:2] == [folder.name, "square"]
    assert mean[2:] == row[2:]
    values = dict(zip(header[2:], map(float, row[2:]), strict=True))
    assert values["support IoU, mask"] == 100
    assert values["support IoU, box, GrabCut"] > 95
    assert values["support IoU, box, filled"] == 100
    assert values["support IoU, class tag"] == 0


def test_the_box_is_around_the_mask():
    mask = np.zeros((9, 9), np.bool_)
    mask[2:5, 3:8] = True
    assert box_of(Labelled(np.zeros((9, 9, 3), np.uint8), mask, np.zeros_like(mask))) == (3, 2, 8, 5)
    assert evenly("abcde", 3) == ["a", "c", "e"]
    assert evenly("ab", 3) == ["a", "b"]
