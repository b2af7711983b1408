"""``fscs convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from fscs_sdk.checkpoints.authors import ConversionReport, Task


@click.command()
@click.argument("checkpoint", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--task", type=click.Choice(["FS-CS", "FS-S"], case_sensitive=False), help="If FILE does not tell.")
@click.option("--offline", is_flag=True, help="Compare the backbone only with what is on this machine.")
@click.option("--cache-dir", type=click.Path(file_okay=False, path_type=Path), help="Of downloads.")
def convert(checkpoint: Path, out: Path, task: str | None, offline: bool, cache_dir: Path | None) -> None:
    """Turn a FILE of the paper's authors (.ckpt) into a folder OUT that from_pretrained loads.

    ASNet on ResNet-50, ResNet-101 or VGG-16, trained for FS-CS or FS-S. FILE holds a backbone too: it is left out
    where it equals the public one, which is fetched for the comparison (VGG-16: 553 MB) unless it is here or --offline
    is given; then it is kept.

    A .pth FILE with the ImageNet weights of a backbone becomes OUT/backbone.safetensors, for from_pretrained(...,
    backbone=...).

    The pickle is read by PyTorch's restricted unpickler only: a file that holds anything but weights and plain
    settings is refused.
    """
    from fscs_sdk.checkpoints.authors import convert_checkpoint

    report = convert_checkpoint(
        checkpoint, out, task=cast("Task | None", task), cache_dir=cache_dir, local_files_only=offline
    )
    for line in _lines(report):
        click.echo(line)


def _lines(report: "ConversionReport") -> list[str]:
    """What was found, what became of it, and how to use it."""
    file = report.folder / "backbone.safetensors"
    left_out = []
    if report.ignored:
        left_out.append(f"Not needed and left out: {len(report.ignored)} tensors, such as {report.ignored[0]!r}.")
    if not report.learner_tensors:
        found = f"{report.backbone}: {report.backbone_tensors} tensors written to {file}."
        return [found, *left_out, f"Use it: FewShotSegmenter.from_pretrained(NAME, backbone={str(file)!r})"]
    task = report.task or "a task that the file does not tell (--task FS-CS or FS-S does)"
    lines = [f"ASNet on {report.backbone}, trained for {task}: {report.learner_tensors} tensors of the head converted."]
    if report.settings or report.training:
        told = {**report.settings, **report.training}
        lines.append(f"Its settings: {', '.join(f'{key} {value}' for key, value in told.items())}.")
    if report.backbone_kept:
        lines.append(f"Its backbone, {report.backbone_tensors} tensors, was kept: {report.backbone_reason}.")
    elif report.backbone_tensors:
        lines.append(f"Its backbone, {report.backbone_tensors} tensors, was left out: {report.backbone_reason}.")
    else:
        lines.append(f"It holds no backbone: the public {report.backbone} will be looked up, or put yours at {file}.")
    return [
        *lines,
        *left_out,
        f"Load it: FewShotSegmenter.from_pretrained({str(report.folder)!r})",
    ]
