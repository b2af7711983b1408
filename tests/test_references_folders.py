"""Supports from a folder: which file is a photo, which its mask, and what is refused."""

import json
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fscs_sdk.images import read_mask
from fscs_sdk.references import ReferenceWarning
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
        (["gas_mask.jpg", "gas_mask.png"], [("gas_mask.jpg", "gas_mask.png")]),
        (["gas_mask.jpg", "gas_mask_mask.png"], [("gas_mask.jpg", "gas_mask_mask.png")]),
        (["rex.jpg", ".rex.png", "Thumbs.db"], [("rex.jpg", None)]),
        (["rex.jpg", "rex.jpg.mask.png"], [("rex.jpg", "rex.jpg.mask.png")]),
        (["rex.jpg", "rex.webp", "rex.webp.mask.png"], [("rex.jpg", None), ("rex.webp", "rex.webp.mask.png")]),
        (["rex.jpg", "rex.jpg.png"], [("rex.jpg", "rex.jpg.png")]),
        (["rex.jpg", "mask_rex.png"], [("rex.jpg", "mask_rex.png")]),
        (["rex.jpg", "Mask-REX.PNG"], [("rex.jpg", "Mask-REX.PNG")]),
        (["rex.jpg", "rex-mask.png"], [("rex.jpg", "rex-mask.png")]),
        (["rex.jpg", "rex_GT.tif"], [("rex.jpg", "rex_GT.tif")]),
        (["rex.jpg", "rex_mask.jpg"], [("rex.jpg", "rex_mask.jpg")]),
        (["rex.jpg", "rex.bmp"], [("rex.jpg", "rex.bmp")]),
        (["rex.tif", "rex.png"], [("rex.tif", "rex.png")]),
        (["rex.tif", "rex.bmp"], [("rex.bmp", None), ("rex.tif", None)]),
        (["rex.jpg", "rex_mask_1.png"], [("rex.jpg", "rex_mask_1.png")]),
        (["rex.jpg", "rexmask.png"], [("rex.jpg", "rexmask.png")]),
        (["1.jpg", "10.png"], [("1.jpg", None), ("10.png", None)]),
        (["gas_mask.jpg", "wine label.jpg"], [("gas_mask.jpg", None), ("wine label.jpg", None)]),
        (["caf\u00e9.jpg", "cafe\u0301_mask.png"], [("caf\u00e9.jpg", "cafe\u0301_mask.png")]),
        (["two.dots.jpg", "two.dots.png"], [("two.dots.jpg", "two.dots.png")]),
    ],
)
def test_photos_and_their_masks(tmp_path, names, shots):
    make(tmp_path / "dog", *names)
    assert listing(tmp_path) == {"dog": shots}


def test_every_folder_is_a_class_in_the_order_of_names(tmp_path):
    make(tmp_path, "dog/a.jpg", "Cat/b.jpg", "traffic light/c.jpg", ".git/d.jpg", "__MACOSX/e.jpg", "notes.txt")
    with pytest.warns(ReferenceWarning, match=r"left out: notes.txt"):
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
        (["dog/a.jpg", "Dog/a.jpg"], "Dog' and '"),
        (["dog/a.jpg", "dog_masks/a.png"], "dog'; put them there, beside the photos"),
        (["dog/a.jpg", "dog/a_mask.png", "dog/a_mask_2.png"], "has two masks, 'a_mask.png' and 'a_mask_2.png'"),
        (["caf\u00e9/a.jpg", "cafe\u0301/a.jpg"], "are one class; put their photos into one folder"),
        (["images/a.jpg", "masks/a.png"], "look like a data set without a list of its classes; add classes.txt"),
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


