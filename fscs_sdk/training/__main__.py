"""``python -m fscs_sdk.training train | package``: data and backbone -> a run's head -> the files that ship."""

import dataclasses
import json
import logging
from hashlib import sha256
from pathlib import Path

import click
import torch
from rich.logging import RichHandler
from safetensors.torch import load_file, save_file

from fscs_sdk.convert import learner_from_authors
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import Catalogue
from fscs_sdk.training.trainer import Trainer
from fscs_sdk.training.trunk import load_lite0
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, HeadConfig, save_head

ROOT = PACKAGE_FOLDER.parent
logger = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train few-shot heads on frozen backbones, and package them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])


@main.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Sources.")
@click.option("--initial", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Head to start from.")
@click.option("--steps", type=click.IntRange(min=1), default=TrainConfig.steps, show_default=True)
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out photos of this class. Repeatable.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--bfloat16/--float32", default=True, show_default=True, help="Precision of the head's products.")
def train(
    run: Path, data: Path, initial: Path | None, steps: int, exclude: tuple[str, ...], device: str, bfloat16: bool
) -> None:
    """Train a head into the folder RUN; the same command again resumes it.

    RUN then holds config.json (all settings), log.csv, checkpoint.pt and head.safetensors (averaged weights, float32).
    """
    config = TrainConfig(steps=steps, excluded_classes=exclude)
    if (run / "config.json").is_file():
        config = dataclasses.replace(TrainConfig.load(run / "config.json"), steps=steps)
    backbone = Backbone(config.backbone)
    backbone.network.load_state_dict(_stored_trunk(), strict=False)
    catalogue = Catalogue(data, config)
    logger.info(catalogue.describe())
    start = None if initial is None else learner_from_authors(load_file(initial))
    Trainer(config, backbone, catalogue, run, initial=start, device=torch.device(device), bfloat16=bfloat16).run()


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="asnet-mini", show_default=True, help="Manifest entry to bring up to date.")
def package(run: Path, name: str) -> None:
    """Write a run's head, and the trunk under it, into the package in float16, and their hashes into the manifest."""
    config = TrainConfig.load(run / "config.json")
    folder = PACKAGE_FOLDER / "assets" / name
    folder.mkdir(parents=True, exist_ok=True)
    head = ASNet(Backbone(config.backbone).spec.maps)
    head.load_state_dict(load_file(run / HEAD_FILE))
    save_head(folder / HEAD_FILE, head, HeadConfig("asnet", config.backbone, config.side))
    save_file({key: tensor.half().contiguous() for key, tensor in load_lite0().items()}, folder / BACKBONE_FILE)
    for path in (folder / HEAD_FILE, folder / BACKBONE_FILE):
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    config.save(folder / "training.json")
    path = ROOT / "weights_manifest.json"
    content = json.loads(path.read_text())
    content["models"].setdefault(name, {})["files"] = [
        _describe(role, folder / file) for role, file in (("head", HEAD_FILE), ("backbone", BACKBONE_FILE))
    ]
    path.write_text(json.dumps(content, indent=2) + "\n")
    logger.info("wrote %s and %s", folder, path)


def _stored_trunk() -> dict[str, torch.Tensor]:
    """The trunk as it ships: rounded to float16, so that a head is trained on the very maps that it will meet."""
    return {name: tensor.half().float() for name, tensor in load_lite0().items()}


def _describe(role: str, path: Path) -> dict[str, object]:
    content = path.read_bytes()
    relative = path.relative_to(PACKAGE_FOLDER).as_posix()
    return {"role": role, "path": relative, "sha256": sha256(content).hexdigest(), "bytes": len(content)}


if __name__ == "__main__":
    main()
