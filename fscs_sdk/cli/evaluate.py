"""``fscs evaluate``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fscs_sdk.cli.options import misuse
from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.segmenter import FewShotSegmenter


@click.command()
@click.option(
    "--benchmark",
    type=click.Choice(["voc-animals", "pascal-5i", "coco-20i", "fss-1000", "folder", "domains"]),
    default="voc-animals",
    show_default=True,
    help="The layout of --data, and what is asked of it.",
)
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="voc-animals, folder: images/, masks/, classes.json, splits/; domains: folders of those; pascal-5i: VOC2012; "
    "coco-20i: COCO 2014.",
)
@click.option(
    "--splits",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of val/fold<k>.txt and trn/fold<k>.txt; for fss-1000 the file of the test classes.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("asnet-mini",),
    show_default=True,
    help="Model name, folder, .safetensors or org/repo; may be repeated: one table, the same episodes.",
)
@click.option(
    "--task",
    type=click.Choice(["fs-cs", "fs-s", "fs-c"]),
    default="fs-cs",
    show_default=True,
    help="Presence and masks; masks of classes that are there; which one of N classes is there.",
)
@click.option(
    "--fold",
    "folds",
    multiple=True,
    type=click.IntRange(min=0),
    help="May be repeated.  [default: voc-animals 1 and 2, else all]",
)
@click.option("--episodes", default=1000, show_default=True, type=click.IntRange(min=1), help="For each fold.")
@click.option("--ways", default=1, show_default=True, type=click.IntRange(min=1), help="N, classes asked for.")
@click.option("--shots", default=1, show_default=True, type=click.IntRange(min=1), help="K, supports of each class.")
@click.option(
    "--calibrate", is_flag=True, help="Measure each model also with thresholds and offsets from the supports."
)
@click.option(
    "--negatives",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Photos with none of the classes that calibration gets, at most.",
)
@click.option("--weak", is_flag=True, help="Withhold the supports' masks: class tags only.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NUMBER",
    type=click.FloatRange(0, 1),
    help="Score that makes a class present; repeated, a row for each.  [default: the model's]",
)
@click.option("--split", default="val", show_default=True, type=click.Choice(["val", "held-out"]), help="Which photos.")
@click.option(
    "--min-photos", type=click.IntRange(min=1), help="Leave out classes with fewer.  [default: voc-animals 8, else 1]"
)
@click.option(
    "--baselines/--no-baselines",
    default=None,
    help="Training-free ones on the first model's backbone.  [default: where there are trn lists]",
)
@click.option("--protocol", type=click.Choice(["paper", "authors"]), default="paper", show_default=True)
@click.option("--edges", is_flag=True, help="Let masks follow the photo's edges.  [default: the paper's masks]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--dtype", default="float32", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="For results.json, results.md and the counts of each episode, with which the same command goes on.",
)
@click.option(
    "--pictures",
    metavar="N",
    type=click.IntRange(min=1),
    help="Draw the N worst and N typical episodes of the first model into --out, and count the causes of all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def evaluate(
    benchmark: str,
    data: Path,
    splits: Path | None,
    models: tuple[str, ...],
    task: str,
    folds: tuple[int, ...],
    episodes: int,
    ways: int,
    shots: int,
    calibrate: bool,
    negatives: int,
    weak: bool,
    thresholds: tuple[float, ...],
    split: str,
    min_photos: int | None,
    baselines: bool | None,
    protocol: str,
    edges: bool,
    device: str,
    dtype: str,
    out: Path | None,
    pictures: int | None,
    as_json: bool,
) -> None:
    """Exact ratio, accuracy, mIoU and FB-IoU over deterministic episodes, with bootstrap 95 % intervals.

    VOC-animals: folds 1 and 2 unless --fold says otherwise, and the classes with at least 8 photos in the fold's list.
    --split held-out draws photos of the trn lists that training left out; settings are chosen there, never on val.
    """
    import json
    from datetime import datetime, timezone
    from typing import cast

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from fscs_sdk.environment import environment
    from fscs_sdk.evaluation import benchmark as running
    from fscs_sdk.evaluation import pictures as drawing
    from fscs_sdk.evaluation.datasets import BENCHMARKS
    from fscs_sdk.evaluation.episodes import Task
    from fscs_sdk.evaluation.results import header, rows, write_results

    if pictures is not None and out is None:
        raise click.UsageError("--pictures needs --out, the folder to draw into")
    usual = BENCHMARKS[benchmark]
    with misuse():
        settings = running.Settings(
            task=cast(Task, task),
            ways=ways,
            shots=shots,
            episodes=episodes,
            split=cast(running.Split, split),
            held_out=running.held_out_by(_heads(models)) if split == "held-out" else running.HELD_OUT,
            weak=weak,
            calibrate=calibrate,
            negatives=negatives,
            thresholds=thresholds,
            minimum_photos=usual.minimum_photos if min_photos is None else min_photos,
        )
        if pictures is not None:
            drawing.check_task(settings)
    dataset = usual.open(data, splits)
    chosen = tuple(dict.fromkeys(folds)) or usual.folds or dataset.folds or (None,)
    with_baselines = dataset.has_training_lists if baselines is None else baselines
    if edges and protocol != "paper":
        raise click.UsageError("--edges is for the protocol paper; the authors' program knows no edges")
    segmenters = _load(models, device, dtype, protocol, edges)
    recorded = running.describe(
        segmenters, dataset, settings, benchmark=benchmark, folds=chosen, baselines=with_baselines
    )
    title = f"{benchmark}, {split} lists, {ways}-way {shots}-shot, {episodes} episodes a fold, protocol {protocol}"
    title += f"{'' if task == 'fs-cs' else f', {task}'}{', class tags' if weak else ''}"
    title += f", {counted(negatives, 'negative')}" if negatives else ""
    title += ", with edges" if edges else ""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        tasks = {
            fold: progress.add_task(benchmark if fold is None else f"{benchmark}, fold {fold}", total=episodes)
            for fold in chosen
        }
        results = running.evaluate(
            segmenters,
            dataset,
            settings,
            folds=chosen,
            baselines=with_baselines,
            recorded=recorded,
            out=out,
            advance=lambda fold: progress.advance(tasks[fold]),
        )
    if out is not None:
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        report = environment()
        machine = {name: report[name] for name in ("versions", "system", "cpu")}
        write_results(out, results, title=title, date=date, settings=recorded, machine=machine)
    if out is not None and pictures is not None:
        name, segmenter = next(iter(segmenters.items()))
        drawing.write_pictures(out, name, segmenter, dataset, settings, folds=chosen, recorded=recorded, count=pictures)
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
        return
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column, *cells in zip(header(settings.task), *rows(results), strict=True):
        # Without this a narrow terminal cuts figures in two.
        table.add_column(column, min_width=max(len(word) for text in (column, *cells) for word in text.split()))
    for row in rows(results):
        table.add_row(*row)
    Console().print(table)


def _heads(models: tuple[str, ...]) -> list[Path]:
    """The files of the models' heads."""
    from fscs_sdk.weights import locate_model

    return [locate_model(model).head for model in models]


def _load(
    models: tuple[str, ...], device: str, dtype: str, protocol: str, edges: bool
) -> "dict[str, FewShotSegmenter]":
    """The models by their names, or as they were given where two have one name."""
    from typing import cast

    from fscs_sdk.model.ifsl import ProtocolName
    from fscs_sdk.segmenter import FewShotSegmenter

    if len(set(models)) < len(models):
        raise click.UsageError("--model names a model twice")
    with misuse():
        loaded = {
            given: FewShotSegmenter.from_pretrained(
                given, device=device, dtype=dtype, protocol=cast(ProtocolName, protocol), edges=edges
            )
            for given in models
        }
    names = {given: segmenter.identity.rpartition("@")[0] for given, segmenter in loaded.items()}
    return {name if list(names.values()).count(name) == 1 else given: loaded[given] for given, name in names.items()}
