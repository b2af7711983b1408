"""Folder runs: nothing lost, nothing mixed up, nothing outside the output folder, whatever happens in between."""

import csv
import errno
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import fscs_sdk.atomic
import fscs_sdk.folder.pipeline
from fscs_sdk import FewShotSegmenter, Prediction
from fscs_sdk.folder import InputsError, Record, Summary, merge_journals, plan_folder, predict_folder, read_journal
from fscs_sdk.folder.inputs import find_inputs, parse_list
from fscs_sdk.folder.journal import OpenJournal, parse_journal, parse_line, write_journal
from fscs_sdk.folder.places import LONGEST_STEM, in_shard, places
from fscs_sdk.folder.plan import Work, is_gone
from fscs_sdk.formats import WRITERS
from stub_model import StubModel, StubSupports, write_photo

quick = settings(max_examples=60, deadline=None, database=None)
NAMES = ("a.jpg", "a.png", "sub/b.jpg", "sub/deep/c.JPG")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        write_photo(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(inputs, out: Path, *, model=None, supports=None, formats=("mask",), **options) -> Summary:
    return predict_folder(model or StubModel(), inputs, supports or StubSupports(), out, formats=formats, **options)


def lines(out: Path, name: str = "journal.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text("ascii").splitlines()]


def records(out: Path) -> dict[str, Record]:
    return read_journal(out / "journal.jsonl").records


def tree(folder: Path) -> dict[str, object]:
    """Every file of a folder with its content; of a journal what does not depend on the clock."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if (path.is_file() or path.is_symlink()) and path.name != ".fscs.lock":
            name = str(path.relative_to(folder))
            journal = name.endswith(".jsonl")
            found[name] = [{**line, "seconds": 0} for line in lines(folder, name)] if journal else path.read_bytes()
    return found


def paths(inputs, out: Path = Path("/nowhere"), **options) -> list[str]:
    return [photo.path for photo in find_inputs(inputs, out=out, **options).photos]


# ---- The answer and its places ---------------------------------------------------------------------------------------


def test_the_tree_is_mirrored_and_the_journal_says_what_was_found(photos, out):
    summary = run(photos, out)
    assert set(tree(out)) == {*(f"{name}.mask.png" for name in NAMES), "journal.jsonl"}
    assert [line["path"] for line in lines(out)] == sorted(NAMES)
    (line,) = (line for line in lines(out) if line["path"] == "sub/b.jpg")
    assert line["status"] == "ok"
    assert line["error"] is None
    assert line["files"] == {"mask": ["sub/b.jpg.mask.png"]}
    assert list(line["presence"]) == list(line["scores"]) == ["bright", "dark"]
    assert line["seconds"] > 0
    assert summary.well
    assert (summary.answered, summary.done_before, summary.failed) == (4, 0, ())
    assert summary.present == {name: sum(line["presence"][name] for line in lines(out)) for name in ("bright", "dark")}


def test_a_files_content_is_the_models_answer(photos, out):
    run(photos, out, formats=("mask", "npz"))
    with Image.open(photos / "sub" / "b.jpg") as image:
        expected = StubModel().answer(np.asarray(image), StubSupports())
    with np.load(out / "sub" / "b.jpg.npz") as maps:
        np.testing.assert_array_equal(maps["foreground"], expected.foreground)
    with Image.open(out / "sub" / "b.jpg.mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected.mask)
    assert records(out)["sub/b.jpg"].scores == pytest.approx(expected.scores, abs=1e-6)


def test_any_way_of_running_gives_the_same_files(photos, tmp_path):
    formats = ("mask", "npz", "csv", "coco")
    run(photos, tmp_path / "plain", formats=formats)
    expected = tree(tmp_path / "plain")
    run(photos, tmp_path / "threads", formats=formats, workers=5)
    assert tree(tmp_path / "threads") == expected
    run([photos / name for name in reversed(NAMES)], tmp_path / "listed", formats=formats)
    listed = tree(tmp_path / "listed")
    assert {**listed, "journal.jsonl": 0} == {**expected, "journal.jsonl": 0}
    for index in (3, 1, 2):
        run(photos, tmp_path / "shards", formats=formats, shard=(index, 3))
    assert merge_journals(tmp_path / "shards").well
    assert tree(tmp_path / "shards") == expected
    run(photos / "sub" / "b.jpg", tmp_path / "alone", formats=formats)
    assert tree(tmp_path / "alone")["b.jpg.npz"] == expected["sub/b.jpg.npz"]


def test_the_real_model_answers_a_photo_the_same_alone_and_in_a_folder(model: FewShotSegmenter, tmp_path):
    supports = {"a": (np.full((40, 40, 3), 90, np.uint8), np.eye(40, dtype=bool))}
    for number in range(3):
        write_photo(tmp_path / "photos" / f"{number}.png", number, (40 + 10 * number, 50))
    encoded = model.encode(supports)
    summary = predict_folder(model, tmp_path / "photos", encoded, tmp_path / "one", formats=("npz",))
    assert (summary.answered, list(summary.present)) == (3, ["a"])
    alone: Prediction = model.predict(tmp_path / "photos" / "2.png", encoded)
    with np.load(tmp_path / "one" / "2.png.npz") as maps:
        np.testing.assert_array_equal(maps["foreground"], alone.foreground)
    predict_folder(model, tmp_path / "photos", supports, tmp_path / "three", formats=("npz", "mask"))
    for number in range(3):
        one, three = np.load(tmp_path / "one" / f"{number}.png.npz"), np.load(tmp_path / "three" / f"{number}.png.npz")
        np.testing.assert_allclose(one["foreground"], three["foreground"], atol=1e-5)
        np.testing.assert_array_equal(one["mask"], three["mask"])
    other = model.encode({"b": (np.full((40, 40, 3), 20, np.uint8), np.eye(40, dtype=bool))})
    assert run(tmp_path / "photos", tmp_path / "one", model=model, supports=encoded, formats=("npz",)).answered == 0
    assert run(tmp_path / "photos", tmp_path / "one", model=model, supports=other, formats=("npz",)).answered == 3


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_written_and_put_together(photos, out, name):
    (photos / "a.png").unlink()  # YOLO takes a.jpg and a.png for one photo
    summary = run(photos, out, formats=(name,))
    assert summary.well
    assert bool(summary.collected) == (WRITERS[name].whole_run is not None)
    for record in records(out).values():
        assert record.files[name]
        assert all((out / file).is_file() for file in record.files[name])
    before = tree(out)
    assert run(photos, out, formats=(name,)).answered == 0
    assert tree(out) == before


def test_what_a_format_cannot_put_together_is_told_and_the_rest_is_done(photos, out):
    summary = run(photos, out, formats=("yolo", "csv"))
    assert not summary.well
    (problem,) = summary.problems
    assert "yolo/data.yaml was not written: YOLO takes 'a.jpg' and 'a.png'" in problem
    assert (out / "presence.csv").is_file()


# ---- Which photos ----------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_folder_that_holds_all_inputs(photos, tmp_path):
    assert paths([photos]) == sorted(NAMES)
    assert paths([photos / "sub" / "b.jpg"]) == ["b.jpg"]
    write_photo(tmp_path / "more" / "a.jpg")
    both = [*(f"photos/{name}" for name in NAMES), "more/a.jpg"]
    assert paths([photos, tmp_path / "more"]) == sorted(both)
    assert paths([tmp_path / "more" / "a.jpg", photos]) == sorted(both)
    assert paths([photos / "sub", photos / "a.jpg"]) == ["a.jpg", "sub/b.jpg", "sub/deep/c.JPG"]
    assert paths([photos / "sub"], root=tmp_path) == ["photos/sub/b.jpg", "photos/sub/deep/c.JPG"]
    with pytest.raises(InputsError, match="outside the root"):
        paths([photos], root=photos / "sub")


def test_a_photo_that_is_named_twice_is_one(photos):
    again = os.path.join(photos, "sub", "..", "a.jpg")
    assert paths([photos, photos / "a.jpg", again, photos / "sub"]) == sorted(NAMES)


def test_patterns_give_what_the_shell_would_give(photos, monkeypatch):
    write_photo(photos / ".hidden.jpg")
    monkeypatch.chdir(photos)
    for pattern in ("*.jpg", "*/*.jpg", "**/*.jpg", "s?b/*", "[ab].*", "**/c*", "sub", "./a.*"):
        command = f'import glob; print("\\0".join(glob.glob({pattern!r}, recursive=True)), end="")'
        expanded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
        assert paths([pattern]) == paths(expanded.split("\0")), pattern


def test_a_name_with_a_patterns_characters_is_a_name_first(photos):
    write_photo(photos / "x[1].jpg")
    write_photo(photos / "x1.jpg")
    assert paths([photos / "x[1].jpg"]) == ["x[1].jpg"]
    assert paths([photos / "x[1]*"]) == ["x1.jpg"]


def test_a_pattern_ends_in_a_circle_of_links(photos):
    for number in range(3):
        (photos / "sub" / f"circle{number}").symlink_to(photos)
    assert paths([photos / "**" / "*.jpg"]) == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_names_inputs(photos, tmp_path, separator):
    odd = write_photo(photos / "b*[1].jpg")
    entries = [
        str(photos / "a.jpg"),
        str(odd),
        "",
        str(photos / "sub"),
        str(photos / "gone*.jpg"),
        str(photos / "a.jpg"),
    ]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + separator.join(entries).encode())
    found = find_inputs([f"@{tmp_path}/list.txt"], out="/nowhere").photos
    assert [photo.path for photo in found] == ["a.jpg", "b*[1].jpg", "gone*.jpg", "sub/b.jpg", "sub/deep/c.JPG"]
    assert [photo.path for photo in found if photo.problem] == ["gone*.jpg"]


def test_a_lists_entries_are_any_bytes():
    assert parse_list(b"a\xff b\n-c \n", "x") == ["a\udcff b", "-c "]
    assert parse_list(b"new\nline\0b\0", "x") == ["new\nline", "b"]
    for content, said in ((b"\n\n", "names no photo"), ("ä".encode("utf-16"), "UTF-16"), (b"\xfe\xff\0a", "UTF-16")):
        with pytest.raises(InputsError, match=said):
            parse_list(content, "x")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no photos are given"),
        ([""], "an input is empty"),
        (["nowhere"], "'nowhere' does not exist; check the path"),
        (["nowhere", "*.xyz"], r"'\*\.xyz' does not exist, nor can 1 other be read; check"),
        (["@nolist"], "the list 'nolist' cannot be read"),
        (["empty"], r"no photos in 'empty' \(but 1 hidden ones, 1 other files\); check the path"),
    ],
)
def test_inputs_that_are_not_there_are_refused_before_anything_is_written(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (tmp_path / "empty" / ".a.jpg").touch()
    with pytest.raises(InputsError, match=said):
        run(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_of_a_folder_is_counted(photos, out):
    write_photo(photos / "._a.jpg")
    write_photo(photos / ".cache" / "x.jpg")
    (photos / "readme.txt").touch()
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    found = run(photos, out).inputs
    assert (len(found.photos), found.links, found.hidden, found.others, found.results) == (4, 1, 2, 1, 0)


def test_the_output_folder_inside_an_input_folder_is_never_read(photos):
    inside, other = photos / "results", photos / "sub" / "more"
    assert run(photos, inside, formats=("overlay",)).answered == 4
    assert run(photos, other, formats=("overlay",)).answered == 4
    again = run(photos, inside, formats=("overlay",))
    assert (again.answered, again.done_before, again.inputs.results) == (0, 4, 1)
    assert run(photos, photos / "third", formats=("overlay",)).inputs.results == 2


@pytest.mark.parametrize("given", ["out", "out/a.jpg", "out/sub", "link"])
def test_an_input_in_the_output_folder_is_refused(tmp_path, given):
    write_photo(tmp_path / "out" / "a.jpg")
    write_photo(tmp_path / "out" / "sub" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "out" / "sub")
    with pytest.raises(InputsError, match="lies in the output folder; choose another"):
        run(tmp_path / given, tmp_path / "out")


def test_links_are_followed_on_request_alone_and_circles_end(photos, tmp_path, out):
    far = write_photo(tmp_path / "elsewhere" / "far.jpg")
    (photos / "link.jpg").symlink_to(far)
    (photos / "aside").symlink_to(far.parent)
    (photos / "also").symlink_to(photos / "sub")
    (photos / "sub" / "up").symlink_to(photos)
    (photos / "sub" / "self").symlink_to("self")
    (photos / "broken.jpg").symlink_to(tmp_path / "nothing")
    assert paths([photos]) == sorted(NAMES)
    followed = find_inputs([photos], out=out, follow_links=True)
    assert [photo.path for photo in followed.photos] == sorted([*NAMES, "aside/far.jpg", "broken.jpg", "link.jpg"])
    assert paths([photos / "link.jpg"]) == ["link.jpg"]
    assert paths([photos / "aside"]) == ["far.jpg"]
    summary = run(photos, out, follow_links=True)
    assert [record.path for record in summary.failed] == ["broken.jpg"]


def test_followed_links_do_not_lead_into_the_output_folder(photos):
    out = photos / "out"
    run(photos, out, formats=("overlay",))
    (photos / "sneaky").symlink_to(out / "sub")
    (photos / "sneaky.jpg").symlink_to(out / "a.jpg.overlay.jpg")
    assert run(photos, out, formats=("overlay",), follow_links=True).answered == 0


# ---- Places ----------------------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def test_names_that_some_file_systems_take_for_one_are_kept_apart():
    given = ["a.jpg", "A.jpg", "b.jpg", "Sub/c.jpg", "sub/c.jpg", "nai\u0308ve.jpg", "na\u00efve.jpg"]
    found = places(given)
    assert found["b.jpg"] == "b.jpg"
    assert len({folded(place) for place in found.values()}) == len(given)
    assert all("~" in place and place.endswith(".jpg") for path, place in found.items() if path != "b.jpg")
    assert places(reversed(given)) == found


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("10:30.jpg", r"10_30~[0-9a-f]{16}\.jpg"),
        ('a<b>"c|d?e*.jpg', r"a_b__c_d_e_~[0-9a-f]{16}\.jpg"),
        ("back\\slash.jpg", r"back_slash~[0-9a-f]{16}\.jpg"),
        ("NUL.jpg", r"_NUL~[0-9a-f]{16}\.jpg"),
        ("con.tar.jpg", r"_con\.tar~[0-9a-f]{16}\.jpg"),
        ("dots./a.jpg", r"dots\.~[0-9a-f]{16}/a\.jpg"),
        ("aux/a.jpg", r"_aux~[0-9a-f]{16}/a\.jpg"),
        ("console.jpg", r"console\.jpg"),
        ("com.jpg", r"com\.jpg"),
        ("é 猫.jpg", r"é 猫\.jpg"),
    ],
)
def test_names_that_windows_forbids_are_marked(name, place):
    assert re.fullmatch(place, places([name])[name])


def test_a_name_that_looks_marked_is_no_way_to_overwrite():
    marked = places(["a.jpg", "A.jpg"])
    for other in [*marked.values(), *(place.upper() for place in marked.values())]:
        assert len({folded(place) for place in places(["a.jpg", "A.jpg", other]).values()}) == 3


def test_names_do_not_stand_in_the_way_of_other_results(tmp_path, out):
    given = (
        "a.jpg",
        "a.jpg.mask.png/b.jpg",
        "x/b.jpg.yolo.jpg",
        "yolo/labels/x/b.jpg",
        "presence",
        "journal.jsonl/c.jpg",
    )
    for number, name in enumerate(given):
        write_photo(tmp_path / "photos" / name, number)
    write_photo(tmp_path / "photos" / "annotations")
    inputs = [tmp_path / "photos", tmp_path / "photos" / "presence", tmp_path / "photos" / "annotations"]
    summary = run(inputs, out, formats=tuple(WRITERS))
    assert summary.well
    files = [file for record in records(out).values() for file in record.all_files()]
    files += [path.relative_to(summary.out).as_posix() for path in summary.collected]
    assert len(files) == len(set(files))
    assert set(tree(out)) == {*files, "journal.jsonl"}


def test_a_place_changes_with_a_new_twin_and_the_old_results_go(tmp_path, out):
    write_photo(tmp_path / "photos" / "a.jpg")
    run(tmp_path / "photos", out)
    write_photo(tmp_path / "photos" / "A.jpg", 1)
    assert run(tmp_path / "photos", out).answered == 2
    assert set(tree(out)) == {"journal.jsonl", *(f for r in records(out).values() for f in r.all_files())}
    assert len(tree(out)) == 3


part = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=90),
    st.binary(min_size=1, max_size=250).map(os.fsdecode),
    st.sampled_from(
        ["a", "A", "yolo", "Yolo", "a.mask.png", "annotations", "x" * 255, "ß" * 120, "SS" * 120, "é", "e\u0301"]
    ),
    st.sampled_from(["con", "Aux.tar.jpg", "nul .", "lpt9.x", "a:b", "a.", "a "]),
).filter(lambda text: text not in (".", "..") and not {"/", "\0"} & set(text))
path = st.lists(part, min_size=1, max_size=3).map("/".join)


@quick
@given(st.sets(path, max_size=8), st.randoms())
@example({"a/B.jpg", "A/b.jpg", "a/b.JPG"}, None)
def test_places_are_injective_short_and_inside(given_paths, random):
    found = places(given_paths)
    assert set(found) == given_paths
    assert len({folded(place) for place in found.values()}) == len(given_paths)
    for place in found.values():
        *folders, name = place.split("/")
        for one in (*folders, f"{name}.mask.png"):  # what Windows takes, and so all others
            assert not set(one) & {*'<>:"\\|?*', *map(chr, range(32))}
            assert not one.endswith((" ", "."))
            assert one.split(".")[0].rstrip(" ").upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
        assert all(len(os.fsencode(part)) <= 255 for part in folders)
        assert len(os.fsencode(name)) <= LONGEST_STEM
    results = {
        folded(f"{place}{format.ending or '.1-a.png'}") for place in found.values() for format in WRITERS.values()
    }
    folders = {
        folded("/".join(place.split("/")[:end])) for place in found.values() for end in range(1, place.count("/") + 1)
    }
    reserved = {format.whole_run for format in WRITERS.values() if format.whole_run} | {"journal.jsonl", "yolo"}
    assert not results & (folders | reserved)
    assert not folders & reserved
    if random is not None:
        shuffled = sorted(given_paths)
        random.shuffle(shuffled)
        assert places(shuffled) == found


@quick
@given(st.sets(path, max_size=30), st.integers(1, 9))
def test_shards_are_a_partition(given_paths, count):
    shards = [{one for one in given_paths if in_shard(one, (index, count))} for index in range(1, count + 1)]
    assert sum(map(len, shards)) == len(given_paths)
    assert set().union(*shards) == given_paths


def test_shards_are_about_equal_and_do_not_depend_on_the_form_of_accents():
    sizes = [sum(in_shard(f"{number:05}.jpg", (index, 8)) for number in range(4000)) for index in range(1, 9)]
    assert min(sizes) > 400
    assert [in_shard("e\u0301", (i, 8)) for i in range(1, 9)] == [in_shard("é", (i, 8)) for i in range(1, 9)]


@pytest.mark.parametrize("options", [{"shard": (0, 2)}, {"shard": (3, 2)}, {"workers": 0}])
def test_options_out_of_range_are_refused(photos, out, options):
    with pytest.raises(ValueError, match=r"shard|at least 1"):
        run(photos, out, **options)
    assert not out.exists()


ODD_NAMES = [
    b"sp ace.jpg", b"quo'te\".jpg", b"new\nline.jpg", b"-dash.jpg", b"\xff\xfe.jpg", b"x" * 251 + b".jpg",
    "é".encode() * 125 + b".jpg", b"x" * 250 + b"y.jpg", b"back\\slash.jpg", b"a:b.jpg", b"*.jpg", b"\x1b[31m.jpg",
    b"@x.jpg",
]  # fmt: skip


def test_odd_names_are_answered(tmp_path, out):
    (tmp_path / "photos").mkdir()
    content = write_photo(tmp_path / "source.png").read_bytes()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(tmp_path / "photos"), name), "wb") as file:
            file.write(content)
    formats = tuple(WRITERS)
    summary = run(tmp_path / "photos", out, formats=formats)
    assert summary.well, (summary.failed, summary.problems)
    assert {os.fsencode(line["path"]) for line in lines(out)} == set(ODD_NAMES)
    assert all(len(os.fsencode(path.name)) <= 255 for path in out.rglob("*"))
    assert run(tmp_path / "photos", out, formats=formats).done_before == len(ODD_NAMES)


# ---- Failures --------------------------------------------------------------------------------------------------------


def test_bad_files_are_recorded_and_the_run_goes_on(photos, out):
    (photos / "empty.jpg").touch()
    (photos / "torn.jpg").write_bytes((photos / "a.jpg").read_bytes()[:60])
    (photos / "text.png").write_text("no photo")
    os.mkfifo(photos / "pipe.jpg")
    write_photo(photos / "unlucky.png", size=(13, 13))
    write_photo(photos / "huge.png", size=(100, 101))
    causes = {
        "empty.jpg": "is empty", "torn.jpg": "is damaged", "text.png": "is not an image", "pipe.jpg": "is not a file",
        "unlucky.png": "13 x 13 is unlucky", "huge.png": "the limit is 10000", "gone.jpg": "does not exist",
    }  # fmt: skip
    summary = run([photos, photos / "gone.jpg"], out, max_pixels=10_000)
    assert summary.answered == 4
    assert not summary.well
    assert {record.path: record.status for record in summary.failed} == dict.fromkeys(sorted(causes), "failed")
    assert sorted(line["path"] for line in lines(out)) == sorted([*NAMES, *causes])
    for name, cause in causes.items():
        record = records(out)[name]
        assert cause in (record.error or "")
        assert "\n" not in (record.error or "")
        assert not record.files


def test_failed_photos_are_tried_again(photos, out):
    (photos / "bad.jpg").touch()
    assert len(run(photos, out).failed) == 1
    write_photo(photos / "bad.jpg", 7)
    again = run(photos, out)
    assert (again.answered, again.done_before, again.failed) == (1, 4, ())


def test_a_photo_that_vanishes_after_the_listing_is_recorded(photos, out):
    def progress(done, total, record):
        if record is None:
            (photos / "sub" / "deep" / "c.JPG").unlink()

    summary = run(photos, out, progress=progress)
    assert [record.path for record in summary.failed] == ["sub/deep/c.JPG"]
    assert summary.answered == 3


def test_a_folder_that_cannot_be_read_is_recorded(photos, out, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    summary = run(photos, out)
    assert summary.answered == 3
    (failure,) = summary.failed
    assert failure.path == "sub/deep"
    assert "cannot be read: Permission denied" in (failure.error or "")


def test_a_place_that_cannot_be_written_fails_alone(photos, out):
    out.mkdir()
    (out / "sub").write_text("in the way")
    summary = run(photos, out)
    assert summary.answered == 2
    assert {record.path for record in summary.failed} == {"sub/b.jpg", "sub/deep/c.JPG"}
    assert "is a file where a folder is needed; move it away" in (summary.failed[0].error or "")


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(photos, tmp_path, out, monkeypatch):
    run(photos, tmp_path / "whole")
    replace, calls = os.replace, itertools.count()

    def full(*arguments):
        if next(calls) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device", "temporary")
        replace(*arguments)

    monkeypatch.setattr(fscs_sdk.atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        run(photos, out, workers=1)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).endswith(".mask.png")
    monkeypatch.undo()
    assert not list(out.rglob("*.tmp"))
    assert not [record for record in records(out).values() if record.status == "failed"]
    run(photos, out)
    assert tree(out) == tree(tmp_path / "whole")


def test_a_disk_that_is_full_for_the_journal_leaves_it_whole(photos, out, monkeypatch):
    out.mkdir()
    write, calls = os.write, itertools.count()

    def full(descriptor, data):
        if next(calls) >= 2:
            write(descriptor, data[:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left.*journal\.jsonl"):
        run(photos, out)
    monkeypatch.undo()
    content = (out / "journal.jsonl").read_bytes()
    assert content.endswith(b"\n")
    assert [json.loads(line)["status"] for line in content.splitlines()] == ["pending"] * 4 + ["ok"]
    assert run(photos, out).done_before == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX system")
def test_files_beyond_the_systems_limit_leave_nothing_half_written(photos, out):
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    with child(photos, out, "npz", preexec=limit) as process:
        process.wait(60)
    left = set(tree(out))
    assert left <= {"journal.jsonl", *(f"{name}.npz" for name in NAMES)}
    assert run(photos, out, formats=("npz",)).well


# ---- Nothing outside the output folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sub", "yolo", "yolo/labels", "journal.jsonl", "a.jpg.mask.png", "presence.csv"])
def test_a_link_in_the_output_folder_leads_nowhere(photos, tmp_path, out, name):
    (photos / "a.png").unlink()
    victim = tmp_path / "victim"
    folder = name in ("sub", "yolo", "yolo/labels")
    victim.mkdir() if folder else victim.write_text("keep\n")
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(victim)
    try:
        summary = run(photos, out, formats=("mask", "yolo", "csv"))
    except OSError as error:
        assert name == "journal.jsonl"
        assert "is a link, which might lead anywhere; remove it" in str(error)  # noqa: PT017
    else:
        assert summary.well == (not folder)
        told = [*summary.problems, *(record.error or "" for record in summary.failed)]
        assert all("is a link, which might lead out of the output folder; remove it" in text for text in told)
    assert list(victim.rglob("*")) == [] if folder else victim.read_text() == "keep\n"


def test_an_output_folder_that_is_a_link_is_meant(photos, tmp_path, out):
    (tmp_path / "real").mkdir()
    out.symlink_to(tmp_path / "real")
    assert run(photos, out).well
    assert (tmp_path / "real" / "sub" / "b.jpg.mask.png").is_file()


def test_a_journal_cannot_make_a_run_delete_what_is_not_its_own(photos, tmp_path, out):
    victim = tmp_path / "victim.txt"
    victim.write_text("keep")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "x").write_text("keep")
    out.mkdir()
    (out / "aside").symlink_to(tmp_path / "aside")
    for file in ("../victim.txt", str(victim), "aside/x", "./x", ""):
        line = {"path": "a.jpg", "status": "ok", "files": {"mask": [file]}, "stale": [file]}
        (out / "journal.jsonl").write_text(json.dumps(line) + "\n")
        assert run(photos, out, overwrite=True).well
    assert victim.exists()
    assert (tmp_path / "aside" / "x").exists()


# ---- Again -----------------------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing(photos, out):
    run(photos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    model = StubModel()
    again = run(photos, out, model=model)
    assert (again.answered, again.done_before, model.asked) == (0, 4, [])
    assert again.present == {"bright": 4, "dark": 4}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_what_changed_is_done_again_and_nothing_else(photos, out):
    run(photos, out)
    write_photo(photos / "a.jpg", 99)
    os.utime(photos / "a.png", ns=(1, 1))  # the same content
    (out / "sub" / "b.jpg.mask.png").unlink()
    first = run(photos, out)
    assert (first.answered, first.renewed) == (2, 0)
    other = run(photos, out, supports=StubSupports(threshold=0.7))
    assert (other.answered, other.renewed) == (4, 4)
    again = run(photos, out, supports=StubSupports(threshold=0.7))
    assert (again.answered, again.renewed) == (0, 0)
    assert run(photos, out, supports=StubSupports(0.7, names=("dark", "bright"))).answered == 4
    for name, value in (("identity", "stub@1"), ("protocol", "authors"), ("edges", True)):
        model = StubModel()
        setattr(model, name, value)
        assert run(photos, out, model=model).answered == 4
        assert run(photos, out, model=model).answered == 0
        assert run(photos, out, model=model, overwrite=True).answered == 4


def test_a_model_of_another_name_is_the_same_model(photos, out):
    run(photos, out)
    model = StubModel()
    for name in ("copy", "me@home"):
        model.identity = f"{name}@0"
        assert run(photos, out, model=model).answered == 0


def test_more_formats_are_added_and_those_of_other_supports_go(photos, out):
    run(photos, out, formats=("mask", "npz"))
    assert run(photos, out, formats=("csv",)).answered == 4
    assert set(records(out)["a.jpg"].files) == {"mask", "npz", "csv"}
    assert run(photos, out, formats=("npz", "mask", "csv")).answered == 0
    run(photos, out, formats=("mask",), supports=StubSupports(0.7))
    assert set(tree(out)) == {*(f"{name}.mask.png" for name in NAMES), "journal.jsonl", "presence.csv"}


def test_a_failure_keeps_the_old_results_and_names_them(photos, out):
    run(photos, out)
    content = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(b"broken")
    run(photos, out, formats=("npz",))
    assert records(out)["a.jpg"].stale == ("a.jpg.mask.png",)
    assert (out / "a.jpg.mask.png").is_file()
    (photos / "a.jpg").write_bytes(content + b"\0")
    run(photos, out, formats=("npz",))
    assert records(out)["a.jpg"].stale == ()
    assert not (out / "a.jpg.mask.png").exists()


def test_results_of_photos_that_a_run_was_not_asked_about_are_kept(photos, out):
    (photos / "bad.jpg").touch()
    run(photos, out, formats=("csv",))
    table = (out / "presence.csv").read_bytes()
    summary = run(photos / "a.jpg", out, formats=("csv",))
    assert (summary.answered, summary.done_before) == (0, 1)
    assert sorted(records(out)) == sorted(NAMES)
    assert (out / "presence.csv").read_bytes() == table
    other = run(photos / "a.jpg", out, formats=("csv",), supports=StubSupports(names=("x", "y")))
    assert other.well
    assert (out / "presence.csv").read_text().count("\n") == 3


def test_a_dry_run_writes_nothing(photos, out):
    plan = plan_folder(StubModel(), photos, StubSupports(), out, formats=("mask",))
    assert [photo.path for photo in plan.todo] == sorted(NAMES)
    assert not out.exists()
    run(photos, out)
    write_photo(photos / "a.png", 5)
    before = tree(out)
    plan = plan_folder(StubModel(), photos, StubSupports(), out, formats=("mask",))
    assert ([photo.path for photo in plan.todo], len(plan.done)) == (["a.png"], 3)
    assert tree(out) == before


@pytest.mark.parametrize("formats", [(), ("nonsense",)])
def test_formats_that_do_not_exist_are_refused(photos, out, formats):
    with pytest.raises(ValueError, match="format"):
        run(photos, out, formats=formats)
    assert not out.exists()


def test_supports_may_be_a_mapping_and_must_be_the_models(photos, out):
    assert run(photos, out, supports={"one": 1, "two": 2}).present == {"one": 4, "two": 4}
    with pytest.raises(ValueError, match="encoded by another model"):
        run(photos, out, supports=object())


def test_supports_may_be_a_path_as_on_the_command_line(photos, tmp_path, out):
    for name in ("one", "two"):
        write_photo(photos / "refs" / name / "x.png")
    summary = run(photos, out, supports=photos / "refs")
    assert (summary.answered, summary.inputs.supports, list(summary.present)) == (4, 1, ["one", "two"])
    assert run(photos, out, supports=str(photos / "refs")).done_before == 4
    (tmp_path / "other.safetensors").write_bytes(b"else")
    for path, said in ((tmp_path / "other.safetensors", "not a support set"), (tmp_path / "nowhere", "nowhere'")):
        with pytest.raises((ValueError, OSError), match=said):
            run(photos, out, supports=path)


def test_the_output_folder_may_not_be_a_file(photos, out):
    out.touch()
    for start in (run, lambda photos, out: plan_folder(StubModel(), photos, StubSupports(), out)):
        with pytest.raises(InputsError, match="is a file; choose a folder"):
            start(photos, out)


# ---- Whose results ---------------------------------------------------------------------------------------------------


def rows(out: Path) -> dict[str, list[str]]:
    """Photo -> presence of its classes, of the table of the whole run."""
    table: dict[str, list[str]] = {}
    for row in csv.DictReader((out / "presence.csv").read_text("utf-8").splitlines()):
        table.setdefault(row["photo"], []).append(row["present"])
    return table


@pytest.mark.parametrize("same_times", [True, False])
@pytest.mark.parametrize("inputs", [("day1", "day2"), ("day1/a.png", "day2/a.png"), ("day1/*", "day2/*")])
def test_another_photo_of_the_same_name_is_refused_and_nothing_is_written(tmp_path, out, same_times, inputs):
    for number, day in enumerate(("day1", "day2")):
        write_photo(tmp_path / day / "a.png", number)
        os.utime(tmp_path / day / "a.png", ns=(10**18 + number * (not same_times),) * 2)
    first, second = (tmp_path / text for text in inputs)
    run(first, out, formats=("csv",))
    before = tree(out)
    for begin in (run, lambda *arguments, **options: plan_folder(StubModel(), second, StubSupports(), out)):
        with pytest.raises(InputsError, match=r"day1/a.png' there and '.*day2/a.png' here; choose another output"):
            begin(second, out, formats=("csv",))
    assert tree(out) == before
    assert run([first, second], out, formats=("csv",)).answered == 2
    assert sorted(rows(out)) == ["day1/a.png", "day2/a.png"]
    assert set(tree(out)) == {"journal.jsonl", "presence.csv", "day1/a.png.csv", "day2/a.png.csv"}


def test_another_photo_of_the_same_name_replaces_results_where_that_is_asked_for(tmp_path, out):
    for number, day in enumerate(("day1", "day2")):
        write_photo(tmp_path / day / "a.png", number)
    run(tmp_path / "day1", out, formats=("csv", "mask"))
    assert run(tmp_path / "day2", out, formats=("csv",), overwrite=True).answered == 1
    assert set(tree(out)) == {"journal.jsonl", "presence.csv", "a.png.csv"}
    assert records(out)["a.png"].source == str(tmp_path / "day2" / "a.png")


def test_a_content_that_changed_is_seen_whatever_its_size_and_time(photos, out):
    run(photos, out)
    before = os.stat(photos / "a.png")
    content = bytearray((photos / "a.png").read_bytes())
    content[-20] ^= 0  # the same content, and then another
    for change, answered in ((0, 0), (255, 1)):
        content[60] ^= change
        (photos / "a.png").write_bytes(content)
        os.utime(photos / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
        summary = run(photos, out)
        assert summary.answered + len(summary.failed) == answered


def test_photos_that_moved_keep_their_results_and_others_of_their_names_do_not_take_them(photos, tmp_path, out):
    run(photos, out)
    photos.rename(tmp_path / "archive")
    moved = run(tmp_path / "archive", out)
    assert (moved.answered, moved.done_before) == (0, 4)
    assert records(out)["a.jpg"].source == str(tmp_path / "archive" / "a.jpg")
    write_photo(photos / "a.jpg", 50)
    with pytest.raises(InputsError, match="holds results of other photos"):
        run(photos, out)
    (tmp_path / "archive").rename(tmp_path / "elsewhere")  # not there, but its results are
    with pytest.raises(InputsError, match="holds results of other photos"):
        run(photos, out)


def test_a_folder_by_its_link_or_from_elsewhere_is_the_same_folder(photos, tmp_path, out, monkeypatch):
    run(photos, out)
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(photos)
    for name in (".", "../photos", str(tmp_path / "link")):
        assert run(name, out).done_before == 4
    assert {record.source for record in records(out).values()} == {str(photos / name) for name in NAMES}


def test_a_photo_has_one_result_from_whichever_folder_it_is_asked_for(photos, out):
    run(photos, out, formats=("csv",))
    assert run(photos / "sub", out, formats=("csv",)).answered == 2
    assert sorted(rows(out)) == ["a.jpg", "a.png", "b.jpg", "deep/c.JPG"]
    assert not (out / "sub" / "b.jpg.csv").exists()
    run(photos, out, formats=("csv",))
    assert sorted(rows(out)) == sorted(NAMES)


@pytest.mark.parametrize("formats", [("csv", "yolo", "coco"), ("mask",)])
def test_what_is_gone_leaves_what_was_put_together(photos, out, formats):
    (photos / "a.png").unlink()
    run(photos, out, formats=("csv", "yolo", "coco"))
    (photos / "sub" / "b.jpg").unlink()
    (out / "yolo" / "labels" / "sub" / "mine.txt").write_text("not ours")
    summary = run(photos, out, formats=formats)  # also where other formats are wanted now
    assert (summary.gone, summary.well) == (1, True)
    left = {"a.jpg", "sub/deep/c.JPG"}
    assert set(rows(out)) == left
    assert {image["file_name"] for image in json.loads((out / "annotations.coco.json").read_bytes())["images"]} == left
    labels = {path.relative_to(out / "yolo" / "labels").as_posix() for path in (out / "yolo").rglob("*.txt")}
    assert labels == {"a.txt", "sub/deep/c.txt", "sub/mine.txt"}
    assert (out / "sub" / "b.jpg.csv").is_file()  # its own results stay
    assert records(out)["sub/b.jpg"].status == "gone"
    write_photo(photos / "sub" / "b.jpg", 2)
    assert run(photos, out, formats=("csv", "yolo", "coco")).gone == 0
    assert set(rows(out)) == left | {"sub/b.jpg"}


def test_a_photo_is_gone_where_the_folder_of_its_run_is_there_without_it(tmp_path):
    photo = tmp_path / "sub" / "a.jpg"
    assert is_gone(Record("sub/a.jpg", "ok", source=str(photo)))
    write_photo(photo)
    assert not is_gone(Record("sub/a.jpg", "gone", source=str(photo)))  # it is back
    unplugged = str(tmp_path / "unplugged" / "sub" / "a.jpg")
    assert not is_gone(Record("sub/a.jpg", "ok", source=unplugged))
    assert is_gone(Record("sub/a.jpg", "gone", source=unplugged))  # as it was before
    assert not is_gone(Record("a.jpg", "ok", source=str(tmp_path / "b.jpg")))  # which folder is not known


def test_photos_on_a_disk_that_is_not_there_are_not_gone(photos, tmp_path, out):
    run(photos, out, formats=("csv",))
    photos.rename(tmp_path / "unplugged")
    write_photo(tmp_path / "other" / "x.png")
    summary = run(tmp_path / "other", out, formats=("csv",))
    assert (summary.earlier, summary.gone) == (4, 0)
    assert set(rows(out)) == {*NAMES, "x.png"}


def test_photos_that_are_left_out_now_leave_too(photos, out):
    run(photos, out, formats=("csv",))
    summary = run(photos, out, formats=("csv",), leave_out=(photos / "sub",))
    assert (summary.gone, summary.inputs.supports) == (2, 1)
    assert set(rows(out)) == {"a.jpg", "a.png"}


def test_supports_that_are_named_or_hold_the_input_are_photos(photos):
    assert paths([photos], leave_out=[photos / "sub" / "deep", photos / "a.png"]) == ["a.jpg", "sub/b.jpg"]
    for named in (photos, photos / "sub", photos / "sub" / "b.jpg"):
        assert "b.jpg" in " ".join(paths([named], leave_out=[photos]))
    (photos / "again").symlink_to(photos / "sub")
    assert paths([photos], leave_out=[photos / "again"], follow_links=True) == ["a.jpg", "a.png"]


@pytest.mark.parametrize("given", ["https://a.b/x.jpg", "s3://bucket/x", "@list"])
def test_a_web_address_is_told_from_a_missing_file(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    Path("list").write_text("http://a.b/x.jpg\n")
    with pytest.raises(InputsError, match=r"the input '.*://.*' is a web address, not a file; download it first"):
        find_inputs([given], out="out")


def test_one_dash_is_a_list_on_standard_input_unless_a_file_is_called_so(photos, monkeypatch):
    monkeypatch.chdir(photos)
    for content in (b"a.jpg\nsub\n", b"a.jpg\0sub\0"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert paths(["-"]) == ["a.jpg", "sub/b.jpg", "sub/deep/c.JPG"]
    write_photo(photos / "-")
    assert paths(["-"]) == ["-"]


@pytest.mark.parametrize("given", [5, None, [5], [["a"]], b"a.jpg", {"a": 1}])
def test_inputs_of_another_kind_are_refused(out, given):
    with pytest.raises(InputsError, match=r"must be (the path|paths) of"):
        run(given, out)


def test_one_format_and_a_shard_in_text_are_taken(photos, out):
    assert run(photos, out, formats="csv").well
    assert set(rows(out)) == set(NAMES)
    assert run(photos, out, formats="csv", shard="1/1").done_before == 4
    for wrong in ("2/1", "x", "1", "0/2"):
        with pytest.raises(ValueError, match=f"'{wrong}' is no shard; write I/N"):
            run(photos, out, shard=wrong)


def test_a_run_does_not_depend_on_how_its_answers_are_computed(photos, tmp_path, out, model):
    """Supports that were encoded with another dtype and number of threads have other features, of the same source."""
    classes = {"a": (np.full((40, 40, 3), 90, np.uint8), np.eye(40, dtype=bool))}
    encoded = model.encode(classes)
    for level in encoded.features:
        assert all(feature.numel() for feature in level)
    rounded = replace(encoded, features=tuple(tuple(x * (1 + 1e-6) for x in level) for level in encoded.features))
    keys = {Work(model, supports, ("mask",), None, 1, 2.0).run_key() for supports in (encoded, rounded, classes)}
    assert len(keys) == 1
    assert Work(model, encoded.with_thresholds(0.9), ("mask",), None, 1, 2.0).run_key() not in keys
    older = replace(encoded, source="")  # a file of an earlier version
    assert Work(model, older, ("mask",), None, 1, 2.0).run_key() not in keys


days = st.lists(
    st.tuples(
        st.sampled_from(["day1", "day2"]),
        st.sets(st.sampled_from(["a.png", "b.png", "c.png"]), min_size=1),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


@settings(quick, max_examples=40)
@given(days)
def test_whatever_runs_follow_each_other_a_row_is_of_its_photo(tmp_path_factory, steps):
    """Folders of equal names, whose photos come, go and change, into one output folder."""
    base = tmp_path_factory.mktemp("days")
    out, said = base / "out", {}
    for day, names, seed in steps:
        for name in ("a.png", "b.png", "c.png"):
            (base / day / name).unlink(missing_ok=True)
            if name in names:
                content = write_photo(base / day / name, seed + 10 * (day == "day2"))
                os.utime(content, ns=(10**18, 10**18))
        try:
            run(base / day, out, formats=("csv",))
        except InputsError as error:
            assert "holds results of other photos" in str(error)  # noqa: PT017
            continue
        said = rows(out)
        assert {name for name, record in records(out).items() if record.status == "ok"} == set(said)
        assert names <= set(said)
        for name in said:
            source = Path(records(out)[name].source)
            with Image.open(source) as image:
                answer = StubModel().answer(np.asarray(image), StubSupports())
            if source.parent == base / day:
                assert said[name] == [str(present).lower() for present in answer.present.values()]
                assert name in names


# ---- Interrupted -----------------------------------------------------------------------------------------------------


def child(folder: Path, out: Path, *formats: str, pause: float = 0.0, preexec=None) -> subprocess.Popen:
    command = [
        sys.executable,
        str(Path(__file__).parent / "folder_child.py"),
        str(folder),
        str(out),
        str(pause),
        *formats,
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment, preexec_fn=preexec, **pipes)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_resumes_to_the_same_result(tmp_path, out, how):
    folder = tmp_path / "photos"
    for number in range(12):
        write_photo(folder / f"{number:02}.png", number)
    run(folder, tmp_path / "whole", formats=("mask", "csv"))
    with child(folder, out, "mask", "csv", pause=0.03) as process:
        for _ in range(4):
            assert process.stdout.readline()
        process.send_signal(how)
        process.wait(60)
    assert process.returncode != 0
    contents = read_journal(out / "journal.jsonl")
    assert 4 <= len(contents.records) < 12
    assert len(contents.records) + len(contents.pending) == 12
    for path in out.rglob("*.png"):
        Image.open(path).load()
    summary = run(folder, out, formats=("mask", "csv"))
    assert summary.done_before == len(contents.records)
    assert tree(out) == tree(tmp_path / "whole")


@quick
@given(st.data())
def test_a_run_that_ends_at_any_write_resumes_to_the_same_result(tmp_path_factory, data):
    """Wherever the process ends, between or in the middle of what it does to the disk."""
    base = tmp_path_factory.mktemp("crash")
    for number, name in enumerate(NAMES):
        write_photo(base / "photos" / name, number)
    earlier = data.draw(st.booleans())
    if earlier:
        run(base / "photos", base / "out", formats=("mask", "csv"), supports=StubSupports(0.7))
    crash = data.draw(st.integers(0, 40))
    calls, real = (
        itertools.count(),
        {name: getattr(os, name) for name in ("write", "replace", "fsync", "unlink", "mkdir")},
    )

    class Killed(BaseException):
        pass

    def stepping(name):
        def step(*arguments, **options):
            count = next(calls)
            if count == crash and name == "write":
                real["write"](arguments[0], arguments[1][: len(arguments[1]) // 2])
            if count >= crash:
                raise Killed
            return real[name](*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, stepping(name))
        patch.setattr(os, "ftruncate", stepping("ftruncate"))
        patch.setattr(Path, "unlink", stepping("unlink"))  # no clearing up after a kill
        patch.setattr(fscs_sdk.folder.pipeline, "ThreadPoolExecutor", AtOnce)
        try:
            run(base / "photos", base / "out", formats=("mask", "csv"))
        except Killed:
            pass
        else:
            assume(next(calls) <= crash)
    run(base / "photos", base / "out", formats=("mask", "csv"))
    run(base / "photos", base / "whole", formats=("mask", "csv"))
    assert tree(base / "out") == tree(base / "whole")


class AtOnce:
    """An executor that does everything at once, in the calling thread."""

    def __init__(self, *arguments: object) -> None:
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future: Future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **options: bool) -> None:
        pass


def test_an_overwriting_run_that_was_killed_goes_on_without_the_option(photos, out):
    run(photos, out)

    def stop(done, total, record):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, out, overwrite=True, workers=1, progress=stop)
    again = run(photos, out)
    assert (again.answered, again.done_before) == (2, 2)


def test_what_a_killed_run_left_half_written_goes(photos, out):
    run(photos, out)
    left = out / "sub" / ".fscs-0123456789abcdef.tmp"
    left.write_text("half")
    (out / "mine.tmp").write_text("not ours")
    run(photos, out)
    assert not left.exists()
    assert (out / "mine.tmp").exists()


def test_two_runs_into_one_folder_are_refused_unless_they_are_shards(photos, out):
    refused = []

    def second(done, total, record):
        if record is None:
            for shard in (None, (1, 2)):
                with pytest.raises(OSError, match="another run is writing to"):
                    run(photos, out, shard=shard)
                refused.append(shard)

    run(photos, out, progress=second)
    assert refused == [None, (1, 2)]

    def other_shard(done, total, record):
        if record is None:
            run(photos, out, shard=(2, 2))
            with pytest.raises(OSError, match="another run"):
                run(photos, out, shard=(1, 2))
            with pytest.raises(OSError, match="another run"):
                merge_journals(out)

    run(photos, out, shard=(1, 2), overwrite=True, progress=other_shard)
    assert merge_journals(out).well


# ---- The journal -----------------------------------------------------------------------------------------------------

relative = st.lists(part, min_size=1, max_size=3).map("/".join)
RECORDS = st.builds(
    Record,
    path=st.text(min_size=1),
    status=st.sampled_from(["ok", "failed", "gone"]),
    error=st.none() | st.text(),
    presence=st.dictionaries(st.text(), st.booleans(), max_size=3),
    scores=st.dictionaries(st.text(), st.floats(0, 1), max_size=3),
    files=st.dictionaries(st.sampled_from(["mask", "npz"]), st.lists(relative, max_size=3).map(tuple)),
    seconds=st.floats(0, 1e6),
    source=st.text(),
    size=st.none() | st.integers(0, 2**50),
    modified=st.none() | st.integers(-(2**62), 2**62),
    changed=st.none() | st.integers(0, 2**62),
    digest=st.text(),
    run=st.text(),
    stale=st.lists(relative, max_size=2).map(tuple),
)


@quick
@given(RECORDS)
def test_a_line_is_read_back(record):
    line = record.line()
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert parse_line(line) == record


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(".."),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*Record.__dataclass_fields__, "later"])
foreign = st.dictionaries(keys, values).map(lambda line: {"path": "a", "status": "ok", **line}).map(json.dumps)


@settings(quick, max_examples=400)
@given(st.binary(max_size=80) | foreign.map(str.encode))
@example(b"[" * 100_000)
@example(b'{"path": "a", "status": "ok", "size": ' + b"1" * 5000 + b"}")
@example(b'{"path": "a", "status": "ok", "files": {"mask": ["a/../../b"]}}')
def test_no_line_is_a_crash_and_none_names_a_file_outside(data):
    for record in parse_journal(data).records.values():
        assert parse_line(record.line()) == record or "NaN" in record.line().decode()
        for file in record.all_files():
            assert not os.path.isabs(file)
            assert ".." not in file.split("/")


@quick
@given(st.lists(RECORDS, max_size=4), st.data())
def test_a_journal_that_is_cut_short_loses_its_last_line_at_most(some, data):
    content = b"".join(record.line() for record in some)
    cut = data.draw(st.integers(0, len(content)))
    whole = content[:cut].count(b"\n")
    complete = cut < len(content) and content[cut : cut + 1] == b"\n"
    expected = {record.path: record for record in some[: whole + complete]}
    assert parse_journal(content[:cut]).records == expected


@quick
@given(st.lists(RECORDS, max_size=3), st.data())
def test_a_journal_with_flipped_bits_is_no_crash(some, data):
    content = bytearray(b"".join(record.line() for record in some))
    for _ in range(data.draw(st.integers(1, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert all(record.path == path for path, record in parse_journal(bytes(content)).records.items())


def test_half_a_line_is_kept_apart_from_the_next(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_journal(path, [Record("a", "ok"), Record("b", "ok")])
    path.write_bytes(path.read_bytes()[:-9])
    with OpenJournal(path) as opened:
        assert set(opened.contents.records) == {"a"}
        opened.append(Record("c", "pending"))
        opened.append(Record("c", "failed", error="x"), Record("a", "pending"))
    contents = read_journal(path)
    assert set(contents.records) == {"a", "c"}
    assert contents.pending == {"a"}
    assert set(contents.settled) == {"c"}


# ---- Shards ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def twenty(tmp_path) -> Path:
    for number in range(20):
        write_photo(tmp_path / "many" / f"{number:02}.png", number)
    (tmp_path / "many" / "bad.png").touch()
    return tmp_path / "many"


def test_merging_says_what_is_missing(twenty, out):
    def stop(done, total, record):
        if done == 2:
            raise KeyboardInterrupt

    run(twenty, out, formats=("csv",), shard=(1, 3))
    with pytest.raises(KeyboardInterrupt):
        run(twenty, out, formats=("csv",), shard=(3, 3), progress=stop)
    for _ in range(2):
        merged = merge_journals(out)
        assert merged.missing_shards == ((2, 3),)
        mine = {path for path in (*(f"{number:02}.png" for number in range(20)), "bad.png") if in_shard(path, (3, 3))}
        assert len(merged.missing) == len(mine) - 2
        assert set(merged.missing) < mine
        assert not merged.complete
    run(twenty, out, formats=("csv",), shard=(2, 3))
    assert run(twenty, out, formats=("csv",), shard=(3, 3)).done_before == 2
    merged = merge_journals(out)
    assert (merged.records, merged.missing_shards, merged.missing, merged.double) == (21, (), (), ())
    assert [record.path for record in merged.failed] == ["bad.png"]
    assert merged.complete
    assert not merged.well
    assert (out / "presence.csv").read_text().count("\n") == 41
    assert not list(out.glob("journal.*-of-*"))
    again = merge_journals(out)
    assert (again.records, len(again.failed), again.complete) == (21, 1, True)


def test_a_photo_of_two_shards_is_told(twenty, out):
    (twenty / "bad.png").unlink()
    for shard in ((1, 2), (2, 2), (1, 3)):
        run(twenty, out, shard=shard, overwrite=True)
    merged = merge_journals(out)
    assert set(merged.double) == {f"{n:02}.png" for n in range(20) if in_shard(f"{n:02}.png", (1, 3))}
    assert merged.missing_shards == ()
    assert not merged.well


def test_a_photo_that_one_shard_answered_counts_as_answered_whatever_another_says(twenty, out):
    (twenty / "bad.png").unlink()
    run(twenty, out, shard=(1, 1))
    photo = twenty / "07.png"
    content = photo.read_bytes()
    photo.write_bytes(b"broken")
    run(twenty, out, shard=(1, 2) if in_shard("07.png", (1, 2)) else (2, 2), overwrite=True)
    photo.write_bytes(content)
    merged = merge_journals(out)
    assert "07.png" in merged.double
    assert merged.failed == ()


def test_shards_of_other_supports_are_told(twenty, out):
    (twenty / "bad.png").unlink()
    run(twenty, out, formats=("csv",), shard=(1, 2))
    run(twenty, out, formats=("csv",), shard=(2, 2), supports=StubSupports(names=("x", "y")))
    merged = merge_journals(out)
    (problem,) = merged.problems
    assert "photos were answered with another model, settings or supports" in problem
    assert run(twenty, out, formats=("csv",)).well


def test_a_run_goes_on_however_it_is_split(twenty, out):
    (twenty / "bad.png").unlink()
    run(twenty, out, shard=(1, 2))
    first = len(lines(out, "journal.1-of-2.jsonl"))
    whole = run(twenty, out)
    assert (whole.done_before, whole.answered) == (first, 20 - first)
    assert not list(out.glob("journal.*-of-*"))
    for index in (1, 2, 3):
        assert run(twenty, out, shard=(index, 3)).answered == 0
    merged = merge_journals(out)
    assert (merged.records, merged.well) == (20, True)


def test_there_must_be_something_to_merge(tmp_path, out):
    for missing in (out, tmp_path):
        with pytest.raises(InputsError, match="no journal"):
            merge_journals(missing)


# ---- Speed and memory ------------------------------------------------------------------------------------------------


class Slow:
    """A format whose writing is watched."""

    name, whole_run, maps = "mask", None, True

    def __init__(self, watch) -> None:
        self.watch = watch

    def write(self, prediction, stem):
        self.watch()
        return []


def test_the_model_and_writing_overlap(photos, out, monkeypatch):
    """Each waits until the other is at work; one after the other they would wait for ever."""
    together = threading.Barrier(2, timeout=20)
    met = []

    def meet(who: str) -> None:
        if who not in met:
            met.append(who)
            together.wait()

    class Meeting(StubModel):
        def answer(self, image, supports):
            if len(self.asked) == 2:
                meet("model")
            return super().answer(image, supports)

    monkeypatch.setattr("fscs_sdk.folder.plan.select", lambda formats: [Slow(lambda: meet("write"))])
    assert run(photos, out, model=Meeting(), workers=1).answered == 4
    assert sorted(met) == ["model", "write"]


@pytest.mark.parametrize(("memory", "most"), [(2**30, 5), (2 * 9 * 12 * (3 + 1 + 3 * 4), 3), (1, 2)])
def test_few_answers_wait_to_be_written_and_fewer_where_they_are_large(photos, out, monkeypatch, memory, most):
    for number in range(40):
        write_photo(photos / "more" / f"{number}.png", number)
    written: list[None] = []
    waiting: list[int] = []

    def write() -> None:
        time.sleep(0.003)
        written.append(None)

    class Counting(StubModel):
        def answer(self, image, supports):
            waiting.append(len(waiting) + 1 - len(written))
            return super().answer(image, supports)

    monkeypatch.setattr("fscs_sdk.folder.plan.select", lambda formats: [Slow(write)])
    monkeypatch.setattr(fscs_sdk.folder.pipeline, "MEMORY", memory)
    assert run(photos, out, model=Counting(), workers=2).answered == 44
    assert 1 < max(waiting) <= most


def soak(tmp_path: Path, count: int) -> None:
    """The memory of a run over so many photos stays where it was after a tenth of them."""
    content = write_photo(tmp_path / "source.png", size=(24, 32)).read_bytes()
    for number in range(count):
        folder = tmp_path / "photos" / f"{number % 50:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.png").write_bytes(content)
    peaks = []

    def progress(done, total, record):
        if done in (count // 10, count):
            peaks.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        summary = run(tmp_path / "photos", tmp_path / "out", progress=progress)
    finally:
        tracemalloc.stop()
    assert summary.well
    assert len(lines(tmp_path / "out")) == summary.answered == count
    first, last = peaks
    assert last - first < 2**20 + 4000 * count  # the records themselves, no pixels


def test_three_hundred_photos(tmp_path):
    soak(tmp_path, 300)


@pytest.mark.slow
def test_ten_thousand_photos(tmp_path):
    soak(tmp_path, 10_000)
