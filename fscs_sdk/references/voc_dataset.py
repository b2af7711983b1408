"""Pascal VOC and its heirs: pictures of class numbers with a list of class names, and boxes in XML."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import NO_CLASSES, Annotations
from fscs_sdk.references.cvat_xml import read_xml
from fscs_sdk.references.label_text import read_json, read_text, reading
from fscs_sdk.references.shapes import LabelMapArea, Shape, box, read_label_map
from fscs_sdk.spelling import find_name

#: Folders of photos and of label maps, by the names that VOC, CVAT, LabelMe's converter and people give them.
PHOTO_FOLDERS = ("JPEGImages", "images")
MAP_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "masks", "labels")
BOX_FOLDERS = ("Annotations", "annotations")
#: Lists of classes.
CLASS_LISTS = ("labelmap.txt", "class_names.txt", "classes.txt", "classes.json")
#: The values of Pascal VOC itself, which has no list.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@dataclass(frozen=True)
class VocFolders:
    """Where a data set of label maps or boxes has its parts; one of ``maps`` and ``boxes`` is there."""

    photos: Path
    maps: Path | None
    boxes: Path | None
    classes: Path | None


def find_voc(folder: Path) -> VocFolders | None:
    """The parts of a folder that is such a data set; None for any other.

    Raises:
        ValueError: it is one, but has no photos.
    """
    photos, classes = _first(folder, PHOTO_FOLDERS), _first(folder, CLASS_LISTS)
    maps = next((folder / name for name in MAP_FOLDERS if any((folder / name).rglob("*.png"))), None)
    boxes = next((folder / name for name in BOX_FOLDERS if any((folder / name).glob("*.xml"))), None)
    own = maps is not None and maps.name.startswith("SegmentationClass")
    if not own and (maps is None or classes is None):
        maps = None
    if maps is None and boxes is None:
        return None
    if photos is None and (own or boxes is not None):
        raise ValueError(f"'{folder}' has annotations but no photos; put them into '{folder / PHOTO_FOLDERS[0]}'")
    return None if photos is None else VocFolders(photos, maps, None if maps else boxes, classes)


def read_voc(parts: VocFolders, source: str) -> Annotations:
    """A data set of label maps: a picture (PNG) for each photo, of the same name, whose pixels are class numbers.

    The list says what the numbers mean: ``labelmap.txt`` of CVAT, ``name:red,green,blue::`` a line, means colours;
    else a name a line, the first of number 1, or of 0 if it is the background; or JSON, ``{"1": "cat"}``. Without a
    list they are Pascal VOC's. 0 is background, 255 void, and so are values that the list has not.
    A label map has the size of the upright photo, or of the pixels as stored, and is turned with them.

    Without label maps: boxes from ``Annotations/*.xml``, see :func:`read_boxes`.

    Raises:
        ValueError: a file is broken.
        OSError: a file cannot be read.
    """
    album = Album(parts.photos)
    if parts.maps is None:
        return read_boxes(sorted(parts.boxes.glob("*.xml")) if parts.boxes else [], album, source)
    found = Annotations(source)
    values = _values(parts.classes)
    for name in values:
        found.name(name)
    for path in sorted(parts.maps.rglob("*.png")):
        size, areas = _areas(path, values)
        if areas:
            stem = path.relative_to(parts.maps).with_suffix("").as_posix()
            found.add(album.find_stem(stem), stem, areas, size)
    return found


def read_boxes(paths: list[Path], album: Album, source: str) -> Annotations:
    """Pascal VOC's boxes: an XML file for each photo. The first pixel is number 1, and edges belong to the box.

    Raises:
        ValueError: a file is broken.
        OSError: a file cannot be read.
    """
    found = Annotations(source)
    for path in paths:
        root = read_xml(path)
        with reading(f"'{path}'", "Pascal VOC's XML", found.left_out):
            width, height = int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
            called = root.findtext("filename") or path.stem
            photo = album.find(called) or album.find_stem(path.stem)
            areas = [(_text(element, "name"), _box(element)) for element in root.iterfind("object")]
            found.add(photo, called, areas, (height, width) if height and width else None)
    return found


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"an object has no {path}")
    return text


def _box(element: ElementTree.Element) -> Shape:
    left, top, right, bottom = (float(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return box(left - 1, top - 1, right, bottom)


def _values(path: Path | None) -> dict[str, int | tuple[int, int, int]]:
    """Class name -> its number or colour in the label maps."""
    if path is None:
        return {name: number for number, name in enumerate(VOC_CLASSES, start=1)}
    with reading(f"'{path}'", "a list of classes"):
        if path.suffix == ".json":
            content = read_json(path)
            listed: list[tuple[Any, Any]] = [*content.items()] if isinstance(content, dict) else [*_numbered(content)]
            return {str(name): int(number) for number, name in listed if int(number) not in (0, 255)}
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
        if path.name == "labelmap.txt":
            colours = (line.split(":")[:2] for line in lines)
            return {name: _colour(text) for name, text in colours if find_name(name, NO_CLASSES) is None}
        return {name: number for number, name in _numbered(lines) if number != 0}


def _numbered(names: list[str]) -> Iterator[tuple[int, str]]:
    names = [name for name in names if name != "__ignore__"]
    first = 0 if names and find_name(names[0], NO_CLASSES) is not None else 1
    yield from enumerate(names, start=first)


def _colour(text: str) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in text.split(","))
    return red, green, blue


def _areas(
    path: Path, values: dict[str, int | tuple[int, int, int]]
) -> tuple[tuple[int, int], list[tuple[str, Shape]]]:
    colours = any(isinstance(value, tuple) for value in values.values())
    pixels = read_label_map(path, colours=colours)
    keys = pixels.astype(np.int64)
    if colours:
        keys = (keys[:, :, 0] * 256 + keys[:, :, 1]) * 256 + keys[:, :, 2]
    numbers, counts = np.unique(keys, return_counts=True)
    pixels_of = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    areas: list[tuple[str, Shape]] = []
    for name, value in values.items():
        key = value if isinstance(value, int) else (value[0] * 256 + value[1]) * 256 + value[2]
        if key in pixels_of:
            areas.append((name, LabelMapArea(path, value, pixels_of[key])))
    return pixels.shape[:2], areas
