"""Heads made of heads."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.training.__main__ import main
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.weights import HEAD_FILE


def head(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return ASNet((3, 2, 1)).state_dict()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    TrainConfig(seed=7).save(folder / "config.json")
    save_file(head(0), folder / HEAD_FILE, metadata={"fscs_head": "as it was"})
    return folder


def test_a_mean_lies_between_its_heads(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({name: tensor.half() for name, tensor in head(1).items()}, other)
    arguments = ["average", str(run), str(other), str(tmp_path / "mean"), "--share", "0.75"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    mean, first, second = load_file(tmp_path / "mean" / HEAD_FILE), load_file(run / HEAD_FILE), load_file(other)
    assert mean.keys() == first.keys()
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name].float())
    assert TrainConfig.load(tmp_path / "mean" / "config.json") == TrainConfig(seed=7)
    with safe_open(tmp_path / "mean" / HEAD_FILE, framework="pt") as file:
        assert file.metadata() == {"fscs_head": "as it was"}


def test_heads_of_different_networks_have_no_mean(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(ASNet((3, 6, 4)).state_dict(), other)
    result = CliRunner().invoke(main, ["average", str(run), str(other), str(tmp_path / "mean")])
    assert result.exit_code != 0
    assert "is not of the same network as" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "mean").exists()
