"""LabelMe JSON, to look at and mend the masks by hand.

The areas are shapes of LabelMe's type ``mask`` (a small PNG at a place), not polygons: a polygon of LabelMe has neither
holes nor several parts, and would lose half a pixel all around; a mask shape is the area, pixel by pixel.
"""

import json
from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.prediction import Prediction

#: The file layout that is written; LabelMe reads mask shapes since 5.3.
LAYOUT_VERSION = "5.5.0"
#: The longest side of a JPEG.
JPEG_SIDE = 65500


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
    shapes = []
    for number, name in enumerate(prediction.names, start=1):
        area = prediction.mask == number
        if area.any():
            shapes.append(_shape(name, area, prediction.scores[name]))
    return {
        "version": LAYOUT_VERSION,
        "flags": {name: bool(prediction.present[name]) for name in prediction.names},
        "shapes": shapes,
        "imagePath": photo,
        "imageData": _photo(prediction.image) if embed else None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shape(name: str, area: NDArray[np.bool_], score: float) -> dict[str, Any]:
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    buffer = BytesIO()
    Image.fromarray(area[top : bottom + 1, left : right + 1].astype(np.uint8)).save(buffer, "PNG")
    return {
        "label": name,
        "points": [[left, top], [right, bottom]],  # both corners belong to the mask
        "group_id": None,
        "description": f"score {score:.4f}",
        "shape_type": "mask",
        "flags": {},
        "mask": b64encode(buffer.getvalue()).decode("ascii"),
    }


def _photo(image: NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    if max(image.shape) > JPEG_SIDE:
        Image.fromarray(image).save(buffer, "PNG")
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return b64encode(buffer.getvalue()).decode("ascii")
