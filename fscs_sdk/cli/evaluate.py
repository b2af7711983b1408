"""``fscs evaluate``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from fscs_sdk.evaluation.benchmark import Result


@click.command()
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
