"""The demonstration behind ``fscs demo``: a 2-way 1-shot question about real photos that are part of the package."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fscs_sdk.formats import overlay
from fscs_sdk.images import read_image
from fscs_sdk.prediction import Prediction
from fscs_sdk.segmenter import FewShotSegmenter

PHOTOS = Path(__file__).parent / "assets" / "photos"
SUPPORTS = {name: [PHOTOS / f"{name}_support.jpg", PHOTOS / f"{name}_support_mask.png"] for name in ("cat", "person")}
#: Photo -> the classes that a person sees in it.
QUERIES: dict[str, tuple[str, ...]] = {
    "cat_query.jpg": ("cat",),
    "cat_query_closeup.jpg": ("cat",),
    "person_query.jpg": ("person",),
    "person_query_gray.jpg": ("person",),
    "coffee.jpg": (),
    "pagoda.jpg": (),
    "dog.jpg": (),
}


@dataclass(frozen=True)
class Answer:
    """A query's file name, the classes that a person sees in it, the prediction, and where its overlay was written."""

    query: str
    truth: tuple[str, ...]
    prediction: Prediction
    overlay: Path


#: Width of a tile of the overview, and tiles in a row, in pixels and pieces.
TILE, COLUMNS = 300, 4


def run_demo(model: FewShotSegmenter, out: Path) -> Iterator[Answer]:
    """Ask the question of every query photo and write its overlay, ``<photo>.png``, into ``out``.

    Raises:
        OSError: ``out`` cannot be made or written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    supports = model.encode(SUPPORTS)
    for query, truth in QUERIES.items():
        prediction = model.predict(PHOTOS / query, supports)
        path = out / Path(query).with_suffix(".png").name
        prediction.save(path, format="overlay")
        yield Answer(query, truth, prediction, path)


def overview(answers: Sequence[Answer]) -> Image.Image:
    """One picture of the demo: the supports with their masks, then the overlay of every query, row by row."""
    supports = [_tile(_outlined(name, *paths)) for name, paths in SUPPORTS.items()]
    queries = [_tile(Image.open(answer.overlay)) for answer in answers]
    rows = [supports, *(queries[start : start + COLUMNS] for start in range(0, len(queries), COLUMNS))]
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new("RGB", (COLUMNS * TILE, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (column * TILE, top))
        top += height
    return sheet


def _outlined(name: str, photo: Path, mask: Path) -> Image.Image:
    """A support as it is given, drawn like an answer."""
    image, area = read_image(photo), read_image(mask)[:, :, 0] > 0
    foreground = area[None].astype(np.float32)
    given = Prediction((name,), {name: 1.0}, {name: True}, foreground, 1 - foreground[0], area.astype(np.uint8), image)
    return Image.fromarray(overlay(given, captions={name: f"support: {name}"}))


def _tile(picture: Image.Image) -> Image.Image:
    margin = 6
    width = TILE - 2 * margin
    scaled = picture.convert("RGB").resize((width, round(picture.height * width / picture.width)))
    tile = Image.new("RGB", (TILE, scaled.height + 2 * margin), "white")
    tile.paste(scaled, (margin, margin))
    return tile
