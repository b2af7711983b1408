"""LabelMe JSON, to look at and mend the masks by hand.

The areas are shapes of LabelMe's type ``mask`` (a small PNG at a place), not polygons: a polygon of LabelMe has neither
holes nor several parts, and would lose half a pixel all around; a mask shape is the area, pixel by pixel.
"""

import json
from base64 import b64encode
from typing import Any

import numpy as np

from fscs_sdk.formats.compression import JPEG_SIDE, jpeg, png
from fscs_sdk.formats.regions import Region, regions
from fscs_sdk.prediction import Prediction

#: The file layout that is written; LabelMe reads mask shapes since 5.3.
LAYOUT_VERSION = "5.5.0"


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.labelme.json`` with the photo inside, so that it opens wherever it lies."""
    return {".labelme.json": json.dumps(to_labelme(prediction, photo=photo)).encode()}


def to_labelme(prediction: Prediction, *, photo: str, embed: bool = True) -> dict[str, Any]:
    """The contents of a LabelMe file: one mask shape for each class that has pixels, and the presences as flags.

    Args:
        photo: path of the photo, relative to where the file will lie; LabelMe uses it where the photo is not embedded.
        embed: put the photo, turned upright as it was decoded, into the file (JPEG, for looking at only).
    """
    height, width = prediction.mask.shape
    image = prediction.image
    return {
        "version": LAYOUT_VERSION,
        "flags": {name: bool(prediction.present[name]) for name in prediction.names},
        "shapes": [_shape(region, prediction) for region in regions(prediction)],
        "imagePath": photo,
        "imageData": _text(png(image) if max(image.shape) > JPEG_SIDE else jpeg(image)) if embed else None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shape(region: Region, prediction: Prediction) -> dict[str, Any]:
    name = prediction.names[region.number - 1]
    left, top, width, height = region.box
    return {
        "label": name,
        "points": [[left, top], [left + width - 1, top + height - 1]],  # both corners belong to the mask
        "group_id": None,
        "description": f"score {prediction.scores[name]:.4f}",
        "shape_type": "mask",
        "flags": {},
        "mask": _text(png(region.area.view(np.uint8))),
    }


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
