"""``python -m fscs_sdk.training train | curves | adapter | package``: data and backbone -> a head, and what ships."""

import contextlib
import dataclasses
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from rich.logging import RichHandler
from safetensors.torch import load_file
from torch import Tensor

from fscs_sdk.convert import learner_from_authors
from fscs_sdk.loading import ADAPTER_PREFIX, write_tensors
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.heads import map_channels
from fscs_sdk.training.adapter import train_adapter
from fscs_sdk.training.backbones import load_backbone_weights
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.curves import draw_curves
from fscs_sdk.training.data import Catalogue
from fscs_sdk.training.packaging import package_run
from fscs_sdk.training.trainer import CONFIG_FILE, LOG_FILE, Trainer

logger = logging.getLogger(__name__)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train few-shot heads on frozen backbones, and package them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])


@main.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=_FOLDER, help="Folder of the sources.")
@click.option("--config", type=_FILE, help="Settings, as JSON; the rest keep their defaults.")
@click.option("--backbone", type=_FILE, help="Weights of the backbone (safetensors); by default they are found.")
@click.option("--adapter", type=_FILE, help="What `adapter` wrote: the maps pass it before they are compared.")
@click.option("--initial", type=_FILE, help="Head to start from.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Maps of fixed views.  [RUN/maps]")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps, instead of the settings'.")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
@click.option("--device", default="auto", show_default=True, help="auto: CUDA if it is there, else the CPU.")
@click.option("--bfloat16/--float32", default=None, help="Precision of the head's products, instead of the settings'.")
def train(
    run: Path,
    data: Path,
    config: Path | None,
    backbone: Path | None,
    adapter: Path | None,
    initial: Path | None,
    cache: Path | None,
    steps: int | None,
    exclude: tuple[str, ...],
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
        settings = dataclasses.replace(
            settings,
            steps=settings.steps if steps is None else steps,
            excluded_classes=exclude or settings.excluded_classes,
            bfloat16=settings.bfloat16 if bfloat16 is None else bfloat16,
        )
        frozen = _backbone(settings, backbone)
        catalogue = _catalogue(data, settings)
        trainer = Trainer(
            settings,
            frozen,
            catalogue,
            run,
            initial=None if initial is None else _read_initial(initial),
            adapter=None if adapter is None else _read_adapter(adapter, settings, frozen),
            device=_device(device),
            cache=cache,
        )
        with _stopped_gently(trainer):
            trainer.run()


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
@click.option("--backbone", type=_FILE, help="Weights of the backbone (safetensors); by default they are found.")
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(min=100), help="For each map.")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
def adapter(
    output: Path, data: Path, config: Path | None, backbone: Path | None, steps: int, exclude: tuple[str, ...]
) -> None:
    """Train what a backbone's maps pass before they are compared, into the safetensors file OUTPUT."""
    with _one_sentence():
        settings = _settings(config)
        settings = dataclasses.replace(settings, excluded_classes=exclude or settings.excluded_classes)
        trained = train_adapter(_backbone(settings, backbone), _catalogue(data, settings), steps=steps)
        write_tensors(output, trained.state_dict())


@main.command()
@click.argument("run", type=_FOLDER)
@click.option("--name", default="asnet-mini", show_default=True, help="Manifest entry to bring up to date.")
def package(run: Path, name: str) -> None:
    """Write a run's head, and the trunk under it, into the package in float16, and their hashes into the manifest."""
    with _one_sentence():
        change = package_run(run, name)
    logger.info("packaged %s; float16 storage changes no answer of the demo by more than %.1e", name, change)


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


def _read_adapter(path: Path, settings: TrainConfig, backbone: Backbone) -> Adapter:
    adapter = Adapter(map_channels(backbone.spec, input_side=settings.side))
    adapter.load_state_dict(load_file(path))
    return adapter


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
