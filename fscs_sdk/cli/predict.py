"""``fscs predict``."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fscs_sdk.cli.interruption import resumable
from fscs_sdk.cli.options import (
    SupportOptions,
    edges_option,
    list_argument,
    load_segmenter,
    load_supports,
    misuse,
    model_options,
    one_line,
    protocol_option,
    scales_option,
    support_options,
)
from fscs_sdk.cli.remarks import remarks_told
from fscs_sdk.formats import WRITERS

if TYPE_CHECKING:
    from fscs_sdk.folder import Plan, Record, Summary
    from fscs_sdk.folder.inputs import Inputs
    from fscs_sdk.integrations.ray_folder import RayAnswers
    from fscs_sdk.model.ifsl import ProtocolName

EXIT_FAILED = 1
#: Failures that are named on the terminal; the journal has all.
SHOWN = 10


def _parse_formats(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))
    unknown = [name for name in names if name not in WRITERS]
    if unknown or not names:
        problem = f"there is no format {unknown[0]!r}" if unknown else "no format is named"
        raise click.BadParameter(f"{problem}; choose from {', '.join(WRITERS)}")
    return names


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "--supports",
    required=True,
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    help="DIR/<class>/<photo>.jpg with the mask <photo>.png or <photo>_mask.png beside it; a data set of LabelMe, "
    "COCO, YOLO, CVAT, VOC or Label Studio; or a file of 'fscs encode'.",
)
@support_options
@scales_option
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="For the results, in the tree of the inputs, and journal.jsonl.",
)
@click.option(
    "--formats",
    multiple=True,
    default=("mask", "overlay"),
    show_default=True,
    callback=_parse_formats,
    help=f"With commas between them: {', '.join(WRITERS)}.",
)
@click.option(
    "--list", "lists", multiple=True, metavar="FILE", help="Take the inputs that FILE names, one a line; - is stdin."
)
@model_options
@protocol_option
@edges_option
@click.option("--overwrite", is_flag=True, help="Answer again what is done; replace results of other photos.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts; 'fscs merge' joins them.")
@click.option("--follow-links", is_flag=True, help="Also follow symbolic links inside the inputs.")
@click.option("--root", metavar="DIR", help="Mirror paths from here, not from the deepest folder of all inputs.")
@click.option("--batch-size", type=click.IntRange(min=1), expose_value=False, hidden=True)  # of earlier versions
@click.option("--workers", type=click.IntRange(min=1), help="Threads that write.")
@click.option(
    "--fps",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 1000, min_open=True),
    help="Of videos: frames a second.",
)
@click.option("--engine", default="threads", type=click.Choice(["threads", "ray"]), help="What answers: here, or Ray.")
@click.option(
    "--address", metavar="HOST:PORT", help="Of a Ray cluster; auto finds this machine's. Else Ray starts here."
)
@click.option("--actors", type=click.IntRange(min=1), help="Models that answer under Ray.")
@click.option(
    "--gpus", type=click.FloatRange(min=0), help="Of Ray's GPUs, for each model.  [default: 0, on processors]"
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def predict(
    context: click.Context,
    inputs: tuple[str, ...],
    supports: Path,
    asked: SupportOptions,
    out: Path,
    formats: tuple[str, ...],
    lists: tuple[str, ...],
    model: str,
    device: str,
    dtype: str,
    protocol: "ProtocolName | None",
    edges: bool,
    overwrite: bool,
    shard: str | None,
    follow_links: bool,
    root: str | None,
    workers: int | None,
    fps: float,
    engine: str,
    address: str | None,
    actors: int | None,
    gpus: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Which classes are in the photos, and where?

    INPUT: photos, videos, folders, patterns ('p/*/*.jpg'), lists (@list.txt), or - for a list on standard input.

    Run again, it goes on where it was stopped, and answers what is new, changed or failed. journal.jsonl has a line for
    each photo, also for one that cannot be read.

    Exit code: 0 all answered, 1 some failed or the run had to stop, 2 misuse, 130 or 143 interrupted.
    """
    from fscs_sdk.folder import parse_shard, plan_folder, predict_folder

    with misuse():
        part = None if shard is None else parse_shard(shard)
    given = [*inputs, *map(list_argument, lists)]
    if not given:
        raise click.UsageError("no photos are given; name files, folders, patterns or lists")
    answering = _answering(engine, address, actors, gpus, dtype)
    segmenter = load_segmenter(model, device, dtype, protocol, edges=edges)
    encoded = load_supports(segmenter, supports, asked)
    labelled = [supports] if asked.negatives is None else [supports, asked.negatives]
    if dry_run:
        with misuse():
            plan = plan_folder(
                segmenter,
                given,
                encoded,
                out,
                formats=formats,
                shard=part,
                overwrite=overwrite,
                follow_links=follow_links,
                root=root,
                leave_out=labelled,
                fps=fps,
            )
        _show_plan(plan, as_json=as_json)
        return
    with resumable(context), _progress_bar() as progress, remarks_told(), misuse():
        summary = predict_folder(
            segmenter,
            given,
            encoded,
            out,
            formats=formats,
            workers=workers,
            shard=part,
            overwrite=overwrite,
            follow_links=follow_links,
            root=root,
            leave_out=labelled,
            max_pixels=asked.max_pixels,
            fps=fps,
            answering=answering,
            progress=progress,
        )
    _show_summary(summary, as_json=as_json)
    context.exit(0 if summary.well else EXIT_FAILED)


