"""COCO: one JSON file for many photos, with polygons, run lengths (plain or compressed) and boxes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations
from fscs_sdk.references.label_text import reading
from fscs_sdk.references.shapes import RunLengths, Shape, box, polygon, run_lengths


def is_coco(content: Any) -> bool:
    """Whether a JSON value is a COCO data set of objects."""
    return isinstance(content, dict) and all(
        isinstance(content.get(part), list) for part in ("images", "annotations", "categories")
    )


def read_coco(content: dict[str, Any], path: Path, album: Album) -> Annotations:
    """A COCO data set's photos with all of a class's annotations in them, crowds too.

    Several polygons of an annotation are its parts; holes are in run lengths. An annotation with a box only is a box.
    ``width`` and ``height`` of a photo say whether coordinates are of the upright photo (the rule of most tools) or of
    the pixels as stored.

    Raises:
        ValueError: the data set is broken, or photos cannot be told apart.
    """
    source = f"'{path}'"
    found = Annotations(source)
    with reading(source, "a COCO file"):
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        for name in names.values():
            found.name(name)
        images = {image["id"]: image for image in content["images"]}
        of_photo: dict[Any, list[tuple[str, Shape]]] = {}
        for annotation in content["annotations"]:
            image = images[annotation["image_id"]]
            what = f"annotation {annotation.get('id')} of '{path}'"
            with reading(what, "COCO"):
                name = names[annotation["category_id"]]
            of_photo.setdefault(annotation["image_id"], []).extend(
                (name, shape) for shape in _shapes(annotation, _size(image), what, found.left_out)
            )
        for key, areas in of_photo.items():
            called = str(images[key]["file_name"])
            found.add(album.find(called), called, areas, _size(images[key]))
    return found


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) of a photo, which some exporters do not know."""
    height, width = int(image.get("height") or 0), int(image.get("width") or 0)
    return (height, width) if height > 0 and width > 0 else None


def _shapes(
    annotation: dict[str, Any], size: tuple[int, int] | None, what: str, left_out: list[str]
) -> Iterator[Shape]:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        with reading(what, "COCO"):
            yield _run_lengths(segmentation, size)
    elif segmentation:
        for ring in segmentation:
            with reading(what, "COCO", left_out):
                yield polygon(ring)
    elif annotation.get("bbox"):
        with reading(what, "COCO", left_out):
            left, top, width, height = (float(value) for value in annotation["bbox"])
            yield box(left, top, left + width, top + height)


def _run_lengths(segmentation: dict[str, Any], size: tuple[int, int] | None) -> RunLengths:
    height, width = (int(value) for value in segmentation["size"])
    if size is not None and (height, width) != size:
        raise ValueError(f"its run lengths are {width} x {height} and its photo {size[1]} x {size[0]}")
    return run_lengths(segmentation["counts"], (0, 0, width, height), by_columns=True)
