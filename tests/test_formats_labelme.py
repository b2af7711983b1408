"""LabelMe JSON, read back by LabelMe's own rules (labelme/_label_file.py and labelme/utils/shape.py of 6.3)."""

import json
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from conftest import photo
from fscs_sdk.formats import WRITERS
from predictions import prediction, predictions, quick

FILE_KEYS = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
SHAPE_KEYS = {"label", "points", "group_id", "shape_type", "flags", "description", "mask"}


def decoded(text):
    with Image.open(BytesIO(b64decode(text))) as image:
        return np.array(image)


def mask_of(data, names):
    """LabelMe's shapes_to_label: each mask shape goes where its two points say, both of them inside it."""
    label = np.zeros((data["imageHeight"], data["imageWidth"]), int)
    for shape in data["shapes"]:
        assert set(shape) == SHAPE_KEYS
        assert shape["shape_type"] == "mask"
        (left, top), (right, bottom) = shape["points"]
        area = np.zeros(label.shape, bool)
        area[top : bottom + 1, left : right + 1] = decoded(shape["mask"]).astype(bool)
        label[area] = names.index(shape["label"]) + 1
    return label


@quick
@given(predictions())
def test_labelmes_rules_give_the_mask_back(answer):
    data = json.loads(json.dumps(answer.to_labelme(photo="a/b.jpg")))
    assert set(data) == FILE_KEYS
    assert (mask_of(data, answer.names) == answer.mask).all()
    assert data["flags"] == answer.present
    assert data["imagePath"] == "a/b.jpg"
    assert decoded(data["imageData"]).shape == answer.image.shape


def test_one_shape_holds_parts_and_holes():
    data = prediction([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]], ("dog", "cat")).to_labelme()
    (shape,) = data["shapes"]
    assert (shape["label"], shape["points"]) == ("dog", [[0, 0], [4, 2]])


def test_the_photo_inside_is_the_photo_and_can_be_left_out():
    answer = prediction(np.zeros((60, 80), int), ("dog",), image=photo(3))
    shown = decoded(answer.to_labelme()["imageData"])
    assert np.abs(shown.astype(int) - answer.image).mean() < 3
    assert answer.to_labelme(embed=False)["imageData"] is None


def test_a_photo_too_long_for_jpeg_is_embedded_too():
    answer = prediction(np.ones((1, 65501), int), ("dog",))
    assert decoded(answer.to_labelme()["imageData"]).shape == (1, 65501, 3)


def test_the_file_names_the_photo_it_lies_beside(tmp_path):
    (path,) = WRITERS["labelme"].write(prediction([[0, 1]], ("dog",)), tmp_path / "b.jpg")
    assert path.name == "b.jpg.labelme.json"
    assert json.loads(path.read_text())["imagePath"] == "b.jpg"
    assert WRITERS["labelme"].collect({"b.jpg": path}, tmp_path, names=("dog",)) == []


@pytest.mark.parametrize("name", ["\udcff", "a\ud800b"])
def test_names_that_are_not_unicode_survive(name):
    (shape,) = json.loads(json.dumps(prediction([[1]], (name,)).to_labelme()))["shapes"]
    assert shape["label"] == name
