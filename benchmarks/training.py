"""What a step of training computes and keeps, counted, not computed: ``python -m benchmarks.training RECIPE...``.

Products and convolutions are counted for a photo in the backbone and for a pair in the head, forward and backward, and
the bytes that are kept for a pair's backward pass. Nothing is timed: what a machine makes of it, a run's own log tells.
"""

from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.roofline import operations
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import query_pyramid, support_pyramid
from fscs_sdk.model.heads import build_head
from fscs_sdk.training.config import TrainConfig


def cost(config: TrainConfig) -> dict[str, float]:
    """Of a recipe: ``parameters`` of the backbone, ``photo`` and ``pair`` (operations, 2 for a multiplication and
    addition), ``bytes`` kept for a pair's gradients, ``photos`` and ``pairs`` of a step.
    """
    with torch.device("meta"):
        backbone = Backbone(config.backbone).to("meta")
        head = build_head(config.head, backbone.spec)
        photo = torch.zeros(1, 3, config.side, config.side, dtype=torch.uint8)
        mask = torch.ones(1, config.side, config.side)
    features = backbone(photo)
    query, support = query_pyramid(features), support_pyramid(features)
    kept: dict[int, Tensor] = {}  # by storage: views are kept once

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def step() -> None:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = head(query, support, mask)
        logits.sum().backward()

    pair = operations(step)
    return {
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "photo": operations(lambda: backbone(photo)),
        "pair": pair,
        "bytes": sum(tensor.untyped_storage().nbytes() for tensor in kept.values()),
        "photos": config.groups * config.classes * config.photos_per_class,
        "pairs": config.groups * config.pairs,
    }


@click.command()
@click.argument("recipes", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(recipes: tuple[Path, ...]) -> None:
    """Count what a step of each of the RECIPES computes and keeps."""
    table = Table("recipe", "side", "backbone", "a photo", "a pair", "a step", "kept for a pair")
    for recipe in recipes:
        config = TrainConfig.load(recipe)
        found = cost(config)
        step = found["photos"] * found["photo"] + found["pairs"] * found["pair"]
        table.add_row(
            recipe.stem,
            str(config.side),
            f"{found['parameters'] / 1e6:.1f} M",
            *(f"{found[part] / 1e9:.1f} GFLOP" for part in ("photo", "pair")),
            f"{step / 1e12:.2f} TFLOP",
            f"{found['bytes'] / 1e6:.0f} MB",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
