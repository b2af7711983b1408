"""A backbone that costs nothing and two small sources, for the tests of the training."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fscs_sdk.model.backbone import BACKBONES, Backbone, BackboneSpec
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.corpus import LabelledPhoto


class TinyNetwork(nn.Module):
    """One map for each of the strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 8, stride=8)
        self.middle = nn.Conv2d(6, 7, 2, stride=2)
        self.coarse = nn.Conv2d(7, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.coarse(self.middle(self.fine(x)))
        return out


NAME = "tiny"
SPEC = BackboneSpec(TinyNetwork, (("coarse",), ("middle",), ("fine",)), ((8,), (7,), (6,)), "output", ())

SMALL = TrainConfig(
    backbone=NAME,
    sources=(("voc", 0.6), ("parts", 0.4)),
    side=288,
    held_out=0,
    steps=4,
    classes=2,
    photos_per_class=2,
    pairs=4,
    pairs_at_once=3,
    mosaics=1,
    whole_share=0.5,
    window=2,
    warmup=2,
    bfloat16=False,
    log_every=1,
)
#: The cheapest head that there is, on whole queries.
CHEAP = dataclasses.replace(SMALL, head="panet", whole_share=1.0)


def tiny_backbone() -> Backbone:
    """With fixed weights."""
    BACKBONES.setdefault(NAME, SPEC)
    torch.manual_seed(0)
    return Backbone(NAME)


def write_photo(folder: Path, key: str, values: dict[int, tuple[int, int]], rng: np.random.Generator) -> None:
    """A noisy photo, and a mask with a square (top = left, side) for each value; its last rows are unknown."""
    photo, mask = rng.integers(0, 255, (90, 110, 3), np.uint8), np.zeros((90, 110), np.uint8)
    for value, (top, side) in values.items():
        mask[top : top + side, top : top + side] = value
        photo[top : top + side, top : top + side] //= value + 1
    mask[-2:] = 255
    for kind, array, suffix in (("images", photo, "jpg"), ("masks", mask, "png")):
        path = (folder / kind / key).with_suffix(f".{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def write_sources(root: Path) -> Path:
    """Two sources: one with class ids, splits and a small object; one with a folder for each class."""
    rng = np.random.default_rng(0)
    for index in range(4):
        write_photo(root / "voc", f"cat{index}", {8: (5, 40), 12: (60, 3)}, rng)
        write_photo(root / "voc", f"dog{index}", {12: (20, 50)}, rng)
        write_photo(root / "parts", f"axis/axis_{index}", {1: (10, 30)}, rng)
        write_photo(root / "parts", f"bolt/bolt_{index}", {1: (30, 30)}, rng)
    (root / "voc" / "classes.json").write_text(json.dumps({"8": "cat", "12": "dog"}))
    for split, names in (("trn", ("cat0", "cat1", "cat2", "cat3", "dog0", "dog1", "dog2")), ("val", ("dog2", "dog3"))):
        folder = root / "voc" / "splits" / split
        folder.mkdir(parents=True)
        (folder / "fold1.txt").write_text("\n".join(f"{name} 8" for name in names))
    return root


def add_tagged(root: Path) -> None:
    """Three photos of mice that have tags only, and one of them with a dog."""
    rng = np.random.default_rng(1)
    tags = {"mouse0": ["mouse"], "mouse1": ["mouse", "dog"], "mouse2": ["mouse"], "cat0": ["mouse"]}
    for key in tags:
        if key != "cat0":  # which has a mask, and so needs no tags
            pixels = rng.integers(0, 255, (60, 50, 3), np.uint8)
            Image.fromarray(pixels).save(root / "voc" / "images" / f"{key}.jpg")
    (root / "voc" / "tags.json").write_text(json.dumps(tags))
    lists = root / "voc" / "splits" / "trn" / "fold1.txt"
    lists.write_text(lists.read_text() + "\nmouse0 8\nmouse1 8\nmouse2 8")


def by_name(photos: list[LabelledPhoto], name: str) -> LabelledPhoto:
    return next(photo for photo in photos if photo.image.stem == name)
