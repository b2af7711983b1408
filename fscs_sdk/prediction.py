"""The answer for one photo, or why there is none."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.spelling import find_name

Value = TypeVar("Value")

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True)
class Failure:
    """Stands where a photo's answer would, if it has none and the others were to be answered all the same.

    Attributes:
        source: the photo as it was given.
        reason: what is wrong with it and what to do, one sentence.

    Raises:
        AttributeError: what only a prediction has is asked of it; the message is the reason.
    """

    source: Any
    reason: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("source", "reason"):  # where it is copied
            raise AttributeError(name)
        raise AttributeError(f"there is no {name} of a photo without an answer: {self.reason}")


def sentence(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it; make the photo smaller"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename!r}: {error.strerror.lower()}" if error.filename is not None else error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


class LateMaps(Protocol):
    """What makes a prediction's maps when they are asked for."""

    def probabilities(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Foreground (N, H, W) and background (H, W)."""


class ByClass(dict[str, Value]):
    """A dict from class names, in the supports' order, that says which there are where it is asked for another."""

    def __missing__(self, name: object) -> NoReturn:
        """Raise a KeyError; one that looks like the name is told."""
        near = find_name(name, self) if isinstance(name, str) else None
        cure = ""
        if near is not None:
            looks_the_same = normalize("NFC", str(name)) == normalize("NFC", near)
            cure = f"; write {ascii(near) if looks_the_same else repr(near)}, as the supports do"
        raise KeyError(f"{name!r} is not one of the classes {list(self)}{cure}")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Is it there, and where?

    A model's predictions hold the network's small maps; ``foreground`` and ``background`` are made of them when one of
    the two is first asked for. So of many classes in a large photo only the mask takes memory until then.

    Attributes:
        names: the N class names, in the supports' order.
        scores: for each class the evidence for its presence, in [0, 1]; asked for another name, a KeyError says which
            there are.
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

    @classmethod
    def with_late_maps(
        cls,
        maps: LateMaps,
        *,
        names: tuple[str, ...],
        scores: dict[str, float],
        present: dict[str, bool],
        mask: NDArray[Any],
        image: NDArray[np.uint8],
    ) -> "Prediction":
        """A prediction whose foreground and background are made when they are asked for."""
        prediction = cls.__new__(cls)
        attributes = {"names": names, "scores": scores, "present": present, "mask": mask, "image": image}
        prediction.__dict__.update(attributes, _maps=maps)
        prediction.__post_init__()
        return prediction

    def __post_init__(self) -> None:
        self.__dict__.update(scores=ByClass(self.scores), present=ByClass(self.present))

    def __getattr__(self, name: str) -> Any:
        """Of what is not there yet: the maps."""
        maps = self.__dict__.get("_maps")
        if name not in ("foreground", "background") or maps is None:
            raise AttributeError(f"a Prediction has no attribute {name!r}")
        foreground, background = maps.probabilities()
        self.__dict__.update(foreground=foreground, background=background)
        return self.__dict__[name]

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
        numbers = ByClass((known, number) for number, known in enumerate(self.names, start=1))
        selected: NDArray[np.bool_] = self.mask == numbers[name]
        return selected

    def plot(self) -> NDArray[np.uint8]:
        """The photo with the classes' areas tinted and outlined, and a legend below: uint8 RGB."""
        from fscs_sdk.formats import overlay  # drawing and formats are loaded only by those who use them

        return overlay(self)

    def save(self, path: str | os.PathLike[str], *, format: str | None = None) -> list[Path]:
        """Write a file, or, with the format ``classes``, one file for each class beside ``path``.

        Args:
            path: its ending says what is written: ``.png`` the mask as an indexed PNG, ``.overlay.jpg`` or
                ``.overlay.png`` the picture of :meth:`plot`, ``.npz`` all maps, ``.csv`` presence and scores,
                ``.coco.json``, ``.labelme.json``, and ``.txt`` labels of YOLO.
            format: a name of :data:`fscs_sdk.formats.WRITERS`, whatever the ending.

        Returns:
            The paths written, each whole or not at all.

        Raises:
            ValueError: an ending that says nothing, an unknown format, or one that cannot hold this prediction.
            MissingPackageError: the format needs a package that is not installed; an ImportError.
            OSError: the file cannot be written.
        """
        from fscs_sdk.formats import save

        return save(self, Path(path), format=format)

    def to_dict(self) -> dict[str, Any]:
        """The answer without its pixels, ready for JSON: ``width``, ``height``, and in ``classes`` for each class
        ``name``, ``present``, ``score`` and its ``pixels`` in the mask.
        """
        from fscs_sdk.formats.regions import count_pixels

        height, width = self.mask.shape
        pixels = count_pixels(self.mask, len(self.names))[1:]
        classes = [
            {
                "name": name,
                "present": bool(self.present[name]),
                "score": float(self.scores[name]),
                "pixels": int(count),
            }
            for name, count in zip(self.names, pixels, strict=True)
        ]
        return {"width": width, "height": height, "classes": classes}

    def to_coco(self, *, photo: str = "photo", instances: bool = False) -> dict[str, Any]:
        """A COCO data set of this photo; see :func:`fscs_sdk.formats.coco.to_coco`.

        Args:
            photo: the photo's ``file_name`` in it.
            instances: an annotation for each connected part of a class instead of one for the class.

        Raises:
            MissingPackageError: pycocotools is not installed; an ImportError.
        """
        from fscs_sdk.formats.coco import to_coco

        return to_coco(self, photo=photo, instances=instances)

    def to_labelme(self, *, photo: str = "photo", embed: bool = True) -> dict[str, Any]:
        """The contents of a LabelMe file; see :func:`fscs_sdk.formats.labelme.to_labelme`.

        Args:
            photo: path of the photo from where the file will lie.
            embed: put the photo into the file.
        """
        from fscs_sdk.formats.labelme import to_labelme

        return to_labelme(self, photo=photo, embed=embed)

    def to_yolo(self) -> str:
        """Segmentation labels of YOLO, a line for each connected part; see :func:`fscs_sdk.formats.yolo.to_yolo`."""
        from fscs_sdk.formats.yolo import to_yolo

        return to_yolo(self)

    def to_supervision(self, *, instances: bool = False) -> "Detections":
        """``supervision.Detections``, one for each class that has pixels.

        Args:
            instances: one for each connected part of a class instead.

        Raises:
            MissingPackageError: supervision is not installed; an ImportError.
        """
        from fscs_sdk.formats.detections import to_supervision

        return to_supervision(self, instances=instances)
