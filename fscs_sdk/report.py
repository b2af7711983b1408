"""An examination as one HTML file: every photo, its mask, and what the other shots found in it."""

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.atomic import write_atomically, writing
from fscs_sdk.examination import Examination, ExaminedClass, ExaminedShot, Suspect
from fscs_sdk.references.shots import read_shot
from fscs_sdk.supports import Shot

#: Longer side of a picture in the page, in pixels.
SIDE = 240
#: Of the mask's outline, and of what was found (at most so opaque).
OUTLINE, FOUND, OPACITY = (255, 255, 255), (230, 120, 0), 0.65
_STYLE = """
:root { color-scheme: light dark; --bad: #b3261e; --quiet: #6b6b6b; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
.quiet, figcaption { color: var(--quiet); font-size: .87rem; margin: .2rem 0; }
.shots { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 15rem; } figure img { width: 100%; border-radius: 4px; display: block; }
figure.bad img { outline: 3px solid var(--bad); } .bad figcaption b, li b { color: var(--bad); }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --quiet: #a8a8a8; } }
"""


def write_report(
    examination: Examination, supports: Mapping[str, Sequence[Shot]], path: str | os.PathLike[str]
) -> None:
    """Write the page; it needs no other file and no network, and appears whole or not at all.

    Args:
        supports: the shots that were examined, as they were given: their photos are shown.

    Raises:
        ValueError: a shot cannot be read.
        OSError: the page cannot be written.
    """
    doubts: dict[tuple[str, int], list[Suspect]] = {}
    for suspect in examination.suspects:
        doubts.setdefault((suspect.name, suspect.shot), []).append(suspect)
    figures: dict[str, list[str]] = {one.name: [] for one in examination.classes}
    found = examination.found or (None,) * len(examination.shots)
    for shot, foreground in zip(examination.shots, found, strict=True):
        label = f"shot {shot.shot} of class {shot.name!r}"
        image, mask = read_shot(supports[shot.name][shot.shot - 1], shot.name, label=label)
        figures[shot.name].append(
            _figure(shot, _picture(image, mask, foreground), doubts.get((shot.name, shot.shot), []))
        )
    sections = "".join(_section(one, figures[one.name]) for one in _worst_first(examination.classes))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Examination of supports</title><style>{_STYLE}</style><h1>Examination of supports</h1>"
        '<p class="quiet">White: the outline of the mask. Orange: where the other photos of the class find it. '
        f"Pairs of photos that were asked: {examination.pairs}.</p>{_list(examination)}{sections}</html>"
    )
    target = Path(path)
    with writing(target, "the page"):
        write_atomically(target, page.encode())


def _worst_first(classes: Sequence[ExaminedClass]) -> list[ExaminedClass]:
    return sorted(classes, key=lambda one: one.right)


def _list(examination: Examination) -> str:
    suspects = [
        f"<li><b>Shot {one.shot} of {escape(one.name)}</b> {escape(one.reason)} ({100 * one.sureness:.0f} % sure)</li>"
        for one in examination.suspects
    ]
    remarks = [f"<li>{escape(remark)}</li>" for remark in examination.remarks]
    return f"<ul>{''.join([*suspects, *remarks])}</ul>" if suspects or remarks else "<p>Nothing is suspected.</p>"


def _section(one: ExaminedClass, figures: Sequence[str]) -> str:
    head = f'<h2>{escape(one.name)}</h2><p class="quiet">{escape(str(one))}.</p>'
    return f'<section>{head}<div class="shots">{"".join(figures)}</div></section>'


def _figure(shot: ExaminedShot, picture: str, doubts: Sequence[Suspect]) -> str:
    numbers = [f"{name} {value:.2f}" for name, value in (("score", shot.score), ("IoU", shot.iou)) if value is not None]
    said = [f"<b>{escape(one.reason)}</b>" for one in doubts]
    said += [f"seems to show {escape(name)} too" for name in shot.shows]
    caption = "<br>".join([f"Shot {shot.shot}{' (class tag)' if shot.tagged else ''}", ", ".join(numbers), *said])
    alt = escape(f"shot {shot.shot} of {shot.name}", quote=True)
    kind = ' class="bad"' if doubts else ""
    return f'<figure{kind}><img src="{picture}" alt="{alt}" loading="lazy"><figcaption>{caption}</figcaption></figure>'


def _picture(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, foreground: NDArray[np.float32] | None) -> str:
    """The photo, made small, with what was found and the mask's outline, as a data URL."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels: NDArray[Any] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    if foreground is not None:
        share = np.asarray(Image.fromarray(foreground).resize(size, Image.Resampling.BILINEAR))[..., None] * OPACITY
        pixels = pixels * (1 - share) + np.array(FOUND, dtype=np.float32) * share
    if mask is not None:
        small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=np.bool_)
        wide = np.pad(small, 1, mode="edge")
        inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
        pixels[small & ~inner] = OUTLINE
    buffer = BytesIO()
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
