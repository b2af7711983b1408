"""``fscs encode``."""

from pathlib import Path

import click

from fscs_sdk.cli.options import load_segmenter, load_supports, model_options, threshold_option


@click.command()
@click.argument("supports", metavar="SUPPORTS", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.safetensors", type=click.Path(dir_okay=False, path_type=Path))
@threshold_option
@model_options
def encode(supports: Path, out: Path, thresholds: tuple[str, ...], model: str, device: str, dtype: str) -> None:
    """Encode a folder of labelled photos once, into a file for 'fscs predict --supports' and SupportSet.load.

    SUPPORTS holds a folder for each class. In it rex_mask.png is the mask of the photo rex.jpg or rex.png; rex.png is
    the mask of rex.jpg where both are there. A photo without a mask is a class tag.
    """
    if out.suffix != ".safetensors":
        raise click.UsageError(f"'{out}' must end in .safetensors")
    if not supports.is_dir():
        raise click.UsageError(f"'{supports}' is not a folder; give one that holds a folder of photos for each class")
    segmenter = load_segmenter(model, device, dtype)
    encoded = load_supports(segmenter, supports, thresholds)
    encoded.save(out)
    photos, tags = len(encoded.tagged), int(encoded.tagged.sum())
    without = f" ({tags} without a mask)" if tags else ""
    size = out.stat().st_size / 1e6
    click.echo(f"{out}: {len(encoded)} classes, {photos} photos{without}, {size:.1f} MB, for {encoded.model}")
