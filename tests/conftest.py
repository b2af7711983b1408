"""Shared fixtures: small synthetic photos, the embedded model loaded once, the golden tensors where they are there."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fscs_sdk import FewShotSegmenter

SHARED = Path(os.environ.get("FSCS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of tensors that the authors' program produced."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the golden tensors are not here")
    return folder


@pytest.fixture(scope="session")
def model() -> FewShotSegmenter:
    """The embedded model, on the CPU."""
    return FewShotSegmenter.from_pretrained(device="cpu")


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
