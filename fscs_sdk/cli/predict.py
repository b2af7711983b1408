"""``fscs predict``."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import model_options, read_supports, threshold_option
from fscs_sdk.formats import WRITERS

if TYPE_CHECKING:
    from fscs_sdk.folder import Plan, Settings, Summary
    from fscs_sdk.folder.journal import Entry
    from fscs_sdk.segmenter import FewShotSegmenter
    from fscs_sdk.supports import SupportSet

EXIT_SOME_FAILED = 1
#: Failures that are named on the terminal; the journal has all.
SHOWN = 10


def _formats(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    unknown = [name for name in names if name not in WRITERS]
    if unknown or not names:
        problem = f"there is no format '{unknown[0]}'" if unknown else "no format is named"
        raise click.BadParameter(f"{problem}; choose from {', '.join(WRITERS)}, with commas between them")
    return names


def _shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    index, _, count = value.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise click.BadParameter(f"'{value}' is none: i/n with 1 <= i <= n is needed, such as 2/8")
    return int(index), int(count)


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--list", "lists", multiple=True, metavar="FILE", type=click.Path(exists=True), help="One input in each line."
)
@click.option(
    "--supports",
    required=True,
    metavar="DIR|FILE",
    type=click.Path(exists=True, path_type=Path),
    help="DIR/<class>/<photo>.jpg with <photo>.png or <photo>_mask.png beside it; or a file of 'fscs encode'.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Where results and journal.jsonl go; the input tree is mirrored there.",
)
@click.option(
    "--formats",
    default="mask,overlay",
    show_default=True,
    callback=_formats,
    help=f"With commas between them: {', '.join(WRITERS)}.",
)
@threshold_option
@model_options
@click.option("--batch-size", default=1, show_default=True, type=click.IntRange(min=1), help="Photos at once.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Threads that decode.")
@click.option("--shard", callback=_shard, metavar="I/N", help="Only the I-th of N parts; then 'fscs merge OUT'.")
@click.option("--overwrite", is_flag=True, help="Answer again what is done.")
@click.option("--follow-links", is_flag=True, help="Also take what links inside the folders point to.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def predict(
    inputs: tuple[str, ...],
    lists: tuple[str, ...],
    supports: Path,
    out: Path,
    formats: tuple[str, ...],
    thresholds: tuple[str, ...],
    model: str,
    device: str,
    dtype: str,
    batch_size: int,
    workers: int,
    shard: tuple[int, int] | None,
    overwrite: bool,
    follow_links: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Answer photos: INPUT is any number of files, folders, patterns ('photos/*/*.jpg') and lists (@list.txt).

    Stopped at any moment, the same command goes on. OUT/journal.jsonl has a line for each photo, also for those that
    failed. Exit code 0: all answered; 1: some failed; 2: misuse.
    """
    from fscs_sdk.folder import Settings
    from fscs_sdk.formats import select
    from fscs_sdk.segmenter import FewShotSegmenter

    sources = [*inputs, *(f"@{path}" for path in lists)]
    if not sources:
        raise click.UsageError("no photos are given: name files, folders, patterns or --list FILE")
    settings = Settings(formats, batch_size, workers, overwrite, follow_links, shard)
    select(formats)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what Ctrl-C does: finish the files that are begun
    segmenter = FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype)
    encoded = read_supports(segmenter, supports, thresholds)
    if dry_run:
        _show_plan(_planned(segmenter, sources, encoded, out, settings), out, as_json=as_json)
        return 0
    summary = _run(segmenter, sources, encoded, out, settings)
    _show_summary(summary, as_json=as_json)
    return EXIT_SOME_FAILED if summary.failed else 0


def _planned(
    segmenter: "FewShotSegmenter", sources: list[str], supports: "SupportSet", out: Path, settings: "Settings"
) -> "Plan":
    from fscs_sdk.folder import plan

    try:
        return plan(segmenter, sources, supports, out, settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _run(
    segmenter: "FewShotSegmenter", sources: list[str], supports: "SupportSet", out: Path, settings: "Settings"
) -> "Summary":
    """The run, with a progress bar where someone looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fscs_sdk.folder import predict_folder

    begun: list[Plan] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("photos", total=None, rate="")

        def advance(entry: "Entry") -> None:
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate="" if speed is None else f"{speed:.1f}/s")

        def started(plan: "Plan") -> None:
            begun.append(plan)
            progress.update(task, total=len(plan.todo))

        try:
            return predict_folder(
                segmenter, sources, supports, out, settings=settings, started=started, advance=advance
            )
        except ValueError as error:
            if begun:
                raise
            raise click.UsageError(str(error)) from None


def _show_plan(plan: "Plan", out: Path, *, as_json: bool) -> None:
    import json

    counts = {"photos": len(plan.inputs.photos), "in_this_shard": len(plan.here), "to_do": len(plan.todo)}
    passed = {"links_passed_over": plan.inputs.links, "other_files_passed_over": plan.inputs.others}
    if as_json:
        todo = [{"path": str(photo.path), "place": photo.place} for photo in plan.todo]
        click.echo(json.dumps({**counts, **passed, "todo": todo}, indent=2))
        return
    for photo in plan.todo:
        click.echo(f"{_printable(str(photo.path))} -> {_printable(str(out / photo.place))}.*")
    click.echo(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in {**counts, **passed}.items()))


def _show_summary(summary: "Summary", *, as_json: bool) -> None:
    import json

    if as_json:
        failed = [{"path": entry.path, "error": entry.error} for entry in summary.failed]
        counts = {"answered": summary.answered, "done_before": summary.done_before, "failed": len(failed)}
        files = [str(path) for path in summary.collected]
        click.echo(json.dumps({**counts, "out": str(summary.out), "collected": files, "failures": failed}, indent=2))
        return
    for entry in summary.failed[:SHOWN]:
        click.echo(f"failed: {_printable(entry.path)}: {_printable(entry.error or '')}", err=True)
    if len(summary.failed) > SHOWN:
        click.echo(f"failed: {len(summary.failed) - SHOWN} more; the journal names them", err=True)
    before = f", {summary.done_before} were done before" if summary.done_before else ""
    click.echo(f"{summary.answered} answered{before}, {len(summary.failed)} failed: {_printable(str(summary.out))}")


def _printable(text: str) -> str:
    """One line that any terminal takes: control characters and bytes that are no text are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
