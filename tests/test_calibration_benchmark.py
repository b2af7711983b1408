"""What docs/calibration.md is measured by, on a toy network and made-up sets."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.calibration import BAD, Examined, Measuring, _error, main
from fscs_sdk import FewShotSegmenter, Shot
from test_examination import scene
from test_segmenter import toy

COLOURS = {1: (250, 20, 20), 2: (20, 20, 250)}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets: boxes of two colours, and boxes of one."""
    monkeypatch.setattr(FewShotSegmenter, "from_pretrained", lambda *arguments, **options: toy())
    for folder, numbers in (("two", (1, 2)), ("single", (1,))):
        for part in ("images", "masks"):
            (tmp_path / folder / part).mkdir(parents=True)
        (tmp_path / folder / "classes.json").write_text(json.dumps({str(number): f"c{number}" for number in numbers}))
        for number in numbers:
            for photo in range(12):
                image, mask = scene(100 * number + photo, ((photo * 5) % 15, (photo * 7) % 15), COLOURS[number])
                Image.fromarray(image).save(tmp_path / folder / "images" / f"{number}_{photo}.png")
                Image.fromarray(mask.astype(np.uint8) * number).save(
                    tmp_path / folder / "masks" / f"{number}_{photo}.png"
                )
    return tmp_path


def measured(sets: Path, *arguments: str) -> dict:
    result = CliRunner().invoke(main, [str(sets), *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_bad_masks_are_bad_in_the_way_that_they_are_called() -> None:
    mask = np.zeros((40, 60), bool)
    mask[4:14, 10:30] = True
    bad = {kind: change(mask) for kind, change in BAD.items()}
    assert (bad["inverted"] == ~mask).all()
    assert bad["whole photo"].all()
    assert bad["20 pixels"].sum() == 20
    assert (bad["shifted"] == np.roll(mask, (5, 10), (0, 1))).all()


def test_both_ways_of_joining_shots_are_measured_on_the_same_photos(sets: Path) -> None:
    report = measured(sets, "--part", "pooling", "--shots", "1", "--trials", "2")
    assert report["trials"] == 4  # the single class has no photo without it
    for what in ("ranked, %", "IoU, %"):  # one shot is the same either way
        assert report[f"averaged {what}"] == report[f"pooled {what}"]
    assert 0 < report["pooled IoU, %"] <= 100


@pytest.mark.filterwarnings("ignore::fscs_sdk.images.ImageWarning")
def test_bad_references_are_planted_in_every_class(sets: Path) -> None:
    report = measured(sets, "--part", "suspects", "--trials", "1")
    assert report["classes"] == 3
    assert report["trials"] == 3 * len(BAD) + 2  # the single class has no photo without it
    assert set(report["named first, %"]) == {*BAD, "another class"}
    assert report["named first, %"]["inverted"] == report["named first, %"]["whole photo"] == 100
    assert set(report["by set"]) == {"two", "single"}


@pytest.mark.filterwarnings("ignore::fscs_sdk.images.ImageWarning")
def test_what_is_remembered_of_pairs_changes_no_suspect() -> None:
    model, examined = toy(), Examined(toy())
    shots = [Shot(*scene(number, ((number * 5) % 15, (number * 7) % 15), COLOURS[1])) for number in range(5)]
    bad = [Shot(shots[1].image, ~np.asarray(shots[1].mask)), Shot(*scene(9, (3, 3), COLOURS[2]))]
    good = [examined.add(shot) for shot in shots]
    for one in bad:
        planted = [shots[0], one, *shots[2:]]
        numbers = [good[0], examined.add(one), *good[2:]]
        assert examined.suspects(numbers) == model.examine({"class": planted}).suspects
    assert model.examine({"class": [shots[0], bad[0], *shots[2:]]}).suspects
    assert len(examined.found) == 4 * 3 + 2 * 8


def test_scores_and_masks_are_compared_before_and_after(sets: Path) -> None:
    report = measured(
        sets, "--part", "probabilities", "--shots", "3", "--negatives", "2", "--trials", "2", "--fold", "0"
    )
    assert report["calibrated"]["presence right, %"] == 100
    assert report["calibrated"]["mIoU, %"] > 50
    assert report["calibrated"]["mIoU with edges, %"] > 50
    assert report["calibrated"]["mIoU with edges, %"] != report["calibrated"]["mIoU, %"]
    assert report["paper"]["by fold"]["two"]["answers"] == report["calibrated"]["by fold"]["two"]["answers"] == 16


def test_the_calibration_error_is_the_distance_of_scores_from_shares() -> None:
    right = np.array([[0.95, 1, 1]] * 95 + [[0.95, 0, 1]] * 5)
    assert _error(right) == pytest.approx(0, abs=0.1)
    assert _error(np.array([[0.95, 0, 1]] * 10)) == pytest.approx(95)


def test_one_class_among_many_is_drawn_as_if_it_were_alone(sets: Path) -> None:
    report = measured(sets, "--part", "many", "--ways", "2", "--shots", "3", "--fold", "0")
    assert report["photos"] == 4
    assert report["exact, calibrated, %"] == 100
    assert report["mIoU alone, %"] == report["mIoU among all, %"]


def test_the_cost_is_counted_in_pairs(sets: Path) -> None:
    report = measured(sets, "--part", "cost", "--ways", "2", "--shots", "3", "--fold", "0")
    assert report["pairs"] == 2 * 3 * 2 + 2 * 3 * 3
    tiled = report["classes in tiles"]
    assert report["pairs, scales chosen too"] == report["pairs"] + 4 * (2 * 3 * 2 + tiled * 3 * 3)


def test_scales_are_compared_on_the_same_questions(sets: Path) -> None:
    report = measured(sets, "--part", "scales", "--shots", "3", "--negatives", "2", "--trials", "2", "--fold", "0")
    whole, auto = (report[kind]["by fold"]["two"] for kind in ("whole", "auto"))
    assert whole["answers"] == auto["answers"] == 16
    assert whole["in tiles"] == []
    assert set(auto["in tiles"]) <= {"two/c1", "two/c2"}
    if not auto["in tiles"]:
        assert report["whole"] == report["auto"]


def test_supports_may_be_near_duplicates(sets: Path) -> None:
    folder = sets / "two"
    image, mask = scene(999, (3, 4), COLOURS[1])
    for frame in range(3):
        light = np.clip(image.astype(int) + 5 * frame, 0, 255).astype(np.uint8)
        Image.fromarray(light).save(folder / "images" / f"frame_{frame}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"frame_{frame}.png")
    plain, alike = (Measuring(sets, "toy", [0], near_duplicates=near) for near in (False, True))
    salt = next(n for n in itertools.count() if "frame" in plain.of_class(0, 2, n)[0])
    first, *others = alike.supports_of(0, 2, salt)
    assert first == plain.of_class(0, 2, salt)[0]
    assert {first, *others[:2]} == {f"two/frame_{frame}" for frame in range(3)}
    rest = [photo for photo in plain.of_class(0, 2, salt) if "frame" not in photo]
    assert others[2:] == rest
    assert plain.supports_of(0, 2, salt) == plain.of_class(0, 2, salt)
