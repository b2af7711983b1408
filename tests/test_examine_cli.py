"""``fscs examine``, and what 'encode' and 'predict' do with calibration, on a toy network."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.cli import main
from fscs_sdk.examination import Examination
from fscs_sdk.report import write_report
from test_examination import toy_negatives, toy_supports
from test_segmenter import toy


@pytest.fixture(autouse=True)
def _toy_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FewShotSegmenter, "from_pretrained", lambda *arguments, **options: toy())


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write(folder: Path, supports: dict[str, list[Any]]) -> Path:
    for name, shots in supports.items():
        (folder / name).mkdir(parents=True)
        for number, shot in enumerate(shots, start=1):
            Image.fromarray(shot.image).save(folder / name / f"p{number}.png")
            if shot.mask is not None:
                Image.fromarray(shot.mask.astype(np.uint8) * 255).save(folder / name / f"p{number}_mask.png")
    return folder


@pytest.fixture
def supports(tmp_path: Path) -> Path:
    return write(tmp_path / "supports", toy_supports())


@pytest.fixture
def negatives(tmp_path: Path) -> Path:
    folder = tmp_path / "without" / "deeper"
    folder.mkdir(parents=True)
    for number, image in enumerate(toy_negatives()):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no photo")
    return tmp_path / "without"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Shot 3 of 'red' is inverted, and shot 2 of 'blue' has a mask without a pixel."""
    shots = toy_supports()
    shots["red"][2] = Shot(shots["red"][2].image, ~shots["red"][2].mask)
    shots["blue"][1] = Shot(shots["blue"][1].image, np.zeros_like(shots["blue"][1].mask))
    return write(tmp_path / "bad", shots)


def test_good_supports_are_a_table_of_photos_and_classes(supports: Path, negatives: Path) -> None:
    result = run("examine", supports, "--negatives", negatives)
    assert result.exit_code == 0
    assert "0 suspects" in result.output
    for word in ("red", "blue", "p1.png", "p4.png", "threshold", "3 negatives"):
        assert word in result.output


def test_what_is_wrong_comes_first_and_the_exit_code_says_that_it_is_certain(bad: Path) -> None:
    result = run("examine", bad)
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if ".png" in line]
    assert lines[0].split()[:2] == ["blue", "p2.png"]
    assert lines[1].split()[:2] == ["red", "p3.png"]
    assert "without a pixel" in lines[0] + lines[1]


