"""A prediction as a picture: the photo with its areas tinted and outlined, and a legend below it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fscs_sdk.formats.compression import JPEG_SIDE, jpeg
from fscs_sdk.formats.lettering import Font, drawable, left_to_right, shorten, typeface
from fscs_sdk.formats.regions import regions
from fscs_sdk.prediction import Prediction

Color = tuple[int, int, int]

#: Colours that people with any colour vision tell apart, on light and dark photos (after Okabe and Ito, 2008, without
#: black and white).
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
#: Share of the class's colour in its area.
TINT = 0.45
#: Rows and columns of the pieces in which areas are tinted: only those with an outline need distances from it.
TILE = 256
#: A small picture is scaled up by a whole number until it is at least so wide, for its legend to be readable; a slim
#: one no further than to so many pixels, if it has not more of itself. Then the page is wider than the picture.
LEGEND_WIDTH, SCALED_PIXELS = 240, 4 * 240 * 240
#: Pixels to which paper beside a slim photo may bring the page.
LARGEST_PAGE = 2**24
#: Classes that the legend names; further ones are counted.
LEGEND_PRESENT, LEGEND_ABSENT = 24, 8
PAPER, INK, FADED, HAIRLINE = (255, 255, 255), (24, 24, 24), (110, 110, 110), (190, 190, 190)


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.overlay.jpg``: see :func:`overlay`; one that is longer than a JPEG can be is made smaller."""
    import cv2

    picture = overlay(prediction)
    height, width = picture.shape[:2]
    if max(height, width) > JPEG_SIDE:
        share = JPEG_SIDE / max(height, width)
        size = max(1, round(width * share)), max(1, round(height * share))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return {".overlay.jpg": jpeg(picture, sharp_colours=True)}


def class_colors(names: Sequence[str]) -> list[Color]:
    """One RGB colour for each class: decided by its name, moved on only where classes of one prediction would clash.

    Past the palette's seven, colours come again; :func:`overlay` then numbers the areas.
    """
    taken: list[int] = []
    for name in names:
        index = int(sha256(name.encode("utf-8", "surrogatepass")).hexdigest(), 16) % len(PALETTE)
        if len(taken) < len(PALETTE):
            while index in taken:
                index = (index + 1) % len(PALETTE)
        taken.append(index)
    return [PALETTE[index] for index in taken]


