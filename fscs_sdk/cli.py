"""The ``fscs`` command. Heavy imports stand inside the commands, so that ``fscs --help`` is quick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from fscs_sdk.evaluation.benchmark import Result

EXIT_FAILED = 1


class _Group(click.Group):
    """Commands whose foreseeable errors are one sentence on standard error, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"fscs: {error}", err=True)
            ctx.exit(EXIT_FAILED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fscs-sdk", prog_name="fscs")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
def main(debug: bool) -> None:
    """Is it there, and where? Few-shot classification and segmentation of photos.

    \b
    fscs demo                             answer a question about real photos, offline
    fscs evaluate --data DIR              measure a model on VOC-animals
    fscs convert FILE.ckpt OUT            use a checkpoint of the paper's authors
    """


@main.command()
@click.option("--model", default="asnet-mini", show_default=True, help="Model name, folder or .safetensors file.")
@click.option(
    "--out",
    default=Path("demo_output"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the overlays go.",
)
@click.option("--device", default="auto", show_default=True)
def demo(model: str, out: Path, device: str) -> None:
    """Ask real photos: is there a cat, is there a person, and where? (2-way 1-shot, no network needed)"""
    from rich.console import Console
    from rich.table import Table

    from fscs_sdk.demo import SUPPORTS, overview, run_demo
    from fscs_sdk.segmenter import FewShotSegmenter

    segmenter = FewShotSegmenter.from_pretrained(model, device=device)
    console = Console()
    names = list(SUPPORTS)
    console.print(f"One labelled photo each of: {', '.join(names)}. Which of them are in these photos, and where?\n")
    table = Table("photo", *names, "right?")
    answers = []
    with console.status("Looking..."):
        for answer in run_demo(segmenter, out):
            answers.append(answer)
            prediction = answer.prediction
            cells = [_presence(prediction.present[name], prediction.scores[name]) for name in names]
            right = {name for name in names if prediction.present[name]} == set(answer.truth)
            table.add_row(answer.query, *cells, "[green]yes[/]" if right else "[red]no[/]")
        overview(answers).save(out / "overview.jpg", quality=88)
    console.print(table)
    console.print(f"\nWhere: see overview.jpg and an overlay for each photo in {out.resolve()}", soft_wrap=True)


@main.command()
@click.option("--benchmark", type=click.Choice(["voc-animals"]), default="voc-animals", show_default=True)
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with images/, masks/, classes.json and splits/val/fold*.txt.",
)
@click.option("--model", default="asnet-mini", show_default=True, help="Model name, folder or .safetensors file.")
@click.option("--fold", "folds", multiple=True, type=click.IntRange(0, 3), default=(1, 2), show_default=True)
@click.option("--episodes", default=1000, show_default=True, type=click.IntRange(min=1), help="For each fold.")
@click.option("--ways", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--shots", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--split", default="val", show_default=True, type=click.Choice(["val", "held-out"]))
@click.option("--baselines/--no-baselines", default=True, show_default=True, help="Training-free ones, beside it.")
@click.option("--protocol", type=click.Choice(["paper", "authors"]), default="paper", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(
    benchmark: str,
    data: Path,
    model: str,
    folds: tuple[int, ...],
    episodes: int,
    ways: int,
    shots: int,
    split: str,
    baselines: bool,
    protocol: str,
    device: str,
    as_json: bool,
) -> None:
    """Exact ratio, accuracy, mIoU and FB-IoU over deterministic episodes, with bootstrap 95 % intervals.

    VOC-animals: the classes of each Pascal-5i fold with at least 8 photos in its list. ``--split held-out`` draws
    photos of the trn lists that training left out; settings are chosen there, never on val.
    """
    import json
    from functools import partial
    from typing import cast

    from rich.console import Console
    from rich.progress import Progress

    from fscs_sdk.evaluation.benchmark import Setting, Split, evaluate_fold
    from fscs_sdk.model.ifsl import Protocol
    from fscs_sdk.segmenter import FewShotSegmenter

    segmenter = FewShotSegmenter.from_pretrained(model, device=device, protocol=cast(Protocol, protocol))
    setting = Setting(ways=ways, shots=shots, episodes=episodes, split=cast(Split, split))
    results = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for fold in folds:
            task = progress.add_task(f"{benchmark}, fold {fold}", total=episodes)
            advance = partial(progress.advance, task)
            results += evaluate_fold(segmenter, data, fold, setting, baselines=baselines, advance=advance)
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
        return
    title = f"{benchmark}, {split} lists, {ways}-way {shots}-shot, {episodes} episodes a fold, protocol {protocol}"
    Console().print(_results_table(title, results))


@main.command()
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


def _presence(present: bool, score: float) -> str:
    return f"[bold]present[/] ({score:.2f})" if present else f"absent  ({score:.2f})"


def _results_table(title: str, results: "list[Result]") -> "Table":
    from rich.table import Table

    table = Table("fold", "method", "ER %", "accuracy %", "mIoU %", "FB-IoU %", "IoU by class", title=title)
    for result in results:
        table.add_row(*result.cells())
    folds = {result.fold for result in results}
    for method in dict.fromkeys(result.method for result in results) if len(folds) > 1 else ():
        summaries = [result.summary for result in results if result.method == method]
        means = [
            sum(values) / len(values)
            for values in zip(
                *((s.exact_ratio, s.accuracy, s.mean_iou, s.foreground_background_iou) for s in summaries), strict=True
            )
        ]
        table.add_row("mean", method, *(f"{value:.1f}" for value in means), "")
    return table


if __name__ == "__main__":
    main()
