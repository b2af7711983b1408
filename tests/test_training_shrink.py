"""A small copy of the sources is a --data with the same photos to train on."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner
from PIL import Image

from fscs_sdk.training.__main__ import main
from fscs_sdk.training.corpus import LabelledPhoto, read_source
from fscs_sdk.training.shrink import shrink
from training_stub import write_sources


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("data"))


def read(root: Path, source: str) -> list[LabelledPhoto]:
    return read_source(root, source, excluded=(), held_out=0, smallest=0.02)


def unpacked(files: list[Path], folder: Path) -> Path:
    for file in files:
        with ZipFile(file) as opened:
            opened.extractall(folder)
    return folder


def test_the_copy_has_the_same_photos_of_the_same_classes(data: Path, tmp_path: Path) -> None:
    files, photos = shrink(data, ["voc", "parts"], tmp_path / "out", side=55, quality=60, limit=10_000)
    assert photos == 16
    assert len(files) > 1
    assert all(file.stat().st_size <= 10_000 for file in files)
    copy = unpacked(files, tmp_path / "copy")
    for source in ("voc", "parts"):
        before, after = read(data, source), read(copy, source)
        assert [photo.large for photo in after] == [photo.large for photo in before]
        assert [photo.image.stem for photo in after] == [photo.image.stem for photo in before]
        image, mask = after[0].open()
        assert mask is not None
        assert image.size == mask.size == (55, 45)
    with Image.open(copy / "voc" / "images" / "cat0.webp") as photo:
        assert photo.format == "WEBP"


def test_the_same_photos_give_the_same_files(data: Path, tmp_path: Path) -> None:
    twice = [shrink(data, ["voc"], tmp_path / name, side=300, quality=60, limit=10**6)[0] for name in ("a", "b")]
    assert [file.read_bytes() for file in twice[0]] == [file.read_bytes() for file in twice[1]]
    with ZipFile(twice[0][0]) as file, file.open("voc/images/cat0.webp") as photo:
        assert Image.open(photo).size == (110, 90), "a photo was made larger"


def test_a_limit_below_a_photo_is_refused_in_one_sentence(data: Path, tmp_path: Path) -> None:
    options = ["shrink", str(tmp_path / "out"), "--data", str(data), "--source", "voc", "--limit", "0.0001"]
    refused = CliRunner().invoke(main, options)
    assert refused.exit_code == 1
    assert "raise --limit" in refused.output
    done = CliRunner().invoke(main, [*options[:-1], "1"])
    assert done.exit_code == 0
    assert (tmp_path / "out" / "1.zip").is_file()
