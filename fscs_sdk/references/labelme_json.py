"""LabelMe: one JSON file a photo, with polygons, rectangles, circles and masks."""

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations, EmbeddedPhoto, make_shot
from fscs_sdk.references.label_text import read_json, reading
from fscs_sdk.references.shapes import Shape, bitmap, box, ellipse, finite, polygon
from fscs_sdk.spelling import find_name
from fscs_sdk.supports import Shot

#: Drawn by LabelMe, but no areas.
LINES = ("line", "linestrip", "point", "points")


def is_labelme(content: Any) -> bool:
    """Whether a JSON value is a LabelMe file."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read_labelme(paths: list[Path], source: str, root: Path) -> Annotations:
    """All photos of some LabelMe files.

    The photo is the file at ``imagePath``, beside or below the JSON file or below ``root``, else the one inside it.
    LabelMe shows photos upright, so coordinates are of the upright photo. Flags are no annotations.

    Raises:
        ValueError: a file is broken.
        OSError: it cannot be read.
    """
    found = Annotations(source)
    albums: dict[Path, Album] = {}
    everywhere = Album(root)
    for path in paths:
        content = read_json(path)
        if not is_labelme(content):
            continue
        with reading(f"'{path}'", "a LabelMe file"):
            album = albums.setdefault(path.parent, Album(path.parent))
            called = str(content["imagePath"])
            photo: Path | EmbeddedPhoto | None = album.find(called) or everywhere.find(called)
            if photo is None and content.get("imageData"):
                photo = _embedded(path)
        _add(content, path, photo, found)
    return found


def labelme_shot(path: Path, name: str, photo: Path | EmbeddedPhoto) -> Shot:
    """The shot of a class that a LabelMe file says of a photo, wherever that one lies now.

    Raises:
        ValueError: the file is none, is broken, is of a photo of another size, or has no area of the class.
        OSError: it cannot be read.
    """
    content = read_json(path)
    if not is_labelme(content):
        raise ValueError(f"'{path}' is no file of LabelMe, the only JSON that can be a mask; export it as PNG")
    found = Annotations(f"'{path}'")
    _add(content, path, photo, found)
    label = find_name(name, found.names)
    if label is None:
        there = f"but {', '.join(map(repr, found.names))}" if found.names else "nor any other"
        raise ValueError(f"'{path}' has no area called {name!r}, {there}; name its shapes like the class")
    shot = make_shot(found.photos[0], label)
    if shot is None:
        raise ValueError(f"what is called {name!r} in '{path}' covers no pixel; draw it again")
    return shot


def _add(content: dict[str, Any], path: Path, photo: Path | EmbeddedPhoto | None, found: Annotations) -> None:
    with reading(f"'{path}'", "a LabelMe file"):
        height, width = content.get("imageHeight"), content.get("imageWidth")
        size = None if height is None or width is None else (int(height), int(width))
        found.add(photo, str(content["imagePath"]), list(_areas(content["shapes"], path, found)), size)


def _embedded(path: Path) -> EmbeddedPhoto:
    def read() -> bytes:
        with reading(f"'{path}'", "a LabelMe file"):
            return base64.b64decode(read_json(path)["imageData"])

    return EmbeddedPhoto(path, read)


def _areas(entries: list[dict[str, Any]], path: Path, found: Annotations) -> Iterator[tuple[str, Shape]]:
    for number, entry in enumerate(entries, start=1):
        kind = entry.get("shape_type") or "polygon"
        if kind in LINES:
            found.left_out.append(f"the {kind} {entry['label']!r} in '{path}' has no area")
            continue
        with reading(f"shape {number} of '{path}'", f"a {kind} of LabelMe", found.left_out):
            yield str(entry["label"]), _shape(kind, entry)


def _shape(kind: str, entry: dict[str, Any]) -> Shape:
    points = finite(np.asarray(entry["points"], np.float64).reshape(-1, 2))
    if kind == "rectangle":
        return box(*points[0], *points[1])
    if kind == "circle":
        radius = math.dist(points[0], points[1])
        return ellipse(points[0, 0], points[0, 1], radius, radius)
    if kind == "mask":
        return bitmap(base64.b64decode(entry["mask"]), int(points[0, 0]), int(points[0, 1]))
    if kind in ("polygon", "oriented_rectangle"):
        return polygon(points)
    raise ValueError("a shape of an unknown kind")