words = st.sampled_from(["a", "A", "b", "a_mask", "mask-b", "b_GT", "a_mask_mask", "_mask", "a.b", "a.jpg", "a.jpg.x"])
endings = st.sampled_from([".jpg", ".JPEG", ".png", ".PNG", ".webp", ".tif", ".txt"])
files = st.builds(
    lambda folder, stem, ending: f"{folder}{stem}{ending}", st.sampled_from(["x/", "y/", ""]), words, endings
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.sets(files, max_size=7))
@example({"x/a.jpg", "x/a.png", "y/b.png"})
@example({"x/a.jpg", "x/a.jpg.x.png", "x/a.txt"})
def test_every_file_is_a_photo_or_a_mask_or_named_or_the_folder_is_refused(tmp_path_factory, names):
    folder = make(tmp_path_factory.mktemp("supports"), *names)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            found = read_support_folder(folder)
        except ValueError:
            return
    used = [path for shots in found.values() for shot in shots for path in (shot.image, shot.mask) if path is not None]
    assert len(used) == len(set(used))
    told = {name for note in noted for name in str(note.message).rpartition(": ")[2].split(", ")}
    for name in names:
        if folder / name not in used:
            assert Path(name).name in told
    for shots in found.values():
        for shot in shots:
            if shot.mask is not None:
                assert shot.image.stem.casefold() in shot.mask.name.casefold()
            for other in shots:  # whose name says that it is a mask of another is no photo
                marked = {f"{other.image.stem}_mask", f"{other.image.stem}_gt", f"mask-{other.image.stem}"}
                assert shot.image.stem.casefold() not in {name.casefold() for name in marked}


def test_what_is_left_out_is_named(tmp_path):
    make(tmp_path / "dog", "rex.jpg", "rex.jpg.overlay.jpg", "notes.txt", "other.json", "rex.xml")
    with pytest.warns(ReferenceWarning, match=r"left out: notes.txt, other.json, rex.jpg.overlay.jpg, rex.xml"):
        assert listing(tmp_path) == {"dog": [("rex.jpg", None)]}


def test_a_class_may_be_called_like_another_s_masks(tmp_path):
    make(tmp_path, "face/a.jpg", "face_mask/b.jpg", "wine/a.jpg", "wine label/a.jpg")
    assert list(listing(tmp_path)) == ["face", "face_mask", "wine", "wine label"]


def test_what_may_be_a_mask_is_named(tmp_path):
    make(tmp_path / "dog", "rex.jpg", "rex-cut.png")
    with pytest.warns(ReferenceWarning, match=r"rex-cut.png' is taken for a photo; if it is the mask of 'rex.jpg'"):
        assert listing(tmp_path) == {"dog": [("rex-cut.png", None), ("rex.jpg", None)]}


def test_an_array_is_a_mask(tmp_path):
    make(tmp_path / "dog", "rex.jpg")
    np.save(tmp_path / "dog" / "rex_mask.npy", np.eye(9, dtype=bool))
    (shot,) = read_support_folder(tmp_path)["dog"]
    assert np.array_equal(shot.mask, np.eye(9, dtype=bool))
    (tmp_path / "dog" / "rex_mask.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"rex_mask.npy' is no NumPy array .*; save the mask with numpy.save"):
        read_support_folder(tmp_path)


def test_a_labelme_file_beside_a_photo_is_its_mask(tmp_path):
    (tmp_path / "dog").mkdir()
    Image.new("RGB", (20, 12)).save(tmp_path / "dog" / "rex.jpg")
    shape = {"label": "DOG", "points": [[2, 2], [9, 2], [9, 8], [2, 8]], "shape_type": "polygon"}
    content = {"shapes": [shape], "imagePath": "c:\\x.jpg", "imageHeight": 12, "imageWidth": 20}
    for name in ("rex.json", "rex.jpg.labelme.json", "rex.labelme.json"):
        path = tmp_path / "dog" / name
        path.write_text(json.dumps(content))
        (shot,) = read_support_folder(tmp_path)["dog"]
        assert read_mask(shot.mask, size=(12, 20)).sum() == 42
        path.unlink()
    path.write_text(json.dumps(content | {"shapes": []}))
    with pytest.raises(ValueError, match="has no area called 'dog', nor any other; name its shapes like the class"):
        read_support_folder(tmp_path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no file of LabelMe, the only JSON that can be a mask"):
        read_support_folder(tmp_path)
