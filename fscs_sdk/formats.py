"""Predictions as pictures."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fscs_sdk.prediction import Prediction

#: Colours that people with any colour vision tell apart, on light and dark photos (after Okabe and Ito, 2008, without
#: black and white).
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
TINT = 0.45


def class_colors(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """One RGB colour for each class: decided by its name, moved on only where classes of one prediction would clash."""
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

    Args:
        captions: texts of the legend by class name; where there is none, the class's presence and score.

    Returns:
        uint8 (H', W, 3): the photo (H rows), scaled up where it is too small for a legend, then the legend's rows.
    """
    colors = class_colors(prediction.names)
    picture = prediction.image.astype(np.float32)
    line = max(1, round(max(prediction.mask.shape) / 250))
    for index, color in enumerate(colors, start=1):
        area = prediction.mask == index
        if not area.any():
            continue
        picture[area] = (1 - TINT) * picture[area] + TINT * np.array(color, np.float32)
        edge = _outline(area, line)
        picture[_outline(edge, line)] = 255  # a white rim keeps the outline visible on photos of its own colour
        picture[edge] = color
    texts = [(captions or {}).get(name) or _caption(prediction, name) for name in prediction.names]
    return _with_legend(Image.fromarray(picture.round().astype(np.uint8)), prediction, colors, texts)


def _caption(prediction: Prediction, name: str) -> str:
    answer = "present" if prediction.present[name] else "absent"
    return f"{name}: {answer}, {prediction.scores[name]:.2f}"


def _outline(area: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels within ``width`` of the area, outside it; where the photo ends there is no outline."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    grown: NDArray[np.bool_] = cv2.dilate(area.astype(np.uint8), kernel).astype(np.bool_)
    return grown & ~area


def _with_legend(
    picture: Image.Image, prediction: Prediction, colors: Sequence[tuple[int, int, int]], texts: Sequence[str]
) -> NDArray[np.uint8]:
    """Add a strip with one entry for each class: its colour, filled where it is present, and its text."""
    if picture.width < 240:
        scale = -(-240 // picture.width)
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    size = max(13, picture.width // 34)
    font = ImageFont.load_default(size)
    pad = size // 2
    row = size + pad
    sheet = Image.new("RGB", (picture.width, picture.height + len(colors) * row + pad), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    top = picture.height + pad
    for name, color, caption in zip(prediction.names, colors, texts, strict=True):
        present = prediction.present[name]
        swatch = (pad, top, pad + size, top + size)
        draw.rectangle(swatch, fill=color if present else None, outline=color, width=max(1, size // 8))
        text = _fit(caption, font, picture.width - 3 * pad - size)
        draw.text(
            (2 * pad + size, top + size / 2), text, fill="black" if present else "dimgray", font=font, anchor="lm"
        )
        top += row
    return np.asarray(sheet)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Shorten a text in its middle until it is no wider than ``width`` pixels."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    keep = len(printable)
    shown = printable
    while font.getlength(shown) > width and keep > 12:
        keep -= 1
        shown = f"{printable[: keep // 2]}...{printable[-(keep - keep // 2) :]}"
    return shown
