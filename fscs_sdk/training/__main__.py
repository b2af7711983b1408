"""``python -m fscs_sdk.training``: data and backbone -> a head, what ships, and how heads compare."""

import contextlib
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor

from fscs_sdk.atomic import write_atomically
from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.checkpoints.authors import learner_from_authors
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX
from fscs_sdk.checkpoints.tensors import write_tensors
from fscs_sdk.environment import environment
from fscs_sdk.evaluation.datasets import BENCHMARKS
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.training.comparison import FOLDS, RUNS, Comparison
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.contrastive import train_adapter
from fscs_sdk.training.curves import draw_curves
from fscs_sdk.training.data import Catalogue
from fscs_sdk.training.packaging import average_heads, export_head, package_run
from fscs_sdk.training.preparation import fold_classes, write_source
from fscs_sdk.training.resident import ResidentCatalogue
from fscs_sdk.training.shrink import shrink as write_small_copy
from fscs_sdk.training.tables import TABLES, Measurements, to_dict, to_markdown
from fscs_sdk.training.trainer import CONFIG_FILE, LOG_FILE, Trainer
from fscs_sdk.training.trunk import load_backbone_weights
from fscs_sdk.training.validation import Asked, measure
from fscs_sdk.weights import locate_model

logger = logging.getLogger(__name__)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_BACKBONE = click.option(
    "--backbone",
    metavar="NAME|FILE",
    help="A backbone, instead of the settings'; or a safetensors file with the weights of the settings' one, which are "
    "found where none is given.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train few-shot heads on frozen backbones, and package them."""
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


@main.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--config", type=_FILE, help="Settings, as JSON; the rest keep their defaults.")
@_BACKBONE
@click.option("--source", "sources", multiple=True, help="Folder in --data, instead of the settings'. Repeatable.")
@click.option("--adapter", type=_FILE, help="What `adapter` wrote, or a head with an adapter: the maps pass it.")
@click.option("--initial", type=_FILE, help="Head to start from.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps, instead of the settings'.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Time to train, instead of the settings'.")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
@click.option("--fold", type=click.IntRange(min=0), help="Leave out the classes that the sources' lists of it name.")
@click.option("--without", multiple=True, metavar="SOURCE", help="Leave out a source of the settings. Repeatable.")
@click.option("--checkpoint-every", default=240.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--device", default="auto", show_default=True, help="auto: CUDA if it is there, else the CPU.")
@click.option("--bfloat16/--float32", default=None, help="Precision of the head's products, instead of the settings'.")
def train(
    run: Path,
    data: Path,
    config: Path | None,
    backbone: str | None,
    sources: tuple[str, ...],
    adapter: Path | None,
    initial: Path | None,
    steps: int | None,
    minutes: float | None,
    exclude: tuple[str, ...],
    fold: int | None,
    without: tuple[str, ...],
    checkpoint_every: float,
    device: str,
    bfloat16: bool | None,
) -> None:
    """Train a head into the folder RUN; the same command again resumes it.

    Ctrl-C and SIGTERM end it after the step that is being made, with a checkpoint.
    RUN then holds config.json (all settings), log.csv, checkpoint.pt and head.safetensors (averaged weights, float32).
    Settings are those of RUN where it was begun before, else those of --config, else the defaults of TrainConfig.
    """
    with _one_sentence():
        begun = run / CONFIG_FILE
        settings = _settings(begun if begun.is_file() else config)
        unknown = set(without) - {name for name, _ in settings.sources}
        if unknown and not begun.is_file():
            raise click.UsageError(f"the settings have no source '{min(unknown)}' to leave out")
        settings, weights = _on_backbone(settings, backbone)
        if sources and not begun.is_file():
            settings = dataclasses.replace(settings, sources=tuple((name, 1.0) for name in sources))
        if fold is not None:
            exclude += fold_classes(data, [name for name, _ in settings.sources], fold)
        settings = dataclasses.replace(
            settings,
            steps=settings.steps if steps is None else steps,
            minutes=settings.minutes if minutes is None else minutes,
            sources=tuple((name, weight) for name, weight in settings.sources if name not in without),
            excluded_classes=exclude or settings.excluded_classes,
            bfloat16=settings.bfloat16 if bfloat16 is None else bfloat16,
        )
        frozen = _backbone(settings, weights)
        catalogue = _catalogue(data, settings)
        place = _device(device)
        trainer = Trainer(
            settings,
            frozen,
            ResidentCatalogue(catalogue, place) if settings.resident_side else catalogue,
            run,
            initial=None if initial is None else _read_initial(initial),
            adapter=None if adapter is None else _read_adapter(adapter, frozen),
            device=place,
        )
        with _stopped_gently(trainer):
            trainer.run(checkpoint_every=checkpoint_every)


@main.command()
@click.argument("benchmark", type=click.Choice(["pascal-5i", "coco-20i"]))
@click.argument("data", type=_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--splits", type=_FOLDER, help="The field's lists; by default they are derived, as in `fscs evaluate`.")
def source(benchmark: str, data: Path, out: Path, splits: Path | None) -> None:
    """Write the training photos of a BENCHMARK's folder DATA as the source OUT; the same command again goes on."""
    with _one_sentence(), Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(benchmark)
        dataset = BENCHMARKS[benchmark].open(data, splits)
        count = write_source(
            dataset, out, advance=lambda done, whole: progress.update(task, completed=done, total=whole)
        )
    logger.info("%d photos in '%s'", count, out)


@main.command()
@click.argument("run", type=_FOLDER)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="PNG to write.  [RUN/curves.png]")
def curves(run: Path, output: Path | None) -> None:
    """Draw a run's log.csv: losses, learning rate, and where the time goes."""
    with _one_sentence():
        draw_curves(run / LOG_FILE, output or run / "curves.png")


@main.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--config", type=_FILE, help="Settings, as JSON: backbone, side, sources and augmentation count.")
@_BACKBONE
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(min=100), help="For each map.")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
def adapter(
    output: Path, data: Path, config: Path | None, backbone: str | None, steps: int, exclude: tuple[str, ...]
) -> None:
    """Train what a backbone's maps pass before they are compared, into the safetensors file OUTPUT."""
    with _one_sentence():
        settings, weights = _on_backbone(_settings(config), backbone)
        settings = dataclasses.replace(settings, excluded_classes=exclude or settings.excluded_classes)
        trained = train_adapter(_backbone(settings, weights), _catalogue(data, settings), steps=steps)
        write_tensors(output, trained.state_dict())


@main.command()
@click.argument("run", type=_FOLDER)
@click.option("--name", default="asnet-mini", show_default=True, help="Manifest entry to bring up to date.")
def package(run: Path, name: str) -> None:
    """Write a run's head, and the trunk under it, into the package in float16, and their hashes into the manifest."""
    with _one_sentence():
        change = package_run(run, name)
    logger.info("packaged %s; float16 storage changes no answer of the demo by more than %.1e", name, change)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--run", "names", multiple=True, type=click.Choice(list(RUNS)), help="Repeatable.  [default: all]")
@click.option("--fold", "folds", multiple=True, type=click.Choice([str(fold) for fold in FOLDS]), help="Repeatable.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps of every run, instead of the recipe's.")
@click.option("--adapter-steps", default=2000, show_default=True, type=click.IntRange(min=100), help="For each map.")
def compare(
    folder: Path, data: Path, names: tuple[str, ...], folds: tuple[str, ...], steps: int | None, adapter_steps: int
) -> None:
    """Train ASNet, its ablations and the baselines on the same pairs, a head for each fold, into FOLDER.

    The same command again goes on where it was stopped. FOLDER/heads then holds what `tables` measures.
    """
    comparison = Comparison(folder, data, steps=steps, adapter_steps=adapter_steps)
    with _one_sentence():
        for fold in [int(fold) for fold in folds] or FOLDS:
            for name in names or RUNS:
                settings = comparison.settings(name, fold)
                trainer = comparison.trainer(name, fold, _backbone(settings, None))
                with _stopped_gently(trainer):
                    trainer.run()
                if trainer.step < settings.steps:
                    raise click.Abort
                logger.info("wrote '%s'", comparison.export(name, fold))


@main.command()
@click.argument("heads", type=_FOLDER)
@click.option("--data", required=True, type=_FOLDER, help="VOC-animals: images/, masks/, classes.json, splits/.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Keeps what is measured.")
@click.option(
    "--results",
    "record",
    type=click.Path(file_okay=False, path_type=Path),
    help="Gets all numbers, as JSON.",
)
@click.option("--table", "names", multiple=True, type=click.Choice(list(TABLES)), help="Repeatable.  [default: all]")
@click.option("--episodes", default=1000, show_default=True, type=click.IntRange(min=1), help="For each fold.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "auto"]))
def tables(
    heads: Path, data: Path, out: Path, record: Path | None, names: tuple[str, ...], episodes: int, dtype: str
) -> None:
    """Measure the heads of a folder, <method>-fold<k>.safetensors, and print the paper's tables as Markdown.

    The same command again goes on where it was stopped. Cells without a head stay empty.
    """
    measurements = Measurements(heads, data, out, episodes, dtype)
    measured = {}
    with _one_sentence():
        for name in names or TABLES:
            table = TABLES[name]
            rows = [measurements.row(row) for row in table.rows]
            click.echo(to_markdown(table, rows))
            measured[name] = to_dict(table, rows)
        if record is not None:
            date, machine = datetime.now(timezone.utc).date().isoformat(), environment()
            report = {
                "date": date,
                "episodes": episodes,
                "dtype": dtype,
                "machine": {part: machine[part] for part in ("versions", "system", "cpu")},
                "tables": measured,
            }
            record.mkdir(parents=True, exist_ok=True)
            write_atomically(record / f"tables-{date}.json", (json.dumps(report, indent=1) + "\n").encode())


@main.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--source", "sources", multiple=True, help="Repeatable.  [default: those of --config]")
@click.option("--config", type=_FILE, help="Settings, as JSON.")
@click.option("--side", default=336, show_default=True, type=click.IntRange(min=1), help="Longer side of a photo.")
@click.option("--quality", default=66, show_default=True, type=click.IntRange(0, 100), help="Of WebP.")
@click.option("--limit", default=42.0, show_default=True, help="Megabytes of a file at most.")
def shrink(
    out: Path, data: Path, sources: tuple[str, ...], config: Path | None, side: int, quality: int, limit: float
) -> None:
    """Write a small copy of the sources into OUT/1.zip, OUT/2.zip ...: unpacked into one folder they are a --data."""
    with _one_sentence():
        names = sources or tuple(name for name, _ in _settings(config).sources)
        files, photos = write_small_copy(data, names, out, side=side, quality=quality, limit=int(limit * 1e6))
    sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in files)
    logger.info("%d photos in %s", photos, sizes)


@main.command()
@click.argument("heads", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--source", "sources", multiple=True, required=True, metavar="SOURCE[:PART]", help="Repeatable.")
@click.option(
    "--held-out", default=10, show_default=True, help="As in the settings: for the parts training and held-out."
)
@click.option("--episodes", default=200, show_default=True, type=click.IntRange(min=1), help="Of every source.")
@click.option("--pairs-at-once", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="auto", show_default=True, help="auto: CUDA if it is there, else the CPU.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Add the lines to this file too.")
def validate(
    heads: tuple[Path, ...],
    data: Path,
    sources: tuple[str, ...],
    held_out: int,
    episodes: int,
    pairs_at_once: int,
    device: str,
    out: Path | None,
) -> None:
    """Ask the HEADS (files, or folders with head.safetensors) one-shot questions about photos of some sources.

    A PART is training, held-out (the supports may be of the rest), validation (the val lists) or all, the default. One
    line of JSON for each head and source.
    """
    with _one_sentence():
        asked = [Asked.of(data, *source.partition(":")[::2], held_out=held_out) for source in sources]
        for head in heads:
            network = load_network(locate_model(head))
            for line in measure(network, asked, episodes, device=_device(device), at_once=pairs_at_once):
                text = json.dumps({"head": str(head), **line})
                click.echo(text)
                if out is not None:
                    with out.open("a", encoding="utf-8") as file:
                        file.write(text + "\n")


@main.command()
@click.argument("run", type=_FOLDER)
@click.argument("other", type=_FILE)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--share", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Of the run's own head.")
def average(run: Path, other: Path, out: Path, share: float) -> None:
    """Write the mean of a RUN's head and the head OTHER, of the same network, as a run into the folder OUT."""
    with _one_sentence():
        average_heads(run, other, out, share=share)


@main.command()
@click.argument("run", type=_FOLDER)
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
def export(run: Path, output: Path) -> None:
    """Write a run's head in float16 to the file OUTPUT, which `fscs` takes as a model."""
    with _one_sentence():
        export_head(run, output)


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """What users can cause is told without a traceback."""
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _stopped_gently(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM let the run end its step."""
    before = {number: signal.signal(number, lambda *_: trainer.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(source: Path | None) -> TrainConfig:
    return TrainConfig() if source is None else TrainConfig.load(source)


def _on_backbone(settings: TrainConfig, given: str | None) -> tuple[TrainConfig, Path | None]:
    """What ``--backbone`` says: settings on the backbone that it names, and the file of weights that it names."""
    if given is None:
        return settings, None
    if given in BACKBONES:
        return dataclasses.replace(settings, backbone=given), None
    if not Path(given).is_file():
        raise click.UsageError(f"--backbone {given!r} is neither a file nor one of {', '.join(BACKBONES)}")
    return settings, Path(given)


def _backbone(settings: TrainConfig, weights: Path | None) -> Backbone:
    backbone = Backbone(settings.backbone)
    load_backbone_weights(backbone, weights)
    return backbone


def _catalogue(data: Path, settings: TrainConfig) -> Catalogue:
    catalogue = Catalogue(data, settings)
    logger.info(catalogue.describe())
    return catalogue


def _read_initial(path: Path) -> dict[str, Tensor]:
    """A head's tensors in float32, under this package's names or the authors'; an adapter in the file is left out."""
    tensors = {name: t.float() for name, t in load_file(path).items() if not name.startswith(ADAPTER_PREFIX)}
    return learner_from_authors(tensors) if any(name.startswith("learner.") for name in tensors) else tensors


def _read_adapter(path: Path, backbone: Backbone) -> Adapter:
    adapter = Adapter(backbone.spec.channels)
    stored = {name.removeprefix(ADAPTER_PREFIX): tensor for name, tensor in load_file(path).items()}
    adapter.load_state_dict({name: stored[name] for name in adapter.state_dict() if name in stored})
    return adapter


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
