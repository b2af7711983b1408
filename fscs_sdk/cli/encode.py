"""``fscs encode``."""

from pathlib import Path

import click

from fscs_sdk.cli.options import model_options, read_supports, threshold_option


@click.command()
@click.argument("supports", metavar="SUPPORTS", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", metavar="OUT.safetensors", type=click.Path(dir_okay=False, path_type=Path))
@threshold_option
@model_options
def encode(supports: Path, out: Path, thresholds: tuple[str, ...], model: str, device: str, dtype: str) -> None:
    """Encode a folder of labelled photos once, into a file for 'fscs predict --supports' and SupportSet.load.

    SUPPORTS holds a folder for each class, in it photos, beside each its mask: dog/rex.jpg with dog/rex.png or
    dog/rex_mask.png. A photo without a mask is a class tag.
    """
    from fscs_sdk.segmenter import FewShotSegmenter

    if out.suffix != ".safetensors":
        raise click.UsageError(f"'{out}' must end in .safetensors")
    segmenter = FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype)
    encoded = read_supports(segmenter, supports, thresholds)
    encoded.save(out)
    tags = int(encoded.tagged.sum())
    shots = f"{len(encoded.tagged)} photos{f' ({tags} without a mask)' if tags else ''}"
    click.echo(f"{out}: {len(encoded)} classes, {shots}, {out.stat().st_size / 1e6:.1f} MB, for {encoded.model}")
