"""The answer for one photo."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """Is it there, and where?

    Attributes:
        names: the N class names, in the supports' order.
        scores: for each class the evidence for its presence, in [0, 1].
        present: for each class whether its score reaches its threshold (eq. 2).
        foreground: float32 (N, H, W) in [0, 1], the probability of each class at every pixel of the photo (eq. 1).
        background: float32 (H, W) in [0, 1], eq. 3.
        mask: (H, W), 0 = background, n = ``names[n - 1]`` (eq. 5); uint8, or uint16 above 255 classes. A class that is
            not present is nowhere in it.
        image: uint8 (H, W, 3), the photo as it was decoded.
    """

    names: tuple[str, ...]
    scores: dict[str, float]
    present: dict[str, bool]
    foreground: NDArray[np.float32]
    background: NDArray[np.float32]
    mask: NDArray[Any]
    image: NDArray[np.uint8] = field(repr=False)

    def __repr__(self) -> str:
        classes = ", ".join(
            f"{name}: {'present' if self.present[name] else 'absent'} ({self.scores[name]:.2f})" for name in self.names
        )
        height, width = self.mask.shape
        return f"Prediction({width}x{height}; {classes})"

    def class_mask(self, name: str) -> NDArray[np.bool_]:
        """bool (H, W), the pixels of one class in ``mask``.

        Raises:
            KeyError: ``name`` is not one of ``names``.
        """
        if name not in self.names:
            raise KeyError(f"{name!r} is not one of the classes {list(self.names)}")
        selected: NDArray[np.bool_] = self.mask == self.names.index(name) + 1
        return selected

    def plot(self) -> NDArray[np.uint8]:
        """The photo with the classes' areas tinted and outlined, and a legend of all classes below: uint8 RGB."""
        from fscs_sdk.formats import overlay  # drawing is loaded only by those who draw

        return overlay(self)
