"""YOLO segmentation labels: one line for each connected part, ``class x1 y1 x2 y2 ...``, from 0 to 1.

A ring runs through the centres of the part's outermost pixels, which is what OpenCV's ``fillPoly`` fills to the very
pixels again. A hole's ring is spliced into it by a cut of no width inside the part, there and back. The coordinates are
(x + 0.25) / W and (y + 0.25) / H: readers that cut the digits off (Ultralytics) and readers that round (supervision)
find the same pixel, so both rasterise the exact mask.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.formats import yolo_label
from fscs_sdk.formats.regions import regions
from fscs_sdk.prediction import Prediction

#: Distance of a written coordinate from its pixel's upper left corner, in pixels; in (0, 0.5) for both kinds of reader.
INSIDE = 0.25
#: A line with fewer points would be taken for a box.
FEWEST_POINTS = 3


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.yolo.txt``: see :func:`to_yolo`."""
    return {".yolo.txt": to_yolo(prediction).encode()}


def to_yolo(prediction: Prediction) -> str:
    """The photo's label lines. Class numbers count from 0, as YOLO has it: one less than in ``mask``.

    A photo without any pixel of a class has no lines, which YOLO takes for a photo of nothing.
    """
    height, width = prediction.mask.shape
    lines = []
    for region in regions(prediction):
        for ring in rings(region.area):
            places = (ring + region.box[:2] + INSIDE) / (width, height)
            lines.append(" ".join([str(region.number - 1), *(f"{place:.6f}" for place in places.ravel())]) + "\n")
    return "".join(lines)


def rings(area: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """For each connected part of an area (corners connect) one ring of pixels (P, 2) as x, y, its holes spliced in."""
    import cv2

    contours, tree = cv2.findContours(area.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes: dict[int, list[NDArray[np.int64]]] = {}
    for index, contour in enumerate(contours):
        parent = int(tree[0, index, 3])
        part, ring = (index, None) if parent < 0 else (parent, contour[:, 0].astype(np.int64))
        holes.setdefault(part, [])
        if ring is not None:
            holes[part].append(ring)
    return [_straighten(_splice(contours[part][:, 0].astype(np.int64), inner, area)) for part, inner in holes.items()]


def _splice(outer: NDArray[np.int64], holes: Sequence[NDArray[np.int64]], area: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One ring through the outer ring and all holes' rings.

    From its leftmost pixel each hole is cut to the left, inside the area, up to the first pixel with none to its left.
    That pixel is on a ring which reaches farther left, so with the holes in order of their leftmost pixels it is
    already in.
    """
    points = [(int(x), int(y)) for x, y in outer]
    following = [*range(1, len(points)), 0]
    place = {point: index for index, point in enumerate(points)}
    for hole in sorted(holes, key=lambda ring: int(ring[:, 0].min())):
        hole = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        left, row = (int(value) for value in hole[0])
        outside = np.flatnonzero(~area[row, :left])
        anchor = place[int(outside[-1]) + 1 if len(outside) else 0, row]
        inner = [(int(x), int(y)) for x, y in hole]
        first = len(points)
        points += [*inner, inner[0], points[anchor]]
        place |= {point: first + index for index, point in enumerate(inner)}
        following += [*range(first + 1, len(points)), following[anchor]]
        following[anchor] = first
    order = [0]
    while following[order[-1]] != 0:
        order.append(following[order[-1]])
    return np.array([points[index] for index in order], dtype=np.int64)


def _straighten(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same ring without the points inside its straight runs; a point or a line is padded to three points."""
    moved = (ring != np.roll(ring, 1, axis=0)).any(axis=1)
    ring = ring[moved] if moved.any() else ring[:1]
    arriving = np.sign(ring - np.roll(ring, 1, axis=0))
    leaving = np.sign(np.roll(ring, -1, axis=0) - ring)
    corners = (arriving != leaving).any(axis=1)
    ring = ring[corners] if corners.any() else ring
    return np.concatenate((ring, np.repeat(ring[-1:], max(0, FEWEST_POINTS - len(ring)), axis=0)))


def collect(files: Mapping[str, Path], *, names: Sequence[str]) -> dict[str, bytes]:
    """``yolo/data.yaml`` and ``yolo/labels/<photo without its ending>.txt``, the layout that Ultralytics trains from.

    The photos are not copied: put them, or a link to their folder, at ``yolo/images``.

    Raises:
        ValueError: two photos differ in nothing but their ending or upper and lower case, which YOLO cannot tell apart;
            or a photo's name is not a path inside a folder.
        OSError: a file is missing.
    """
    listing = "".join(f"  {index}: {_yaml_text(name)}\n" for index, name in enumerate(names))
    result = {
        "yolo/data.yaml": (
            "# Put the photos, or a link to their folder, at images/ beside labels/.\n"
            f"train: images\nval: images\nnames:\n{listing}"
        ).encode()
    }
    owners: dict[str, str] = {}
    for photo, path in files.items():
        label = yolo_label(photo)
        owner = owners.setdefault(label.casefold(), photo)
        if owner != photo:
            raise ValueError(f"YOLO takes {owner!r} and {photo!r} for one photo: rename one, or leave out format yolo")
        result[label] = path.read_bytes()
    return result


def _yaml_text(text: str) -> str:
    """Text in YAML's double quotes, with an escape for every character that YAML may not show."""
    shown = (
        character if character.isprintable() and character not in '\\"' else f"\\U{ord(character):08x}"
        for character in text
    )
    return f'"{"".join(shown)}"'
