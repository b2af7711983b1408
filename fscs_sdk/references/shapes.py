"""What annotations draw: polygons, run lengths, small bitmaps, values of a label map, and boxes.

Coordinates are pixels from the photo's upper left corner, x to the right, y down; pixel (row, column) is the square
from (column, row) to (column + 1, row + 1).
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Straight pieces that a circle or an ellipse is made of.
ELLIPSE_POINTS = 72


class EmptyShapeError(ValueError):
    """A shape without an inside: too few points, or a box of no width or height."""


class Shape(Protocol):
    """Some pixels of one class."""

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        """Set the shape's pixels in a mask (H, W); what lies outside is cut off."""

    def area(self, height: int, width: int) -> float:
        """About how many pixels it has, from its numbers alone."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """The inside of closed rings, each float64 (P, 2) as x, y. A ring inside a ring is a hole (even-odd rule).

    A pixel belongs to it if its centre does, the rule of most rasterisers: no area grows or shrinks by it.
    """

    rings: tuple[NDArray[np.float64], ...]

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        height, width = canvas.shape
        points = np.concatenate(self.rings)
        top, bottom = (int(row) for row in np.clip([points[:, 1].min() - 1, points[:, 1].max() + 1], 0, height))
        left, right = (int(column) for column in np.clip([points[:, 0].min() - 1, points[:, 0].max() + 1], 0, width))
        # Each edge flips all pixels to the right of where it crosses their row's middle.
        flips = np.zeros((bottom - top, right - left + 1), np.bool_)
        for ring in self.rings:
            for (x, y), (x_next, y_next) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                first, last = np.clip(np.ceil(np.array([min(y, y_next), max(y, y_next)]) - 0.5), top, bottom)
                rows = np.arange(int(first), int(last))
                if len(rows):
                    crossings = x + (rows + 0.5 - y) * ((x_next - x) / (y_next - y))
                    columns = np.clip(np.ceil(crossings - 0.5), left, right).astype(np.int64)
                    flips[rows - top, columns - left] ^= True
        canvas[top:bottom, left:right] |= np.logical_xor.accumulate(flips, axis=1)[:, :-1]

    def area(self, height: int, width: int) -> float:
        areas = sorted((_ring_area(ring) for ring in self.rings), reverse=True)
        return areas[0] - sum(areas[1:]) if areas else 0.0


@dataclass(frozen=True, eq=False)
class RelativeRing:
    """A ring float64 (P, 2) of x and y as shares of width and height, as YOLO has it.

    Drawn as YOLO's readers do: it runs through the pixels that its points lie in; these and what they enclose belong to
    it (OpenCV's ``fillPoly``).
    """

    points: NDArray[np.float64]

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        import cv2

        height, width = canvas.shape
        pixels = np.clip(np.floor(self.points * (width, height)), 0, (width - 1, height - 1))
        cv2.fillPoly(canvas.view(np.uint8), [pixels.astype(np.int32)], 1)

    def area(self, height: int, width: int) -> float:
        return _ring_area(self.points) * height * width


@dataclass(frozen=True, eq=False)
class RunLengths:
    """Lengths of runs, in turn off and on, beginning with off; by columns (COCO) or rows (CVAT), in a box.

    Attributes:
        counts: int64, their sum the box's pixels.
        box: left, top, width and height.
        by_columns: the order of the pixels.
    """

    counts: NDArray[np.int64]
    box: tuple[int, int, int, int]
    by_columns: bool

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        left, top, width, height = self.box
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        paste(flat.reshape((height, width), order="F" if self.by_columns else "C"), left, top, canvas)

    def area(self, height: int, width: int) -> float:
        return float(self.counts[1::2].sum())


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A small picture, PNG, whose pixels above 0 belong to the shape, with its upper left corner at a place."""

    png: bytes
    left: int
    top: int

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        with Image.open(io.BytesIO(self.png)) as image:
            paste(np.asarray(image) > 0, self.left, self.top, canvas)

    def area(self, height: int, width: int) -> float:
        with Image.open(io.BytesIO(self.png)) as image:
            return float((np.asarray(image) > 0).sum())


@dataclass(frozen=True, eq=False)
class LabelMapArea:
    """The pixels of one value, or one colour, in a picture of class numbers, such as Pascal VOC's."""

    path: Path
    value: int | tuple[int, int, int]
    pixels: int

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        paste(is_value(read_label_map(self.path, colours=isinstance(self.value, tuple)), self.value), 0, 0, canvas)

    def area(self, height: int, width: int) -> float:
        return float(self.pixels)


@dataclass(frozen=True, eq=False)
class Box:
    """An upright box: left, top, right and bottom edge, in pixels or (``relative``) as shares of width and height."""

    edges: tuple[float, float, float, float]
    relative: bool = False

    def pixels(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The edges in pixels of a photo, cut at its borders."""
        scale = np.array([width, height] * 2 if self.relative else [1, 1, 1, 1])
        left, top, right, bottom = np.clip(np.array(self.edges) * scale, 0, [width, height] * 2).tolist()
        return left, top, right, bottom

    def draw(self, canvas: NDArray[np.bool_]) -> None:
        left, top, right, bottom = self.pixels(*canvas.shape)
        Polygon((np.array([(left, top), (right, top), (right, bottom), (left, bottom)]),)).draw(canvas)

    def area(self, height: int, width: int) -> float:
        left, top, right, bottom = self.pixels(height, width)
        return (right - left) * (bottom - top)


def polygon(*rings: Any) -> Polygon:
    """A polygon from lists of x, y pairs, or flat lists of x and y in turn.

    Raises:
        EmptyShapeError: a ring has fewer than three points.
        ValueError: a value is no finite number.
    """
    return Polygon(tuple(ring_of(ring) for ring in rings))


def ring_of(points: Any) -> NDArray[np.float64]:
    """float64 (P, 2) from a list of x, y pairs or a flat one; ValueError as :func:`polygon`."""
    try:
        ring = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its points are not pairs of numbers") from None
    if len(ring) < 3:
        raise EmptyShapeError(f"it has {len(ring)} points, and an area has at least three")
    return finite(ring)


def box(left: Any, top: Any, right: Any, bottom: Any, *, relative: bool = False) -> Box:
    """A box from its edges, in any order of opposite ones.

    Raises:
        EmptyShapeError: there is nothing inside.
        ValueError: a value is no finite number.
    """
    try:
        edges = np.array([left, top, right, bottom], np.float64)
    except (TypeError, ValueError):
        raise ValueError("its edges are not numbers") from None
    x, y = np.sort(finite(edges)[[0, 2]]), np.sort(edges[[1, 3]])
    if x[0] == x[1] or y[0] == y[1]:
        raise EmptyShapeError("its edges enclose nothing")
    return Box((float(x[0]), float(y[0]), float(x[1]), float(y[1])), relative)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Polygon:
    """An ellipse around a centre, turned clockwise; ValueError as :func:`polygon`."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    points = np.stack((radius_x * np.cos(angles), radius_y * np.sin(angles)), axis=1)
    return polygon(turned(points, degrees) + np.array([x, y]))


def rectangle(
    left: float, top: float, right: float, bottom: float, degrees: float, *, around: tuple[float, float]
) -> Shape:
    """A box turned clockwise around a point: a polygon, or a box where it is not turned; ValueError as those."""
    if degrees % 360 == 0:
        return box(left, top, right, bottom)
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return polygon(turned(corners - around, degrees) + around)


def run_lengths(counts: Any, box: tuple[int, int, int, int], *, by_columns: bool) -> RunLengths:
    """Run lengths from a list of numbers, or from text, COCO's compressed form.

    Raises:
        ValueError: they are no numbers from 0 on, or do not fill the box.
    """
    lengths = np.asarray(_unpacked(counts) if isinstance(counts, str) else counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError("its run lengths are not whole numbers from 0 on")
    _, _, width, height = box
    if width < 1 or height < 1 or int(lengths.sum()) != width * height:
        raise ValueError(f"its run lengths sum up to {int(lengths.sum())}, not to {width} x {height} pixels")
    return RunLengths(lengths.astype(np.int64), box, by_columns)


def _unpacked(text: str) -> list[int]:
    """COCO's compressed run lengths: from the third on differences to the last but one, in digits of five bits, lowest
    first, each a character from "0" on; bit 32 of a digit says that more follow, bit 16 of the last is the sign.

    Not pycocotools' own, which trusts the text.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 40:
            raise ValueError("its compressed run lengths are damaged")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its compressed run lengths are cut short")
    return counts


def bitmap(png: bytes, left: int, top: int) -> Bitmap:
    """A bitmap from the bytes of a PNG; ValueError where they are none."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
    except Exception as error:  # noqa: BLE001  decoders raise nearly anything on bad content
        raise ValueError(f"its mask is no PNG ({error})") from None
    return Bitmap(png, left, top)


def turned(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Points (P, 2) turned clockwise around the origin, as y points down."""
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ rotation, np.float64)


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values themselves; ValueError where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ValueError("a coordinate is not a finite number")
    return values


def paste(area: NDArray[np.bool_], left: int, top: int, canvas: NDArray[np.bool_]) -> None:
    """Set the pixels of a small mask in a large one, from a place on; what lies outside is cut off."""
    height, width = canvas.shape
    rows = slice(max(0, -top), max(0, min(area.shape[0], height - top)))
    columns = slice(max(0, -left), max(0, min(area.shape[1], width - left)))
    inside = area[rows, columns]
    place = canvas[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]]
    place |= inside


def read_label_map(path: Path, *, colours: bool) -> NDArray[Any]:
    """A picture of class numbers (H, W), or with ``colours`` its colours uint8 (H, W, 3), as stored.

    Raises:
        ValueError: it is no such picture.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # Pillow's remarks on large pictures and odd chunks
            pixels = np.asarray(image.convert("RGB") if colours else image)
    except Exception as error:  # noqa: BLE001  decoders raise nearly anything on bad content
        raise ValueError(f"'{path}' cannot be read as a picture ({error}); save or copy it again") from None
    if not colours and (pixels.ndim != 2 or pixels.dtype.kind not in "bui"):
        raise ValueError(f"'{path}' holds colours, not class numbers; add labelmap.txt, which says what they mean")
    return pixels


def is_value(pixels: NDArray[Any], value: int | Sequence[int]) -> NDArray[np.bool_]:
    """Where a label map has a value, or a colour."""
    if isinstance(value, int):
        return np.asarray(pixels == value)
    return np.asarray((pixels == np.array(value, np.uint8)).all(axis=2))


def _ring_area(ring: NDArray[np.float64]) -> float:
    """The area that a ring encloses, by the surveyor's formula."""
    x, y = (ring - ring.mean(axis=0)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
