"""Predictions as Roboflow's ``supervision.Detections``, to draw, count, track and convert with that library."""

from typing import TYPE_CHECKING

import numpy as np

from fscs_sdk.formats import require
from fscs_sdk.formats.regions import regions
from fscs_sdk.prediction import Prediction

if TYPE_CHECKING:
    from supervision import Detections


def to_supervision(prediction: Prediction, *, instances: bool = False) -> "Detections":
    """One detection for each class that has pixels, or, with ``instances``, for each connected part of it.

    ``class_id`` counts from 0 (one less than in ``mask``), ``confidence`` is the class's score, ``data["class_name"]``
    its name, ``mask`` bool (D, H, W), ``xyxy`` the box whose right and bottom edges lie on the last pixels.

    Raises:
        MissingPackageError: supervision is not installed.
    """
    require("supervision", "to_supervision")
    from supervision import Detections

    height, width = prediction.mask.shape
    found = list(regions(prediction, instances=instances))
    masks = np.zeros((len(found), height, width), np.bool_)
    for mask, region in zip(masks, found, strict=True):
        mask[region.window] = region.area
    corners = [(x, y, x + wide - 1, y + high - 1) for x, y, wide, high in (region.box for region in found)]
    names = [prediction.names[region.number - 1] for region in found]
    return Detections(
        xyxy=np.array(corners, np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.array([prediction.scores[name] for name in names], np.float32),
        class_id=np.array([region.number - 1 for region in found], np.int64),
        data={"class_name": np.array(names, np.str_)},
    )
