"""Supports as people have them -> shots: folders, and what annotation tools write."""

import os
from collections.abc import Sequence
from pathlib import Path

from fscs_sdk.references.album import Album
from fscs_sdk.references.annotations import Annotations, ReferenceWarning, make_shot, share
from fscs_sdk.references.coco_json import is_coco, read_coco
from fscs_sdk.references.cvat_xml import read_cvat, read_xml
from fscs_sdk.references.folders import read_support_folder
from fscs_sdk.references.label_studio import is_label_studio, read_label_studio
from fscs_sdk.references.label_text import AnnotationError, read_json
from fscs_sdk.references.labelme_json import is_labelme, read_labelme
from fscs_sdk.references.variety import choose
from fscs_sdk.references.voc_dataset import find_voc, read_boxes, read_voc
from fscs_sdk.references.yolo_dataset import NAME_LISTS, find_yolo, read_yolo
from fscs_sdk.spelling import find_name
from fscs_sdk.supports import Shot

__all__ = ["ANNOTATION_ENDINGS", "AnnotationError", "ReferenceWarning", "read_supports"]

#: Endings of the files that :func:`read_supports` takes.
ANNOTATION_ENDINGS = (".json", ".xml", ".yaml", ".yml", ".names")
#: Folders of a data set in which its JSON files may lie, beside itself.
JSON_FOLDERS = ("annotations", "train")


def read_supports(
    path: str | os.PathLike[str], *, classes: Sequence[str] | None = None, shots: int | None = None
) -> dict[str, list[Shot]]:
    """Read the classes and shots of a folder of photos, or of a data set as annotation tools write it.

    What it is, is decided by its content: a folder for each class (:mod:`fscs_sdk.references.folders`), LabelMe's JSON
    files, COCO JSON, a YOLO data set, CVAT's XML, Pascal VOC's label maps or boxes, or Label Studio's JSON. The page
    "References" of the documentation says what each has to look like. Masks are drawn for the chosen shots only, and
    kept as small PNGs; a shot whose class has nothing but boxes has its boxes.

    Args:
        path: a folder, or the file of a data set (.json, .xml, .yaml); photos are looked for beside and below it.
        classes: the classes to take, in this order; all, in the data set's own order, if not given. Upper and lower
            case are one.
        shots: the most shots of a class, chosen for variety by :func:`fscs_sdk.references.variety.choose`; all if not
            given.

    Returns:
        Class name -> its shots, in the data set's order; what :meth:`FewShotSegmenter.encode` takes.

    Raises:
        ValueError: it is none of these, is broken, or has not the classes asked for. The message names the file and the
            cure.
        OSError: a file or folder cannot be read.

    Warns:
        ReferenceWarning: photos that are not there, or annotations without an area, were left out.
    """
    if shots is not None and shots < 1:
        raise ValueError(f"shots is {shots}; it must be 1 or more")
    source = Path(path)
    annotations = _annotations(source)
    if annotations is None:
        folder = read_support_folder(source)
        found = {name: folder[name] for name in _chosen(classes, list(folder), source)}
        if shots is None:
            return found
        return {name: _few(own, shots) for name, own in found.items()}
    by_class = annotations.by_class()
    supports = {}
    for name in _chosen(classes, list(by_class), source):
        photos = by_class[name]
        places = list(range(len(photos)))
        if shots is not None:
            places = choose([photo.photo for photo in photos], [share(photo, name) for photo in photos], shots)
        made = [make_shot(photos[place], name) for place in places]
        supports[name] = [shot for shot in made if shot is not None]
        if not supports[name]:
            raise ValueError(f"what {annotations.source} marks as {name!r} covers no pixel; draw it again")
    return supports


def _few(own: list[Shot], shots: int) -> list[Shot]:
    photos = [shot.image for shot in own]
    return [own[place] for place in choose(photos, [None] * len(own), shots)]


def _chosen(classes: Sequence[str] | None, there: list[str], source: Path) -> list[str]:
    if classes is None:
        return there
    chosen = []
    for name in classes:
        found = find_name(name.strip(), there)
        if found is None:
            raise ValueError(f"'{source}' has no labelled photo of {name!r}; it has {', '.join(map(repr, there))}")
        chosen.append(found)
    if not chosen:
        raise ValueError("no class is chosen; name one or more, or leave classes out for all")
    return list(dict.fromkeys(chosen))


def _annotations(source: Path) -> Annotations | None:
    """What a data set says; None for a folder that is none, so that it must be one of classes."""
    if source.is_dir():
        return _of_folder(source)
    if not source.exists():
        raise FileNotFoundError(f"there are no supports '{source}'; check the path")
    ending = source.suffix.lower()
    if ending == ".json":
        return _of_json([source], _root(source), f"'{source}'")
    if ending in (".yaml", ".yml") or source.name in NAME_LISTS:
        return read_yolo(source)
    if ending == ".xml":
        root = read_xml(source)
        if root.tag == "annotation":
            return read_boxes([source], Album(_root(source)), f"'{source}'")
        if root.tag == "annotations":
            return read_cvat(root, source, Album(source.parent))
    raise ValueError(
        f"'{source}' is no data set that can be read; give a folder, or JSON of LabelMe, COCO or Label Studio, XML of "
        "CVAT or VOC, or YAML of YOLO, unpacked"
    )


def _root(path: Path) -> Path:
    """The folder in which the photos of an annotation file are looked for."""
    return path.parent.parent if path.parent.name.casefold() in ("annotations", "labels") else path.parent


def _of_folder(folder: Path) -> Annotations | None:
    yolo = find_yolo(folder)
    if yolo is not None:
        return read_yolo(yolo)
    voc = find_voc(folder)
    if voc is not None:
        return read_voc(voc, f"'{folder}'")
    cvat = folder / "annotations.xml"
    if cvat.is_file():
        return _annotations(cvat)
    boxes = [path for path in sorted(folder.glob("*.xml")) if read_xml(path).tag == "annotation"]
    if boxes:
        return read_boxes(boxes, Album(folder), f"'{folder}'")
    for place in (folder, *(folder / name for name in JSON_FOLDERS)):
        files = sorted(path for path in place.glob("*.json") if not path.name.startswith("."))
        if files:
            found = _of_json(files, folder, f"'{place}'", only=False)
            if found is not None:
                return found
    return None


def _of_json(files: Sequence[Path], root: Path, source: str, *, only: bool = True) -> Annotations | None:
    """The one data set in some JSON files; where there is none, None, or with ``only`` a ValueError."""
    labelme, others = [], []
    for path in _preferred(files):
        content = read_json(path)
        if is_labelme(content):
            labelme.append(path)
        elif is_coco(content) or is_label_studio(content):
            others.append((path, content))
    if len(others) + bool(labelme) > 1:
        names = ", ".join(f"'{path.name}'" for path in [*labelme[:1], *(path for path, _ in others)])
        raise ValueError(f"{source} holds several data sets ({names}); give the file of one")
    if labelme:
        return read_labelme(labelme, source, root)
    for path, content in others:
        if is_coco(content):
            return read_coco(content, path, Album(root, beside=path.parent))
        return read_label_studio(content, path, Album(root, beside=path.parent))
    if only:
        raise ValueError(f"{source} is JSON, but not of LabelMe, COCO (objects) or Label Studio; export it as one")
    return None


def _preferred(files: Sequence[Path]) -> Sequence[Path]:
    """Of COCO's own files those that mark objects, and of these those to train with: the rest need not be parsed."""
    for word in ("instances", "train"):
        files = [path for path in files if word in path.name.casefold()] or files
    return files
