"""Folder runs: nothing lost, nothing mixed up, nothing outside the output folder, whatever happens in between."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import fscs_sdk.folder.run as run_module
from fscs_sdk.folder import Settings, Summary, merge_journals, predict_folder
from fscs_sdk.folder.inputs import LONGEST_ENDING, LONGEST_NAME, find_inputs, shard
from fscs_sdk.folder.journal import Entry, OpenJournal, parse_line, read_journal, write_journal
from fscs_sdk.formats import WRITERS
from stub_model import StubModel, StubSupports

MASK = Settings(("mask",))


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (10, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")  # the decoder looks at the content, not at the ending
    return path


def run(sources: object, out: Path, options: Settings = MASK, **more: object) -> Summary:
    listed = sources if isinstance(sources, list) else [sources]
    return predict_folder(StubModel(), listed, more.pop("supports", StubSupports()), out, settings=options, **more)


def journal(out: Path, name: str = "journal.jsonl") -> dict[str, Entry]:
    return read_journal(out / name)


def tree(folder: Path) -> dict[str, bytes]:
    """Every visible file of a folder and its content; of a journal what does not depend on the clock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not relative.parts[0].startswith("."):
            found[str(relative)] = path.read_bytes()
    for name in [name for name in found if name.startswith("journal")]:
        entries = [json.loads(line) for line in found[name].splitlines()]
        found[name] = json.dumps([{**entry, "seconds": 0} for entry in entries]).encode()
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(["a.jpg", "a.png", "sub/b.jpg", "sub/deep/c.JPG"]):
        photo(folder / name, number)
    return folder


# ---- The output tree -------------------------------------------------------------------------------------------------


def test_the_input_tree_is_mirrored(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run(photos, out)
    assert (summary.answered, summary.done_before, summary.failed) == (4, 0, ())
    expected = {"a.jpg.mask.png", "a.png.mask.png", "sub/b.jpg.mask.png", "sub/deep/c.JPG.mask.png", "journal.jsonl"}
    assert set(tree(out)) == expected
    entries = journal(out)
    assert set(entries) == {"a.jpg", "a.png", "sub/b.jpg", "sub/deep/c.JPG"}
    entry = entries["sub/b.jpg"]
    assert entry.path == str(photos / "sub" / "b.jpg")
    assert entry.status == "ok"
    assert entry.files == ("sub/b.jpg.mask.png",)
    assert set(entry.present) == set(entry.scores) == {"bright", "dark"}
    assert entry.seconds > 0


def test_the_mask_is_the_models(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    pixels = np.asarray(Image.open(photos / "a.jpg").convert("RGB"))
    (expected,) = StubModel().predict_batch([pixels], StubSupports())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.jpg.mask.png")), expected.mask)


def test_names_that_differ_in_case_alone_share_nothing(tmp_path: Path) -> None:
    for name in ("a.jpg", "A.jpg", "b.jpg"):
        photo(tmp_path / "photos" / name)
    found = find_inputs([tmp_path / "photos"], out=tmp_path / "out").photos
    places = [p.place for p in found]
    assert len({place.casefold() for place in places}) == 3
    assert "b.jpg" in places
    assert not {"a.jpg", "A.jpg"} & set(places)


def test_the_same_name_in_two_folders_and_two_roots_of_one_name(tmp_path: Path) -> None:
    for folder in ("x/cats", "y/cats", "dogs"):
        photo(tmp_path / folder / "1.jpg")
    sources = [tmp_path / "x" / "cats", tmp_path / "y" / "cats", tmp_path / "dogs"]
    places = {p.place for p in find_inputs(sources, out=tmp_path / "out").photos}
    assert len(places) == 3
    assert "dogs/1.jpg" in places
    assert all(place.startswith(("cats~", "dogs/")) for place in places)


def test_files_named_alike_from_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = photo(tmp_path / "x" / "1.jpg"), photo(tmp_path / "y" / "1.jpg")
    places = {p.place for p in find_inputs([one, other], out=tmp_path / "out").photos}
    assert len(places) == 2
    monkeypatch.chdir(tmp_path)
    assert {p.place for p in find_inputs(["x/1.jpg", "y/1.jpg"], out=Path("out")).photos} == {"x/1.jpg", "y/1.jpg"}


def test_a_photo_given_twice_is_one(photos: Path, tmp_path: Path) -> None:
    found = find_inputs([photos / "a.jpg", str(photos / "sub" / ".." / "a.jpg")], out=tmp_path / "out").photos
    assert len(found) == 1


def test_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    deep = find_inputs([f"{photos}/**/*.jpg"], out=tmp_path / "out").photos
    assert [p.place for p in deep] == ["a.jpg", "sub/b.jpg"]
    listing = tmp_path / "list.txt"
    listing.write_text(f"{photos / 'a.jpg'}\n\n{photos / 'sub' / 'b.jpg'}\n")
    assert [p.place for p in find_inputs([f"@{listing}"], out=tmp_path / "out").photos] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "there is no file"),
        ("*.xyz", "nothing matches"),
        ("@nolist", "cannot be read"),
        ("empty", "no photos"),
    ],
)
def test_inputs_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=said):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hidden_and_other_files_are_passed_over(photos: Path, tmp_path: Path) -> None:
    photo(photos / "._a.jpg")
    (photos / "readme.txt").write_text("no photo")
    photo(photos / ".cache" / "x.jpg")
    found = find_inputs([photos], out=tmp_path / "out")
    assert len(found.photos) == 4
    assert found.others == 2


