"""Every way of asking gives, for the same photo and the same encoded supports, the same answer as ``model.predict``."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from fscs_sdk import FewShotSegmenter, Prediction, SupportSet
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS
from fscs_sdk.export import export
from fscs_sdk.folder import predict_folder, videos
from fscs_sdk.images import read_image
from test_app_label_studio import decode as decode_brush
from test_export import quiet

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

QUERIES = ("cat_query.jpg", "person_query_gray.jpg", "coffee.jpg")


@dataclass(frozen=True)
class Asked:
    """A photo, what is asked about it, and what a door may need besides; ``fixture`` gives what takes long to make."""

    photo: Path
    model: FewShotSegmenter
    supports: SupportSet
    supports_file: Path
    onnx_file: Path
    folder: Path
    fixture: Callable[[str], Any]


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
    return journal(asked.folder)[asked.photo.name], mask


def a_folder(asked: Asked) -> Answer:
    inputs = asked.folder / "in"
    inputs.mkdir(parents=True)
    for photo in (PHOTOS / "dog.jpg", asked.photo):
        shutil.copy(photo, inputs)
    out = asked.folder / "out"
    predict_folder(asked.model, inputs, asked.supports, out, formats=("mask",))
    with PIL.Image.open(out / f"{asked.photo.name}.mask.png") as mask:
        return journal(out)[asked.photo.name], np.array(mask)


def journal(out: Path) -> dict[str, dict[str, bool]]:
    """A photo's name -> the presences that the journal has."""
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    return {Path(line["path"]).name: line["presence"] for line in lines if "path" in line and line.get("presence")}


def supervision(asked: Asked) -> Answer:
    pytest.importorskip("supervision", reason="the detections are its own")
    prediction = asked.model.predict(asked.photo, asked.supports)
    detections = prediction.to_supervision()
    mask = np.zeros(prediction.mask.shape, dtype=np.uint8)
    for number, area in zip(detections.class_id, detections.mask, strict=True):
        mask[area] = number + 1
    return prediction.present, mask


# ---- The page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(model32: FewShotSegmenter, exported, tmp_path_factory) -> Iterator[Any]:
    """A server of the page whose workspace holds the shots of ``exported``, as a person marks them, and the photos."""
    pytest.importorskip("starlette", reason="the page is an extra")
    pytest.importorskip("httpx", reason="it is asked with httpx")
    from app_server import running

    root = tmp_path_factory.mktemp("page") / "pets"
    shots = {"cat": ("cat_support", "cat_query"), "person": ("person_support",), "coffee": ("coffee",)}
    for name, stems in shots.items():
        (root / "supports" / name).mkdir(parents=True)
        for stem in stems:
            for file in (f"{stem}.jpg", f"{stem}_mask.png"):
                if name != "coffee" or not file.endswith(".png"):
                    shutil.copy(PHOTOS / file, root / "supports" / name)
    with running(root, model32) as server, server.client() as client:
        client.patch("/api/settings", json={"calibrate": False}).raise_for_status()
        for photo in QUERIES:
            client.post("/api/photos", params={"name": photo}, content=(PHOTOS / photo).read_bytes()).raise_for_status()
        server.settled(client)
        yield server


def the_page(asked: Asked) -> Answer:
    server = asked.fixture("page")
    with server.client() as client:
        photos = client.get("/api/workspace").raise_for_status().json()["photos"]
    answer = next(photo["answer"] for photo in photos if photo["name"] == asked.photo.name)
    with PIL.Image.open(server.root / "answers" / f"{asked.photo.name}.mask.png") as image:
        found = np.array(image)
    mask = np.zeros_like(found)
    for number, name in enumerate(answer["names"], start=1):  # the page's order is the alphabet's
        mask[found == number] = asked.supports.names.index(name) + 1
    present = dict(zip(answer["names"], answer["present"], strict=True))
    return {name: present[name] for name in asked.supports.names}, mask


def label_studio(asked: Asked) -> Answer:
    labels = [f'{{}} value="{name}"/>' for name in asked.supports.names]
    brush, choices = ("".join(label.format(f"<{tag}") for label in labels) for tag in ("Label", "Choice"))
    config = (
        f'<View><Image name="photo" value="$image"/><BrushLabels name="tag" toName="photo">{brush}</BrushLabels>'
        f'<Choices name="there" toName="photo" choice="multiple">{choices}</Choices></View>'
    )
    photo = "data:image/jpeg;base64," + base64.b64encode(asked.photo.read_bytes()).decode()
    question = {"tasks": [{"id": 1, "data": {"image": photo}}], "label_config": config}
    with asked.fixture("page").client() as client:
        (result,) = client.post("/predict", json=question).raise_for_status().json()["results"]
    shape = read_image(asked.photo).shape[:2]
    mask, there = np.zeros(shape, dtype=np.uint8), []
    for region in result["result"]:
        if region["type"] == "brushlabels":
            area = decode_brush(region["value"]["rle"]).reshape(*shape, 4)[:, :, 3] > 0
            mask[area] = asked.supports.names.index(region["value"]["brushlabels"][0]) + 1
        else:
            there = region["value"]["choices"]
    return {name: name in there for name in asked.supports.names}, mask


