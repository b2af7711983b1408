"""A model and supports without a network, for what goes on around them; loads neither torch nor weights."""

import os
import time
from collections.abc import Sequence

import numpy as np

from fscs_sdk.prediction import Prediction


class _Array:
    """As much of a tensor as a fingerprint needs."""

    def __init__(self, values: object) -> None:
        self._values = np.asarray(values)

    def contiguous(self) -> "_Array":
        return self

    def numpy(self) -> np.ndarray:
        return self._values


class StubSupports:
    """Classes ``bright`` and ``dark`` with one shot each."""

    def __init__(self, threshold: float = 0.5, names: tuple[str, ...] = ("bright", "dark")) -> None:
        self.names = names
        self.features = ()
        self.masks = self.tagged = self.class_index = _Array([0, 1])
        self.thresholds = _Array([threshold] * len(names))

    def __len__(self) -> int:
        return len(self.names)


class StubModel:
    """Class 1 is where red is above 127, class 2 where it is below 64; takes ``FSCS_STUB_SLEEP`` seconds a photo."""

    identity = "stub@0"
    protocol = "paper"
    dtype = "float32"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict_batch(self, images: Sequence[np.ndarray], supports: StubSupports) -> list[Prediction]:
        self.batches.append(len(images))
        time.sleep(float(os.environ.get("FSCS_STUB_SLEEP", "0")) * len(images))
        return [self._answer(image, supports) for image in images]

    def _answer(self, image: np.ndarray, supports: StubSupports) -> Prediction:
        red = image[:, :, 0]
        if image.shape[:2] == (13, 13):
            raise RuntimeError("13 x 13 is unlucky")
        foreground = np.stack([red / 255, 1 - red / 255]).astype(np.float32)
        mask = np.where(red > 127, 1, np.where(red < 64, 2, 0)).astype(np.uint8)
        present = {name: bool((mask == number).any()) for number, name in enumerate(supports.names, start=1)}
        scores = {name: float(plane.max()) for name, plane in zip(supports.names, foreground, strict=True)}
        background = 1 - foreground.mean(axis=0)
        return Prediction(supports.names, scores, present, foreground, background, mask, image)
