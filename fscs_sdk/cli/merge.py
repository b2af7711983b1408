"""``fscs merge``."""

from pathlib import Path

import click

EXIT_INCOMPLETE = 1
#: How many of the missing are named.
SHOWN = 10


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def merge(out: Path, as_json: bool) -> int:
    """Join the journals of all shards in OUT into OUT/journal.jsonl, and say what is missing.

    Exit code 0: every photo is answered; 1: some are missing or failed; 2: misuse.
    """
    import json

    from fscs_sdk.folder import merge_journals

    try:
        merged = merge_journals(out)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    shards = [f"{index}/{count}" for index, count in merged.missing_shards]
    if as_json:
        report = {
            "entries": merged.entries,
            "failed": [{"path": entry.path, "error": entry.error} for entry in merged.failed],
            "missing_shards": shards,
            "missing": list(merged.missing),
            "double": list(merged.double),
            "collected": [str(path) for path in merged.collected],
        }
        click.echo(json.dumps(report, indent=2))
        return 0 if merged.complete else EXIT_INCOMPLETE
    click.echo(f"{merged.entries} photos in {out / 'journal.jsonl'}, {len(merged.failed)} failed")
    if shards:
        click.echo(f"missing shards: {', '.join(shards)}; run them with 'fscs predict --shard'")
    if merged.missing:
        named = ", ".join(repr(place) for place in merged.missing[:SHOWN])
        more = f" and {len(merged.missing) - SHOWN} more" if len(merged.missing) > SHOWN else ""
        click.echo(f"missing photos: {named}{more}; run their shards again")
    if merged.double:
        click.echo(f"{len(merged.double)} photos stand in several journals, such as {merged.double[0]!r}")
    return 0 if merged.complete else EXIT_INCOMPLETE
