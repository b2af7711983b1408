"""``fscs convert``."""

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def convert(checkpoint: Path, out: Path) -> None:
    """Turn a CHECKPOINT (.ckpt) of the paper's authors into a folder OUT that from_pretrained loads.

    ASNet on ResNet-50, ResNet-101 or VGG-16, trained for FS-CS or FS-S. The pickle is read by PyTorch's restricted
    unpickler only; a file that holds anything but weights and plain settings is refused.
    """
    from fscs_sdk.convert import convert_checkpoint

    report = convert_checkpoint(checkpoint, out)
    click.echo(f"ASNet on {report.backbone}: {report.learner_tensors} tensors of the head converted.")
    if report.backbone_tensors:
        click.echo(f"Its backbone, {report.backbone_tensors} tensors, was written beside it.")
    else:
        click.echo(f"It holds no backbone: put the weights of {report.backbone} at {out / 'backbone.safetensors'}.")
    if report.ignored:
        click.echo(f"Not needed and left out: {len(report.ignored)} tensors, such as {report.ignored[0]}.")
    click.echo(f"Load it: FewShotSegmenter.from_pretrained({str(out)!r}, protocol='authors')")
