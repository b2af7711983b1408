"""``fscs examine``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import (
    check_folder_of,
    load_segmenter,
    max_pixels_option,
    misuse,
    model_options,
    negatives_option,
    one_line,
    pairs_bar,
    read_negatives,
    reference_options,
)
from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.examination import Examination
    from fscs_sdk.supports import Shot

EXIT_WRONG = 1
#: Shots that the table names; JSON and the page have all.
SHOWN = 20


@click.command()
@click.argument("supports", metavar="SUPPORTS", type=click.Path(path_type=Path))
@reference_options
@negatives_option
@max_pixels_option
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@model_options
@click.pass_context
def examine(
    context: click.Context,
    supports: Path,
    classes: tuple[str, ...],
    shots: int | None,
    negatives: Path | None,
    max_pixels: int,
    html: Path | None,
    as_json: bool,
    model: str,
    device: str,
    dtype: str,
) -> None:
    """Which labelled photos are bad, and how far can the answers be trusted? SUPPORTS as for 'fscs encode'.

    Every photo is asked with the others of its class as supports, and for other classes. The page of --html is one
    file, with every photo, its mask and what the others found in it.

    Exit code: 0 nothing is wrong for certain, 1 something is (a mask without a pixel, a photo given twice), 2 misuse.
    """
    import json
    import warnings

    from fscs_sdk.references import read_supports

    if html is not None:
        check_folder_of(html)
    segmenter = load_segmenter(model, device, dtype)
    with misuse((ValueError, FileNotFoundError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty mask is among the findings
        given = read_supports(supports, classes=classes or None, shots=shots)
        photos = [] if negatives is None else read_negatives(negatives)
        with pairs_bar() as progress:
            examination = segmenter.examine(given, negatives=photos, max_pixels=max_pixels, progress=progress)
        if html is not None:
            from fscs_sdk.report import write_report

            write_report(examination, given, html)
    if as_json:
        click.echo(json.dumps(examination.to_dict(), indent=2))
    else:
        _show(examination, given)
        if html is not None:
            click.echo(one_line(str(html)))
    context.exit(EXIT_WRONG if examination.certain else 0)


def _show(examination: "Examination", given: "Mapping[str, Sequence[Shot]]") -> None:
    """Photos, worst first, then classes, then remarks."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    doubts = {(one.name, one.shot): one for one in reversed(examination.suspects)}  # the surest of a shot stays
    ordered = sorted(
        examination.shots,
        key=lambda one: (
            -(doubts[one.name, one.shot].sureness if (one.name, one.shot) in doubts else 0),
            1.0 if one.iou is None else one.iou,
        ),
    )
    table = Table("class", "photo", "score", "IoU", "what", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for shot in ordered[:SHOWN]:
        doubt = doubts.get((shot.name, shot.shot))
        said = "" if doubt is None else f"{doubt.reason} ({100 * doubt.sureness:.0f} % sure)"
        numbers = ["-" if value is None else f"{value:.2f}" for value in (shot.score, shot.iou)]
        table.add_row(one_line(shot.name), one_line(_photo(given[shot.name][shot.shot - 1], shot.shot)), *numbers, said)
    console.print(table)
    if len(ordered) > SHOWN:
        click.echo(f"{counted(len(ordered) - SHOWN, 'more photo')}; --json and --html have all")
    for one in sorted(examination.classes, key=lambda one: one.right):
        click.echo(one_line(str(one)))
    for remark in examination.remarks:
        click.echo(one_line(remark))
    suspects = counted(len(examination.suspects), "suspect")
    click.echo(f"{suspects}; {counted(examination.pairs, 'pair', 'pairs')} of photos asked")


def _photo(shot: "Shot", number: int) -> str:
    """The name of its file, or its number where it has none."""
    return Path(shot.image).name if isinstance(shot.image, (str, Path)) else f"shot {number}"
