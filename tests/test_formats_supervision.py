"""``supervision.Detections``, checked by supervision itself."""

import numpy as np
import pytest
from hypothesis import given

import fscs_sdk.formats
from fscs_sdk.formats import MissingPackageError
from predictions import prediction, predictions, quick

supervision = pytest.importorskip("supervision")


@quick
@given(predictions())
def test_the_detections_are_the_mask(answer):
    for instances in (False, True):
        found = answer.to_supervision(instances=instances)
        mask = np.zeros(answer.mask.shape, int)
        assert found.mask.shape == (len(found), *answer.mask.shape)
        for area, number, name, score in zip(
            found.mask, found.class_id, found.data["class_name"], found.confidence, strict=True
        ):
            assert not mask[area].any()
            mask[area] = number + 1
            assert name == answer.names[number].rstrip("\0")
            assert score == np.float32(answer.scores[answer.names[number]])
        assert (mask == answer.mask).all()
        assert (found.xyxy == supervision.mask_to_xyxy(found.mask)).all()


def test_a_class_is_one_detection_and_parts_are_asked_for():
    answer = prediction([[1, 0, 1, 0, 2]], ("dog", "cat"))
    assert len(answer.to_supervision()) == 2
    parts = answer.to_supervision(instances=True)
    assert parts.class_id.tolist() == [0, 0, 1]
    assert parts[parts.data["class_name"] == "dog"].xyxy.tolist() == [[0, 0, 0, 0], [2, 0, 2, 0]]


def test_nothing_found_is_no_detection():
    answer = prediction(np.zeros((4, 5), int), ("dog",))
    assert len(answer.to_supervision()) == 0
    assert len(supervision.Detections.merge([answer.to_supervision(), prediction([[1]]).to_supervision()])) == 1


def test_supervision_can_draw_it():
    answer = prediction(np.repeat([[0] * 40, [1] * 40], 20, axis=0), ("dog",))
    drawn = supervision.MaskAnnotator().annotate(answer.image.copy(), answer.to_supervision())
    assert (drawn[30] != answer.image[30]).any()
    assert (drawn[5] == answer.image[5]).all()


def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(fscs_sdk.formats, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"to_supervision needs supervision; install it with: pip install 'f"):
        prediction([[1]]).to_supervision()
