"""Label Studio's JSON exports (full and minimal): polygons, brushes, ellipses, rectangles and choices."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations
from fscs_sdk.references.label_text import reading
from fscs_sdk.references.shapes import EmptyShapeError, Shape, ellipse, polygon, rectangle, ring_of, run_lengths

#: What Label Studio puts before the name of an uploaded file.
UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def is_label_studio(content: Any) -> bool:
    """Whether a JSON value is a list of Label Studio's tasks with their answers."""
    task = content[0] if isinstance(content, list) and content else None
    return isinstance(task, dict) and (_answers(task) is not None or any(_flat_regions(task)))


def read_label_studio(tasks: list[Any], path: Path, album: Album) -> Annotations:
    """The photos of Label Studio's export "JSON" or "JSON-MIN".

    Of several answers to a task the one marked as ground truth counts, else the first that was not cancelled. Label
    Studio shows photos upright, and ``original_width`` and ``original_height`` are of the upright photo. A choice is a
    class that is there. Photos are found by their names, also without the digits that an upload puts before them.

    Raises:
        ValueError: the export is broken, or photos cannot be told apart.
    """
    found = Annotations(f"'{path}'")
    for number, task in enumerate(tasks, start=1):
        with reading(
            f"task {task.get('id', number) if isinstance(task, dict) else number} of '{path}'", "Label Studio's"
        ):
            called = _photo_name(task)
            size: tuple[int, int] | None = None
            areas: list[tuple[str, Shape | None]] = []
            for region, value in _regions(task):
                if "original_height" in region:
                    size = (int(region["original_height"]), int(region["original_width"]))
                areas += _areas(region, value, size, f"{called!r} in '{path}'", found)
            if areas:
                photo = album.find(called) or album.find(UPLOADED.sub("", PurePosixPath(called).name))
                found.add(photo, called, areas, size)
    return found


def _answers(task: dict[str, Any]) -> list[Any] | None:
    """The answers of a task in the full form; None in any other."""
    answers = task.get("annotations", task.get("completions"))
    return answers if isinstance(task.get("data"), dict) and isinstance(answers, list) else None


def _flat_regions(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The regions of a task in the minimal form, which has them in lists by the names of the labelling tools."""
    entries = (entry for value in task.values() if isinstance(value, list) for entry in value)
    yield from (entry for entry in entries if isinstance(entry, dict) and "original_width" in entry)


def _regions(task: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The regions of a task, each with what holds its coordinates."""
    answers = _answers(task)
    if answers is None:
        yield from ((region, region) for region in _flat_regions(task))
        return
    kept = [answer for answer in answers if not answer.get("was_cancelled")]
    chosen = next((answer for answer in kept if answer.get("ground_truth")), kept[0] if kept else {"result": []})
    yield from ((region, region["value"]) for region in chosen["result"] if isinstance(region.get("value"), dict))


def _photo_name(task: dict[str, Any]) -> str:
    """The path of the task's photo, from whatever address it is stored under."""
    for address in (task.get("data") or task).values():
        if isinstance(address, str):
            parts = urlsplit(address)
            path = unquote(parts.path) if parts.scheme or address.startswith("/data/") else address
            local = parse_qs(parts.query).get("d", [path])[0] if address.startswith("/data/local-files") else path
            if PurePosixPath(local).suffix.lower() in PHOTO_ENDINGS:
                return local.removeprefix("/data/upload/").lstrip("/") if address.startswith("/data/") else local
    raise ValueError("it names no photo")


def _areas(
    region: dict[str, Any], value: dict[str, Any], size: tuple[int, int] | None, where: str, found: Annotations
) -> Iterator[tuple[str, Shape | None]]:
    if "choices" in value:
        choices = value["choices"]
        yield from ((str(choice), None) for choice in ([choices] if isinstance(choices, str) else choices))
        return
    labels = next((value[key] for key in value if key.endswith("labels") and isinstance(value[key], list)), None)
    if not labels:
        return  # the same region comes again with its labels, or nobody named it
    what = f"{labels[0]!r} on {where}"
    if region.get("image_rotation") or size is None:
        found.left_out.append(f"{what}: it was made on a turned view, or on a photo of unknown size")
        return
    with reading(what, "Label Studio's", found.left_out):
        shape = _shape(value, *size)
        yield from ((str(label), shape) for label in labels)


def _shape(value: dict[str, Any], height: int, width: int) -> Shape:
    """A region whose places and lengths are hundredths of the photo's width and height.

    Raises:
        EmptyShapeError: it is of a kind without an area.
    """
    x, y = width / 100, height / 100
    if "rle" in value:
        area = unpack_brush(value["rle"], 4 * height * width).reshape(height, width, 4)[:, :, 3] > 0
        edges = np.flatnonzero(np.diff(area.ravel().astype(np.int8), prepend=0, append=0))
        counts = np.diff(edges, prepend=0, append=area.size)
        return run_lengths(counts, (0, 0, width, height), by_columns=False)
    if "points" in value:
        return polygon(ring_of(value["points"]) * (x, y))
    if "radiusX" in value:
        radii = (value["radiusX"] * x, value["radiusY"] * y)
        return ellipse(value["x"] * x, value["y"] * y, *radii, value.get("rotation", 0))
    if "width" in value and "height" in value:
        left, top = value["x"] * x, value["y"] * y
        right, bottom = left + value["width"] * x, top + value["height"] * y
        return rectangle(left, top, right, bottom, value.get("rotation", 0), around=(left, top))
    raise EmptyShapeError("it has no area")


def unpack_brush(data: Any, count: int) -> NDArray[np.uint8]:
    """The values of Label Studio's packed brush: uint8 (count,), red, green, blue and opacity of each pixel.

    A stream of bits, highest first: 32 for the number of values, 5 for the bits of a value less one, four times 4 for
    the bits of a length less one; then blocks of: 1 bit, whether one value is repeated; 2 bits, which of the four
    lengths is used; the length less one; and the value, or so many values (thi.ng/rle-pack).

    Raises:
        ValueError: it is cut short, or holds another number of values.
    """
    packed = bytes(data)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        start, place = place, place + count
        if place > 8 * len(packed):
            raise ValueError("its brush is cut short")
        around = packed[start // 8 : (place + 7) // 8]
        return int.from_bytes(around, "big") >> (-place % 8) & ((1 << count) - 1)

    if read(32) != count:
        raise ValueError("its brush is of a photo of another size")
    values = np.zeros(count, np.uint8)
    word = read(5) + 1
    if word > 8:
        raise ValueError("its brush has more than 8 bits a value")
    lengths = [read(4) + 1 for _ in range(4)]
    index = 0
    while index < count:
        repeated = read(1)
        end = index + 1 + read(lengths[read(2)])
        if repeated:
            values[index:end] = read(word)
        else:
            for position in range(index, min(end, count)):
                values[position] = read(word)
        index = end
    return values
