"""Checkpoints in the authors' layout, good, broken and hostile; torchvision's pickled backbones. No network."""

import argparse
import json
import pickle
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.checkpoints.authors import (
    _LEVELS,
    _PARTS,
    ConversionReport,
    convert_checkpoint,
    learner_from_authors,
    read_checkpoint,
)
from fscs_sdk.checkpoints.fingerprint import differences
from fscs_sdk.checkpoints.head import FINGERPRINT_KEY
from fscs_sdk.checkpoints.tensors import weights_of
from fscs_sdk.cli import main
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.weights import ModelFiles
from fscs_sdk.weights.manifest import HubSource, backbone_weights, read_manifest

PAPER = Path(__file__).parents[2] / "shared" / "paper" / "ifsl-asnet-cvpr2022.txt"


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No request leaves this machine, no cache of its user is looked at, and no time is lost on random weights.

    Networks whose weights are read at once are built without drawing others first: VGG-16 has 138 million.
    """
    caches = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(caches / "hub"))
        patch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(caches / "assets"))
        patch.setenv("TORCH_HOME", str(caches / "torch"))
        for name in ("kaiming_uniform_", "kaiming_normal_", "normal_", "uniform_"):
            patch.setattr(f"torch.nn.init.{name}", lambda tensor, *_, **__: tensor)
        yield


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Iterator[None]:
    """A checkpoint has some hundred megabytes, which pytest would keep."""
    yield
    shutil.rmtree(tmp_path)


@cache
def random_backbone(name: str) -> dict[str, Tensor]:
    """Weights of a backbone, never to be changed in place."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        wanted = weights_of(Backbone(name).network)
    return {key: torch.rand(tensor.shape, generator=generator) * 0.01 for key, tensor in wanted.items()}


