"""What a reader of annotations finds, and how shots are made of it."""

import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fscs_sdk.images import ImageSource, stored_size
from fscs_sdk.images.decoding import upright
from fscs_sdk.references.shapes import Box, Shape
from fscs_sdk.spelling import counted, find_name
from fscs_sdk.supports import Shot

#: Labels that annotation tools use for what is no class.
NO_CLASSES = ("background", "_background_", "__ignore__")


class ReferenceWarning(UserWarning):
    """Something in a data set was left out; the message names it."""


@dataclass(frozen=True, eq=False)
class EmbeddedPhoto:
    """A photo that is no file of its own, such as one inside an annotation file; it is read when it is needed."""

    path: Path
    read: Callable[[], ImageSource]


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """A photo and its classes.

    Attributes:
        photo: where it is.
        areas: class name -> shapes, none for a class that is said to be there, but not where.
        size: (height, width) of the picture that the coordinates were made on; None for those that are shares.
    """

    photo: Path | EmbeddedPhoto
    areas: dict[str, list[Shape]]
    size: tuple[int, int] | None


@dataclass(eq=False)
class Annotations:
    """All that a data set says, as its reader fills it.

    Attributes:
        source: what messages call the data set.
        names: its classes, in its own order, each as it was written first; others are added as they are met.
        photos: photos that were found.
        missing: names of those that were not.
        left_out: what was read and cannot be used (lines, points ...), with the reason.
    """

    source: str
    names: list[str] = field(default_factory=list)
    photos: list[AnnotatedPhoto] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _met: dict[str, str | None] = field(default_factory=dict, repr=False)

    def add(
        self,
        photo: Path | EmbeddedPhoto | None,
        called: str,
        areas: Iterable[tuple[str, Shape | None]],
        size: tuple[int, int] | None,
    ) -> None:
        """Take a photo (None: not found) that the data set calls so, with its classes' shapes (None: a tag)."""
        grouped: dict[str, list[Shape]] = {}
        for written, shape in areas:
            name = self.name(written)
            if name is not None:
                grouped.setdefault(name, []).extend([] if shape is None else [shape])
        if photo is None:
            self.missing.append(called)
        elif grouped:
            self.photos.append(AnnotatedPhoto(photo, grouped, size))

    def name(self, written: str) -> str | None:
        """The class that a label names, by the spelling it was met in first; None for what is no class."""
        if written not in self._met:
            name = written.strip()
            known = find_name(name, self.names)
            if not name or find_name(name, NO_CLASSES) is not None:
                name = ""
            elif known is None:
                self.names.append(name)
            self._met[written] = known or name or None
        return self._met[written]

    def by_class(self) -> dict[str, list[AnnotatedPhoto]]:
        """Class -> its photos, for classes that have any; what is missing or was left out is told.

        Raises:
            ValueError: nothing can be used.
        """
        found = {name: [photo for photo in self.photos if name in photo.areas] for name in self.names}
        found = {name: photos for name, photos in found.items() if photos}
        if not found and self.missing:
            raise ValueError(
                f"{self.source} names {counted(len(self.missing), 'photo')} and none is there, such as "
                f"{self.missing[0]!r}; put them beside it"
            )
        if not found:
            reason = f" ({self.left_out[0]})" if self.left_out else ""
            raise ValueError(
                f"{self.source} marks no object that can be used{reason}; annotate some photos in it first"
            )
        for kind, names in (("photos that are not there", self.missing), ("annotations", self.left_out)):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                warnings.warn(f"{self.source}: {kind} were left out: {names[0]}{more}", ReferenceWarning, stacklevel=2)
        return found


def make_shot(annotated: AnnotatedPhoto, name: str) -> Shot | None:
    """The shot of a class: with a mask (a 1-bit PNG in memory) where shapes say it, else with its boxes, or a tag.

    Where a class has outlines in a photo, boxes of it there are taken as filled. None where no pixel is marked.

    Raises:
        ValueError: the photo cannot be read, or has not the size that was annotated.
        OSError: it cannot be opened.
    """
    photo = annotated.photo
    image = photo if isinstance(photo, Path) else photo.read()
    shapes = annotated.areas[name]
    if not shapes:
        return Shot(image)
    where = photo if isinstance(photo, Path) else photo.path
    (height, width), orientation = _annotated_size(image, annotated.size, f"'{where}'")
    if all(isinstance(shape, Box) for shape in shapes):
        boxes = [_turned_box(shape, (height, width), orientation) for shape in shapes if isinstance(shape, Box)]
        return Shot(image, box=[box for box in boxes if box is not None]) if any(boxes) else None
    canvas = np.zeros((height, width), np.bool_)
    for shape in shapes:
        shape.draw(canvas)
    if not canvas.any():
        return None
    buffer = io.BytesIO()
    upright(Image.fromarray(canvas), orientation).save(buffer, "PNG", compress_level=1)
    return Shot(image, buffer.getvalue())


def share(annotated: AnnotatedPhoto, name: str) -> float | None:
    """About how much of the photo a class covers, from 0 to 1; None for a tag."""
    height, width = annotated.size or (1, 1)
    shapes = annotated.areas[name]
    return sum(shape.area(height, width) for shape in shapes) / (height * width) if shapes else None


def _annotated_size(image: ImageSource, size: tuple[int, int] | None, label: str) -> tuple[tuple[int, int], int]:
    """(height, width) of the picture that was annotated, and the EXIF orientation that its mask still has to follow.

    Annotation tools show photos upright, so coordinates are of the upright photo. Some ignore EXIF: where the size that
    they noted is that of the pixels as stored, and not of the upright photo, the coordinates are turned with it.
    """
    height, width, orientation = stored_size(image, label=label)
    swapped = orientation >= 5
    whole = (width, height) if swapped else (height, width)
    if size is None or size == whole:
        return whole, 1
    if swapped and size == (height, width):
        return size, orientation
    raise ValueError(
        f"{label} is {whole[1]} x {whole[0]} and was annotated at {size[1]} x {size[0]} (width x height); "
        "use the photo that was annotated"
    )


def _turned_box(box: Box, size: tuple[int, int], orientation: int) -> tuple[float, float, float, float] | None:
    if orientation == 1:
        left, top, right, bottom = box.pixels(*size)
        return (left, top, right, bottom) if left < right and top < bottom else None
    canvas = np.zeros(size, np.bool_)
    box.draw(canvas)
    turned = np.asarray(upright(Image.fromarray(canvas), orientation))
    rows, columns = np.flatnonzero(turned.any(axis=1)), np.flatnonzero(turned.any(axis=0))
    return (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0) if len(rows) else None
