"""Label Studio's machine learning backend: its questions about tasks, answered with the workspace's classes.

The routes and the JSON are those that Label Studio documents ("Write your own ML backend"), spoken directly, since the
package for them is no longer released. Areas go as its brush RLE, presence as choices.
"""

import base64
import binascii
import re
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.app.workspace import MOST_BYTES, Workspace
from fscs_sdk.prediction import Prediction
from fscs_sdk.spelling import find_name

#: Bits of a run's length in Label Studio's RLE; two bits say which of them a run has.
RUN_BITS = (3, 4, 8, 16)
#: What Label Studio puts before the name of an uploaded file.
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
#: Seconds that a photo may take to come from Label Studio.
PATIENCE = 30


@dataclass(frozen=True)
class Tool:
    """A labelling tool of a project: its name, the name of the image it is for, and the labels that it has."""

    name: str
    image: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LabelConfig:
    """What of a project's labelling interface can be answered.

    Attributes:
        brush: where areas go, or None.
        choices: where presences go, or None.
        field: the task's field that holds the photo.
    """

    brush: Tool | None
    choices: Tool | None
    field: str

    @classmethod
    def parse(cls, text: str) -> "LabelConfig":
        """Read the XML of a labelling interface.

        Raises:
            ValueError: it is no XML, or has neither brush labels nor choices for an image.
        """
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise ValueError(f"the labelling interface is no XML ({error}); save it in Label Studio again") from None
        images = {tag.get("name", ""): tag.get("value", "$image").removeprefix("$") for tag in root.iter("Image")}
        brush = _tool(root, "BrushLabels", "Label", images)
        choices = _tool(root, "Choices", "Choice", images)
        tool = brush or choices
        if tool is None:
            raise ValueError("the labelling interface has neither BrushLabels nor Choices for an Image; add one")
        return cls(brush, choices, images[tool.image])


def _tool(root: ElementTree.Element, tag: str, item: str, images: Mapping[str, str]) -> Tool | None:
    for element in root.iter(tag):
        image = element.get("toName", "")
        if image in images:
            labels = tuple(label.get("alias") or label.get("value") or "" for label in element.iter(item))
            return Tool(element.get("name", ""), image, labels)
    return None


def task_result(prediction: Prediction, config: LabelConfig, version: str) -> dict[str, Any]:
    """One task's answer in Label Studio's form; classes that the project has no label for are left out."""
    height, width = prediction.mask.shape
    regions: list[dict[str, Any]] = []
    there = [name for name in prediction.names if prediction.present[name]]
    for number, name in enumerate(there, start=1):
        area = prediction.class_mask(name)
        label = None if config.brush is None else find_name(name, config.brush.labels)
        if config.brush is not None and label is not None and area.any():
            regions.append(
                {
                    "id": f"area{number}",
                    "from_name": config.brush.name,
                    "to_name": config.brush.image,
                    "type": "brushlabels",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": prediction.scores[name],
                    "value": {"format": "rle", "rle": brush_rle(area), "brushlabels": [label]},
                }
            )
    if config.choices is not None:
        labels = [label for name in there if (label := find_name(name, config.choices.labels)) is not None]
        if labels:
            regions.append(
                {
                    "id": "presence",
                    "from_name": config.choices.name,
                    "to_name": config.choices.image,
                    "type": "choices",
                    "value": {"choices": labels},
                }
            )
    sure = [max(score, 1 - score) for score in prediction.scores.values()]
    return {"result": regions, "score": min(sure), "model_version": version}


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """A mask, bool (H, W), as the bytes of Label Studio's brush RLE.

    They hold the mask as an RGBA picture, all four bytes of a marked pixel 255: the number of bytes (32 bits), the bits
    of a value less 1 (5), the four sizes of :data:`RUN_BITS` less 1 (4 each), then the runs: 1, which size (2 bits),
    the length less 1, the value (8 bits).
    """
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0) * 4
    most = 1 << RUN_BITS[-1]
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in RUN_BITS)]
    for end, length in zip(ends.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if flat[end - 1] else "00000000"
        left = length
        while left:
            part = min(left, most)
            index = next(place for place, size in enumerate(RUN_BITS) if part <= 1 << size)
            bits.append(f"1{index:02b}{part - 1:0{RUN_BITS[index]}b}{value}")
            left -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def task_photo(task: Any, field: str, workspace: Workspace, *, studio: str | None, key: str | None) -> Path | bytes:
    """The photo of a task: inside it, in the workspace or its folder by name, or from the Label Studio that is known.

    Args:
        field: of the task's data.
        studio: address of the only server that photos are fetched from, or None.
        key: access token for it, or None.

    Raises:
        ValueError: the task has no photo, or it cannot be had; the message says what to do.
        OSError: it could not be fetched.
    """
    data = task.get("data") if isinstance(task, dict) else None
    address = data.get(field) if isinstance(data, dict) else None
    if not isinstance(address, str) or not address:
        raise ValueError(f"the task has no photo in its field {field!r}")
    if address.startswith("data:"):
        try:
            return base64.b64decode(address.partition(",")[2], validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the photo in the task is damaged base64") from None
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    called = PurePosixPath(path).name
    for photo in [*workspace.queries(), *workspace.pickable()]:
        if photo.name in (called, UPLOADED.sub("", called)):
            return photo.path
    if studio is None:
        raise ValueError(
            f"the photo {called!r} is not in the workspace; add it there, or let it be fetched: "
            "fscs app --label-studio http://localhost:8080, with the access token in LABEL_STUDIO_API_KEY"
        )
    return _fetch(address, studio.rstrip("/"), key)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect might lead to a server that nobody named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _fetch(address: str, studio: str, key: str | None) -> bytes:
    whole = studio + address if address.startswith("/") else address
    one, other = urlsplit(whole), urlsplit(studio)
    if (one.scheme, one.netloc) != (other.scheme, other.netloc) or one.scheme not in ("http", "https"):
        raise ValueError(f"the photo is at {one.netloc or whole!r}, and photos are fetched from {studio} alone")
    request = urllib.request.Request(whole, headers={} if key is None else {"Authorization": f"Token {key}"})
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except urllib.error.URLError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise OSError(f"Label Studio did not give the photo ({error.reason}); check its address and token") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"the photo has more than {MOST_BYTES // 1_000_000} MB, which is the most")
    return data
