"""``fscs merge``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import misuse, one_line
from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.folder import Merged

EXIT_NOT_WELL = 1
#: How many of the missing are named.
SHOWN = 10


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def merge(context: click.Context, out: Path, as_json: bool) -> None:
    """Join the journals of all shards in OUT into OUT/journal.jsonl; say what is missing, double or failed.

    It also writes the files of the whole run, such as annotations.coco.json.

    Exit code: 0 every photo is answered, 1 some are missing, double or failed, 2 misuse.
    """
    from fscs_sdk.folder import merge_journals

    with misuse():
        merged = merge_journals(out)
    _show(merged, as_json=as_json)
    context.exit(0 if merged.well else EXIT_NOT_WELL)


def _show(merged: "Merged", *, as_json: bool) -> None:
    import json

    shards = [f"{index}/{count}" for index, count in merged.missing_shards]
    if as_json:
        report = {
            "photos": merged.records,
            "failed": len(merged.failed),
            "missing_shards": shards,
            "missing": list(merged.missing),
            "double": list(merged.double),
            "problems": list(merged.problems),
            "journal": str(merged.journal),
            "collected": [str(path) for path in merged.collected],
            "failures": [{"path": record.path, "error": record.error} for record in merged.failed],
        }
        click.echo(json.dumps(report, indent=2))
        return
    if shards:
        click.echo(f"fscs: no journal of shard {', '.join(shards)}; run 'fscs predict' with --shard of each", err=True)
    if merged.missing:
        click.echo(f"fscs: not answered: {_some(merged.missing)}; run their shards again", err=True)
    if merged.double:
        click.echo(f"fscs: answered by several shards: {_some(merged.double)}; the last answer counts", err=True)
    for problem in merged.problems:
        click.echo(f"fscs: {one_line(problem)}", err=True)
    click.echo(f"{counted(merged.records, 'photo')}, {len(merged.failed)} failed")
    for path in (merged.journal, *merged.collected):
        click.echo(one_line(str(path)))


def _some(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(one_line(path) for path in paths[:SHOWN])}{more}"
