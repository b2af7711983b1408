"""``fscs export``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import (
    SupportOptions,
    check_folder_of,
    edges_option,
    load_segmenter,
    load_supports,
    misuse,
    model_option,
    protocol_option,
    support_options,
)
from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.model.ifsl import ProtocolName


@click.command()
@click.argument("supports", metavar="SUPPORTS", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.onnx|OUT.pt2", type=click.Path(dir_okay=False, path_type=Path))
@support_options
@model_option
@protocol_option
@edges_option
def export(
    supports: Path,
    out: Path,
    asked: SupportOptions,
    model: str,
    protocol: "ProtocolName | None",
    edges: bool,
) -> None:
    """Write a model with its supports as one file for ONNX Runtime and others (.onnx), or for torch.export.load (.pt2).

    SUPPORTS is what 'fscs encode' takes, or a file that it made. The file takes photos, whole and never in tiles, and
    gives scores, presence, maps and a mask; what it says of itself names the classes. It takes a minute or two.
    """
    from fscs_sdk.export import export as write

    if out.suffix not in (".onnx", ".pt2"):
        raise click.UsageError(f"'{out}' must end in .onnx or .pt2")
    check_folder_of(out)
    segmenter = load_segmenter(model, "cpu", "float32", protocol, edges=edges)
    encoded = load_supports(segmenter, supports, asked)
    with misuse():
        paths = write(segmenter, encoded, out)
    size = sum(path.stat().st_size for path in paths) / 1e6
    names = " and ".join(str(path) for path in paths)
    what = f"{counted(len(encoded), 'class', 'classes')}, {counted(len(encoded.tagged), 'photo')}"
    click.echo(f"{names}: {what}, {size:.1f} MB, of {encoded.model}")