def overlay(prediction: Prediction, *, captions: Mapping[str, str] | None = None) -> NDArray[np.uint8]:
    """The photo with every class's area tinted and outlined in its colour, and a legend below it.

    The legend has the present classes first, then the absent ones; very many are summed up. Where two classes that are
    in the photo have the same colour, areas and legend are numbered (n as in ``mask``).

    Args:
        captions: texts of the legend by class name; where there is none, the class's name and score.

    Returns:
        uint8 (H', W', 3): the photo, scaled up by a whole number where it is small, then the legend's rows; paper
        beside a photo that is slimmer than its legend.
    """
    colors = class_colors(prediction.names)
    height, width = prediction.mask.shape
    scale = max(1, min(-(-LEGEND_WIDTH // width), isqrt(SCALED_PIXELS // (height * width))))
    mask, image = (_scaled(pixels, scale) for pixels in (prediction.mask, prediction.image))
    boxes = {region.number: [scale * length for length in region.box] for region in regions(prediction)}
    numbered = len({colors[number - 1] for number in boxes}) < len(boxes)
    size = _letter_size(*mask.shape)
    roomy = len(mask) * LEGEND_WIDTH <= LARGEST_PAGE
    page_width = max(mask.shape[1], LEGEND_WIDTH) if roomy else mask.shape[1]
    legend = _Legend(prediction, colors, captions or {}, boxes, numbered=numbered, width=page_width, size=size)
    page = np.empty((len(mask) + legend.height, page_width, 3), np.uint8)  # large: made once, drawn on in place
    picture, beside = np.split(page[: len(mask)], [mask.shape[1]], axis=1)
    picture[:], beside[:], page[len(mask) :] = image, PAPER, legend.drawn()
    for number, box in boxes.items():
        _tint(picture, mask, number, box, colors[number - 1])
    if numbered:
        for number, (left, top, wide, high) in boxes.items():
            area = mask[top : top + high, left : left + wide] == number
            _stamp(picture, area, left, top, number, colors[number - 1], size)
    return page


def _scaled(pixels: NDArray[Any], scale: int) -> NDArray[Any]:
    return pixels if scale == 1 else pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _tint(picture: NDArray[np.uint8], mask: NDArray[np.integer], number: int, box: Sequence[int], color: Color) -> None:
    """Tint a class's area in place, with a line of full colour along its inside and a two-tone rim around it.

    The rim, white and then dark, sets the line off from photos of any brightness; it lies on background only, so that
    classes that touch do not cover each other.
    """
    import cv2

    line = max(1, round(sqrt(mask.size) / 300))
    rim, margin = max(1, line // 2), 2 * line + 1
    blend = _blend(color)
    left, top, wide, high = box
    rows = range(max(0, top - margin), min(top + high + margin, len(mask)), TILE)
    columns = range(max(0, left - margin), min(left + wide + margin, mask.shape[1]), TILE)
    for y, x in product(rows, columns):
        above, before = min(y, margin), min(x, margin)
        around = mask[y - above : y + TILE + margin, x - before : x + TILE + margin]
        area, here = around == number, np.s_[above : above + TILE, before : before + TILE]
        view = picture[y : y + TILE, x : x + TILE]
        if area.all():
            view[:] = cv2.LUT(view, blend)
        elif area.any():
            free = (around == 0)[here]
            inside = cv2.distanceTransform(area.view(np.uint8), cv2.DIST_L2, 5)  # where the photo ends is no edge
            outside = cv2.distanceTransform((~area).view(np.uint8), cv2.DIST_L2, 5)[here]
            layers = [
                (view // 2, free & (outside <= 2 * rim)),
                (np.full_like(view, 255), free & (outside <= rim)),
                (cv2.LUT(view, blend), area[here]),
                (np.full_like(view, color), (area & (inside <= line))[here]),
            ]
            for layer, where in layers:
                cv2.copyTo(layer, where.view(np.uint8), view)


def _blend(color: Color) -> NDArray[np.uint8]:
    """(256, 1, 3): what becomes of a photo's level under the tint, for each channel."""
    levels = np.arange(256)[:, None, None]
    return np.rint((1 - TINT) * levels + TINT * np.array(color)).astype(np.uint8)


def _stamp(
    picture: NDArray[np.uint8], area: NDArray[np.bool_], left: int, top: int, number: int, color: Color, size: int
) -> None:
    """A class's number, in place, in the middle of the widest place of its area, which begins at ``left``, ``top``."""
    import cv2

    depth = cv2.distanceTransform(np.pad(area, 1).view(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = (int(place) for place in np.unravel_index(int(depth.argmax()), depth.shape))
    reach = ceil(_badge_size(number, size)[0] / 2) + 2
    rows, columns = (slice(max(0, place - reach), place + reach) for place in (top + y, left + x))
    near = Image.fromarray(picture[rows, columns])
    _badge(ImageDraw.Draw(near), float(left + x - columns.start), float(top + y - rows.start), number, color, size)
    picture[rows, columns] = np.asarray(near)


def _badge(draw: ImageDraw.ImageDraw, x: float, y: float, number: int, color: Color, size: int) -> None:
    """A number on a rounded plate in its class's colour."""
    font = typeface(round(size * 0.8))
    half = [length / 2 for length in _badge_size(number, size)]
    box = (x - half[0], y - half[1], x + half[0], y + half[1])
    draw.rounded_rectangle(box, radius=size / 3, fill=color, outline=PAPER, width=max(1, size // 12))
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 120
    draw.text((x, y), str(number), fill=INK if bright else PAPER, font=font, anchor="mm")


def _badge_size(number: int, size: int) -> tuple[float, float]:
    return max(size, typeface(round(size * 0.8)).getlength(str(number)) + size / 2), size


def _letter_size(height: int, width: int) -> int:
    """Letter height in pixels: readable on the whole picture at screen size, and never out of proportion to it."""
    return max(13, min(round(sqrt(height * width) / 27), width // 18))


@dataclass(frozen=True)
class _Entry:
    """A line of the legend: a class's number, colour, presence and text; without a class only text."""

    text: str
    present: bool = False
    number: int = 0
    color: Color = FADED


class _Legend:
    """The strip below the photo: entries in columns, as many as fit side by side."""

    def __init__(
        self,
        prediction: Prediction,
        colors: Sequence[Color],
        captions: Mapping[str, str],
        seen: Collection[int],
        *,
        numbered: bool,
        width: int,
        size: int,
    ) -> None:
        self.entries = _entries(prediction, colors, captions, seen)
        self.numbered, self.width, self.size = numbered, width, size
        self.pad = round(size * 0.6)
        self.mark = round(size * 1.6) if numbered else size
        widest = max(typeface(size, entry.text).getlength(drawable(entry.text)) for entry in self.entries)
        self.column = min(widest + self.mark + 2.5 * self.pad, width - 2 * self.pad)
        self.columns = max(1, min(int((width - 2 * self.pad) / self.column), len(self.entries)))
        self.row = round(size * 1.5)
        self.height = -(-len(self.entries) // self.columns) * self.row + 2 * self.pad

    def drawn(self) -> NDArray[np.uint8]:
        """uint8 (height, width, 3)."""
        strip = Image.new("RGB", (self.width, self.height), PAPER)
        draw = ImageDraw.Draw(strip)
        draw.line((0, 0, self.width, 0), fill=HAIRLINE)
        for index, entry in enumerate(self.entries):
            row, column = divmod(index, self.columns)
            self._draw_entry(draw, entry, self.pad + column * self.column, self.pad + row * self.row + self.row / 2)
        return np.asarray(strip)

    def _draw_entry(self, draw: ImageDraw.ImageDraw, entry: _Entry, left: float, middle: float) -> None:
        font: Font = typeface(self.size, entry.text)
        if entry.number:
            self._draw_mark(draw, entry, left, middle)
            left += self.mark + self.pad / 2
        room = self.column - (self.mark + self.pad if entry.number else self.pad / 2)
        text = shorten(drawable(entry.text), font, room)
        ink = INK if entry.present else FADED
        draw.text((left, middle), text, fill=ink, font=font, anchor="lm", direction=left_to_right(font))

    def _draw_mark(self, draw: ImageDraw.ImageDraw, entry: _Entry, left: float, middle: float) -> None:
        if self.numbered and entry.present:
            _badge(draw, left + self.mark / 2, middle, entry.number, entry.color, self.size)
            return
        left += (self.mark - self.size) / 2
        half = self.size * 0.42
        box = (left, middle - half, left + 2 * half, middle + half)
        stroke = max(1, self.size // 9)
        fill, edge = (entry.color, entry.color) if entry.present else (None, HAIRLINE)
        draw.rounded_rectangle(box, radius=self.size / 5, fill=fill, outline=edge, width=stroke)


def _entries(
    prediction: Prediction, colors: Sequence[Color], captions: Mapping[str, str], seen: Collection[int]
) -> list[_Entry]:
    """Present classes first, each group in the supports' order; of too many the surest are named, the rest counted."""
    entries: list[_Entry] = []
    for present, most in ((True, LEGEND_PRESENT), (False, LEGEND_ABSENT)):
        group = [n for n, name in enumerate(prediction.names) if bool(prediction.present[name]) is present]
        surest = sorted(group, key=lambda n: -prediction.scores[prediction.names[n]])[:most]
        for n in sorted(surest) if len(group) > most + 1 else group:
            name = prediction.names[n]
            text = captions.get(name) or _caption(prediction, name, drawn=n + 1 in seen)
            entries.append(_Entry(text, present, n + 1, colors[n]))
        if len(group) > most + 1:
            entries.append(_Entry(f"and {len(group) - most} more {'present' if present else 'absent'}"))
    return entries or [_Entry("no classes")]


def _caption(prediction: Prediction, name: str, *, drawn: bool) -> str:
    answer = "present" if prediction.present[name] else "absent"
    nowhere = ", wins no pixel" if prediction.present[name] and not drawn else ""
    return f"{name}: {answer}, {prediction.scores[name]:.2f}{nowhere}"
