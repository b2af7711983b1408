"""The page's workspace: what is on disk is all there is, and the command line reads it."""

import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from conftest import box_mask, photo
from fscs_sdk.app import workspace as module
from fscs_sdk.app.names import class_name, photo_name
from fscs_sdk.app.runlengths import decode_runs, encode_runs
from fscs_sdk.app.server import workspace_at
from fscs_sdk.app.workspace import Settings, UnknownPhotoError, Workspace
from fscs_sdk.images import read_image, read_mask
from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.folders import read_support_folder


def jpeg(seed=0, height=60, width=80):
    buffer = BytesIO()
    Image.fromarray(photo(seed, height, width)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


def files(workspace):
    return sorted(path.relative_to(workspace.root).as_posix() for path in workspace.root.rglob("*") if path.is_file())


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_runs_bring_back_every_mask(mask):
    assert np.array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


@given(st.binary(max_size=64), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_any_bytes_are_a_mask_of_that_size_or_refused(data, size):
    whole = len(data) % 4 == 0 and sum(struct.unpack(f"<{len(data) // 4}I", data)) == size[0] * size[1]
    if whole:
        assert decode_runs(data, size).shape == size
    else:
        with pytest.raises(ValueError, match="mask"):
            decode_runs(data, size)


@given(st.text(max_size=300), st.lists(st.text(min_size=1, max_size=20), max_size=5))
def test_a_photos_name_is_always_a_file_name_of_its_own(text, taken):
    name = photo_name(text, taken)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert Path(name).suffix in PHOTO_ENDINGS
    assert len(name.encode()) < 255
    assert Path(name).stem.casefold() not in {other.rpartition(".")[0].casefold() for other in taken}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("rex.JPG", "rex.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("C:\\photos\\rex.png", "rex.png"),
        ("rex", "rex.jpg"),
        ("shell.php", "shell.php.jpg"),
        ("a\x00b\n.png", "a_b.png"),
        ("", "photo.jpg"),
        (".hidden.jpg", "hidden.jpg"),
        ("con.png", "photo-con.png"),
        ("rex_mask.png", "rex_mask-photo.png"),
        ("mask_rex.png", "photo-mask_rex.png"),
        ("Ünïcode 写真.jpeg", "Ünïcode 写真.jpeg"),
        ("rex seg.png", "rex seg-photo.png"),
        ("what?<b>.png", "what__b.png"),
    ],
)
def test_names_of_photos(given, name):
    assert photo_name(given, []) == name


def test_a_name_that_is_taken_is_numbered_whatever_its_ending_and_case():
    assert photo_name("rex.png", ["Rex.jpg"]) == "rex-2.png"
    assert photo_name("rex.png", ["Rex.jpg", "rex-2.gif"]) == "rex-3.png"


@pytest.mark.parametrize(
    "name", ["", "  ", "a/b", "..", ".git", "a\\b", "con", "nul.x", "x\ny\x00", "a" * 200, "what?"]
)
def test_a_class_that_no_folder_can_be_called_is_refused(name):
    with pytest.raises(ValueError, match=r"class|folder"):
        class_name(name)


def test_a_class_is_called_as_people_see_it():
    assert class_name("  black   cat ") == "black cat"
    assert class_name("Cafe\u0301") == "Caf\u00e9"


def test_a_marked_photo_is_what_the_command_line_reads(workspace):
    added = workspace.add("rex.jpg", jpeg())
    workspace.set_shot(added, "dog", box_mask())
    assert files(workspace) == ["queries/rex.jpg", "supports/dog/rex.jpg", "supports/dog/rex_mask.png"]
    (shot,) = read_support_folder(workspace.root / "supports")["dog"]
    assert np.array_equal(read_mask(shot.mask, size=(60, 80)), box_mask())
    assert Path(shot.image).read_bytes() == jpeg()


def test_a_tag_a_negative_and_another_class_of_the_same_photo(workspace):
    added = workspace.add("rex.jpg", jpeg())
    workspace.set_negative(added, True)
    assert [photo.name for photo in workspace.negatives()] == ["rex.jpg"]
    workspace.set_shot(added, "dog", None)
    assert workspace.negatives() == []  # it shows a class now
    workspace.set_shot(added, "grass", box_mask())
    shots = workspace.shots()
    assert shots["dog"][0].is_tag
    assert not shots["grass"][0].is_tag
    workspace.set_shot(shots["dog"][0], "dog", box_mask())  # the shot itself, without its query
    assert workspace.mask(workspace.shots()["dog"][0]).any()
    workspace.remove_shot(added, "dog")
    assert list(workspace.shots()) == ["grass"]
    workspace.remove(added)
    assert files(workspace) == ["supports/grass/rex.jpg", "supports/grass/rex_mask.png"]


def test_a_class_that_differs_in_case_is_the_one_that_is_there(workspace):
    workspace.set_shot(workspace.add("a.jpg", jpeg(1)), "Dog", box_mask())
    workspace.set_shot(workspace.add("b.jpg", jpeg(2)), "dog", box_mask())
    assert {name: len(shots) for name, shots in workspace.shots().items()} == {"Dog": 2}


def test_an_empty_mask_is_no_shot(workspace):
    with pytest.raises(ValueError, match="nothing is marked"):
        workspace.set_shot(workspace.add("rex.jpg", jpeg()), "dog", np.zeros((60, 80), np.bool_))
    assert workspace.shots() == {}


def test_the_same_photo_is_taken_once_and_another_one_of_its_name_beside_it(workspace):
    first = workspace.add("rex.jpg", jpeg(1))
    assert workspace.add("copy.jpg", jpeg(1)) == first
    assert workspace.add("rex.png", jpeg(2)).name == "rex-2.png"
    workspace.set_shot(first, "dog", box_mask())
    workspace.remove(first)
    assert workspace.add("rex.jpg", jpeg(3)).name == "rex-3.jpg"  # the shot's name is its own
    assert workspace.add("again.jpg", jpeg(1)).name == "rex.jpg"  # and this is its photo


def test_renaming_a_class_keeps_its_threshold(workspace):
    workspace.set_shot(workspace.add("rex.jpg", jpeg()), "dgo", box_mask())
    workspace.change_settings(thresholds={"dgo": 0.4})
    workspace.rename_class("dgo", "dog")
    assert list(workspace.shots()) == ["dog"]
    assert workspace.settings().thresholds == {"dog": 0.4}
    with pytest.raises(ValueError, match="no class 'dgo'"):
        workspace.rename_class("dgo", "cat")


def test_a_renamed_class_never_swallows_another(workspace):
    for seed, name in enumerate(("dog", "cat")):
        workspace.set_shot(workspace.add(f"{name}.jpg", jpeg(seed)), name, box_mask())
    with pytest.raises(ValueError, match="there is a class 'cat' already"):
        workspace.rename_class("dog", "cat")


def test_drafts_are_kept_and_two_windows_do_not_overwrite_each_other(workspace):
    added = workspace.add("rex.jpg", jpeg())
    runs = encode_runs(box_mask())
    assert workspace.draft(added, "dog") is None
    version = workspace.set_draft(added, "dog", runs, "")
    assert workspace.draft(added, "dog") == (runs, version)
    assert workspace.drafts() == {added.id: ["dog"]}
    assert workspace.set_draft(added, "dog", encode_runs(~box_mask()), "") is None  # another window, from nothing
    assert workspace.draft(added, "dog") == (runs, version)
    assert workspace.set_draft(added, "dog", encode_runs(~box_mask()), version) not in (None, version)
    workspace.set_shot(added, "dog", box_mask())
    assert workspace.drafts() == {}


@pytest.mark.parametrize("half", ["mask", "photo"])
def test_a_shot_that_was_half_written_is_finished_at_the_next_start(workspace, half, monkeypatch):
    added = workspace.add("rex.jpg", jpeg())
    workspace.set_draft(added, "dog", encode_runs(box_mask()), "")
    written = []

    def killed(path, data):
        if len(written) == (1 if half == "mask" else 0):
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(data)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.set_shot(added, "dog", box_mask())
    again = Workspace(workspace.root)
    if half == "mask":
        assert again.mask(again.shots()["dog"][0]).sum() == box_mask().sum()
    else:
        assert again.shots() == {}
        assert again.draft(added, "dog") is not None


def test_what_is_in_the_way_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        workspace_at(tmp_path / "file", photos=None)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "rex.jpg").write_bytes(jpeg())
    with pytest.raises(ValueError, match="is no workspace"):
        workspace_at(tmp_path / "pictures", photos=None)
    with pytest.raises(ValueError, match="is not a folder"):
        workspace_at(tmp_path / "work", photos=tmp_path / "nowhere")
    opened = workspace_at(tmp_path / "work", photos=tmp_path / "pictures")
    assert [photo.name for photo in opened.pickable()] == ["rex.jpg"]
    assert workspace_at(tmp_path / "work", photos=None).queries() == []


