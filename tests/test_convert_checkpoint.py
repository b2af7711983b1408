"""Checkpoints in the authors' layout, good, broken and hostile."""

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fscs_sdk import FewShotSegmenter
from fscs_sdk.cli import main
from fscs_sdk.convert import _LEVELS, _PARTS, convert_checkpoint, read_checkpoint
from fscs_sdk.loading import load_network
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.weights import ModelFiles


def authors_state(backbone: str, *, with_backbone: bool = True) -> "OrderedDict[str, Tensor]":
    """A random model under the authors' names: the reverse of what the package reads."""
    torch.manual_seed(0)
    parts = {ours: theirs for theirs, ours in _PARTS.items()}
    levels = {ours: theirs for theirs, ours in _LEVELS.items()}
    decoder = ("decoder1.0", "decoder1.2", "decoder2.0", "decoder2.2")
    state: OrderedDict[str, Tensor] = OrderedDict()
    if with_backbone:
        for name, tensor in Backbone(backbone).network.state_dict().items():
            state[f"backbone.{name}"] = tensor
        state["backbone.fc.weight"] = torch.zeros(3, 4)
    for name, tensor in ASNet(BACKBONES[backbone].maps).state_dict().items():
        first, index, *rest = name.split(".")
        if first == "decoder":
            state[f"learner.{decoder[int(index)]}.{rest[0]}"] = tensor
        else:
            part = parts[".".join(rest[:-1])]
            stored = tensor.unsqueeze(2) if tensor.dim() == 4 else tensor
            state[f"learner.{levels[first]}.{index}.{part}.{rest[-1]}"] = stored
    return state


def write(path: Path, state: object, **extra: object) -> Path:
    content = {"state_dict": state, "epoch": 3, "pytorch-lightning_version": "1.3.8", **extra}
    torch.save(content, path)
    return path


def namespace() -> argparse.Namespace:
    return argparse.Namespace(backbone="resnet50", way=1, shot=1, lr=1e-3, datapath="/data", weak=False)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "vgg16"])
def test_a_converted_checkpoint_is_the_same_network(backbone: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fold0.ckpt", authors_state(backbone), hyper_parameters=namespace())
    report = convert_checkpoint(path, tmp_path / "out")
    assert report.backbone == backbone
    assert report.ignored == ("backbone.fc.weight",) or backbone != "vgg16"
    network = load_network(ModelFiles.in_folder(report.folder))
    torch.manual_seed(0)
    expected_backbone = Backbone(backbone).network.state_dict()
    expected_head = ASNet(BACKBONES[backbone].maps).state_dict()
    assert network.input_side == 400
    assert isinstance(network.head, ASNet)
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, expected_head[name]), name
    for name, tensor in network.backbone.network.state_dict().items():
        assert torch.equal(tensor, expected_backbone[name]), name


def test_convert_command_ends_in_a_model_that_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "fold0.ckpt", authors_state("vgg16"), hyper_parameters=namespace())
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "vgg16" in result.output
    model = FewShotSegmenter.from_pretrained(tmp_path / "out", device="cpu", protocol="authors")
    assert model.network.input_side == 400


def test_without_a_backbone_the_head_says_what_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "head.ckpt", authors_state("resnet50", with_backbone=False))
    report = convert_checkpoint(path, tmp_path / "out")
    assert report.backbone_tensors == 0
    with pytest.raises(FileNotFoundError, match="resnet50"):
        load_network(ModelFiles.in_folder(report.folder))


class Hostile:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.victim),)


@pytest.mark.parametrize("place", ["hyper_parameters", "callbacks", "state_dict"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(place: str, tmp_path: Path) -> None:
    victim = tmp_path / "was_here"
    content: dict[str, object] = {"state_dict": authors_state("vgg16", with_backbone=False)}
    content[place] = Hostile(victim)
    path = tmp_path / "hostile.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="was not read"):
        read_checkpoint(path)
    assert not victim.exists()
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1
    assert not victim.exists()
    assert not (tmp_path / "out").exists()


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.ckpt"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "was_here")))
    with pytest.raises(ValueError, match="bare"):
        read_checkpoint(path)
    assert not (tmp_path / "was_here").exists()


def test_an_old_pytorch_is_refused_before_the_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match=r"torch>=2\.10"):
        read_checkpoint(tmp_path / "never_opened.ckpt")


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write(tmp_path_factory.mktemp("good") / "good.ckpt", {"learner.x": torch.arange(50.0)})
    return path.read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_one_clear_error_or_harmless(
    checkpoint_bytes: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(checkpoint_bytes)
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(content)
    try:
        assert all(isinstance(tensor, Tensor) for tensor in read_checkpoint(path).values())
    except ValueError as error:
        assert "damaged.ckpt" in str(error)  # noqa: PT017 (either outcome is right)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("learner.decoder1.0.weight"), "decoder.0.weight"),
        (lambda state: state.update({"learner.extra.weight": torch.zeros(1)}), "learner.extra.weight"),
        (lambda state: state.update({"learner.decoder2.2.bias": torch.zeros(3)}), "decoder.3.bias"),
        (
            lambda state: state.update({"learner.encoder_layer3.0.attn.qhead.weight": torch.zeros(16, 9, 1, 5, 5)}),
            "maps",
        ),
        (lambda state: state.pop("backbone.features.0.weight"), "features.0.weight"),
    ],
)
def test_tensors_must_fit_strictly(change: object, message: str, tmp_path: Path) -> None:
    state = authors_state("vgg16")
    change(state)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(write(tmp_path / "odd.ckpt", state), tmp_path / "out")


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"state_dict": {"a": 3}}])
def test_other_files_are_not_checkpoints(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="no state_dict"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert_checkpoint(tmp_path / "nowhere.ckpt", tmp_path / "out")
