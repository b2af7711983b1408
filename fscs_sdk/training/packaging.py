"""A finished run -> the files that ship: head and trunk in float16, and what the manifest says of them."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.loading import HeadConfig, save_head, weights_of, write_tensors
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.trunk import load_lite0
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER

#: Largest change of any foreground probability that float16 storage may cause.
TOLERANCE = 1e-3


def stored_trunk() -> dict[str, Tensor]:
    """The trunk as it ships, rounded to float16: a head is trained on the very maps that it will meet."""
    return {name: tensor.half().float() for name, tensor in load_lite0().items()}


def package_run(run: Path, name: str) -> float:
    """Write a run's head and the trunk into the package, and their hashes into ``weights_manifest.json``.

    Returns:
        The largest change of any foreground probability on the demo's photos that storing in float16 causes.

    Raises:
        ValueError: that change is above 1e-3.
    """
    config = TrainConfig.load(run / "config.json")
    folder = PACKAGE_FOLDER / "assets" / name
    folder.mkdir(parents=True, exist_ok=True)
    backbone = Backbone(config.backbone)
    backbone.network.load_state_dict(stored_trunk(), strict=False)
    head = ASNet(backbone.spec.maps)
    head.load_state_dict(load_file(run / HEAD_FILE))
    description = HeadConfig("asnet", config.backbone, config.side)
    save_head(folder / HEAD_FILE, head, description, backbone=weights_of(backbone.network))
    write_tensors(folder / BACKBONE_FILE, {key: tensor.half() for key, tensor in stored_trunk().items()})
    trained = FewShotSegmenter(FewShotNetwork(backbone, head, config.side), name=name)
    change = _largest_change(trained, FewShotSegmenter.from_pretrained(folder))
    if change > TOLERANCE:
        raise ValueError(f"storing {name} in float16 changes answers by {change:.1e}, more than {TOLERANCE}")
    _write_manifest(name, folder)
    return change


def _largest_change(first: FewShotSegmenter, second: FewShotSegmenter) -> float:
    photos = [PHOTOS / query for query in QUERIES]
    pairs = zip(first.predict(photos, SUPPORTS), second.predict(photos, SUPPORTS), strict=True)
    return max(float(np.abs(a.foreground - b.foreground).max()) for a, b in pairs)


def _write_manifest(name: str, folder: Path) -> None:
    path = PACKAGE_FOLDER.parent / "weights_manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    files = [_describe(role, folder / file) for role, file in (("head", HEAD_FILE), ("backbone", BACKBONE_FILE))]
    content["models"].setdefault(name, {})["files"] = files
    trunk = {key: files[1][key] for key in ("sha256", "bytes", "sources")}
    for backbone in content["backbones"].values():
        if trunk["sources"][0] in backbone["sources"]:
            backbone.update(trunk)  # other sources, if any, had the old bytes
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(role: str, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    source = {"type": "package", "path": path.relative_to(PACKAGE_FOLDER).as_posix()}
    return {"role": role, "sha256": sha256(content).hexdigest(), "bytes": len(content), "sources": [source]}
