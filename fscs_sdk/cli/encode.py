"""``fscs encode``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import (
    SupportOptions,
    check_folder_of,
    load_segmenter,
    load_supports,
    model_options,
    protocol_option,
    scales_option,
    support_options,
)
from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.model.ifsl import ProtocolName


@click.command()
@click.argument("supports", metavar="SUPPORTS", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.safetensors", type=click.Path(dir_okay=False, path_type=Path))
@support_options
@scales_option
@model_options
@protocol_option
def encode(
    supports: Path,
    out: Path,
    asked: SupportOptions,
    model: str,
    device: str,
    dtype: str,
    protocol: "ProtocolName | None",
) -> None:
    """Encode labelled photos once, into a file for 'fscs predict --supports' and SupportSet.load.

    SUPPORTS holds a folder for each class. In it rex_mask.png is the mask of the photo rex.jpg or rex.png; rex.png is
    the mask of rex.jpg where both are there. A photo without a mask is a class tag. Or it is a data set: a folder or
    file of LabelMe, COCO, YOLO, CVAT, Pascal VOC or Label Studio.

    Every class with two photos, or all with --negatives, get a threshold, a scale of scores and a mask offset from
    what the photos say of each other. What is small is looked for in tiles of a photo, where they say that this helps.
    """
    if out.suffix != ".safetensors":
        raise click.UsageError(f"'{out}' must end in .safetensors")
    check_folder_of(out)
    segmenter = load_segmenter(model, device, dtype, protocol)
    encoded = load_supports(segmenter, supports, asked)
    encoded.save(out)
    photos, tags = len(encoded.tagged), int(encoded.tagged.sum())
    without = f" ({tags} without a mask)" if tags else ""
    size = out.stat().st_size / 1e6
    what = f"{counted(len(encoded), 'class', 'classes')}, {counted(photos, 'photo')}{without}"
    click.echo(f"{out}: {what}, {size:.1f} MB, for {encoded.model}")
