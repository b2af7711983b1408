"""``python -m benchmarks.shots``: shots that were chosen for variety, against the first photos and random ones."""

import json
from pathlib import Path
from typing import TextIO

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.boxes import LEAST_SHARE, Labelled, evenly, listed, read, shares_of
from fscs_sdk.references.variety import choose
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import Shot

#: How often photos are drawn at random.
DRAWS = 3
WAYS = ("variety", "first", "random")


def ways(folder: Path, pool: dict[str, float], count: int, seed: int) -> dict[str, list[str]]:
    """``count`` of a pool of photos, by name and by how much of each the class covers, in each of the ways."""
    stems = list(pool)
    generator = np.random.default_rng(seed)
    drawn = [sorted(generator.permutation(len(stems))[:count].tolist()) for _ in range(DRAWS)]
    places = {"variety": choose([folder / "images" / f"{stem}.jpg" for stem in stems], list(pool.values()), count)}
    places |= {"first": list(range(count))} | {f"random {number}": draw for number, draw in enumerate(drawn, start=1)}
    return {way: [stems[place] for place in found] for way, found in places.items()}


def ask(
    model: FewShotSegmenter, sets: dict[str, list[Labelled]], there: list[Labelled], absent: list[Labelled]
) -> NDArray[np.float64]:
    """(2, 3), percent: IoU told that the class is there, and presence right, of each of :data:`WAYS`."""
    supports = model.encode({way: [Shot(one.image, one.mask) for one in shots] for way, shots in sets.items()})
    inside, either, right = np.zeros((3, len(sets)))
    for number, query in enumerate([*there, *absent]):
        answer = model.infer(model.encode_query(query.image), supports)
        right += answer.present.numpy() == (number < len(there))
        if number < len(there):
            found = (answer.foreground.numpy() > 0.5) & ~query.void
            inside += (found & query.mask).sum(axis=(1, 2))
            either += (found | query.mask).sum(axis=(1, 2))
    percents = 100 * np.stack([inside / either, right / (len(there) + len(absent))])
    return np.column_stack([percents[:, :2], percents[:, 2:].mean(axis=1)])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--list", "listings", multiple=True, type=click.File(), help="Only photos that it names, one a line.")
@click.option("--shots", default=5, show_default=True, help="Supports of a class.")
@click.option("--queries", default=6, show_default=True, help="Photos asked with the class, and as many without.")
@click.option("--model", default="asnet-mini", show_default=True)
def main(folders: tuple[Path, ...], listings: tuple[TextIO, ...], shots: int, queries: int, model: str) -> None:
    """What choosing shots for variety gives. FOLDERS hold images/, masks/ and classes.json.

    A class takes part that has at least three times as many photos as shots; those that are asked are no candidates.
    Of random ones the mean of three draws is told.
    """
    segmenter = FewShotSegmenter.from_pretrained(model, device="cpu", edges=False)
    columns = [f"{what}, {way}" for what in ("IoU told", "presence") for way in WAYS]
    click.echo(f"| set | class | candidates | {' | '.join(columns)} |")
    rows, allowed = [], listed(listings)
    for folder in folders:
        shares = shares_of(folder, allowed)
        for value, name in json.loads((folder / "classes.json").read_text()).items():
            number = int(value)
            large = [stem for stem, share in shares.items() if share.get(number, 0) >= LEAST_SHARE]
            asked = evenly(large, queries)
            pool = {stem: share[number] for stem, share in shares.items() if number in share and stem not in asked}
            absent = [stem for stem, share in shares.items() if number not in share]
            if len(pool) < 3 * shots or len(asked) < queries or not absent:
                continue
            chosen = ways(folder, pool, shots, seed=number)
            sets = {way: [read(folder, stem, number) for stem in stems] for way, stems in chosen.items()}
            photos = [[read(folder, stem, number) for stem in stems] for stems in (asked, evenly(absent, queries))]
            rows.append(ask(segmenter, sets, *photos).ravel())
            found = " | ".join(f"{figure:.1f}" for figure in rows[-1])
            click.echo(f"| {folder.name} | {name} | {len(pool)} | {found} |")
    click.echo(
        f"| mean | {len(rows)} classes | - | {' | '.join(f'{figure:.1f}' for figure in np.mean(rows, axis=0))} |"
    )


if __name__ == "__main__":
    main()
