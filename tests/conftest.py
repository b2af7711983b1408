"""Shared fixtures: small synthetic photos, and the embedded model, loaded once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.demo import PHOTOS

settings.register_profile("untimed", deadline=None)  # machines are shared: a slow example is no fault
settings.load_profile("untimed")

SHARED = Path(os.environ.get("FSCS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def model() -> FewShotSegmenter:
    """The embedded model, on the CPU."""
    return FewShotSegmenter.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def model32() -> FewShotSegmenter:
    """The embedded model, on the CPU, in float32."""
    return FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def exported(model32: FewShotSegmenter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SupportSet]:
    """An ONNX file of the embedded model, written by the command, and its supports: two classes and a class tag."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="ONNX files are made with it")
    folder = tmp_path_factory.mktemp("exported")
    supports = model32.encode(
        {
            "cat": [
                (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png"),
                (PHOTOS / "cat_query.jpg", PHOTOS / "cat_query_mask.png"),
            ],
            "person": (PHOTOS / "person_support.jpg", PHOTOS / "person_support_mask.png"),
            "coffee": Shot(PHOTOS / "coffee.jpg"),
        }
    )
    supports.save(folder / "supports.safetensors")
    # A process of its own: pytest would keep the hundred thousand lines that PyTorch logs for its own use.
    command = [sys.executable, "-m", "fscs_sdk.cli", "export", "supports.safetensors", "three.onnx"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "three.onnx: 3 classes, 4 photos" in done.stdout
    assert not done.stderr
    return folder / "three.onnx", supports


def photo(seed: int, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """A smooth random photo, uint8 (height, width, 3)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return (smooth[0].permute(1, 2, 0) * 255).byte().numpy()


def box_mask(height: int = 60, width: int = 80) -> NDArray[np.bool_]:
    """A mask with a rectangle in its middle."""
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = True
    return mask
