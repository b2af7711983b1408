"""CVAT for images: one XML file for many photos, with polygons, masks, boxes, ellipses and tags."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations
from fscs_sdk.references.label_text import AnnotationError, reading
from fscs_sdk.references.shapes import Shape, ellipse, polygon, rectangle, run_lengths

#: Drawn by CVAT, but no areas.
LINES = ("polyline", "points", "cuboid", "skeleton")


def read_xml(path: Path) -> ElementTree.Element:
    """An XML file's root.

    Raises:
        ValueError: it is no XML.
        OSError: it cannot be read.
    """
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"'{path}' is not whole XML ({error}); export it again") from None


def read_cvat(root: ElementTree.Element, path: Path, album: Album) -> Annotations:
    """The photos of CVAT's format "CVAT for images 1.1".

    CVAT turns photos upright, so coordinates are of the upright photo, as ``width`` and ``height`` say. Masks are cut
    out of nothing: they keep holes and parts. A tag is a class that is there. Lines and points are left out.

    Raises:
        ValueError: the file is broken, is one for videos, or photos cannot be told apart.
    """
    source = f"'{path}'"
    if root.find("track") is not None:
        raise AnnotationError(f"{source} is CVAT's format for videos; export it as 'CVAT for images'")
    found = Annotations(source)
    for label in root.iterfind("./meta//labels/label/name"):
        found.name(label.text or "")
    for image in root.iterfind("image"):
        with reading(f"{image.get('name')!r} in {source}", "an image of CVAT"):
            called = image.attrib["name"]
            size = (int(image.attrib["height"]), int(image.attrib["width"]))
            areas = list(_areas(image, called, path, found))
            if areas:
                found.add(album.find(called), called, areas, size)
    return found


def _areas(
    image: ElementTree.Element, called: str, path: Path, found: Annotations
) -> Iterator[tuple[str, Shape | None]]:
    for element in image:
        label = element.get("label")
        if element.tag in LINES:
            found.left_out.append(f"the {element.tag} {label!r} in {called!r} has no area")
        elif element.tag == "tag":
            yield element.attrib["label"], None
        elif label is not None:
            with reading(f"the {element.tag} {label!r} in {called!r} of '{path}'", "CVAT", found.left_out):
                yield label, _shape(element)


def _shape(element: ElementTree.Element) -> Shape:
    def number(name: str) -> float:
        return float(element.attrib[name])

    degrees = float(element.get("rotation", 0))
    if element.tag == "polygon":
        return polygon([point.split(",") for point in element.attrib["points"].split(";")])
    if element.tag == "mask":
        counts = [int(word) for word in element.attrib["rle"].split(",")]
        place = (int(number("left")), int(number("top")), int(number("width")), int(number("height")))
        return run_lengths(counts, place, by_columns=False)
    if element.tag == "ellipse":
        return ellipse(number("cx"), number("cy"), number("rx"), number("ry"), degrees)
    if element.tag == "box":
        left, top, right, bottom = (number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, degrees, around=((left + right) / 2, (top + bottom) / 2))
    raise ValueError("a shape of an unknown kind")