def test_the_output_folder_inside_an_input_folder_is_never_read(photos: Path) -> None:
    first = run(photos, photos / "results")
    other = run(photos, photos / "results2")
    again = run(photos, photos / "results")
    assert (first.answered, other.answered, again.answered, again.done_before) == (4, 4, 0, 4)


def test_the_output_folder_is_no_input(photos: Path) -> None:
    with pytest.raises(ValueError, match="both an input and the output"):
        run(photos, photos)


def test_links_are_followed_on_request_alone_and_cycles_end(photos: Path, tmp_path: Path) -> None:
    outside = photo(tmp_path / "elsewhere" / "far.jpg")
    (photos / "link.jpg").symlink_to(outside)
    (photos / "folder").symlink_to(outside.parent)
    (photos / "sub" / "up").symlink_to(photos)
    plain = find_inputs([photos], out=tmp_path / "out")
    assert len(plain.photos) == 4
    assert plain.links == 3
    followed = {p.place for p in find_inputs([photos], out=tmp_path / "out", follow_links=True).photos}
    assert {"folder/far.jpg"} < followed or {"link.jpg"} < followed
    assert not any(place.startswith("sub/up/") for place in followed)


def test_a_link_inside_the_output_folder_leads_nowhere(photos: Path, tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(victim)
    summary = run(photos, out)
    assert {entry.place for entry in summary.failed} == {"sub/b.jpg", "sub/deep/c.JPG"}
    assert "leads out" in (summary.failed[0].error or "")
    assert not [path for path in victim.rglob("*") if path.is_file()]


ODD_NAMES = [
    b"sp ace.jpg",
    b"quo'te\".jpg",
    b"new\nline.jpg",
    b"-dash.jpg",
    b"\xff\xfe.jpg",
    b"x" * 251 + b".jpg",
    "ü.jpg".encode(),
]


def test_odd_names_are_answered(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    source = photo(tmp_path / "source.png").read_bytes()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(source)
    out = tmp_path / "out"
    summary = run(folder, out, Settings(("mask", "classes", "npz", "csv")))
    assert (summary.answered, summary.failed) == (len(ODD_NAMES), ())
    assert run(folder, out, Settings(("mask", "classes", "npz", "csv"))).done_before == len(ODD_NAMES)
    assert len((out / "journal.jsonl").read_bytes().splitlines()) == len(ODD_NAMES)


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=80).filter(lambda t: t not in (".", ".."))


@given(st.lists(st.tuples(NAMES, NAMES, st.sampled_from([".jpg", ".PNG", "", ".mask.png"])), min_size=1, max_size=8))
@example([("a", "B", ".jpg"), ("A", "b", ".jpg"), ("a", "b", ".JPG")])
@example([("a", "ß" * 60, ".jpg"), ("a", "SS" * 60, ".jpg")])
def test_places_are_injective_short_and_inside(names: list[tuple[str, str, str]]) -> None:
    from fscs_sdk.folder.inputs import _Found, _places

    wanted = sorted({f"{folder}/{stem}{ending}" for folder, stem, ending in names})
    found = [_Found(Path("x"), place, place) for place in wanted]
    places = [p.place for p in _places(found)]
    folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFC", place).casefold()) for place in places}
    assert len(folded) == len(wanted)
    for place in places:
        parts = place.split("/")
        assert not place.startswith("/")
        assert all(part not in ("", ".", "..") for part in parts)
        assert all(len(part.encode("utf-8", "surrogatepass")) <= LONGEST_NAME - LONGEST_ENDING for part in parts)


@given(st.sets(NAMES, max_size=30), st.integers(1, 7))
def test_shards_are_a_partition(names: set[str], count: int) -> None:
    from fscs_sdk.folder.inputs import Photo

    photos = tuple(Photo(Path("x"), name) for name in sorted(names))
    parts = [shard(photos, index, count) for index in range(1, count + 1)]
    assert sorted((p for part in parts for p in part), key=lambda p: p.place) == list(photos)


# ---- Failures --------------------------------------------------------------------------------------------------------


def test_bad_files_are_recorded_and_the_run_goes_on(photos: Path, tmp_path: Path) -> None:
    (photos / "empty.jpg").touch()
    (photos / "torn.jpg").write_bytes((photos / "a.jpg").read_bytes()[:60])
    (photos / "text.png").write_text("not a photo")
    (photos / "gone.jpg").symlink_to(tmp_path / "nothing")
    photo(photos / "unlucky.png", size=(13, 13))
    Image.new("1", (30000, 30000)).save(photos / "huge.png")
    out = tmp_path / "out"
    summary = run(photos, out, Settings(("mask",), follow_links=True, batch_size=3))
    bad = {"empty.jpg", "torn.jpg", "text.png", "gone.jpg", "unlucky.png", "huge.png"}
    assert {entry.place for entry in summary.failed} == bad
    assert summary.answered == 4
    entries = journal(out)
    assert set(entries) == {"a.jpg", "a.png", "sub/b.jpg", "sub/deep/c.JPG", *bad}
    for place in bad:
        assert entries[place].error
        assert "\n" not in (entries[place].error or "")
        assert entries[place].files == ()
    assert "unlucky" in (entries["unlucky.png"].error or "")


def test_failed_photos_are_tried_again(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").touch()
    out = tmp_path / "out"
    assert len(run(photos, out).failed) == 1
    photo(photos / "bad.jpg", 7)
    again = run(photos, out)
    assert (again.answered, again.done_before, again.failed) == (1, 4, ())


def test_a_photo_that_vanishes_after_the_listing_is_recorded(photos: Path, tmp_path: Path) -> None:
    summary = run(photos, tmp_path / "out", started=lambda plan: (photos / "a.jpg").unlink())
    assert [entry.place for entry in summary.failed] == ["a.jpg"]
    assert summary.answered == 3


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    run(photos, whole)
    write, calls = run_module._write, []

    def full(item: object, *rest: object) -> list[str]:
        calls.append(item)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "out")
        return write(item, *rest)

    monkeypatch.setattr(run_module, "_write", full)
    with pytest.raises(OSError, match="No space"):
        run(photos, out, Settings(("mask",), workers=1))
    assert all(entry.status == "ok" for entry in journal(out).values())
    monkeypatch.undo()
    run(photos, out)
    assert tree(out) == tree(whole)


def test_files_beyond_a_limit_leave_nothing_half_written(photos: Path, tmp_path: Path) -> None:
    """The system itself refuses to write more than 200 bytes into a file."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    with child(photos, tmp_path / "out", "npz", preexec=limit) as done:
        done.wait(60)
    assert done.returncode != 0
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".npz", ".part")]


@pytest.mark.parametrize("formats", [(), ("nonsense",)])
def test_formats_that_do_not_exist_are_misuse(photos: Path, tmp_path: Path, formats: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="format"):
        run(photos, tmp_path / "out", Settings(formats))
    assert not (tmp_path / "out").exists()


def test_a_second_run_into_the_same_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def second(entry: Entry) -> None:
        with pytest.raises(OSError, match="another run"):
            run(photos, out)

    run(photos, out, advance=second)


# ---- Again -----------------------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = tree(out)
    model = StubModel()
    again = predict_folder(model, [photos], StubSupports(), out, settings=MASK)
    assert (again.answered, again.done_before, model.batches) == (0, 4, [])
    assert tree(out) == before


def test_what_changed_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    photo(photos / "a.jpg", 99, size=(9, 9))
    (out / "sub" / "b.jpg.mask.png").unlink()
    assert run(photos, out).answered == 2
    assert run(photos, out, supports=StubSupports(threshold=0.7)).answered == 4
    assert run(photos, out, Settings(("mask", "npz")), supports=StubSupports(threshold=0.7)).answered == 4
    assert run(photos, out, Settings(("mask", "npz"), overwrite=True), supports=StubSupports(0.7)).answered == 4
    other = StubModel()
    other.identity = "other@1"
    assert predict_folder(other, [photos], StubSupports(0.7), out, settings=Settings(("mask", "npz"))).answered == 4


def test_lines_of_other_photos_are_kept(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    assert run(photos / "a.jpg", out).done_before == 1
    assert len(journal(out)) == 4


def test_any_way_of_running_gives_the_same_files(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "plain", Settings(("mask", "npz", "csv")))
    expected = {name: data for name, data in tree(tmp_path / "plain").items() if not name.startswith("journal")}
    ways = {
        "batches": Settings(("mask", "npz", "csv"), batch_size=3),
        "threads": Settings(("mask", "npz", "csv"), workers=5),
    }
    for name, options in ways.items():
        run(photos, tmp_path / name, options)
        assert {n: d for n, d in tree(tmp_path / name).items() if not n.startswith("journal")} == expected
    for index in (3, 1, 2):
        run(photos, tmp_path / "shards", Settings(("mask", "npz", "csv"), shard=(index, 3)))
    merge_journals(tmp_path / "shards")
    assert {n: d for n, d in tree(tmp_path / "shards").items() if not n.startswith("journal")} == expected
    run(photos / "sub" / "b.jpg", tmp_path / "alone", Settings(("mask", "npz", "csv")))
    assert (tmp_path / "alone" / "b.jpg.npz").read_bytes() == expected["sub/b.jpg.npz"]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_runs_and_is_collected(photos: Path, tmp_path: Path, name: str) -> None:
    (photos / "a.png").unlink()  # YOLO takes a.jpg and a.png for one photo
    out = tmp_path / "out"
    summary = run(photos, out, Settings((name,)))
    assert summary.failed == ()
    assert bool(summary.collected) == (WRITERS[name].whole_run is not None)
    for entry in journal(out).values():
        assert entry.files
        assert all((out / file).is_file() for file in entry.files)


# ---- Killed in between -----------------------------------------------------------------------------------------------


def child(folder: Path, out: Path, *formats: str, sleep: float = 0.0, preexec: object = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).parent / "folder_child.py"), str(folder), str(out), *formats]
    environment = {**os.environ, "FSCS_STUB_SLEEP": str(sleep), "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment, preexec_fn=preexec, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_resumes_to_the_same_result(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "photos"
    for number in range(12):
        photo(folder / f"{number:02}.png", number)
    run(folder, tmp_path / "whole")
    killed = child(folder, tmp_path / "out", sleep=0.03)
    assert killed.stdout is not None
    for _ in range(4):
        assert killed.stdout.readline()
    killed.send_signal(how)
    killed.wait(60)
    killed.stdout.close()
    assert killed.returncode != 0
    assert 4 <= len(journal(tmp_path / "out")) < 12
    for path in (tmp_path / "out").rglob("*.mask.png"):
        Image.open(path).load()
    summary = run(folder, tmp_path / "out")
    assert summary.done_before >= 4
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_half_a_line_at_the_end_of_the_journal_is_no_harm(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    path = out / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_journal(path)) == 3
    with OpenJournal(path) as opened:
        opened.append(read_journal(path)["a.jpg"])
    assert len(read_journal(path)) == 3
    assert run(photos, out).answered == 1
    assert len(path.read_bytes().splitlines()) == 4


# ---- The journal -----------------------------------------------------------------------------------------------------

ENTRIES = st.builds(
    Entry,
    path=st.text(),
    place=st.text(min_size=1),
    status=st.sampled_from(["ok", "failed"]),
    error=st.none() | st.text(),
    present=st.dictionaries(st.text(), st.booleans(), max_size=3),
    scores=st.dictionaries(st.text(), st.floats(0, 1), max_size=3),
    files=st.lists(st.text(), max_size=3).map(tuple),
    seconds=st.floats(0, 1e6),
    size=st.integers(0, 2**50),
    modified=st.integers(0, 2**62),
    run=st.text(),
)


@given(ENTRIES)
def test_a_line_is_read_back(entry: Entry) -> None:
    line = entry.line()
    assert line.count(b"\n") == 1
    assert parse_line(line) == entry


@given(st.binary(max_size=200))
@example(b'{"path": 1}')
@example(b"[" * 100_000)
@example(b"null")
def test_no_line_is_a_crash(data: bytes) -> None:
    parse_line(data)


@given(st.lists(ENTRIES, max_size=4), st.data())
@settings(max_examples=60)
def test_a_damaged_journal_gives_only_whole_entries(entries: list[Entry], data: st.DataObject) -> None:
    lines = [entry.line() for entry in entries]
    content = bytearray(b"".join(lines))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(content)))
    path = Path(tempfile.gettempdir()) / f"fscs-test-journal-{os.getpid()}.jsonl"
    path.write_bytes(bytes(content[:cut]))
    try:
        for place, entry in read_journal(path).items():
            assert entry.place == place
            assert entry.status in ("ok", "failed")
    finally:
        path.unlink()


def test_a_journal_is_in_order(tmp_path: Path) -> None:
    first = Entry("x", "b", "ok", None, {}, {}, (), 0.0, 1, 1, "r")
    second = Entry("x", "a", "failed", "why", {}, {}, (), 0.0, 1, 1, "r")
    write_journal(tmp_path / "j", [first, second])
    assert list(read_journal(tmp_path / "j")) == ["a", "b"]


# ---- Shards ----------------------------------------------------------------------------------------------------------


def test_merging_says_what_is_missing(tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    for number in range(20):
        photo(folder / f"{number:02}.png", number)
    (folder / "bad.png").touch()
    out.mkdir()
    with pytest.raises(ValueError, match="no shards"):
        merge_journals(out)
    run(folder, out, Settings(("mask", "csv"), shard=(1, 3)))
    run(folder, out, Settings(("mask", "csv"), shard=(3, 3)))
    merged = merge_journals(out)
    assert merged.missing_shards == ((2, 3),)
    assert not merged.complete
    run(folder, out, Settings(("mask", "csv"), shard=(2, 3)))
    merged = merge_journals(out)
    assert (merged.entries, merged.missing_shards, merged.missing, merged.double) == (21, (), (), ())
    assert [entry.place for entry in merged.failed] == ["bad.png"]
    assert (out / "presence.csv") in merged.collected
    path = out / "journal.2-of-3.jsonl"
    (out / "journal.jsonl").unlink()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    merged = merge_journals(out)
    assert merged.missing == (json.loads(lines[0])["place"],)
    with (out / "journal.1-of-3.jsonl").open("ab") as file:
        file.write(lines[1])
    assert merge_journals(out).double == (json.loads(lines[1])["place"],)


def test_shards_of_different_splits_are_not_joined(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, Settings(("mask",), shard=(1, 2)))
    run(photos, out, Settings(("mask",), shard=(1, 3)))
    with pytest.raises(ValueError, match="different splits"):
        merge_journals(out)


# ---- Many ------------------------------------------------------------------------------------------------------------


def run_many(count: int, tmp_path: Path) -> int:
    """Peak of the bytes that decoded photos held, over a run of so many."""
    import fscs_sdk.images

    folder = tmp_path / "many"
    source = photo(tmp_path / "source.png", size=(40, 30)).read_bytes()
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.png").write_bytes(source)
    alive = peak = 0
    read, finish = fscs_sdk.images.read_image, run_module._finish

    def counted(*arguments: object, **options: object) -> np.ndarray:
        nonlocal alive, peak
        alive += 1
        peak = max(peak, alive)
        return read(*arguments, **options)

    def finished(*arguments: object) -> Entry:
        nonlocal alive
        alive -= 1
        return finish(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fscs_sdk.images, "read_image", counted)
        patch.setattr(run_module, "_finish", finished)
        summary = run(folder, tmp_path / "out")
    assert summary.answered == count
    assert len((tmp_path / "out" / "journal.jsonl").read_bytes().splitlines()) == count
    return peak


def test_memory_is_bounded(tmp_path: Path) -> None:
    assert run_many(200, tmp_path) <= 12


@pytest.mark.slow
def test_memory_is_bounded_over_ten_thousand_photos(tmp_path: Path) -> None:
    assert run_many(10_000, tmp_path) <= 12