@cache
def random_learner(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    with torch.device("meta"):
        wanted = ASNet(BACKBONES[name].maps).state_dict()
    return {key: torch.randn(tensor.shape, generator=generator) * 0.1 for key, tensor in wanted.items()}


def authors_state(backbone: str, *, with_backbone: bool = True) -> "OrderedDict[str, Tensor]":
    """A random model under the authors' names: the reverse of what the package reads."""
    parts = {ours: theirs for theirs, ours in _PARTS.items()}
    levels = {ours: theirs for theirs, ours in _LEVELS.items()}
    decoder = ("decoder1.0", "decoder1.2", "decoder2.0", "decoder2.2")
    state: OrderedDict[str, Tensor] = OrderedDict()
    if with_backbone:
        for name, tensor in random_backbone(backbone).items():
            state[f"backbone.{name}"] = tensor
        state["backbone.fc.weight"] = torch.zeros(3, 4)
    for name, tensor in random_learner(backbone).items():
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


def namespace(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(backbone="vgg16", way=1, shot=1, lr=1e-3, datapath="/data", weak=False, **changes)


def publish(name: str, tensors: dict[str, Tensor], cache: Path) -> Path:
    """Put a public backbone, with its classifier, into a Hub cache as a download would."""
    file = backbone_weights(name)
    assert file is not None
    source = next(source for source in file.sources if isinstance(source, HubSource))
    commit = source.revision or "0" * 40
    folder = cache / f"models--{source.repo.replace('/', '--')}"
    path = folder / "snapshots" / commit / source.file
    path.parent.mkdir(parents=True)
    save_file({**tensors, "fc.weight": torch.zeros(2), "bn1.num_batches_tracked": torch.tensor(1)}, path)
    if source.revision is None:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
    return path


def convert(path: Path, tmp_path: Path, **options: Any) -> ConversionReport:
    return convert_checkpoint(path, tmp_path / "out", cache_dir=tmp_path / "cache", **options)


def config(report: ConversionReport) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((report.folder / "config.json").read_text())
    return content


@pytest.fixture(scope="module")
def checkpoint(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint with a VGG-16 in it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    settings = namespace(fold=2, nested={"bsz": 12})
    yield write(folder / "FILE.ckpt", authors_state("vgg16"), hyper_parameters=settings)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kept(checkpoint: Path) -> ConversionReport:
    """What became of it without a public VGG-16 to compare its own with."""
    return convert_checkpoint(checkpoint, checkpoint.with_name("out"), local_files_only=True)


# --------------------------------------------------------------------------------------------------- good checkpoints


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "vgg16"])
def test_a_converted_checkpoint_is_the_same_network(backbone: str, tmp_path: Path) -> None:
    """Its backbone equals the public one, so it is left out and found again."""
    path = write(tmp_path / "fold0.ckpt", authors_state(backbone), hyper_parameters=namespace())
    publish(backbone, random_backbone(backbone), tmp_path / "cache")
    report = convert(path, tmp_path)
    assert report.backbone == backbone
    assert report.ignored == ("backbone.fc.weight",)
    assert (report.backbone_kept, report.backbone_tensors) == (False, len(random_backbone(backbone)))
    assert report.backbone_reason.startswith(f"it equals the public {backbone}, tensor for tensor (timm/{backbone}.tv")
    assert sorted(file.name for file in report.folder.iterdir()) == ["config.json", "head.safetensors"]
    network = load_network(ModelFiles.in_folder(report.folder), cache_dir=tmp_path / "cache", local_files_only=True)
    assert network.input_side == 400
    assert isinstance(network.head, ASNet)
    for name, tensor in network.head.state_dict().items():
        assert torch.equal(tensor, random_learner(backbone)[name]), name
    for name, tensor in weights_of(network.backbone.network).items():
        assert torch.equal(tensor, random_backbone(backbone)[name]), name


def test_a_backbone_that_differs_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    public = dict(random_backbone("vgg16"))
    public["features.28.bias"] = public["features.28.bias"] + torch.tensor([1e-9] * 512)
    publish("vgg16", public, tmp_path / "cache")
    report = convert(checkpoint, tmp_path)
    assert report.backbone_kept
    assert report.backbone_reason.startswith("it is not the public vgg16 (")
    assert "1 of 26 tensors differ, such as 'features.28.bias'" in report.backbone_reason
    written = load_file(report.folder / "backbone.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in random_backbone("vgg16").items())
    load_network(ModelFiles.in_folder(report.folder), cache_dir=tmp_path / "nothing", local_files_only=True)


def test_without_a_public_copy_or_network_the_backbone_is_kept(kept: ConversionReport) -> None:
    assert kept.backbone_kept
    assert kept.backbone_reason.startswith("no public vgg16 was here to compare it with (no source of vgg16 will do")
    assert kept.backbone_reason.count("downloads are off") == 2
    written = load_file(kept.folder / "backbone.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in random_backbone("vgg16").items())


def test_a_second_conversion_into_the_same_folder_leaves_no_stale_backbone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "backbone.safetensors").write_bytes(b"of an earlier conversion")
    publish("vgg16", random_backbone("vgg16"), tmp_path / "cache")
    report = convert(checkpoint, tmp_path)
    assert not report.backbone_kept
    assert not (report.folder / "backbone.safetensors").exists()


def test_the_head_knows_the_backbone_of_its_checkpoint(kept: ConversionReport, tmp_path: Path) -> None:
    head = kept.folder / "head.safetensors"
    with safe_open(head, framework="pt") as file:
        recorded = file.metadata()[FINGERPRINT_KEY]
    assert differences(recorded, random_backbone("vgg16")) == []
    other = {**random_backbone("vgg16"), "features.0.weight": random_backbone("vgg16")["features.0.weight"] * 1.01}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"1 of 26 tensors differ, such as 'features\.0\.weight'"):
        load_network(ModelFiles(head, tmp_path / "other.safetensors"))


def test_the_folder_says_what_it_is_and_where_it_comes_from(kept: ConversionReport, checkpoint: Path) -> None:
    content = config(kept)
    assert {key: content[key] for key in ("method", "backbone", "task", "protocol", "input_side")} == {
        "method": "asnet",
        "backbone": "vgg16",
        "task": "FS-CS",
        "protocol": "authors",
        "input_side": 400,
    }
    digest = sha256(checkpoint.read_bytes()).hexdigest()
    assert content["origin"] == {"file": "FILE.ckpt", "sha256": digest, "bytes": checkpoint.stat().st_size}
    found = content["found"]
    assert found["settings"] == {
        "backbone": "vgg16", "way": 1, "shot": 1, "lr": 1e-3, "weak": False, "fold": 2, "bsz": 12
    }  # fmt: skip
    assert found["training"] == {"epoch": 3, "pytorch-lightning_version": "1.3.8"}
    assert (found["learner_tensors"], found["backbone_tensors"], found["ignored_tensors"]) == (
        len(random_learner("vgg16")),
        26,
        1,
    )
    assert found["backbone_kept"] is True
    assert content["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("stored", "told", "expected"),
    [
        ({"hyper_parameters": namespace()}, None, "FS-CS"),
        ({"hyper_parameters": {"args": namespace()}}, "FS-CS", "FS-CS"),
        ({"hyper_parameters": {"use_original_imgsize": False, "shot": 1}}, None, "FS-S"),
        ({}, "FS-S", "FS-S"),
        ({"hyper_parameters": 7}, None, None),
    ],
)
def test_the_task_is_what_the_settings_show_or_the_caller_says(
    stored: dict[str, object], told: Any, expected: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "head.ckpt", authors_state("vgg16", with_backbone=False), **stored)
    report = convert(path, tmp_path, task=told)
    assert report.task == config(report)["task"] == expected


def test_a_task_that_the_settings_contradict_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", authors_state("vgg16", with_backbone=False), hyper_parameters=namespace())
    with pytest.raises(ValueError, match=r"a\.ckpt' was trained for FS-CS, as its settings show, not for FS-S"):
        convert(path, tmp_path, task="FS-S")


def test_settings_that_are_no_plain_values_stay_out_of_the_folder(tmp_path: Path) -> None:
    odd = {
        "way": 1,
        "escape": "\x1b[2J",
        "path": "..\\x",
        "nan": float("nan"),
        "inf": float("inf"),
        "list": [1],
        "none": None,
        "a b": 1,
        7: 1,
        "tensor": torch.ones(2),
    }
    path = write(tmp_path / "a.ckpt", authors_state("vgg16", with_backbone=False), hyper_parameters=odd)
    assert config(convert(path, tmp_path))["found"]["settings"] == {"way": 1}


def lightning_callbacks(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> dict[object, object]:
    """What PyTorch Lightning 1.3 writes: the state of a callback under its class."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(".".join(parts[:count])))
    kind = type(name, (), {"__module__": module})
    monkeypatch.setattr(sys.modules[module], name, kind, raising=False)
    return {kind: {"monitor": "val/miou", "best_model_score": torch.tensor(0.5), "dirpath": "logs/x"}}


@pytest.mark.parametrize(
    ("module", "name"),
    [("common.callbacks", "CustomCheckpoint"), ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")],
)
def test_the_classes_of_the_training_program_are_neither_needed_nor_imported(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        callbacks = lightning_callbacks(patch, module, name)
        path = write(tmp_path / "a.ckpt", {"learner.x": torch.ones(2)}, callbacks=callbacks, lr_schedulers=[])
    assert module not in sys.modules
    assert read_checkpoint(path).state.keys() == {"learner.x"}
    assert module not in sys.modules


def test_other_classes_of_it_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        callbacks = lightning_callbacks(patch, "common.callbacks", "OnlineLogger")
        path = write(tmp_path / "a.ckpt", {"learner.x": torch.ones(2)}, callbacks=callbacks)
    with pytest.raises(ValueError, match=r"was not read: .*it asks for 'common\.callbacks\.OnlineLogger'"):
        read_checkpoint(path)


@given(
    st.lists(st.integers(1, 4), min_size=5, max_size=5),
    st.sampled_from(sorted(_LEVELS)),
    st.sampled_from(sorted(_PARTS)),
)
def test_renaming_keeps_every_value(shape: list[int], level: str, part: str) -> None:
    """Only a kernel's third dimension of size 1 goes."""
    kernel = torch.rand(shape[0], shape[1], 1, *shape[3:])
    name = f"learner.{level}.1.{part}"
    renamed = learner_from_authors(
        {f"{name}.weight": kernel, f"{name}.bias": kernel[:, 0, 0, 0, 0], "backbone.x": kernel}
    )
    ours = f"{_LEVELS[level]}.1.{_PARTS[part]}"
    assert renamed.keys() == {f"{ours}.weight", f"{ours}.bias"}
    assert torch.equal(renamed[f"{ours}.weight"], kernel[:, :, 0])
    assert torch.equal(renamed[f"{ours}.bias"], kernel[:, 0, 0, 0, 0])


@given(st.text("abcdeklnr.01234_", max_size=40))
def test_a_name_that_is_not_the_authors_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match="is not a tensor of the authors' ASNet learner"):
        learner_from_authors({f"learner.{rest}": torch.zeros(1)})


# --------------------------------------------------------------------------------------------------- the command


def test_convert_command_ends_in_a_model_that_answers(checkpoint: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", str(checkpoint), str(tmp_path / "out"), "--offline"])
    assert result.exit_code == 0, result.output
    assert "ASNet on vgg16, trained for FS-CS: " in result.output
    assert "way 1" in result.output
    assert "26 tensors, was kept: no public vgg16 was here" in result.output
    assert "such as 'backbone.fc.weight'" in result.output
    model = FewShotSegmenter.from_pretrained(tmp_path / "out", device="cpu")
    assert model.protocol == "authors"
    assert model.network.input_side == 400


def test_convert_command_says_that_the_backbone_was_left_out(checkpoint: Path, tmp_path: Path) -> None:
    publish("vgg16", random_backbone("vgg16"), tmp_path / "cache")
    options = ["--task", "fs-cs", "--cache-dir", str(tmp_path / "cache")]
    result = CliRunner().invoke(main, ["convert", str(checkpoint), str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    assert "26 tensors, was left out: it equals the public vgg16, tensor for tensor" in result.output


def test_without_a_backbone_the_head_says_what_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "head.ckpt", authors_state("resnet50", with_backbone=False))
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "trained for a task that the file does not tell (--task FS-CS or FS-S does)" in result.output
    assert "It holds no backbone: the public resnet50 will be looked up, or put yours at" in result.output
    with pytest.raises(FileNotFoundError, match="resnet50"):
        load_network(ModelFiles.in_folder(tmp_path / "out"), cache_dir=tmp_path / "cache", local_files_only=True)


# --------------------------------------------------------------------------------------------------- hostile and broken


class Hostile:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.victim),)


class Impostor:
    """Pickles to a call of a class that is allowed by name, and to attributes for what that gives."""

    def __init__(self, arguments: tuple[object, ...], attributes: dict[str, object] | None) -> None:
        self.reduced = (CustomCheckpoint, arguments, attributes)

    def __reduce__(self) -> object:
        return self.reduced if self.reduced[2] is not None else self.reduced[:2]


class CustomCheckpoint:
    """Found by pickle under the name that the authors' program gives it."""

    __module__ = "common.callbacks"
    __qualname__ = "CustomCheckpoint"


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


@pytest.mark.parametrize(("arguments", "attributes"), [((1, 2), None), ((), {"x": 1}), ((), None)])
def test_a_class_that_is_allowed_by_name_can_do_nothing(
    arguments: tuple[object, ...], attributes: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "impostor.ckpt"
    with monkeypatch.context() as patch:
        lightning_callbacks(patch, "common.callbacks", "CustomCheckpoint")
        patch.setattr(sys.modules["common.callbacks"], "CustomCheckpoint", CustomCheckpoint)
        torch.save({"state_dict": {"learner.x": torch.ones(1)}, "callbacks": Impostor(arguments, attributes)}, path)
    if arguments or attributes:
        with pytest.raises(ValueError, match=r"impostor\.ckpt' (was not read|is damaged)"):
            read_checkpoint(path)
    else:
        assert read_checkpoint(path).settings == {}


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


def test_the_file_is_never_loaded_unsafely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ckpt", {"learner.x": torch.ones(2)})
    asked = []
    load = torch.load

    def watched(file: object, **options: Any) -> object:
        asked.append(options)
        return load(file, **options)

    monkeypatch.setattr(torch, "load", watched)
    read_checkpoint(path)
    torch.save({"state_dict": Hostile(tmp_path / "was_here")}, path)
    with pytest.raises(ValueError, match="was not read"):
        read_checkpoint(path)
    assert [options["weights_only"] for options in asked] == [True, True]


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
    path.unlink(missing_ok=True)  # a file that is cut and written again waits for the disk
    path.write_bytes(content)
    try:
        assert all(isinstance(tensor, Tensor) for tensor in read_checkpoint(path).state.values())
    except ValueError as error:
        assert "damaged.ckpt" in str(error)  # noqa: PT017 (either outcome is right)


def not_a_number(state: dict[str, Tensor], name: str) -> None:
    state[name] = torch.full_like(state[name], float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("learner.decoder1.0.weight"), r"decoder\.0\.weight"),
        (lambda state: state.update({"learner.extra.weight": torch.zeros(1)}), r"learner\.extra\.weight"),
        (lambda state: state.update({"learner.decoder2.2.bias": torch.zeros(3)}), r"decoder\.3\.bias"),
        (
            lambda state: state.update({"learner.encoder_layer3.0.attn.qhead.weight": torch.zeros(16, 9, 1, 5, 5)}),
            "maps",
        ),
        (lambda state: state.pop("backbone.features.0.weight"), r"its backbone is not vgg16: .*features\.0\.weight"),
        (lambda state: state.update({"backbone.extra.weight": torch.zeros(1)}), r"backbone is not vgg16: .*'extra\.w"),
        (lambda state: not_a_number(state, "learner.decoder2.2.bias"), r"'decoder\.3\.bias' holds values that are not"),
        (lambda state: not_a_number(state, "backbone.features.0.bias"), r"'features\.0\.bias' holds values that are"),
    ],
)
def test_tensors_must_fit_strictly(change: Any, message: str, tmp_path: Path) -> None:
    state = authors_state("vgg16")
    change(state)
    with pytest.raises(ValueError, match=message):
        convert(write(tmp_path / "odd.ckpt", state), tmp_path, local_files_only=True)
    assert not (tmp_path / "out").exists()


