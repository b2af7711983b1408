"""``fscs weights``: what there is, get it, check it, find it, publish it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

_CACHE_DIR = click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Cache folder, in place of the one of huggingface_hub (HF_HOME, HF_HUB_CACHE).",
)
_TOKEN = click.option("--token", help="Of the Hugging Face Hub, in place of HF_TOKEN and `hf auth login`.")


@click.group()
def weights() -> None:
    """Models and backbones: list, fetch, verify, find and publish their files."""


@weights.command("list")
@_CACHE_DIR
def list_weights(cache_dir: Path | None) -> None:
    """All models: where they are and how good they are."""
    from fscs_sdk.weights import place, read_manifest

    rows = [("NAME", "BACKBONE", "TASK", "SIZE", "WHERE", "ER %", "mIoU %", "ON")]
    for name, entry in read_manifest().items():
        size = sum(file["bytes"] for file in entry.get("files", ()))
        where = place(name, cache_dir=cache_dir)
        rows.append((name, entry["backbone"], entry["task"], _megabytes(size), where, *_figures(entry)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@weights.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--revision", help="Of a Hub repository: branch, tag or commit.")
@_CACHE_DIR
@_TOKEN
def fetch(names: tuple[str, ...], revision: str | None, cache_dir: Path | None, token: str | None) -> None:
    """Get all files of models, backbones or Hub repositories (org/repo), checked; print their paths.

    Afterwards they load without a network.
    """
    from fscs_sdk.weights import obtain

    for name in names:
        for path in obtain(name, revision=revision, cache_dir=cache_dir, token=token):
            click.echo(path)


@weights.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_CACHE_DIR
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], cache_dir: Path | None) -> None:
    """Hash every file that is here, of the named or of all models and backbones; exit with 1 on any difference.

    A named file that is not here counts as a difference. Damaged files of a cache are set aside.
    """
    from fscs_sdk.weights import backbone_entries, list_models
    from fscs_sdk.weights import verify as verify_files

    different = False
    for name in names or (*list_models(), *backbone_entries()):
        for finding in verify_files(name, cache_dir=cache_dir):
            if finding.wrong is not None:
                state = "wrong"
            elif finding.path is None:
                state = "absent"
            else:
                state = "ok"
            if state != "absent" or names:
                click.echo(f"{state:6}  {finding.name} {finding.role}: {finding.wrong or finding.path or 'not here'}")
            different = different or state == "wrong" or (state == "absent" and bool(names))
    context.exit(int(different))


@weights.command()
@click.argument("name")
@_CACHE_DIR
def path(name: str, cache_dir: Path | None) -> None:
    """Print where the files of a model, a backbone or org/repo are: the head, then the backbone."""
    from fscs_sdk.weights import obtain

    for file in obtain(name, cache_dir=cache_dir, local_files_only=True):
        click.echo(file)


@weights.command()
@click.argument("name")
@click.argument("repo", metavar="ORG/REPO")
@click.option("--dry-run", is_flag=True, help="Show the files and the model card; needs no network and no token.")
@click.option("--private", is_flag=True, help="Make a private repository, if it must be made.")
@_CACHE_DIR
@_TOKEN
def publish(name: str, repo: str, dry_run: bool, private: bool, cache_dir: Path | None, token: str | None) -> None:
    """Write the model NAME into the Hub repository ORG/REPO: weights, config.json, model card and licence."""
    import json
    from dataclasses import asdict

    from fscs_sdk.training.publishing import prepare
    from fscs_sdk.training.publishing import publish as write

    publication = prepare(name, repo, cache_dir=cache_dir)
    click.echo(f"{'Would write' if dry_run else 'Writing'} to {repo}:")
    for file in publication.files:
        click.echo(f"  {file:22} {publication.size(file):>12,} bytes")
    if dry_run:
        card = publication.files["README.md"]
        click.echo("\nREADME.md:\n")
        click.echo(card)
        return
    sources = write(publication, private=private, token=token)
    click.echo("Written, and what the Hub has is what was sent. For the manifest:")
    for source in sources:
        click.echo(json.dumps({"type": "hub"} | asdict(source)))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else ""


def _figures(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """Exact ratio, mean IoU, and what they were measured on, of an entry's first figure."""
    if not entry["figures"]:
        return "", "", "not measured"
    figure = entry["figures"][0]
    origin = "measured" if "measured" in figure else "published"
    setting = f"{figure['benchmark']} {figure['ways']}-way {figure['shots']}-shot, {origin}"
    return str(figure.get("exact_ratio", "")), str(figure.get("mean_iou", "")), setting