# ---- Videos ----------------------------------------------------------------------------------------------------------


def clip_of(asked: Asked) -> Path:
    """A video of two frames without loss, the second of which is the photo."""
    image = read_image(asked.photo)
    path = asked.folder.with_suffix(".avi")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 1, image.shape[1::-1])
    for frame in (255 - image, image):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def an_open_video(asked: Asked) -> Answer:
    _, last = asked.model.stream(cv2.VideoCapture(str(clip_of(asked))), asked.supports)
    return of(last)


def a_video(asked: Asked) -> Answer:
    """Presence is the table's; masks are drawn into the annotated video, and caught on their way there."""
    drawn = []

    class Recorder(videos._Recorder):
        def add(self, prediction: Prediction) -> None:
            drawn.append(prediction.mask)
            super().add(prediction)

    clip = clip_of(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos, "_Recorder", Recorder)
        predict_folder(asked.model, clip, asked.supports, asked.folder, fps=1)
    rows = (asked.folder / f"{clip.name}.presence.csv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [row.split(",") for row in rows if float(row.split(",")[0]) > 0]
    pixels = np.bincount(drawn[-1].ravel(), minlength=len(cells) + 1)[1:]
    assert [int(cell[4]) for cell in cells] == pixels.tolist()
    return {cell[1]: cell[2] == "true" for cell in cells}, drawn[-1]


# ---- Graphs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(model32: FewShotSegmenter, exported, tmp_path_factory) -> Any:
    """The supports of ``exported`` in a program of ``torch.export``."""
    path = tmp_path_factory.mktemp("program") / "three.pt2"
    with quiet():
        export(model32, exported[1], path)
    return torch.export.load(path).module()


def an_onnx_file(asked: Asked) -> Answer:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    session = onnxruntime.InferenceSession(str(asked.onnx_file), providers=["CPUExecutionProvider"])
    return of_a_graph(asked, lambda photos: session.run(None, {"photos": photos}))


def a_torch_program(asked: Asked) -> Answer:
    run = asked.fixture("program")
    return of_a_graph(asked, lambda photos: [output.numpy() for output in run(torch.from_numpy(photos))])


def of_a_graph(asked: Asked, run: Callable[[NDArray[np.uint8]], Any]) -> Answer:
    """What a graph says of a photo, in the photo's size, reckoned as docs/export.md tells."""
    image = read_image(asked.photo)
    side = asked.model.network.input_side
    resized = PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.BILINEAR)
    _, present, _, _, small, added = (answer[0] for answer in run(np.array(resized)[None]))
    corners = [np.linspace(0, few - 1, many) for few, many in zip(small.shape[1:], image.shape[:2], strict=True)]
    maps = between(small, *corners)
    last = added.shape[-1] - 1
    grid = [((np.arange(many) + 0.5) * (last + 1) / many - 0.5).clip(0, last) for many in image.shape[:2]]
    *colours, rest = np.moveaxis(between(added, *grid), 1, 0)
    maps += sum(colour * image[..., channel] for channel, colour in enumerate(colours)) + rest
    maps = maps.clip(0, 1)
    shown = np.where(present[:, None, None], maps, -1)
    mask = np.where(shown.max(axis=0) >= 1 - maps.mean(axis=0), shown.argmax(axis=0) + 1, 0)
    return dict(zip(asked.supports.names, present.tolist(), strict=True)), mask


def between(planes: NDArray[np.float32], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """(..., h, w) -> at these places between the points, bilinearly."""
    down, across = (
        np.maximum(0, 1 - np.abs(places[:, None] - np.arange(few)))
        for places, few in zip((rows, columns), planes.shape[-2:], strict=True)
    )
    return down @ planes @ across.T


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
    "folder": a_folder,
    "page": the_page,
    "Label Studio": label_studio,
    "video": a_video,
    "cv2.VideoCapture": an_open_video,
    "ONNX": an_onnx_file,
    "torch.export": a_torch_program,
    "supervision": supervision,
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
def test_every_door_gives_the_answer_of_predict(door, photo, exported, model32, tmp_path, request):
    onnx_file, supports = exported
    expected = model32.predict(PHOTOS / photo, supports)
    files = onnx_file.with_name("supports.safetensors"), onnx_file, tmp_path / "out"
    asked = Asked(PHOTOS / photo, model32, supports, *files, request.getfixturevalue)
    present, mask = DOORS[door](asked)
    assert present == expected.present
    differs = mask != expected.mask
    # Graphs sum in another order: pixels where two candidates tie to 1e-4 may fall either way.
    assert differs.mean() <= (1e-4 if door in ("ONNX", "torch.export") else 0)


def test_the_photos_are_not_all_alike(exported, model32):
    _, supports = exported
    answers = [tuple(model32.predict(PHOTOS / photo, supports).present.values()) for photo in QUERIES]
    assert len(set(answers)) > 1
