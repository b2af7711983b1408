"""What the comparison of ways to choose shots prints."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.shots import DRAWS, main, ways


@pytest.fixture
def folder(tmp_path):
    """Photos with a red square on blue or on green, the blue ones first, or without one."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.json").write_text(json.dumps({"1": "square", "2": "nothing"}))
    for number in range(12):
        ground = (30, 60, 200) if number < 6 else (40, 160, 50)
        image, labels = np.full((64, 64, 3), ground, np.uint8), np.zeros((64, 64), np.uint8)
        if number < 10:
            labels[10 : 40 + number, 12:44] = 1
            image[labels == 1] = (200, 40, 30)
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}.jpg", quality=95)
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number:02}.png")
    return tmp_path


def test_a_row_for_each_class_and_the_mean(folder):
    result = CliRunner().invoke(main, [str(folder), "--shots", "2", "--queries", "2"], catch_exceptions=False)
    header, row, mean = (line.strip("| ").split(" | ") for line in result.stdout.splitlines())
    assert row[:3] == [folder.name, "square", "8"]
    assert len(header) == len(row) == 9
    assert mean[-6:] == row[-6:]
    values = dict(zip(header[3:], map(float, row[3:]), strict=True))
    assert all(0 <= value <= 100 for value in values.values())
    assert values["IoU told, variety"] > 50


def test_variety_takes_both_grounds_and_the_first_do_not(folder):
    pool = {f"{number:02}": 0.2 for number in range(10)}
    chosen = ways(folder, pool, 2, seed=0)
    assert chosen["first"] == ["00", "01"]
    assert [stem < "06" for stem in chosen["variety"]] == [True, False]
    drawn = [stems for way, stems in chosen.items() if way.startswith("random")]
    assert len(drawn) == DRAWS
    assert {len(set(stems)) for stems in drawn} == {2}
