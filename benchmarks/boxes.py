"""``python -m benchmarks.boxes``: what a box costs against a mask, and what GrabCut inside it wins back."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images import read_image
from fscs_sdk.references.boxes import box_mask
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import Shot

VOID = 255
#: An object that covers less than this share of a photo is no support that a person would choose.
LEAST_SHARE = 0.02
#: The columns: overlap of what supports were given with their masks; IoU told that the class is there; presence.
WHAT = ("support IoU", "IoU told", "presence")


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photo, uint8 (H, W, 3), and bool (H, W): where the class is in it, and where nobody knows."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    void: NDArray[np.bool_]


def box_of(one: Labelled) -> tuple[int, int, int, int]:
    """The box around a mask: left, top, right and bottom edge."""
    rows, columns = np.flatnonzero(one.mask.any(axis=1)), np.flatnonzero(one.mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def filled(one: Labelled) -> NDArray[np.bool_]:
    left, top, right, bottom = box_of(one)
    mask = np.zeros_like(one.mask)
    mask[top:bottom, left:right] = True
    return mask


#: What stands in place of the mask.
WAYS: dict[str, Callable[[Labelled], NDArray[np.bool_] | None]] = {
    "mask": lambda one: one.mask,
    "box, GrabCut": lambda one: box_mask(one.image, [box_of(one)]),
    "box, filled": filled,
    "class tag": lambda one: None,
}


def ask(
    model: FewShotSegmenter, shots: Sequence[Labelled], there: Sequence[Labelled], absent: Sequence[Labelled]
) -> list[NDArray[np.float64]]:
    """One shot after the other as the support, in each of :data:`WAYS`, of photos with the class and without: for each
    of :data:`WHAT` the ways' percentages.
    """
    sets, overlaps = [], []
    for shot in shots:
        masks = [make(shot) for make in WAYS.values()]
        overlaps.append([0.0 if mask is None else _iou(mask & ~shot.void, shot.mask) for mask in masks])
        sets.append(model.encode({way: Shot(shot.image, mask) for way, mask in zip(WAYS, masks, strict=True)}))
    inside, either = np.zeros(len(WAYS)), np.zeros(len(WAYS))
    right = []
    for number, query in enumerate([*there, *absent]):
        answer = model.infer(model.encode_query(query.image), sets[number % len(sets)])
        right.append(answer.present.numpy() == (number < len(there)))
        if number < len(there):
            found = (answer.foreground.numpy() > 0.5) & ~query.void
            inside += (found & query.mask).sum(axis=(1, 2))
            either += (found | query.mask).sum(axis=(1, 2))
    return [100 * np.mean(overlaps, axis=0), 100 * inside / either, 100 * np.mean(right, axis=0)]


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def read(folder: Path, stem: str, value: int) -> Labelled:
    """A photo of a folder, with the class of a value."""
    labels = np.asarray(Image.open(folder / "masks" / f"{stem}.png"))
    return Labelled(read_image(folder / "images" / f"{stem}.jpg"), labels == value, labels == VOID)


def listed(listings: Iterable[TextIO]) -> set[str]:
    """The photos that lists name, one at the start of each line."""
    return {line.split()[0] for listing in listings for line in listing if line.strip()}


def shares_of(folder: Path, allowed: set[str]) -> dict[str, dict[int, float]]:
    """What share of each photo of a folder every value of its mask covers; of the allowed photos, or of all."""
    shares: dict[str, dict[int, float]] = {}
    for path in sorted((folder / "masks").glob("*.png")):
        if not allowed or path.stem in allowed:
            values, counts = np.unique(np.asarray(Image.open(path)), return_counts=True)
            shares[path.stem] = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return shares


def evenly(stems: Sequence[str], count: int) -> list[str]:
    """``count`` of some photos, or all, at even distances in their order."""
    places = np.linspace(0, len(stems) - 1, min(count, len(stems))).round().astype(int)
    return [stems[place] for place in places]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--list", "listings", multiple=True, type=click.File(), help="Only photos that it names, one a line.")
@click.option("--shots", default=5, show_default=True, help="Supports of a class, each alone.")
@click.option("--queries", default=10, show_default=True, help="Photos asked with the class, and as many without.")
@click.option("--model", default="asnet-mini", show_default=True)
def main(folders: tuple[Path, ...], listings: tuple[TextIO, ...], shots: int, queries: int, model: str) -> None:
    """What a box around the object costs in place of its mask. FOLDERS hold images/, masks/ and classes.json."""
    segmenter = FewShotSegmenter.from_pretrained(model, edges=False)
    click.echo(f"| set | class | {' | '.join(f'{what}, {way}' for what in WHAT for way in WAYS)} |")
    rows, allowed = [], listed(listings)
    for folder in folders:
        shares = shares_of(folder, allowed)
        for value, name in json.loads((folder / "classes.json").read_text()).items():
            number = int(value)
            there = [stem for stem, share in shares.items() if share.get(number, 0) >= LEAST_SHARE]
            absent = [stem for stem, share in shares.items() if number not in share]
            if len(there) < 2 * shots:
                continue
            chosen = evenly(there, shots + queries)
            supports = evenly(chosen, shots)
            asked = [stem for stem in chosen if stem not in supports]
            photos = [
                [read(folder, stem, number) for stem in stems] for stems in (supports, asked, evenly(absent, queries))
            ]
            rows.append(np.concatenate(ask(segmenter, *photos)))
            click.echo(f"| {folder.name} | {name} | {' | '.join(f'{value:.1f}' for value in rows[-1])} |")
    click.echo(f"| mean | {len(rows)} classes | {' | '.join(f'{value:.1f}' for value in np.mean(rows, axis=0))} |")


if __name__ == "__main__":
    main()
