"""A backbone's maps on disk, in half precision, by the pixels that they are of.

A view takes 2 bytes for every value of its maps: 0.8 MB for EfficientNet-Lite0 at 288 pixels, 3.6 MB for DenseNet-169,
20 MB for ResNet-50 at 400. It is worth it where the backbone costs more than reading that.
"""

from hashlib import blake2b, sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fscs_sdk.checkpoints.tensors import write_tensors
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import Pyramid


class FeatureCache:
    """Maps of photos that are seen again, in a folder that runs may share, also at the same time.

    Args:
        folder: of all caches; each backbone has its own part.
        identity: of the backbone's weights and precision.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder / sha256(identity.encode()).hexdigest()[:16]

    def maps(self, backbone: Backbone, photos: Tensor, lasting: tuple[bool, ...]) -> Pyramid:
        """What ``backbone(photos)`` gives; of ``lasting`` photos from the disk, where they are put if need be.

        These are rounded to half precision, whether they come from the disk or are new.
        """
        pixels = photos.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        paths = [self._path(view.tobytes()) if lasts else None for view, lasts in zip(pixels, lasting, strict=True)]
        found = [None if path is None else _read(path) for path in paths]
        new = [index for index, tensors in enumerate(found) if tensors is None]
        computed = backbone(photos[new]) if new else ()
        for row, index in enumerate(new):
            path = paths[index]
            maps = {f"{i}.{j}": m[row].float().cpu() for i, level in enumerate(computed) for j, m in enumerate(level)}
            if path is not None:
                maps = {name: tensor.half() for name, tensor in maps.items()}
                path.parent.mkdir(parents=True, exist_ok=True)
                write_tensors(path, maps)
            found[index] = maps
        return _stack([tensors for tensors in found if tensors is not None], backbone, photos.device)

    def _path(self, pixels: bytes) -> Path:
        name = blake2b(pixels, digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path) if path.is_file() else None
    except SafetensorError:
        return None  # damaged: it is computed and written anew


def _stack(views: list[dict[str, Tensor]], backbone: Backbone, device: torch.device) -> Pyramid:
    return tuple(
        tuple(torch.stack([view[f"{i}.{j}"].float() for view in views]).to(device) for j in range(count))
        for i, count in enumerate(backbone.spec.maps)
    )
