"""Prediction as a value: what it says of itself, the mask of one class, and its picture."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import photo
from fscs_sdk import Prediction
from fscs_sdk.formats import WRITERS

quick = settings(max_examples=40, deadline=None, database=None)


def prediction(height=60, width=80, scores=(0.93, 0.08), mask=None, names=None):
    """An answer of any size; a class is present from 0.5 on. Without a mask only the first class is in it."""
    names = names or ("dog", "cat", "bird", "cow")[: len(scores)]
    if mask is None:
        mask = np.zeros((height, width), dtype=np.uint8)
        if scores[0] >= 0.5:
            mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return Prediction(
        names=names,
        scores=dict(zip(names, scores, strict=True)),
        present={name: score >= 0.5 for name, score in zip(names, scores, strict=True)},
        foreground=np.zeros((len(names), height, width), dtype=np.float32),
        background=np.ones((height, width), dtype=np.float32),
        mask=mask,
        image=photo(1, height, width),
    )


def test_it_says_which_classes_are_there():
    assert repr(prediction()) == "Prediction(80x60; dog: present (0.93), cat: absent (0.08))"


@pytest.mark.parametrize(
    ("asked", "cure"),
    [
        ("Dog", "; write 'dog', as the supports do"),
        ("cafe\u0301", r"; write 'caf\xe9', as the supports do"),  # the same to the eye
        ("horse", ""),
        (0, ""),
    ],
)
def test_a_name_that_is_none_of_its_classes_is_told_and_what_looks_like_it(asked, cure):
    answer = prediction(names=("dog", "caf\xe9"))
    for ask in (answer.present.__getitem__, answer.scores.__getitem__, answer.class_mask):
        with pytest.raises(KeyError) as refused:
            ask(asked)
        assert refused.value.args == (f"{asked!r} is not one of the classes ['dog', 'caf\xe9']{cure}",)
    assert answer.present == {"dog": True, "caf\xe9": False}
    assert pickle.loads(pickle.dumps(answer)).present == answer.present


@pytest.mark.parametrize("name", ["x.npz", "x.png", "x.jpg"])
def test_what_cannot_be_saved_is_told_in_a_sentence(tmp_path, name):
    form = "classes" if name == "x.jpg" else None
    with pytest.raises(FileNotFoundError) as refused:
        prediction().save(tmp_path / "nowhere" / name, format=form)
    there = tmp_path / "nowhere"
    assert str(refused.value) == f"cannot write '{there / name}': there is no folder '{there}'; make it first"
    first = prediction().save(tmp_path / name, format=form)[0]
    first.unlink()
    first.mkdir()
    with pytest.raises(OSError, match=rf"cannot write '.*{name}': .*; check the folder and its space"):
        prediction().save(tmp_path / name, format=form)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction().mask = None


@quick
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_masks_of_the_classes_and_the_background_share_out_the_photo(classes, seed):
    names = tuple(f"class {number}" for number in range(classes))
    dtype = np.uint8 if classes <= 255 else np.uint16
    mask = np.random.default_rng(seed).integers(0, classes + 1, (9, 11)).astype(dtype)
    answer = prediction(9, 11, scores=(1.0,) * classes, mask=mask, names=names)
    rebuilt = np.zeros((9, 11), dtype=int)
    for number, name in enumerate(names, start=1):
        selected = answer.class_mask(name)
        assert selected.dtype == np.bool_
        assert selected.shape == (9, 11)
        rebuilt += number * selected
    assert (rebuilt == mask).all()


def test_the_mask_of_a_class_is_a_copy():
    answer = prediction()
    answer.class_mask("dog")[:] = False
    assert answer.class_mask("dog").any()


def test_an_unknown_class_is_named():
    with pytest.raises(KeyError, match=r"'cow' is not one of the classes \['dog', 'cat'\]"):
        prediction().class_mask("cow")


@pytest.mark.parametrize("size", [(8, 8), (8, 400), (400, 8), (120, 240), (300, 500)])
def test_a_picture_of_any_size(size):
    answer = prediction(*size)
    before = answer.image.copy(), answer.mask.copy()
    picture = answer.plot()
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.shape[1] >= max(240, size[1])
    assert picture.shape[0] > size[0]  # the legend
    assert picture.shape[0] * picture.shape[1] < 2**20  # slim ones too
    assert (answer.image == before[0]).all()
    assert (answer.mask == before[1]).all()


def test_a_photo_with_nothing_in_it_is_shown_as_it_is():
    answer = prediction(200, 300, scores=(0.2, 0.1))
    assert (answer.plot()[:200] == answer.image).all()


def test_what_is_there_is_tinted_and_what_is_far_from_it_is_not():
    answer = prediction(200, 300)
    picture, dog = answer.plot()[:200], answer.class_mask("dog")
    assert (picture[dog] != answer.image[dog]).any(axis=-1).mean() > 0.9
    assert (picture[120:] == answer.image[120:]).all()


def test_the_legend_has_every_class_present_or_not():
    names = tuple(f"a class with a long name, number {number}" for number in range(3))  # one fills a row
    answers = (prediction(200, 300, scores=(0.9, 0.1, 0.1)[:count], names=names[:count]) for count in (1, 2, 3))
    rows = [answer.plot().shape[0] for answer in answers]
    assert rows[0] < rows[1] < rows[2]
    assert rows[2] - rows[1] == rows[1] - rows[0]


def test_the_answer_without_its_pixels_is_ready_for_json():
    answer = prediction(60, 80)
    assert json.loads(json.dumps(answer.to_dict())) == {
        "width": 80,
        "height": 60,
        "classes": [
            {"name": "dog", "present": True, "score": 0.93, "pixels": 15 * 20},
            {"name": "cat", "present": False, "score": 0.08, "pixels": 0},
        ],
    }


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.png", "mask"),
        ("a.mask.png", "mask"),
        ("a.overlay.jpg", "overlay"),
        ("A.PNG", "mask"),
        ("a.npz", "npz"),
        ("a.csv", "csv"),
        ("a.txt", "yolo"),
        ("a.yolo.txt", "yolo"),
        ("a.coco.json", "coco"),
        ("a.labelme.json", "labelme"),
    ],
)
def test_the_ending_says_what_is_saved(tmp_path, name, format):
    path = tmp_path / name
    answer = prediction()
    assert answer.save(str(path)) == [path]
    ending = WRITERS[format].ending
    photo = name.removesuffix(ending)
    assert path.read_bytes() == WRITERS[format].encode(answer, photo=photo)[ending]


def test_an_overlay_is_saved_without_loss_where_its_ending_says_so(tmp_path):
    answer = prediction()
    for path, format in ((tmp_path / "a.overlay.png", None), (tmp_path / "a.png", "overlay")):
        assert answer.save(path, format=format) == [path]
        with Image.open(path) as image:
            assert (np.asarray(image) == answer.plot()).all()


def test_a_named_format_goes_before_the_ending(tmp_path):
    answer = prediction()
    assert answer.save(tmp_path / "b.json", format="coco") == [tmp_path / "b.json"]
    assert json.loads((tmp_path / "b.json").read_text())["categories"]


def test_the_masks_of_the_classes_are_saved_beside_the_path(tmp_path):
    paths = prediction().save(tmp_path / "a", format="classes")
    assert [path.name for path in paths] == ["a.1-dog.png", "a.2-cat.png"]


@pytest.mark.parametrize("name", ["a", "a.json", "a.jpg", "png"])
def test_an_ending_that_says_nothing_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"use .mask.png, .* .overlay.png, .png, .txt, or format= one of"):
        prediction().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no format 'tiff'; choose from mask, overlay"):
        prediction().save(tmp_path / "a.png", format="tiff")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        prediction().save(tmp_path / "nowhere" / "a.png")


def test_the_embedded_models_answer_can_be_shown(model):
    from fscs_sdk import Shot

    answer = model.predict(photo(5, 240, 320), {"dog": Shot(photo(1)), "cat": Shot(photo(2))})
    assert answer.plot().shape[1] == 320