def test_no_identifier_is_a_path(workspace):
    added = workspace.add("rex.jpg", jpeg())
    assert workspace.photo(added.id) == added
    for path in ("../queries/rex.jpg", "queries/rex.jpg", "", "/etc/passwd"):
        with pytest.raises(UnknownPhotoError):
            workspace.photo(path)


def test_a_photo_that_cannot_be_decoded_or_is_one_too_many_is_not_taken(workspace, monkeypatch):
    for data in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", jpeg()[:300]):
        with pytest.raises(ValueError, match=r"'x\.jpg'"):
            workspace.add("x.jpg", data)
    monkeypatch.setattr(module, "MOST_PIXELS", 60 * 79)
    with pytest.raises(ValueError, match="4800 pixels and the limit is"):
        workspace.add("x.jpg", jpeg())
    monkeypatch.undo()
    monkeypatch.setattr(module, "MOST_PHOTOS", 1)
    workspace.add("x.jpg", jpeg(1))
    with pytest.raises(ValueError, match="which is the most"):
        workspace.add("y.jpg", jpeg(2))
    assert files(workspace) == ["queries/x.jpg"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"thresholds": 3}', '{"thresholds": {"a": "x"}, "calibrate": 1}'])
def test_damaged_settings_are_those_of_the_start(workspace, text):
    (workspace.root / "settings.json").write_text(text)
    assert workspace.settings() == Settings()


