"""The functions for other tools, with those tools' own types."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from conftest import box_mask, photo
from fscs_sdk import Prediction
from fscs_sdk.demo import PHOTOS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
cv2 = pytest.importorskip("cv2")


class CvatContext:
    """What CVAT tells its functions; becomes a real context where its package is there."""

    frame_name = "frame.jpg"

    def __init__(self, conf_threshold=None, conv_mask_to_poly=False):
        self.conf_threshold, self.conv_mask_to_poly = conf_threshold, conv_mask_to_poly


@pytest.fixture(scope="module")
def supports(model):
    return model.encode(
        {"cat": (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png"), "box": (photo(1), box_mask())}
    )


class Ring:
    """A model whose answer has a hole, two parts, and a class that is absent."""

    def __init__(self, model):
        self.model = model

    def check(self, supports):
        self.model.check(supports)

    def predict(self, image, supports):
        height, width = np.asarray(image).shape[:2]
        area = np.zeros((height, width), dtype=np.uint8)
        area[5:30, 10:40] = 1
        area[10:20, 15:25] = 0
        area[40:45, 50:60] = 1
        scores = dict(zip(supports.names, (0.9, 0.2), strict=True))
        present = {
            name: scores[name] >= threshold
            for name, threshold in zip(supports.names, supports.thresholds.tolist(), strict=True)
        }
        maps = np.stack([area, 0 * area]).astype(np.float32)
        mask = area if present[supports.names[0]] else 0 * area
        return Prediction(supports.names, scores, present, maps, 1 - maps.mean(axis=0), mask, np.asarray(image))


# ---- CVAT --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cvat():
    return pytest.importorskip("cvat_sdk.auto_annotation", reason="the function is for CVAT")


@pytest.fixture
def ring(model, supports, cvat):
    from fscs_sdk.integrations.cvat import DetectionFunction

    return lambda answers="masks": DetectionFunction(Ring(model), supports, answers=answers)


def test_a_cvat_function_satisfies_cvats_protocol(ring, cvat):
    from cvat_sdk.auto_annotation.interface import DetectionFunctionContext, DetectionFunctionSpec

    DetectionFunctionContext.register(CvatContext)
    assert not {n for n in DetectionFunctionContext.__abstractmethods__ if not hasattr(CvatContext(), n)}
    for answers, kind in (("masks", "mask"), ("tags", "tag"), ("both", "any")):
        spec = ring(answers).spec
        assert isinstance(spec, DetectionFunctionSpec)
        assert [(label.name, label.id, str(label.type)) for label in spec.labels] == [
            ("cat", 0, kind),
            ("box", 1, kind),
        ]


def test_cvat_gets_masks_with_their_holes_and_tags(ring, cvat):
    from cvat_sdk.masks import decode_mask

    image = Image.fromarray(photo(0))
    (mask,) = ring().detect(CvatContext(), image)
    assert (mask.type.value, mask.label_id, mask.frame) == ("mask", 0, 0)
    assert mask.score == pytest.approx(0.9)
    area = decode_mask(mask.points, image_width=80, image_height=60)
    assert area.sum() == 25 * 30 - 100 + 50
    assert not area[15, 20]
    (tag,) = ring("tags").detect(CvatContext(), image)
    assert (tag.label_id, tag.frame) == (0, 0)
    assert not hasattr(tag, "points")
    assert len(ring("both").detect(CvatContext(), image)) == 2


def test_cvat_gets_polygons_that_fill_to_the_same_pixels(ring, cvat):
    found = ring().detect(CvatContext(conv_mask_to_poly=True), Image.fromarray(photo(0)))
    assert [shape.type.value for shape in found] == ["polygon", "polygon"]
    filled = np.zeros((60, 80), dtype=np.uint8)
    for shape in found:
        points = np.array(shape.points).reshape(-1, 2)
        assert len(points) >= 3
        cv2.fillPoly(filled, [np.floor(points).astype(np.int32)], 1)
    assert filled.sum() == 25 * 30 - 100 + 50


def test_cvats_threshold_takes_the_place_of_the_supports(ring, cvat):
    image = Image.fromarray(photo(0))
    assert ring("tags").detect(CvatContext(conf_threshold=0.95), image) == []
    assert ring("both").detect(CvatContext(conf_threshold=0.95), image) == []
    assert [tag.label_id for tag in ring("tags").detect(CvatContext(conf_threshold=0.1), image)] == [0, 1]


def test_cvats_command_makes_the_function_of_a_file(model, supports, cvat, monkeypatch, tmp_path):
    from cvat_sdk.auto_annotation import DetectionFunctionSpec

    import fscs_sdk.integrations.cvat as ours

    monkeypatch.setattr(ours.FewShotSegmenter, "from_pretrained", lambda *_, **__: model)
    supports.save(tmp_path / "supports.safetensors")
    function = ours.create(str(tmp_path / "supports.safetensors"), answers="tags")
    assert isinstance(function.spec, DetectionFunctionSpec)
    with Image.open(PHOTOS / "cat_query.jpg") as image:
        assert 0 in [tag.label_id for tag in function.detect(CvatContext(), image)]
    with pytest.raises(ValueError, match="answers 'boxes' is unknown; choose masks, tags, both"):
        ours.create(str(tmp_path / "supports.safetensors"), answers="boxes")


# ---- FiftyOne ----------------------------------------------------------------------------------------------------


def test_a_fiftyone_model_gives_labels(model, supports):
    fo = pytest.importorskip("fiftyone", reason="the model is for FiftyOne")
    from fscs_sdk.integrations.fiftyone import Model

    ours = Model(Ring(model), supports, instances=True)
    assert (ours.media_type, ours.ragged_batches, ours.transforms, ours.preprocess) == ("image", False, None, False)
    labels = ours.predict(photo(0))
    assert isinstance(labels["presence"], fo.Classifications)
    assert [(c.label, c.confidence) for c in labels["presence"].classifications] == [("cat", 0.9)]
    assert isinstance(labels["masks"], fo.Detections)
    boxes = [np.multiply(d.bounding_box, [80, 60, 80, 60]).round().tolist() for d in labels["masks"].detections]
    assert sorted(boxes) == [[10, 5, 30, 25], [50, 40, 10, 5]]
    assert sum(d.mask.sum() for d in labels["masks"].detections) == 25 * 30 - 100 + 50


@pytest.mark.filterwarnings("default")  # FiftyOne's and its database's own
@pytest.mark.skipif("FIFTYONE_DATABASE_URI" not in os.environ, reason="FiftyOne keeps data sets in a MongoDB")
@pytest.mark.parametrize("batch_size", [None, 2])
def test_fiftyone_applies_the_model_to_a_data_set(model, supports, batch_size):
    fo = pytest.importorskip("fiftyone", reason="the model is for FiftyOne")
    from fscs_sdk.integrations.fiftyone import Model

    photos = [str(PHOTOS / name) for name in ("cat_query.jpg", "coffee.jpg", "person_query_gray.jpg")]
    dataset = fo.Dataset.from_images(photos)
    dataset.apply_model(Model(model, supports), label_field="fscs", batch_size=batch_size)
    assert [sample.filepath for sample in dataset] == photos
    for sample in dataset:
        expected = model.predict(sample.filepath, supports)
        there = {found.label: found.confidence for found in sample.fscs_presence.classifications}
        assert there == {name: expected.scores[name] for name in expected.names if expected.present[name]}
        areas = {found.label: int(found.mask.sum()) for found in sample.fscs_masks.detections}
        assert areas == {name: n for name in expected.names if (n := int(expected.class_mask(name).sum()))}
    dataset.delete()


# ---- Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def predictor(model, supports, monkeypatch):
    import fscs_sdk.integrations.ray as ours

    monkeypatch.setattr(ours.FewShotSegmenter, "from_pretrained", lambda *_, **__: model)
    return ours.Predictor(supports=supports)


def column(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_one_bad_photo_stops_no_batch(predictor, model, supports):
    pytest.importorskip("pycocotools")
    buffer = io.BytesIO()
    Image.fromarray(photo(3)).save(buffer, "PNG")
    batch = {"path": column("a.png", "b.png"), "bytes": column(buffer.getvalue(), b"no photo"), "id": np.array([7, 8])}
    answer = predictor(batch)
    assert set(answer) == {"path", "id", "present", "scores", "masks", "error"}
    assert answer["id"].tolist() == [7, 8]
    assert answer["error"][0] == ""
    assert "not an image" in answer["error"][1]
    expected = model.predict(photo(3), supports)
    assert answer["present"][0].tolist() == [*expected.present.values()]
    np.testing.assert_allclose(answer["scores"][0], [*expected.scores.values()], rtol=1e-6)
    assert not answer["present"][1].any()
    assert np.isnan(answer["scores"][1]).all()
    assert json.loads(answer["masks"][0]).keys() <= set(supports.names)
    assert answer["masks"][1] == ""


def test_a_batch_without_photos_is_refused_with_the_columns(predictor):
    with pytest.raises(ValueError, match="a batch needs a column bytes or image or path; this one has text"):
        predictor({"text": column("x")})
