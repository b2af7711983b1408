"""A model for FiftyOne: ``dataset.apply_model(Model(segmenter, supports), label_field="fscs")``."""

from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from numpy.typing import NDArray

from fscs_sdk.formats.regions import regions
from fscs_sdk.prediction import Prediction
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet


class Model(fom.Model):  # type: ignore[misc]
    """Gives every photo the classes that are there, as classifications, and where, as detections with masks.

    With ``label_field="fscs"`` they are the fields ``fscs_presence`` and ``fscs_masks``.
    """

    def __init__(self, segmenter: FewShotSegmenter, supports: SupportSet, *, instances: bool = False) -> None:
        """Answer with encoded supports.

        Args:
            instances: a detection for each connected part of a class instead of one for the class.

        Raises:
            ValueError: another model's supports.
        """
        segmenter.check(supports)
        self._segmenter, self._supports, self._instances = segmenter, supports, instances

    @property
    def media_type(self) -> str:
        """Photos."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """Whether photos would have to be given one by one: no, those of a batch may differ in size."""
        return False

    @property
    def transforms(self) -> Any:
        """None: the segmenter brings photos to its side itself."""
        return None

    @property
    def preprocess(self) -> bool:
        """Whether transforms are applied: there are none."""
        return False

    def predict(self, arg: NDArray[np.uint8]) -> dict[str, fo.Label]:
        """A photo, uint8 (H, W, 3) -> its labels."""
        return self._labels(self._segmenter.predict(arg, self._supports))

    def predict_all(self, args: list[NDArray[np.uint8]]) -> list[dict[str, fo.Label]]:
        """Photos -> the labels of each."""
        return [self._labels(prediction) for prediction in self._segmenter.stream(args, self._supports)]

    def _labels(self, prediction: Prediction) -> dict[str, fo.Label]:
        scores, names = prediction.scores, prediction.names
        there = [fo.Classification(label=name, confidence=scores[name]) for name in names if prediction.present[name]]
        height, width = prediction.mask.shape
        found = []
        for region in regions(prediction, instances=self._instances):
            left, top, wide, high = region.box
            name = names[region.number - 1]
            place = [left / width, top / height, wide / width, high / height]
            found.append(fo.Detection(label=name, confidence=scores[name], bounding_box=place, mask=region.area))
        return {"presence": fo.Classifications(classifications=there), "masks": fo.Detections(detections=found)}
