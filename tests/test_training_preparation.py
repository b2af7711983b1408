"""A benchmark's photos as a source of training, and the classes that a fold keeps for measuring."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.evaluation.datasets.contract import List
from fscs_sdk.evaluation.datasets.labels import UNKNOWN
from fscs_sdk.training.__main__ import main
from fscs_sdk.training.corpus import read_source
from fscs_sdk.training.preparation import fold_classes, write_source
from training_stub import write_sources


class Two:
    """Two folds of one class each; photos of 20 x 30, the left half is the class, a corner unknown."""

    names: Mapping[int, str] = {1: "Cat", 2: "motorcycle"}
    folds = (0, 1)
    has_training_lists = True
    asked = 0

    def pairs(self, which: List, fold: int | None) -> list[tuple[str, int]]:
        assert which == "trn"
        return [("one", 1), ("both", 1)] if fold == 0 else [("both", 2)]

    def image(self, photo: str) -> NDArray[np.uint8]:
        return np.full((20, 30, 3), 90, np.uint8)

    def labels(self, photo: str) -> NDArray[np.uint16]:
        self.asked += 1
        labels = np.zeros((20, 30), np.uint16)
        labels[:, :15] = 1
        if photo == "both":
            labels[10:, :15] = 2
        labels[0, 0] = UNKNOWN
        return labels


def test_a_source_of_a_benchmark_is_read_by_training(tmp_path: Path) -> None:
    data, seen = Two(), []
    assert write_source(data, tmp_path / "voc", advance=lambda *done: seen.append(done)) == 2
    assert seen == [(1, 2), (2, 2)]
    photos = {photo.image.stem: photo for photo in read_source(tmp_path, "voc", excluded=(), held_out=0)}
    assert {stem: set(photo.classes.values()) for stem, photo in photos.items()} == {
        "one": {"cat"},
        "both": {"cat", "motorbike"},
    }
    mask = np.asarray(Image.open(tmp_path / "voc" / "masks" / "one.png"))
    assert mask[0, 0] == 255
    assert (mask.ravel()[1:] == data.labels("one").ravel()[1:]).all()
    with Image.open(tmp_path / "voc" / "images" / "one.jpg") as image:
        assert image.size == (30, 20)


def test_the_same_again_draws_only_what_is_missing(tmp_path: Path) -> None:
    data = Two()
    write_source(data, tmp_path)
    (tmp_path / "masks" / "both.png").unlink()
    data.asked = 0
    write_source(data, tmp_path)
    assert data.asked == 1
    assert (tmp_path / "masks" / "both.png").is_file()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"has_training_lists": False}, "this data has no trn lists, so there is nothing to train on"),
        ({"names": {255: "x"}}, "a source has at most 254 classes, this data has 255"),
    ],
)
def test_data_that_cannot_be_a_source(changes: dict[str, object], sentence: str, tmp_path: Path) -> None:
    data = Two()
    for name, value in changes.items():
        setattr(data, name, value)
    with pytest.raises(ValueError, match=sentence):
        write_source(data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_fold_keeps_the_classes_of_its_lists(tmp_path: Path) -> None:
    write_source(Two(), tmp_path / "voc")
    (tmp_path / "other").mkdir()
    assert fold_classes(tmp_path, ["other", "voc"], 0) == ("cat",)
    assert fold_classes(tmp_path, ["voc"], 1) == ("motorbike",)
    with pytest.raises(ValueError, match=r"none of the sources other has splits/trn/fold1\.txt, which names a fold"):
        fold_classes(tmp_path, ["other"], 1)


def test_the_command_writes_pascals_source(tmp_path: Path) -> None:
    data = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (data / folder).mkdir(parents=True)
    for photo in ("one", "two"):
        colours = np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8)
        Image.fromarray(colours).save(data / "JPEGImages" / f"{photo}.jpg")
        Image.fromarray(np.full((10, 12), 6, np.uint8)).save(data / "SegmentationClassAug" / f"{photo}.png")
    (data / "ImageSets" / "Segmentation" / "val.txt").write_text("two\n")
    result = CliRunner().invoke(main, ["source", "pascal-5i", str(data), str(tmp_path / "voc")])
    assert result.exit_code == 0, result.output
    assert [path.stem for path in (tmp_path / "voc" / "masks").iterdir()] == ["one"]
    assert (tmp_path / "voc" / "splits" / "trn" / "fold1.txt").read_text() == "one 6\n"
    assert json.loads((tmp_path / "voc" / "classes.json").read_text())["6"] == "bus"
    assert fold_classes(tmp_path, ["voc"], 1) == ("bus",)
    missing = CliRunner().invoke(main, ["source", "coco-20i", str(data), str(tmp_path / "coco")])
    assert missing.exit_code == 1
    assert "has no val2014; give the folder of COCO 2014" in missing.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "swin"], "--backbone 'swin' is neither a file nor one of resnet50, "),
        (["--backbone", "vit_small_patch14_reg4_dinov2.lvd142m"], "side 288 does not suit the backbone vit_small"),
        (["--source", "voc", "--fold", "7"], "none of the sources voc has splits/trn/fold7.txt"),
        (["--source", "nowhere", "--backbone", "resnet50"], "no source of resnet50 will do"),
    ],
)
def test_what_train_cannot_do_is_said(
    options: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    data = write_sources(tmp_path / "data")
    result = CliRunner().invoke(main, ["train", str(tmp_path / "run"), "--data", str(data), *options])
    assert result.exit_code != 0
    assert sentence in result.output
    assert not (tmp_path / "run").exists()
