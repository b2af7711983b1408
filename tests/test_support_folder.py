"""Supports from a folder: which file is a photo, which its mask, and what is refused."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fscs_sdk.references.folders import read_support_folder


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def listing(folder: Path) -> dict[str, list[tuple[str, str | None]]]:
    return {
        name: [(Path(shot.image).name, None if shot.mask is None else Path(shot.mask).name) for shot in shots]
        for name, shots in read_support_folder(folder).items()
    }


@pytest.mark.parametrize(
    ("names", "shots"),
    [
        (["rex.jpg"], [("rex.jpg", None)]),
        (["rex.png"], [("rex.png", None)]),
        (["rex.jpg", "rex.png"], [("rex.jpg", "rex.png")]),
        (["rex.jpg", "rex_mask.png"], [("rex.jpg", "rex_mask.png")]),
        (["rex.png", "rex_mask.png"], [("rex.png", "rex_mask.png")]),
        (["rex.JPG", "Rex.png"], [("rex.JPG", "Rex.png")]),
        (["rex.JPG", "REX_MASK.PNG"], [("rex.JPG", "REX_MASK.PNG")]),
        (["rex.jpg", "rex.webp"], [("rex.jpg", None), ("rex.webp", None)]),
        (["b.jpg", "a.jpg", "a.png"], [("a.jpg", "a.png"), ("b.jpg", None)]),
        (["gas_mask.jpg", "gas_mask.png"], None),
        (["gas_mask.jpg", "gas_mask_mask.png"], [("gas_mask.jpg", "gas_mask_mask.png")]),
        (["rex.jpg", ".rex.png", "rex.txt", "Thumbs.db"], [("rex.jpg", None)]),
        (["two.dots.jpg", "two.dots.png"], [("two.dots.jpg", "two.dots.png")]),
    ],
)
def test_photos_and_their_masks(tmp_path, names, shots):
    make(tmp_path / "dog", *names)
    if shots is None:
        with pytest.raises(ValueError, match="has no photo"):
            listing(tmp_path)
    else:
        assert listing(tmp_path) == {"dog": shots}


def test_every_folder_is_a_class_in_the_order_of_names(tmp_path):
    make(tmp_path, "dog/a.jpg", "Cat/b.jpg", "traffic light/c.jpg", ".git/d.jpg", "notes.txt")
    assert list(listing(tmp_path)) == ["Cat", "dog", "traffic light"]


def test_links_to_classes_and_photos_are_followed(tmp_path):
    make(tmp_path / "elsewhere", "a.jpg", "a.png")
    (tmp_path / "supports").mkdir()
    (tmp_path / "supports" / "dog").symlink_to(tmp_path / "elsewhere")
    assert listing(tmp_path / "supports") == {"dog": [("a.jpg", "a.png")]}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no classes; make a folder of photos for each, such as"),
        (["a.jpg", "dog/b.jpg"], "a.jpg' belongs to no class; move it into a folder"),
        (["dog/notes.txt"], "dog' has no photo; put at least one into it, or remove the folder"),
        (["dog/images/a.jpg"], "dog' holds the folder 'images'; put its photos into"),
        (["dog/a_mask.png"], "a_mask.png' has no photo; put 'a.jpg' beside it, or rename it"),
        (["dog/b.jpg", "dog/a_mask.png"], "a_mask.png' has no photo"),
        (["dog/a.jpg", "dog/a.png", "dog/a_mask.png"], "a.jpg' has two masks, 'a.png' and 'a_mask.png'; remove one"),
        (["dog/a.jpg", "dog/a.webp", "dog/a.png"], "could be the mask of 'a.jpg' and of 'a.webp'; rename one"),
        (["dog/a.jpg", "dog/a.webp", "dog/a_mask.png"], "could be the mask of 'a.jpg' and of 'a.webp'; rename one"),
        (
            ["dog/a.jpg", "dog/a_mask.jpg"],
            "a_mask.jpg' looks like a mask, and masks are PNG; save it as PNG, or rename",
        ),
        ([os.fsdecode(b"\xff/a.jpg")], "a name that is not in UTF-8; rename the folder"),
    ],
)
def test_what_is_unclear_is_refused_with_a_cure(tmp_path, names, said):
    make(tmp_path, *names)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_support_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(ValueError, match="is not a folder; give one that holds"):
        read_support_folder(tmp_path / "nowhere")


stems = st.sampled_from(["a", "A", "b", "a_mask", "b_mask", "a_mask_mask", "_mask", "a.b"])
endings = st.sampled_from([".jpg", ".JPEG", ".png", ".PNG", ".webp", ".txt"])
files = st.builds(
    lambda folder, stem, ending: f"{folder}{stem}{ending}", st.sampled_from(["x/", "y/", ""]), stems, endings
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.sets(files, max_size=7))
@example({"x/a.jpg", "x/a.png", "y/b.png"})
def test_every_picture_is_a_photo_or_the_mask_of_one_or_the_folder_is_refused(tmp_path_factory, names):
    folder = make(tmp_path_factory.mktemp("supports"), *names)
    try:
        found = read_support_folder(folder)
    except ValueError:
        return
    used = [path for shots in found.values() for shot in shots for path in (shot.image, shot.mask) if path is not None]
    assert len(used) == len(set(used))
    assert {path.relative_to(folder).as_posix() for path in used} == {
        name for name in names if not name.endswith(".txt")
    }
    for shots in found.values():
        for shot in shots:
            if shot.mask is not None:
                assert shot.mask.suffix.lower() == ".png"
                assert shot.mask.stem.casefold().removesuffix("_mask") == shot.image.stem.casefold()