def _answering(
    engine: str, address: str | None, actors: int | None, gpus: float | None, dtype: str
) -> "RayAnswers | None":
    """What answers the photos of a run, if not this process."""
    if engine == "ray":
        from fscs_sdk.formats import require

        require("ray", "the engine ray", extra="ray")
        from fscs_sdk.integrations.ray_folder import RayAnswers

        return RayAnswers(address, actors, gpus or 0, dtype)
    if (address, actors, gpus) != (None, None, None):
        raise click.UsageError("--address, --actors and --gpus belong to '--engine ray'")
    return None


@contextlib.contextmanager
def _progress_bar() -> "Iterator[Callable[[int, int, Record | None], None] | None]":
    """Photos done, their rate and the time left, on standard error where someone looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")
        begun = time.monotonic()

        def progress(done: int, total: int, record: "Record | None") -> None:
            rate = f"{done / max(1e-9, time.monotonic() - begun):.1f} photos/s" if done else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield progress


def _show_plan(plan: "Plan", *, as_json: bool) -> None:
    import json

    if as_json:
        todo = [{"path": photo.path, "source": photo.source, "place": plan.places[photo.path]} for photo in plan.todo]
        report = {"photos": len(plan.photos), "done": len(plan.done), "to_do": len(todo), "renewed": plan.renewed}
        click.echo(json.dumps({**report, **_left_out(plan.inputs), "todo": todo}, indent=2))
        return
    for photo in plan.todo:
        click.echo(f"{one_line(photo.source)} -> {one_line(plan.places[photo.path])}.*")
    click.echo(f"{len(plan.todo)} to do, {len(plan.done)} done{_left_out_text(plan.inputs)}")
    _tell_renewed(plan.renewed)


def _show_summary(summary: "Summary", *, as_json: bool) -> None:
    import json

    if as_json:
        report: dict[str, Any] = {
            "photos": summary.answered + summary.done_before + len(summary.failed),
            "answered": summary.answered,
            "done_before": summary.done_before,
            "renewed": summary.renewed,
            "failed": len(summary.failed),
            "present": dict(summary.present),
            "of_earlier_runs": summary.earlier,
            "gone": summary.gone,
            "outdated": summary.outdated,
            "seconds": round(summary.seconds, 3),
            "out": str(summary.out),
            "journal": str(summary.journal),
            "collected": [str(path) for path in summary.collected],
            **_left_out(summary.inputs),
            "problems": list(summary.problems),
            "failures": [{"path": record.path, "error": record.error} for record in summary.failed],
        }
        click.echo(json.dumps(report, indent=2))
        return
    for record in summary.failed[:SHOWN]:
        click.echo(f"fscs: {one_line(record.path)} failed: {one_line(record.error or '')}", err=True)
    if len(summary.failed) > SHOWN:
        click.echo(f"fscs: {len(summary.failed) - SHOWN} more failed; the journal names them", err=True)
    for problem in summary.problems:
        click.echo(f"fscs: {one_line(problem)}", err=True)
    before = f", {summary.done_before} done before" if summary.done_before else ""
    click.echo(f"{summary.answered} answered{before}, {len(summary.failed)} failed{_left_out_text(summary.inputs)}")
    _tell_renewed(summary.renewed)
    counts = {"results kept": summary.earlier, "gone": summary.gone, "of another model or supports": summary.outdated}
    earlier = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if earlier:
        click.echo(f"photos of earlier runs: {earlier}")
    click.echo(", ".join(f"{one_line(name)} in {count}" for name, count in summary.present.items()))
    for path in (summary.journal, *summary.collected):
        click.echo(one_line(str(path)))


def _tell_renewed(count: int) -> None:
    if count:
        click.echo(
            f"{count} of them again: another model, supports or settings, with edges or without, had answered before"
        )


def _left_out(inputs: "Inputs") -> dict[str, int]:
    return {
        "links_not_followed": inputs.links,
        "hidden_left_out": inputs.hidden,
        "other_files_left_out": inputs.others,
        "result_folders_left_out": inputs.results,
        "support_folders_left_out": inputs.supports,
    }


def _left_out_text(inputs: "Inputs") -> str:
    texts = [f"{count} {name.replace('_', ' ')}" for name, count in _left_out(inputs).items() if count]
    return f" ({', '.join(texts)})" if texts else ""