def test_what_was_chosen_before_areas_followed_edges_stays(workspace):
    assert workspace.settings().edges
    for text, edges in (('"edges": true, ', True), ('"edges": false, ', False), ("", False)):
        chosen = f'{{"thresholds": {{}}, "calibrate": true, {text}"confirmed": {{}}}}'
        (workspace.root / "settings.json").write_text(chosen)
        assert workspace.settings().edges == edges


def test_the_state_changes_with_what_answers_depend_on(workspace):
    seen = {workspace.state()}
    added = workspace.add("rex.jpg", jpeg(1))
    assert workspace.state() in seen  # a query changes no other's answer
    for change in (
        lambda: workspace.set_shot(added, "dog", box_mask()),
        lambda: workspace.set_shot(added, "dog", ~box_mask()),
        lambda: workspace.set_negative(workspace.add("b.jpg", jpeg(2)), True),
        lambda: workspace.change_settings(thresholds={"dog": 0.3}),
        lambda: workspace.change_settings(calibrate=False),
        lambda: workspace.change_settings(edges=False),
        lambda: workspace.rename_class("dog", "cat"),
    ):
        change()
        state = workspace.state()
        assert state not in seen
        seen.add(state)


@pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")
def test_the_token_stays_and_is_for_its_owner_alone(workspace):
    token = workspace.token()
    assert len(token) >= 32
    assert Workspace(workspace.root).token() == token
    assert (workspace.root / ".token").stat().st_mode & 0o077 == 0


def test_a_photo_is_kept_as_it_came(workspace):
    image = Image.fromarray(photo(1))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    added = workspace.add("turned.jpg", buffer.getvalue())
    assert added.path.read_bytes() == buffer.getvalue()
    assert read_image(added.path).shape[:2] == module.photo_size(added.path) == (80, 60)