SPARSE = torch.eye(2).to_sparse()


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 1},
        [1, 2],
        {},
        {"state_dict": {}},
        {"state_dict": {"a": 3}},
        {"state_dict": {1: torch.ones(1)}},
        {"state_dict": {"learner.a": SPARSE}},
        {"state_dict": {"learner.a": torch.ones(1, dtype=torch.complex64)}},
    ],
)
def test_other_files_are_not_checkpoints(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="no state_dict"):
        read_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert_checkpoint(tmp_path / "nowhere.ckpt", tmp_path / "out")


# --------------------------------------------------------------------------------------------------- plain backbones


def test_a_backbone_of_torchvision_becomes_safetensors(tmp_path: Path) -> None:
    tensors = random_backbone("resnet50")
    counters = {"bn1.num_batches_tracked": torch.tensor(0), "fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)}
    path = tmp_path / "resnet50-0676ba61.pth"
    torch.save(OrderedDict({**tensors, **counters}), path)
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    file = tmp_path / "out" / "backbone.safetensors"
    assert result.output.splitlines()[0] == f"resnet50: {len(tensors)} tensors written to {file}."
    assert f"from_pretrained(NAME, backbone={str(file)!r})" in result.output
    kept = load_file(file)
    assert kept.keys() == tensors.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (content["backbone"], content["found"]["ignored_tensors"]) == ("resnet50", 3)


def test_a_densenet_under_its_old_names_is_recognised(tmp_path: Path) -> None:
    tensors = random_backbone("densenet169")
    old = {
        name.replace(".norm", ".norm.").replace(".conv", ".conv."): t for name, t in tensors.items() if "layer" in name
    }
    rest = {name: tensor for name, tensor in tensors.items() if "layer" not in name}
    torch.save({**old, **rest, "classifier.weight": torch.zeros(2)}, tmp_path / "densenet169.pth")
    report = convert(tmp_path / "densenet169.pth", tmp_path)
    assert (report.backbone, report.ignored) == ("densenet169", ("classifier.weight",))
    assert load_file(report.folder / "backbone.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize("edit", ["missing", "unknown", "reshaped"])
def test_a_backbone_must_fit_strictly_apart_from_its_classifier(edit: str, tmp_path: Path) -> None:
    tensors = dict(random_backbone("vgg16"))
    if edit == "missing":
        del tensors["features.0.weight"]
    elif edit == "unknown":
        tensors["extra.weight"] = torch.zeros(1)
    else:
        tensors["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    torch.save(tensors, tmp_path / "odd.pth")
    with pytest.raises(
        ValueError, match=r"odd\.pth' is neither a checkpoint of .* nor the weights of one of resnet50,"
    ):
        convert(tmp_path / "odd.pth", tmp_path)
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------- the manifest

AUTHORS = {name: entry for name, entry in read_manifest().items() if entry["status"] == "convert"}


def test_the_authors_models_are_listed_fold_by_fold() -> None:
    kinds = {}
    for entry in AUTHORS.values():
        kinds.setdefault((entry["task"], entry["benchmark"], entry["backbone"]), []).append(entry["fold"])
    assert kinds == {
        ("FS-CS", "pascal-5i", "resnet50"): [0, 1, 2, 3],
        ("FS-CS", "coco-20i", "resnet50"): [0, 1, 2, 3],
        ("FS-S", "pascal-5i", "vgg16"): [0, 1, 2, 3],
        ("FS-S", "pascal-5i", "resnet50"): [0, 1, 2, 3],
        ("FS-S", "pascal-5i", "resnet101"): [0, 1, 2, 3],
        ("FS-S", "coco-20i", "resnet50"): [0, 1, 2, 3],
        ("FS-S", "coco-20i", "resnet101"): [0, 1, 2, 3],
    }


@pytest.mark.parametrize("name", sorted(AUTHORS))
def test_an_entry_of_the_authors_agrees_with_itself_and_its_command_runs(name: str) -> None:
    entry = AUTHORS[name]
    assert (entry["protocol"], entry["input_side"], tuple(entry["maps"])) == (
        "authors",
        400,
        BACKBONES[entry["backbone"]].maps,
    )
    assert name.endswith(f"-{entry['backbone']}-fold{entry['fold']}")
    assert entry["convert"]["command"] == f"fscs convert FILE.ckpt {name} --task {entry['task']}"
    _, *arguments = entry["convert"]["command"].split()
    result = CliRunner().invoke(main, arguments)
    assert "there is no checkpoint 'FILE.ckpt'" in result.output  # all else is understood
    for word in ("dahyun-kang/ifsl", entry["backbone"], f"fold {entry['fold']}"):
        assert word in entry["convert"]["origin"]
    for figure in entry["figures"]:
        assert (figure["benchmark"], figure["folds"]) == (entry["benchmark"], [entry["fold"]])
        assert figure["published"].startswith("Kang and Cho, CVPR 2022, table ")


@pytest.mark.skipif(not PAPER.is_file(), reason="needs the paper's text")
@pytest.mark.parametrize("name", sorted(AUTHORS))
def test_published_figures_stand_in_the_paper(name: str) -> None:
    """Each figure, at its fold's place in a row of the table that the entry names."""
    lines = PAPER.read_text(encoding="utf-8").replace("<b>", "").replace("</b>", "").splitlines()
    for figure in AUTHORS[name]["figures"]:
        table = figure["published"].rpartition(" ")[2]
        caption = next(k for k, line in enumerate(lines) if line.strip("*").lower().startswith(f"table {table}."))
        rows = [line.split("\t") for line in lines[caption - 20 : caption] if line.lstrip().startswith("ASNet\t")]
        column = 1 + rows[-1].index("ASNet") + figure["folds"][0]
        if figure.get("exact_ratio") is not None:
            offset = 10 * (figure["ways"] - 1)
            wanted = {column + offset: figure["exact_ratio"], column + offset + 5: figure["mean_iou"]}
        else:
            wanted = {column + (6 if figure["shots"] == 5 else 0): figure["mean_iou"]}
        long = [row for row in rows if len(row) > max(wanted)]
        assert any(all(row[place] == f"{value:.1f}" for place, value in wanted.items()) for row in long), figure


def test_asking_for_a_model_of_the_authors_says_where_it_comes_from_and_how() -> None:
    with pytest.raises(ValueError, match=r"must be converted first") as caught:
        FewShotSegmenter.from_pretrained("asnet-fss-pascal-vgg16-fold2")
    message = str(caught.value)
    assert "fs-s/README.md of https://github.com/dahyun-kang/ifsl" in message
    assert "`fscs convert FILE.ckpt asnet-fss-pascal-vgg16-fold2 --task FS-S`" in message


def test_a_converted_model_loads_under_its_name(
    kept: ConversionReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "asnet-fss-pascal-vgg16-fold2"
    (tmp_path / name).symlink_to(kept.folder, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    assert FewShotSegmenter.from_pretrained(name, device="cpu").network.backbone.name == "vgg16"
