"""COCO JSON, read back by pycocotools, the format's own library."""

import json

import numpy as np
import pytest
from hypothesis import given
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import fscs_sdk.formats
from fscs_sdk.formats import WRITERS, MissingPackageError
from predictions import ODD_NAMES, prediction, predictions, quick

#: pycocotools' decoder is not yet up to NumPy 2's rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def opened(data):
    """A data set in COCO's own loader, after a trip through JSON text."""
    coco = COCO()
    coco.dataset = json.loads(json.dumps(data))
    coco.createIndex()
    return coco


def mask_of(coco, image_id, shape):
    """The class numbers that the annotations of an image paint; no pixel may be painted twice."""
    mask, times = np.zeros(shape, int), np.zeros(shape, int)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
        area = coco.annToMask(annotation)
        mask += annotation["category_id"] * area
        times += area
    assert times.max(initial=0) <= 1
    return mask


@quick
@given(predictions())
def test_pycocotools_finds_the_mask_the_boxes_and_the_areas(answer):
    coco = opened(answer.to_coco(photo="a/b.jpg"))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("a/b.jpg", *answer.mask.shape)
    assert (mask_of(coco, image["id"], answer.mask.shape) == answer.mask).all()
    assert {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())} == dict(
        enumerate(answer.names, start=1)
    )
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert annotation["area"] == coco_mask.area(annotation["segmentation"])
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert annotation["iscrowd"] == 0
        assert annotation["score"] == answer.scores[answer.names[annotation["category_id"] - 1]]


@quick
@given(predictions())
def test_instances_are_the_connected_parts(answer):
    import cv2

    coco = opened(answer.to_coco(instances=True))
    assert (mask_of(coco, 1, answer.mask.shape) == answer.mask).all()
    for number in range(1, len(answer.names) + 1):
        parts = coco.loadAnns(coco.getAnnIds(catIds=number))
        expected, _ = cv2.connectedComponents((answer.mask == number).astype(np.uint8), connectivity=8)
        assert len(parts) == expected - 1
        for part in parts:
            count, _ = cv2.connectedComponents(coco.annToMask(part), connectivity=8)
            assert count == 2


def test_a_class_is_one_annotation_and_an_absent_one_none():
    data = prediction([[1, 0, 1], [0, 0, 0], [0, 2, 0]], ("dog", "cat", "cow")).to_coco()
    assert [annotation["category_id"] for annotation in data["annotations"]] == [1, 2]
    assert data["images"][0]["present"] == {"dog": True, "cat": True, "cow": False}


def test_the_run_length_text_is_the_librarys_own():
    for last in (0, 1):  # a run that ends with the photo, and one that does not
        mask = np.random.default_rng(3).integers(0, 2, (31, 17)).astype(np.uint8)
        mask[-1, -1] = last
        (annotation,) = prediction(mask, ("dog",)).to_coco()["annotations"]
        assert annotation["segmentation"]["counts"].encode() == coco_mask.encode(np.asfortranarray(mask))["counts"]


def test_the_files_of_a_run_become_one_data_set_in_the_order_of_the_photos(tmp_path):
    answers = {
        "b/second.jpg": prediction([[0, 2], [1, 1]], ODD_NAMES),
        "a/empty.jpg": prediction(np.zeros((3, 4), int), ODD_NAMES),
        "a/first.jpg": prediction([[2, 2, 2]], ODD_NAMES),
    }
    files = {}
    for photo, answer in answers.items():
        (tmp_path / photo).parent.mkdir(exist_ok=True)
        (files[photo],) = WRITERS["coco"].write(answer, tmp_path / photo)
    (path,) = WRITERS["coco"].collect(files, tmp_path, names=ODD_NAMES)
    assert path == tmp_path / "annotations.coco.json"
    coco = COCO(str(path))
    assert [image["file_name"] for image in coco.loadImgs(sorted(coco.getImgIds()))] == list(answers)
    assert len({annotation["id"] for annotation in coco.dataset["annotations"]}) == 3
    for image in coco.loadImgs(coco.getImgIds()):
        answer = answers[image["file_name"]]
        assert (mask_of(coco, image["id"], answer.mask.shape) == answer.mask).all()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [], "categories": [], "annotations": []}', "\xff"])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "a.jpg.coco.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.jpg\.coco\.json' is not a COCO file of one photo; delete it"):
        WRITERS["coco"].collect({"a.jpg": path}, tmp_path, names=("dog",))


def test_a_file_of_other_classes_is_named(tmp_path):
    (path,) = WRITERS["coco"].write(prediction([[1]], ("dog",)), tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg.coco.json' was written for other classes than \['cat'\]"):
        WRITERS["coco"].collect({"a.jpg": path}, tmp_path, names=("cat",))


def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(fscs_sdk.formats, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"needs pycocotools; install it with: pip install 'fscs-sdk\[form"):
        prediction([[1]], ("dog",)).to_coco()
