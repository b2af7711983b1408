"""Auto-annotation for CVAT.

``cvat-cli task auto-annotate ID --function-module fscs_sdk.integrations.cvat -p supports=str:FILE.safetensors``
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import cvat_sdk.auto_annotation as cvat
import numpy as np
import PIL.Image
from cvat_sdk.masks import encode_mask
from numpy.typing import NDArray

from fscs_sdk.formats.yolo import rings
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet

Answers = Literal["masks", "tags", "both"]


class DetectionFunction:
    """What CVAT's ``annotate_task`` calls: masks of the classes that are there, tags that they are, or both."""

    def __init__(self, model: FewShotSegmenter, supports: SupportSet, *, answers: Answers = "masks") -> None:
        """Answer with encoded supports; their class names are the labels.

        Args:
            answers: ``masks``, ``tags``, or ``both``, for which the labels in CVAT must be of the type "any".

        Raises:
            ValueError: answers of another kind, or another model's supports.
        """
        if answers not in get_args(Answers):
            raise ValueError(f"answers {answers!r} is unknown; choose {', '.join(get_args(Answers))}")
        model.check(supports)
        self._model, self._supports, self._answers = model, supports, answers

    @property
    def spec(self) -> cvat.DetectionFunctionSpec:
        """The labels, with ids from 0 in the order of the supports."""
        kind = {"masks": "mask", "tags": "tag", "both": "any"}[self._answers]
        return cvat.DetectionFunctionSpec(
            labels=[cvat.label_spec(name, index, type=kind) for index, name in enumerate(self._supports.names)]
        )

    def detect(
        self, context: cvat.DetectionFunctionContext, image: PIL.Image.Image
    ) -> Sequence[cvat.DetectionAnnotation]:
        """For a class that is there one mask (polygons of its parts where CVAT asks for those) and one tag.

        CVAT's confidence threshold, where it is given, takes the place of the supports' thresholds of presence.
        """
        asked = context.conf_threshold
        supports = self._supports if asked is None else self._supports.with_thresholds(asked)
        prediction = self._model.predict(image, supports)
        found: list[cvat.DetectionAnnotation] = []
        for index, name in enumerate(prediction.names):
            area = prediction.class_mask(name)
            if prediction.present[name] and self._answers != "masks":
                found.append(cvat.tag(index))
            if area.any() and self._answers != "tags":
                found += _shapes(index, area, prediction.scores[name], polygons=context.conv_mask_to_poly)
        return found


def create(
    supports: str, *, model: str = "asnet-mini", device: str = "auto", answers: Answers = "masks", edges: bool = True
) -> Any:
    """What ``cvat-cli`` calls with its ``-p`` parameters; ``supports`` is a file of ``fscs encode``."""
    segmenter = FewShotSegmenter.from_pretrained(model, device=device, edges=edges)
    return DetectionFunction(segmenter, SupportSet.load(supports), answers=answers)


def _shapes(index: int, area: NDArray[np.bool_], score: float, *, polygons: bool) -> list[cvat.DetectionAnnotation]:
    if polygons:  # through the centres of the outermost pixels
        return [cvat.polygon(index, (ring + 0.5).ravel().tolist(), score=score) for ring in rings(area)]
    return [cvat.mask(index, encode_mask(area), score=score)]
