"""``python -m fscs_sdk.training train | package``: data and backbone -> a run's head -> the files that ship."""

import dataclasses
import logging
import signal
from pathlib import Path

import click
import torch
from rich.logging import RichHandler
from safetensors.torch import load_file

from fscs_sdk.convert import learner_from_authors
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import Catalogue
from fscs_sdk.training.packaging import package_run, stored_trunk
from fscs_sdk.training.trainer import Trainer

logger = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train few-shot heads on frozen backbones, and package them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])


@main.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Sources.")
@click.option("--initial", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Head to start from.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="All settings, as JSON.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps, instead of the settings'.")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--bfloat16/--float32", default=True, show_default=True, help="Precision of the head's products.")
def train(
    run: Path,
    data: Path,
    initial: Path | None,
    config: Path | None,
    steps: int | None,
    exclude: tuple[str, ...],
    device: str,
    bfloat16: bool,
) -> None:
    """Train a head into the folder RUN; the same command again resumes it.

    Ctrl-C and SIGTERM save a checkpoint first.
    RUN then holds config.json (all settings), log.csv, checkpoint.pt and head.safetensors (averaged weights, float32).
    Settings are those of RUN where it was begun before, else those of --config, else the defaults of TrainConfig.
    """
    begun = run / "config.json"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what Ctrl-C does: the run saves before it ends
    source = begun if begun.is_file() else config
    settings = TrainConfig() if source is None else TrainConfig.load(source)
    settings = dataclasses.replace(
        settings, steps=steps or settings.steps, excluded_classes=exclude or settings.excluded_classes
    )
    backbone = Backbone(settings.backbone)
    backbone.network.load_state_dict(stored_trunk(), strict=False)
    catalogue = Catalogue(data, settings)
    logger.info(catalogue.describe())
    start = None if initial is None else _read_initial(initial)
    Trainer(settings, backbone, catalogue, run, initial=start, device=torch.device(device), bfloat16=bfloat16).run()


def _read_initial(path: Path) -> dict[str, torch.Tensor]:
    """A head's tensors in float32, under this package's names or the authors'."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    return learner_from_authors(tensors) if any(name.startswith("learner.") for name in tensors) else tensors


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="asnet-mini", show_default=True, help="Manifest entry to bring up to date.")
def package(run: Path, name: str) -> None:
    """Write a run's head, and the trunk under it, into the package in float16, and their hashes into the manifest."""
    change = package_run(run, name)
    logger.info("packaged %s; float16 storage changes no answer of the demo by more than %.1e", name, change)


if __name__ == "__main__":
    main()