def test_json_is_the_whole_examination(bad: Path) -> None:
    result = run("examine", bad, "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert json.loads(json.dumps(Examination.from_dict(values).to_dict())) == values
    assert [(one["name"], one["shot"]) for one in values["suspects"]] == [("blue", 2), ("red", 3)]


class Page(HTMLParser):
    """Tags, sources and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_with_every_photo(bad: Path, tmp_path: Path) -> None:
    result = run("examine", bad, "--html", tmp_path / "page.html")
    assert result.exit_code == 1
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(page.sources) == 8
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert "without a pixel" in page.text
    assert sorted(os.listdir(tmp_path)) == ["bad", "page.html"]


def test_a_page_shows_names_and_does_not_run_them(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    supports = {evil: toy_supports()["red"][:2], "tag": [Shot(toy_negatives()[0])]}
    write_report(toy().examine(supports), supports, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert evil in page.text
    assert len(page.sources) == 3


@pytest.mark.parametrize(
    "arguments",
    [("examine", "supports", "--html", "p.html"), ("encode", "s", "p.safetensors"), ("export", "s", "p.onnx")],
)
def test_a_folder_that_is_not_there_is_told_before_the_work(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command, supports, *options, name = arguments
    file = tmp_path / "missing" / name
    result = run(command, tmp_path / supports, *options, file)  # there are no supports either
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"fscs: '{file}' cannot be written: there is no folder '{file.parent}'; make it first"
    )


def test_encode_calibrates_where_it_can_and_says_so(supports: Path, negatives: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.safetensors"
    result = run("encode", supports, out, "--negatives", negatives)
    assert result.exit_code == 0
    assert "every class calibrated" in result.stderr
    loaded = SupportSet.load(out)
    assert loaded.calibration is not None
    assert loaded.examination is not None
    assert {one.negatives for one in loaded.examination.classes} == {3}
    result = run("encode", supports, out, "--no-calibrate")
    assert "calibrated" not in result.stderr
    assert SupportSet.load(out).calibration is None


def test_encode_says_what_is_looked_for_in_tiles(supports: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.safetensors"
    result = run("encode", supports, out, "--scales", "tiles")
    assert "2 of 2 classes looked for in tiles of each photo" in result.stderr
    assert SupportSet.load(out).scales == ("tiles", "tiles")
    result = run("encode", supports, out, "--scales", "whole")
    assert "tiles" not in result.stderr
    assert not SupportSet.load(out).in_tiles
    result = run("encode", supports, out, "--scales", "tiles", "--no-calibrate")
    assert result.exit_code == 2
    assert "leave out --no-calibrate" in result.stderr


def test_encode_warns_of_a_bad_photo(bad: Path, tmp_path: Path) -> None:
    result = run("encode", bad, tmp_path / "set.safetensors")
    assert result.exit_code == 0
    assert f"shot 3 of 'red' ('{bad / 'red' / 'p3.png'}')" in result.stderr
    assert "'fscs examine' shows it" in result.stderr


def test_one_photo_of_each_class_is_asked_as_the_paper_does(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", toy_supports(1))
    result = run("encode", folder, tmp_path / "set.safetensors")
    assert "calibrated" not in result.stderr
    assert SupportSet.load(tmp_path / "set.safetensors").examination is None


def test_predict_calibrates_too_and_a_hand_set_threshold_wins(supports: Path, negatives: Path, tmp_path: Path) -> None:
    query = tmp_path / "query.png"
    Image.fromarray(toy_supports(6)["red"][5].image).save(query)
    arguments = ("predict", query, "--supports", supports, "--formats", "csv", "--json")
    result = run(*arguments, "--out", tmp_path / "a", "--negatives", negatives)
    assert result.exit_code == 0
    assert "every class calibrated" in result.stderr
    assert json.loads(result.stdout)["present"] == {"red": 1, "blue": 0}
    result = run(*arguments, "--out", tmp_path / "b", "--threshold", "blue=0")
    assert json.loads(result.stdout)["present"] == {"red": 1, "blue": 1}
    result = run(*arguments, "--out", tmp_path / "c", "--no-calibrate")
    assert "calibrated" not in result.stderr


@pytest.mark.parametrize("command", ["encode", "predict", "examine"])
def test_negatives_that_are_not_there_are_misuse(command: str, supports: Path, tmp_path: Path) -> None:
    rest = {
        "encode": (supports, tmp_path / "set.safetensors"),
        "examine": (supports,),
        "predict": (supports / "red" / "p1.png", "--supports", supports, "--out", tmp_path / "out"),
    }[command]
    (tmp_path / "empty").mkdir()
    for folder, message in (("nowhere", "is not a folder"), ("empty", "holds no photo")):
        result = run(command, *rest, "--negatives", tmp_path / folder)
        assert result.exit_code == 2
        assert message in result.stderr
    if command != "examine":
        result = run(command, *rest, "--negatives", supports, "--no-calibrate")
        assert result.exit_code == 2


def test_a_file_is_not_calibrated_again(supports: Path, negatives: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.safetensors"
    run("encode", supports, out)
    for option in (("--negatives", negatives), ("--no-calibrate",), ("--scales", "tiles")):
        result = run("predict", supports / "red" / "p1.png", "--supports", out, "--out", tmp_path / "o", *option)
        assert result.exit_code == 2
        assert "is encoded already" in result.stderr
