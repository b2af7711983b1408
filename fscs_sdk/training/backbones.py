"""Where a training run gets the weights of its frozen backbone."""

import logging
from pathlib import Path

from fscs_sdk.checkpoints.assembly import read_backbone
from fscs_sdk.checkpoints.tensors import check_finite, check_fit, weights_of
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.weights.imagenet import backbone_file

logger = logging.getLogger(__name__)


def load_backbone_weights(backbone: Backbone, file: Path | None = None) -> None:
    """Fill a backbone: from the file, or else where models get it, which is the package, a cache or the network.

    Args:
        file: safetensors in the names of torchvision, timm or this package.

    Raises:
        ValueError: the weights found are damaged, or are not of this backbone.
        OSError: they cannot be had.
    """
    found = backbone_file(backbone.name) if file is None else file
    if found is None:
        raise FileNotFoundError(
            f"no source of {backbone.name} is known; give its weights as --backbone FILE.safetensors"
        )
    tensors = read_backbone(found, backbone.name)
    check_fit(tensors, weights_of(backbone.network), f"'{found}' does not fit the backbone {backbone.name}")
    check_finite(tensors, found)
    backbone.network.load_state_dict(tensors, strict=False)
    logger.info("backbone %s from '%s'", backbone.name, found)
