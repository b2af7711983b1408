"""A model and supports without a network, for what goes on around them; loads neither torch nor weights."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from fscs_sdk.images import read_image
from fscs_sdk.prediction import Failure, Prediction


class StubSupports:
    """Two classes with a shot each."""

    calibration = None

    def __init__(self, threshold: float = 0.5, names: tuple[str, str] = ("bright", "dark")) -> None:
        self.names = names
        self.thresholds = np.array([0.5, 0.5])
        self.source = f"two photos, {threshold}"


class StubModel:
    """Class 1 is where red is above 127, class 2 where it is below 64; a photo of 13 x 13 pixels is too much for it."""

    identity = "stub@0"
    protocol = "paper"
    edges = False

    def __init__(self, *, pause: float = 0.0) -> None:
        self.pause = pause
        self.asked: list[str] = []

    def encode(self, supports: Mapping[str, object]) -> StubSupports:
        first, second = supports
        return StubSupports(names=(first, second))

    def check(self, supports: StubSupports) -> None:
        if not isinstance(supports, StubSupports):
            raise ValueError("these supports were encoded by another model")

    def stream(
        self, queries: Iterable[str], supports: StubSupports, *, max_pixels: int, on_error: str
    ) -> Iterator[Prediction | Failure]:
        assert on_error == "skip"
        for query in queries:
            self.asked.append(query)
            try:
                yield self.answer(read_image(query, max_pixels=max_pixels), supports)
            except (ValueError, OSError, RuntimeError) as error:
                yield Failure(query, " ".join(str(error).split()))

    def answer(self, image: np.ndarray, supports: StubSupports) -> Prediction:
        time.sleep(self.pause)
        if image.shape[:2] == (13, 13):
            raise RuntimeError("13 x 13 is\nunlucky")
        red = image[:, :, 0].astype(np.float32) / 255
        foreground = np.stack([red, 1 - red])
        scores = {name: float(map.max()) for name, map in zip(supports.names, foreground, strict=True)}
        present = {name: score >= 0.5 for name, score in scores.items()}
        mask = np.where(red > 0.5, 1, np.where(red < 0.25, 2, 0)).astype(np.uint8)
        return Prediction(supports.names, scores, present, foreground, 1 - foreground.max(axis=0), mask, image)


def write_photo(path: Path, seed: int = 0, size: tuple[int, int] = (9, 12)) -> Path:
    """A random photo of a size (height, width), PNG whatever the ending: decoders look at the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path
