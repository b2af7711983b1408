"""YOLO labels: rasterised as Ultralytics and supervision do it, they are the mask, pixel by pixel."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from fscs_sdk.formats import WRITERS
from fscs_sdk.formats.yolo import rings, to_yolo
from predictions import ODD_NAMES, masks, prediction, predictions, quick


def cut_off(places):
    return places.astype(np.int32)


def rounded(places):
    return np.round(places).astype(np.int32)


def mask_of(text, shape, to_pixels):
    """The class numbers (from 1) that the lines paint, as their readers do: float32, times the size, filled."""
    height, width = shape
    mask, times = np.zeros(shape, int), np.zeros(shape, int)
    for line in text.splitlines():
        number, *values = line.split(" ")
        places = np.array(values, np.float32).reshape(-1, 2)
        assert len(places) >= 3  # fewer would be read as a box
        assert places.min() >= 0
        assert places.max() <= 1
        area = np.zeros(shape, np.uint8)
        cv2.fillPoly(area, [to_pixels(places * np.array([width, height], np.float32))], 1)
        mask += (int(number) + 1) * area
        times += area
    assert times.max(initial=0) <= 1
    return mask


@quick
@given(predictions())
def test_readers_that_cut_off_and_readers_that_round_paint_the_mask(answer):
    text = answer.to_yolo()
    assert (mask_of(text, answer.mask.shape, cut_off) == answer.mask).all()
    assert (mask_of(text, answer.mask.shape, rounded) == answer.mask).all()


@quick
@given(masks(classes=1))
def test_every_part_is_one_line_and_its_neighbours_corners_connect(mask):
    parts, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    found = rings(mask.astype(bool))
    assert len(found) == parts - 1
    assert {int(labels[ring[0, 1], ring[0, 0]]) for ring in found} == set(range(1, parts))


def test_cuts_stay_inside_the_part():
    """Between neighbouring corners of a ring every pixel belongs to the part, cuts included."""
    mask = np.random.default_rng(5).random((60, 90)) < 0.75
    for ring in rings(mask):
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            steps = max(abs(x1 - x0), abs(y1 - y0)) + 1
            rows, columns = (np.linspace(*ends, steps).round().astype(int) for ends in ((y0, y1), (x0, x1)))
            assert mask[rows, columns].all()


def test_a_large_mask_with_thousands_of_holes_keeps_every_pixel():
    random = np.random.default_rng(0)
    mask = np.where(random.random((700, 900)) < 0.9, 1, 0)
    answer = prediction(mask, ("dog",))
    assert (mask_of(to_yolo(answer), mask.shape, cut_off) == mask).all()


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 9_001)])
def test_very_long_photos_keep_every_pixel(shape):
    mask = np.where(np.random.default_rng(0).random(shape) < 0.5, 1, 0)
    text = to_yolo(prediction(mask, ("dog",)))
    assert (mask_of(text, shape, cut_off) == mask).all()
    assert (mask_of(text, shape, rounded) == mask).all()


def test_straight_runs_have_only_their_ends():
    assert [ring.tolist() for ring in rings(np.ones((4, 6), bool))] == [[[0, 0], [0, 3], [5, 3], [5, 0]]]


def test_a_photo_of_nothing_has_no_lines():
    assert prediction(np.zeros((5, 5), int), ("dog",)).to_yolo() == ""


@pytest.mark.filterwarnings("ignore:.*")  # what another library warns of is not tested here
def test_supervision_reads_a_run(tmp_path):
    from supervision import DetectionDataset

    random = np.random.default_rng(1)
    coarse = random.integers(0, 3, (6, 8)).repeat(7, 0).repeat(5, 1)
    coarse[9:11, 9:11] = 0
    answers = {"a/one.jpg": prediction(coarse, ODD_NAMES), "two.png": prediction(np.zeros((9, 9), int), ODD_NAMES)}
    files = {}
    for photo, answer in answers.items():
        for folder in (tmp_path, tmp_path / "yolo" / "images"):
            (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(answer.image).save(tmp_path / "yolo" / "images" / photo)
        (files[photo],) = WRITERS["yolo"].write(answer, tmp_path / photo)
    written = WRITERS["yolo"].collect(files, tmp_path, names=ODD_NAMES)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "yolo/data.yaml",
        "yolo/labels/a/one.txt",
        "yolo/labels/two.txt",
    ]
    for folder, photo in (("a", "a/one.jpg"), ("", "two.png")):
        data = DetectionDataset.from_yolo(
            str(tmp_path / "yolo" / "images" / folder),
            str(tmp_path / "yolo" / "labels" / folder),
            str(tmp_path / "yolo" / "data.yaml"),
            force_masks=True,
        )
        assert data.classes == list(ODD_NAMES)
        mask = np.zeros(answers[photo].mask.shape, int)
        for detections in data.annotations.values():
            for area, number in zip(detections.mask if len(detections) else (), detections.class_id, strict=True):
                mask[area] = number + 1
        assert (mask == answers[photo].mask).all()


@pytest.mark.parametrize("second", ["a/photo.png", "a/Photo.jpg"])
def test_photos_that_yolo_takes_for_one_are_refused(tmp_path, second):
    (path,) = WRITERS["yolo"].write(prediction([[1]], ("dog",)), tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match=f"YOLO takes 'a/photo.jpg' and '{second}' for one photo: rename one"):
        WRITERS["yolo"].collect({"a/photo.jpg": path, second: path}, tmp_path / "out", names=("dog",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("photo", ["../photo.jpg", "/photo.jpg", "a/../../b.jpg", ""])
def test_no_label_leaves_the_output_folder(tmp_path, photo):
    (path,) = WRITERS["yolo"].write(prediction([[1]], ("dog",)), tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="is not a path inside a folder"):
        WRITERS["yolo"].collect({photo: path}, tmp_path / "out", names=("dog",))
