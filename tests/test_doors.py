"""Every way of asking gives, for the same photo and the same encoded supports, the same answer as ``model.predict``."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fscs_sdk import FewShotSegmenter, Prediction, SupportSet
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS
from fscs_sdk.images import read_image

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

QUERIES = ("cat_query.jpg", "person_query_gray.jpg", "coffee.jpg")


@dataclass(frozen=True)
class Asked:
    """A photo, what is asked about it, and what a door may need besides."""

    photo: Path
    model: FewShotSegmenter
    supports: SupportSet
    supports_file: Path
    onnx_file: Path
    folder: Path


Answer = tuple[dict[str, bool], NDArray[np.integer]]


def of(prediction: Prediction) -> Answer:
    return prediction.present, prediction.mask


def a_list(asked: Asked) -> Answer:
    first, second = asked.model.predict([PHOTOS / "dog.jpg", asked.photo], asked.supports)
    assert first.names == second.names
    return of(second)


def a_stream(asked: Asked) -> Answer:
    *_, last = asked.model.stream(iter([PHOTOS / "dog.jpg", asked.photo]), asked.supports)
    return of(last)


def bytes_of_a_file(asked: Asked) -> Answer:
    return of(asked.model.predict(asked.photo.read_bytes(), asked.supports))


def loaded_supports(asked: Asked) -> Answer:
    return of(asked.model.predict(asked.photo, SupportSet.load(asked.supports_file)))


def the_command(asked: Asked) -> Answer:
    command = ["predict", asked.photo, "--supports", asked.supports_file, "--out", asked.folder, "--formats", "npz"]
    result = CliRunner().invoke(main, [*map(str, command), "--device", "cpu", "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    with np.load(asked.folder / f"{asked.photo.name}.npz") as arrays:
        mask = arrays["mask"]
    *_, last = (asked.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(last)["presence"], mask


def an_onnx_file(asked: Asked) -> Answer:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    session = onnxruntime.InferenceSession(str(asked.onnx_file), providers=["CPUExecutionProvider"])
    image = read_image(asked.photo)
    side = asked.model.network.input_side
    resized = PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.BILINEAR)
    _, present, foreground, _ = session.run(None, {"photos": np.asarray(resized)[None]})
    rows, columns = (
        np.maximum(0, 1 - np.abs(np.linspace(0, few - 1, many)[:, None] - np.arange(few)))
        for few, many in zip(foreground.shape[2:], image.shape[:2], strict=True)
    )
    maps = rows @ foreground[0] @ columns.T
    shown = np.where(present[0][:, None, None], maps, -1)
    mask = np.where(shown.max(axis=0) >= 1 - maps.mean(axis=0), shown.argmax(axis=0) + 1, 0)
    return dict(zip(asked.supports.names, present[0].tolist(), strict=True)), mask


def from_run_lengths(text: str, names: tuple[str, ...], shape: tuple[int, int]) -> NDArray[np.uint8]:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools reads run lengths")
    mask = np.zeros(shape, dtype=np.uint8)
    for name, lengths in json.loads(text).items():
        mask[coco.decode(lengths).astype(bool)] = names.index(name) + 1
    return mask


def ray_column(column: str) -> Callable[[Asked], Answer]:
    def ask(asked: Asked) -> Answer:
        from fscs_sdk.integrations.ray import Predictor

        value = {"bytes": asked.photo.read_bytes(), "path": str(asked.photo), "image": read_image(asked.photo)}[column]
        photos = np.empty(1, dtype=object)
        photos[0] = value
        predictor = Predictor(supports=asked.supports_file, device="cpu", dtype="float32")
        answer = predictor({column: photos})
        assert answer["error"].tolist() == [""]
        shape = read_image(asked.photo).shape[:2]
        mask = from_run_lengths(answer["masks"][0], asked.supports.names, shape)
        return dict(zip(asked.supports.names, answer["present"][0].tolist(), strict=True)), mask

    return ask


def cvat(asked: Asked) -> Answer:
    pytest.importorskip("cvat_sdk", reason="the function is for CVAT")
    from cvat_sdk.masks import decode_mask

    from fscs_sdk.integrations.cvat import DetectionFunction
    from test_integrations import CvatContext

    function = DetectionFunction(asked.model, asked.supports, answers="both")
    with PIL.Image.open(asked.photo) as image:
        found = function.detect(CvatContext(), image)
        width, height = image.size
    names = {label.id: label.name for label in function.spec.labels}
    mask = np.zeros((height, width), dtype=np.uint8)
    present = dict.fromkeys(asked.supports.names, False)
    for annotation in found:
        if hasattr(annotation, "points"):
            area = decode_mask(annotation.points, image_width=width, image_height=height)
            mask[area] = annotation.label_id + 1
        else:
            present[names[annotation.label_id]] = True
    return present, mask


def fiftyone(asked: Asked) -> Answer:
    pytest.importorskip("fiftyone", reason="the model is for FiftyOne")
    from fscs_sdk.integrations.fiftyone import Model

    image = read_image(asked.photo)
    labels = Model(asked.model, asked.supports).predict(image)
    there = {classification.label for classification in labels["presence"].classifications}
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    for detection in labels["masks"].detections:
        left, top = (
            round(place * size) for place, size in zip(detection.bounding_box[:2], mask.shape[::-1], strict=True)
        )
        high, wide = detection.mask.shape
        mask[top : top + high, left : left + wide][detection.mask] = asked.supports.names.index(detection.label) + 1
    return {name: name in there for name in asked.supports.names}, mask


DOORS: dict[str, Callable[[Asked], Answer]] = {
    "list": a_list,
    "stream": a_stream,
    "bytes": bytes_of_a_file,
    "saved supports": loaded_supports,
    "fscs predict": the_command,
    "ONNX": an_onnx_file,
    "Ray, bytes": ray_column("bytes"),
    "Ray, image": ray_column("image"),
    "Ray, path": ray_column("path"),
    "CVAT": cvat,
    "FiftyOne": fiftyone,
}


@pytest.fixture(autouse=True)
def _loaded_once(model32: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FewShotSegmenter, "from_pretrained", lambda *_, **__: model32)


@pytest.mark.parametrize("photo", QUERIES)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_answer_of_predict(door, photo, exported, model32, tmp_path):
    onnx_file, supports = exported
    expected = model32.predict(PHOTOS / photo, supports)
    asked = Asked(
        PHOTOS / photo, model32, supports, onnx_file.with_name("supports.safetensors"), onnx_file, tmp_path / "out"
    )
    present, mask = DOORS[door](asked)
    assert present == expected.present
    differs = mask != expected.mask
    # ONNX Runtime sums in another order: pixels where two candidates tie to 1e-4 may fall either way.
    assert differs.mean() <= (1e-4 if door == "ONNX" else 0)


def test_the_photos_are_not_all_alike(exported, model32):
    _, supports = exported
    answers = [tuple(model32.predict(PHOTOS / photo, supports).present.values()) for photo in QUERIES]
    assert len(set(answers)) > 1
