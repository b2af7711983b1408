"""COCO JSON with run-length masks: exact, with holes and parts, read by pycocotools and what builds on it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fscs_sdk.formats.regions import Region, regions
from fscs_sdk.prediction import Prediction


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.coco.json``: a COCO data set of one photo; see :func:`to_coco`."""
    return {".coco.json": json.dumps(to_coco(prediction, photo=photo)).encode()}


def to_coco(prediction: Prediction, *, photo: str, instances: bool = False) -> dict[str, Any]:
    """A COCO data set of one photo.

    The id of a category is the class's value in ``mask``. An annotation is a class's whole area with its score, or,
    with ``instances``, one connected part of it. COCO has no place for "present" and the scores of absent classes;
    they stand in the image's entry under ``present`` and ``scores``, which COCO's tools leave alone.
    """
    height, width = prediction.mask.shape
    image = {
        "id": 1,
        "file_name": photo,
        "width": width,
        "height": height,
        "present": {name: bool(prediction.present[name]) for name in prediction.names},
        "scores": {name: float(prediction.scores[name]) for name in prediction.names},
    }
    annotations = [
        {
            "id": index,
            "image_id": 1,
            "category_id": region.number,
            "segmentation": run_lengths(region, height, width),
            "area": int(np.count_nonzero(region.area)),
            "bbox": list(region.box),
            "iscrowd": 0,
            "score": float(prediction.scores[prediction.names[region.number - 1]]),
        }
        for index, region in enumerate(regions(prediction, instances=instances), start=1)
    ]
    return _data_set([image], annotations, prediction.names)


def run_lengths(region: Region, height: int, width: int) -> dict[str, Any]:
    """A region in COCO's compressed run-length form: ``size`` [H, W] and ``counts``, text."""
    from fscs_sdk.formats import require

    require("pycocotools", "COCO")
    import cv2
    from pycocotools import mask as coco_mask

    left, top, wide, high = region.box
    columns = np.zeros((wide, high + 2), np.uint8)  # with background at either end, so that each run has its ends
    columns[:, 1:-1] = cv2.transpose(region.area.view(np.uint8))
    flat = columns.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), high + 2)
    starts, ends = ((left + column) * height + top + row).reshape(-1, 2).T
    apart = starts[1:] != ends[:-1]  # a run that goes on from the foot of a column to the head of the next is one
    edges = np.stack((starts[np.append(True, apart)], ends[np.append(apart, True)]), axis=1)
    counts = np.diff(edges.ravel(), prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def collect(files: Mapping[str, Path], *, names: Sequence[str]) -> dict[str, bytes]:
    """``annotations.coco.json``: all photos in one data set, ids counted anew in the photos' order.

    Raises:
        ValueError: a file is damaged or was written for other classes.
        OSError: a file is missing.
    """
    categories = _data_set([], [], names)["categories"]
    images: list[Any] = []
    annotations: list[Any] = []
    for photo, path in files.items():
        try:
            one = json.loads(path.read_bytes())
            (image,) = one["images"]
            same = one["categories"] == categories
            of_photo = [*one["annotations"]]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"'{path}' is not a COCO file of one photo; delete it and run again") from None
        if not same:
            raise ValueError(f"'{path}' was written for other classes than {list(names)}; delete it and run again")
        images.append({**image, "id": len(images) + 1, "file_name": photo})
        for annotation in of_photo:
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": len(images)})
    return {"annotations.coco.json": json.dumps(_data_set(images, annotations, names)).encode()}


def _data_set(images: list[Any], annotations: list[Any], names: Sequence[str]) -> dict[str, Any]:
    return {
        "info": {"description": "Masks by fscs-sdk"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, start=1)],
        "images": images,
        "annotations": annotations,
    }
