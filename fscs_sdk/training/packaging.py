"""A finished run -> the files that ship: head and trunk in float16, and what the manifest says of them."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from fscs_sdk.atomic import write_atomically
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX, save_head
from fscs_sdk.checkpoints.tensors import check_fit, read_tensors, weights_of, write_tensors
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.heads import build_head
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.trainer import CONFIG_FILE, head_config
from fscs_sdk.training.trunk import load_backbone_weights, load_lite0
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER

#: The backbone whose weights may ship with the package.
TRUNK = "efficientnet_lite0"
#: Its file in the package, which all models there share.
TRUNK_FILE = f"assets/asnet-mini/{BACKBONE_FILE}"
#: Largest change of any foreground probability that float16 storage may cause.
TOLERANCE = 1e-3


def package_run(run: Path, name: str) -> float:
    """Write a run's head and the trunk into the package, and their hashes into ``weights_manifest.json``.

    Returns:
        The largest change of any foreground probability on the demo's photos that storing in float16 causes.

    Raises:
        ValueError: that change is above 1e-3, or the run's backbone is not the one that ships.
        OSError: the run has no head yet, or a file cannot be written.
    """
    folder = PACKAGE_FOLDER / "assets" / name
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(PACKAGE_FOLDER / TRUNK_FILE, {key: tensor.half() for key, tensor in load_lite0().items()})
    network = export_head(run, folder / HEAD_FILE)
    trained = FewShotSegmenter(network, name=name, dtype="float32", edges=False)
    change = _largest_change(trained, FewShotSegmenter.from_pretrained(folder, dtype="float32", edges=False))
    if change > TOLERANCE:
        raise ValueError(f"storing {name} in float16 changes answers by {change:.1e}, more than {TOLERANCE}")
    _write_manifest(name, folder / HEAD_FILE)
    return change


def export_head(run: Path, path: Path) -> FewShotNetwork:
    """Write a run's head in float16, to be used on the trunk that ships.

    Returns:
        The network as it was trained, in float32.

    Raises:
        ValueError: the run's backbone is not the one that ships.
        OSError: the run has no head yet, or the file cannot be written.
    """
    config = TrainConfig.load(run / CONFIG_FILE)
    if config.backbone != TRUNK:
        raise ValueError(f"the package ships {TRUNK} only, not {config.backbone}; publish '{run / HEAD_FILE}' as it is")
    backbone = Backbone(config.backbone)
    load_backbone_weights(backbone, PACKAGE_FOLDER / TRUNK_FILE)
    head, adapter = _read_run(run, config, backbone)
    description = head_config(config, adapter=adapter is not None)
    weights = weights_of(backbone.network)
    save_head(path, head, description, adapter=adapter, backbone=weights, training=config.to_json())
    return FewShotNetwork(backbone, head, config.side, adapter, threshold=config.threshold, close_up=config.close_up)


def average_heads(run: Path, other: Path, out: Path, *, share: float = 0.5) -> None:
    """Write the mean of a run's head and another, adapters included, as a run of the first one's settings.

    Where one of them was trained on from the other, the mean often keeps what both can (Wortsman et al., CVPR 2022).

    Args:
        other: a head of the same network.
        out: folder of the new run.
        share: of the run's own head, in [0, 1].

    Raises:
        ValueError: the heads are not of one network, or one of them is damaged.
        OSError: a file cannot be read or written.
    """
    first, second = read_tensors(run / HEAD_FILE), read_tensors(other)
    check_fit(second, first, f"'{other}' is not of the same network as '{run / HEAD_FILE}'")
    mean = {name: share * tensor.float() + (1 - share) * second[name].float() for name, tensor in first.items()}
    with safe_open(run / HEAD_FILE, framework="pt") as file:
        metadata = file.metadata()
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / HEAD_FILE, mean, metadata)
    TrainConfig.load(run / CONFIG_FILE).save(out / CONFIG_FILE)


def _read_run(run: Path, config: TrainConfig, backbone: Backbone) -> tuple[nn.Module, Adapter | None]:
    """A run's averaged head, and the adapter that it was trained with."""
    tensors = load_file(run / HEAD_FILE)
    stored = {name: tensors.pop(name) for name in list(tensors) if name.startswith(ADAPTER_PREFIX)}
    head = build_head(config.head, backbone.spec)
    head.load_state_dict(tensors)
    if not stored:
        return head, None
    adapter = Adapter(backbone.spec.channels)
    adapter.load_state_dict({name.removeprefix(ADAPTER_PREFIX): tensor for name, tensor in stored.items()})
    return head, adapter.requires_grad_(False)


def _largest_change(first: FewShotSegmenter, second: FewShotSegmenter) -> float:
    photos = [PHOTOS / query for query in QUERIES]
    pairs = zip(*(model.predict(photos, SUPPORTS, on_error="raise") for model in (first, second)), strict=True)
    return max(float(np.abs(a.foreground - b.foreground).max()) for a, b in pairs)


def _write_manifest(name: str, head: Path) -> None:
    path = PACKAGE_FOLDER.parent / "weights_manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    files = [_describe("head", head), _describe("backbone", PACKAGE_FOLDER / TRUNK_FILE)]
    content["models"].setdefault(name, {})["files"] = files
    trunk = {key: files[1][key] for key in ("sha256", "bytes", "sources")}
    for backbone in content["backbones"].values():
        if trunk["sources"][0] in backbone["sources"]:
            backbone.update(trunk)  # other sources, if any, had the old bytes
    write_atomically(path, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())


def _describe(role: str, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    source = {"type": "package", "path": path.relative_to(PACKAGE_FOLDER).as_posix()}
    return {"role": role, "sha256": sha256(content).hexdigest(), "bytes": len(content), "sources": [source]}
