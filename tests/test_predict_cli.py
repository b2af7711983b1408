"""``fscs predict``, ``fscs encode`` and ``fscs merge`` as a user meets them."""

import importlib
import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import fscs_sdk.folder
from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, SupportSet
from fscs_sdk.cli import main
from fscs_sdk.cli.options import one_line
from fscs_sdk.folder import InputsError
from fscs_sdk.references import read_supports
from stub_model import write_photo


@pytest.fixture(autouse=True)
def _loaded_once(model: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model is taken from the session; any other is looked up as ever."""
    look_up = FewShotSegmenter.from_pretrained

    def loaded(name, **options):
        usual = name == "asnet-mini" and options["device"] in ("auto", "cpu") and options["edges"]
        return model if usual else look_up(name, **options)

    monkeypatch.setattr(FewShotSegmenter, "from_pretrained", loaded)


@pytest.fixture
def supports(tmp_path: Path) -> Path:
    folder = tmp_path / "supports"
    for name in ("box", "tag"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(photo(len(name))).save(folder / name / "one.jpg")
    Image.fromarray(box_mask()).save(folder / "box" / "one_mask.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "sub/b.png")):
        Image.fromarray(photo(number)).save(folder / name)
    return folder


def run(*arguments: object, input: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input)


def predict(*arguments: object, **options) -> Result:
    return run("predict", *arguments, "--device", "cpu", **options)


def said(result: Result) -> str:
    return result.stderr.removeprefix("fscs: ")


def test_a_folder_is_answered_and_again_is_done(photos, supports, tmp_path):
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "2 answered, 0 failed" in result.stdout
    assert str(tmp_path / "out" / "journal.jsonl") in result.stdout
    for name in ("a.jpg", "sub/b.png"):
        with Image.open(tmp_path / "out" / f"{name}.mask.png") as mask:
            assert mask.size == (80, 60)
        assert (tmp_path / "out" / f"{name}.overlay.jpg").is_file()
    again = predict(photos, "--supports", supports, "--out", tmp_path / "out", "--json")
    report = json.loads(again.stdout)
    assert (report["photos"], report["answered"], report["done_before"], report["failed"]) == (2, 0, 2, 0)
    assert list(report["present"]) == ["box", "tag"]


def test_encoded_supports_give_the_same_answers(photos, supports, tmp_path, model):
    encoded = run("encode", supports, tmp_path / "supports.safetensors")
    assert encoded.exit_code == 0, encoded.output
    assert "2 classes, 2 photos (1 without a mask)" in encoded.stdout
    assert SupportSet.load(tmp_path / "supports.safetensors").names == ("box", "tag")
    for source, out in ((supports, "one"), (tmp_path / "supports.safetensors", "two")):
        assert predict(photos, "--supports", source, "--out", tmp_path / out, "--formats", "npz").exit_code == 0
    for name in ("a.jpg.npz", "sub/b.png.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    expected = model.predict(photos / "a.jpg", SupportSet.load(tmp_path / "supports.safetensors"))
    with np.load(tmp_path / "two" / "a.jpg.npz") as maps:
        np.testing.assert_array_equal(maps["foreground"], expected.foreground)
    result = predict(
        photos, "--supports", tmp_path / "supports.safetensors", "--out", tmp_path / "one", "--formats=npz"
    )
    assert "0 answered, 2 done before" in result.stdout


def test_maps_follow_edges_unless_told_otherwise_and_one_run_mixes_no_two_kinds(photos, supports, tmp_path, model):
    arguments = (photos, "--supports", supports, "--out", tmp_path / "out", "--formats", "npz")
    encoded = model.encode(read_supports(supports))
    for edges, option in ((True, ()), (False, ("--no-edges",))):
        model = FewShotSegmenter(model.network, name="asnet-mini", device="cpu", edges=edges)
        plan = predict(*arguments, *option, "--dry-run")
        result = predict(*arguments, *option)
        for shown in (plan, result):
            assert ("2 of them again: another model, supports or settings" in shown.stdout) == (not edges)
        assert "2 answered, 0 failed" in result.stdout
        with np.load(tmp_path / "out" / "a.jpg.npz") as maps:
            np.testing.assert_array_equal(maps["foreground"], model.predict(photos / "a.jpg", encoded).foreground)


def test_thresholds_are_for_all_or_for_one(photos, supports, tmp_path):
    options = ("--threshold", "tag=0", "--threshold", "1")
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out", *options, "--json")
    assert json.loads(result.stdout)["present"] == {"box": 0, "tag": 2}
    saved = tmp_path / "s.safetensors"
    assert run("encode", supports, saved, *options).exit_code == 0
    assert SupportSet.load(saved).thresholds.tolist() == [1, 0]


def test_a_bad_photo_is_told_and_the_code_is_one(photos, supports, tmp_path):
    for number in range(12):
        (photos / f"{number}\n.jpg").write_bytes(b"no photo")
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out")
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    assert told[0].startswith("fscs: 0\\n.jpg failed: ")
    assert told[-1] == "fscs: 2 more failed; the journal names them"
    assert len(told) == 11
    assert "2 answered, 12 failed" in result.stdout
    report = json.loads(predict(photos, "--supports", supports, "--out", tmp_path / "out", "--json").stdout)
    assert (len(report["failures"]), report["failed"], report["done_before"]) == (12, 12, 2)


def test_a_photo_that_shows_nothing_is_told_by_name(photos, supports, tmp_path, monkeypatch):
    monkeypatch.setattr("fscs_sdk.cli.remarks.SHOWN", 1)
    for name in ("c.png", "d.png"):
        Image.new("L", (60, 40)).save(photos / name)
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out", "--formats", "csv")
    assert result.exit_code == 0, result.output
    first, more = [line for line in result.stderr.splitlines() if "warning" in line]
    assert first.startswith("fscs: warning: ")
    assert "is black all over" in first
    assert more == "fscs: 1 more warning of photos"


def test_the_limit_of_pixels_holds_for_supports_and_can_be_raised(photos, supports, tmp_path):
    saved = tmp_path / "s.safetensors"
    result = run("encode", supports, saved, "--max-pixels", 1000, "--device", "cpu")
    assert result.exit_code == 2
    assert "the limit is 1000: make it smaller or raise max_pixels" in result.stderr
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out", "--max-pixels", 1000)
    assert (result.exit_code, "the photo of shot 1" in result.stderr) == (2, True)
    assert run("encode", supports, saved, "--max-pixels", 10**9, "--device", "cpu").exit_code == 0


def test_lists_and_patterns(photos, supports, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos}/a.jpg\n")
    wanted = ("--supports", supports, "--dry-run", "--json", "--out", tmp_path / "out")
    for arguments, options in (
        ((f"@{tmp_path}/list.txt",), {}),
        (("--list", tmp_path / "list.txt"), {}),
        (("--list", "-"), {"input": f"{photos}/a.jpg\0".encode()}),
        (("-",), {"input": f"{photos}/a.jpg\n".encode()}),
        ((photos / "*.j?g",), {}),
    ):
        result = predict(*arguments, *wanted, **options)
        report = json.loads(result.stdout)
        assert [photo["path"] for photo in report["todo"]] == ["a.jpg"]
        assert report["todo"][0]["source"] == f"{photos}/a.jpg"
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_done(photos, supports, tmp_path):
    write_photo(photos / os.fsdecode(b"\xff\n.jpg"))
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    shown = result.stdout.splitlines()
    assert f"{photos}/a.jpg -> a.jpg.*" in shown
    assert any(line.startswith(f"{photos}/\\udcff\\n.jpg -> \\udcff_~") for line in shown)  # no name for every system
    assert shown[-1] == "3 to do, 0 done (1 links not followed)"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no photos are given; name files, folders, patterns or lists"),
        (["nowhere"], "'nowhere' does not exist; check the path"),
        (["photos", "--supports", "nowhere"], "there are no supports 'nowhere'; check the path"),
        (["photos", "--supports", "photos/a.jpg"], "'photos/a.jpg' is not a support set or is damaged"),
        (["photos", "--supports", "photos"], "'photos/a.jpg' belongs to no class; move it into a folder"),
        (["photos", "--out", "photos"], "the input 'photos' lies in the output folder; choose another"),
        (["photos", "--out", "photos/a.jpg"], "the output folder 'photos/a.jpg' is a file; choose a folder"),
        (["photos", "--formats", "mask,gif"], "there is no format 'gif'; choose from mask, overlay"),
        (["photos", "--formats", ","], "no format is named; choose from mask, overlay"),
        (["photos", "--shard", "3/2"], "'3/2' is no shard; write I/N with 1 <= I <= N, such as 2/8"),
        (["photos", "--shard", "x"], "'x' is no shard; write I/N"),
        (["photos", "--threshold", "1.5"], "the threshold of 'box' is 1.5; it must be a number from 0 to 1"),
        (["photos", "--threshold", "cat=0.5"], "a threshold was given for 'cat', which is not one of the classes"),
        (["photos", "--threshold", "much"], "the threshold 'much' is neither a number from 0 to 1 nor class=number"),
        (["photos", "--model", "asnet-huge"], "there is no model 'asnet-huge'"),
        (["photos", "--device", "quantum"], "device 'quantum' is unknown"),
        (["photos", "--root", "supports"], "lies outside the root"),
        (["photos", "--list", "nolist"], "nolist' cannot be read (no such file or directory); check the path"),
        (["photos", "--workers", "0"], "0 is not in the range"),
        (["https://example.com/x.jpg"], "the input 'https://example.com/x.jpg' is a web address, not a file; download"),
    ],
)
def test_misuse_is_a_sentence_and_the_code_is_two(photos, supports, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    defaults = {"--supports": "supports", "--out": "out", "--device": "cpu"}
    given = [word for key, value in defaults.items() if key not in arguments for word in (key, value)]
    result = run("predict", *arguments, *given)
    assert result.exit_code == 2, result.output
    assert message in said(result)
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("see 'fscs predict --help'\n")
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback_of_misuse_too(supports, tmp_path):
    result = run("--debug", "predict", "nowhere", "--supports", supports, "--out", tmp_path / "out", "--device", "cpu")
    assert isinstance(result.exception, InputsError)


def test_photos_of_two_days_do_not_share_a_name(photos, supports, tmp_path):
    write_photo(tmp_path / "day2" / "a.jpg", 5, (40, 40))
    options = ("--supports", supports, "--out", tmp_path / "out", "--formats", "csv")
    assert predict(photos, *options).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    refused = predict(tmp_path / "day2", *options)
    assert refused.exit_code == 2
    assert f"'a.jpg' is '{photos}/a.jpg' there and '{tmp_path}/day2/a.jpg' here; choose another" in said(refused)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    both = predict(photos, tmp_path / "day2", *options)
    assert "3 answered, 0 failed" in both.stdout
    rows = (tmp_path / "out" / "presence.csv").read_text().splitlines()[1::2]
    assert [row.partition(",")[0] for row in rows] == ["day2/a.jpg", "photos/a.jpg", "photos/sub/b.png"]
    (photos / "a.jpg").unlink()
    again = predict(photos, "--root", tmp_path, *options)
    assert "0 answered, 1 done before, 0 failed\nphotos of earlier runs: 1 results kept, 1 gone\n" in again.stdout


def test_supports_among_the_photos_are_left_out(supports, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "x.jpg", size=(40, 40))
    result = predict(".", "--supports", "supports", "--out", "out", "--formats", "csv")
    assert "1 answered, 0 failed (1 support folders left out)" in result.stdout
    write_photo(tmp_path / "others" / "y.jpg", size=(40, 40))
    options = ("--supports", "supports", "--negatives", "others", "--out", "out")
    report = json.loads(predict(".", *options, "--dry-run", "--json").stdout)
    assert ([photo["path"] for photo in report["todo"]], report["support_folders_left_out"]) == (["x.jpg"], 2)


def test_a_disk_that_is_full_is_a_sentence_and_the_code_is_one(photos, supports, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device", "out/x.png")

    monkeypatch.setattr(fscs_sdk.folder, "predict_folder", full)
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert said(result).startswith("cannot use 'out/x.png': no space left on device; free some space")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(photos, supports, tmp_path, monkeypatch, model, number, code):
    def interrupted(queries, encoded, **options):
        for _ in queries:
            signal.raise_signal(number)
            yield

    monkeypatch.setattr(model, "stream", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # where whoever runs the tests ignores Ctrl-C
    try:
        result = predict(photos, "--supports", supports, "--out", tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert result.exit_code == code
    assert said(result) == "interrupted; the same command goes on from here\n"
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    journal = (tmp_path / "out" / "journal.jsonl").read_text()
    assert [json.loads(line)["status"] for line in journal.splitlines()] == ["pending"] * 2


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals_alone(monkeypatch, terminal):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    for name, value in {"TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    with importlib.import_module("fscs_sdk.cli.predict")._progress_bar() as progress:
        assert (progress is not None) == terminal
        if progress is not None:
            progress(0, 4, None)
            progress(2, 4, None)
    assert ("2/4" in screen.getvalue()) == ("photos/s" in screen.getvalue()) == terminal
    assert terminal or screen.getvalue() == ""


def test_odd_supports_are_warned_about(photos, supports, tmp_path):
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(supports / "tag" / "one.png")
    result = predict(photos, "--supports", supports, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("fscs: warning: the mask of shot 1 of class 'tag'")
    assert "points at nothing" in result.stderr
    assert result.stderr.count("\n") == 1


def test_shards_are_merged(photos, supports, tmp_path):
    out = tmp_path / "out"
    for number in range(6):
        Image.fromarray(photo(number)).save(photos / f"{number}.png")
    options = ("--supports", supports, "--out", out, "--formats", "csv")
    assert predict(photos, *options, "--shard", "1/2").exit_code == 0
    part = run("merge", out)
    assert part.exit_code == 1
    assert said(part).startswith("no journal of shard 2/2; run 'fscs predict' with --shard")
    assert predict(photos, *options, "--shard", "2/2").exit_code == 0
    (result,) = [run("merge", out, "--json")]
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (report["photos"], report["missing"], report["missing_shards"], report["double"]) == (8, [], [], [])
    assert report["collected"] == [str(out / "presence.csv")]
    assert len((out / "presence.csv").read_text().splitlines()) == 1 + 2 * 8
    assert "8 photos, 0 failed" in run("merge", out).stdout


def test_merging_nothing_is_misuse(tmp_path):
    result = run("merge", tmp_path)
    assert result.exit_code == 2
    assert "there is no journal in" in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photos", "s.safetensors"), "'photos/a.jpg' belongs to no class"),
        (("supports", "s.bin"), "'s.bin' must end in .safetensors"),
        (("nowhere", "s.safetensors"), "there are no supports 'nowhere'; check the path"),
    ],
)
def test_misuse_of_encode(photos, supports, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("encode", *arguments)
    assert result.exit_code == 2
    assert message in said(result)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "utf-8"])
def test_a_console_of_any_encoding_is_written_to(supports, tmp_path, encoding):
    write_photo(tmp_path / "photos" / "猫.jpg")
    (supports / "box").rename(supports / "猫")
    arguments = ["predict", tmp_path / "photos", "--supports", supports, "--out", tmp_path / "out", "--dry-run"]
    result = CliRunner(charset=encoding).invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    shown = result.stdout_bytes.decode(encoding).splitlines()[0]
    assert shown.endswith("猫.jpg.*" if encoding == "utf-8" else "\\u732b.jpg.*")
    refused = CliRunner(charset=encoding).invoke(main, ["encode", str(supports), "猫.bin"])
    assert (refused.exit_code, refused.stderr_bytes.count(b"\n")) == (2, 1)


def test_the_protocol_is_the_models_own_or_the_one_that_is_asked_for(supports, tmp_path, monkeypatch):
    asked = []

    def loaded(name, **options):
        asked.append(options["protocol"])
        raise ValueError("enough")

    monkeypatch.setattr(FewShotSegmenter, "from_pretrained", loaded)
    for command in (("encode", supports, tmp_path / "s.safetensors"), ("predict", supports, "--supports=s", "--out=o")):
        for options in ((), ("--protocol", "authors"), ("--protocol", "paper")):
            assert run(*command, *options).exit_code == 2
        assert "is not one of 'paper', 'authors'" in run(*command, "--protocol", "mine").stderr
    assert asked == [None, "authors", "paper"] * 2


def test_any_name_is_one_line():
    assert one_line("a b.jpg") == "a b.jpg"
    assert one_line("\x1b[31m\n\udcff\u2028é") == "\\x1b[31m\\n\\udcff\\u2028é"
