"""from_pretrained: the embedded model, folders, files, the Hub; and every way in which files can be wrong."""

import json
import shutil
import socket
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, list_models, weights
from fscs_sdk.loading import LARGEST_EXACT, METADATA_KEY, HeadConfig, load_network, save_head
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, ModelFiles, locate

EMBEDDED = PACKAGE_FOLDER / "assets" / "asnet-mini"
CONFIG = {"method": "asnet", "backbone": "efficientnet_lite0", "input_side": 288}


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model's files."""
    copy = tmp_path / "copied"
    copy.mkdir()
    for name in (HEAD_FILE, BACKBONE_FILE):
        shutil.copy(EMBEDDED / name, copy / name)
    return copy


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing may be looked up or downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


@pytest.fixture(scope="module")
def expected(model):
    return model.predict(photo(5), {"dog": [photo(1), box_mask()]})


def load(name, **options):
    return FewShotSegmenter.from_pretrained(name, device="cpu", **options)


def fingerprint(segmenter):
    return segmenter.identity.split("@")[1]


def assert_answers(segmenter, expected):
    answer = segmenter.predict(photo(5), {"dog": [photo(1), box_mask()]})
    assert answer.scores == expected.scores
    assert np.array_equal(answer.foreground, expected.foreground)
    assert np.array_equal(answer.mask, expected.mask)


def assert_stored_as(path, dtype):
    """A head's large tensors; its small ones are exact."""
    for name, tensor in load_file(path).items():
        assert tensor.dtype == (dtype if tensor.numel() > LARGEST_EXACT else torch.float32), name


def change(path, edit=lambda tensors: None, config=CONFIG):
    """Write a head or backbone again after an edit of its tensors; ``config`` is the head's description."""
    tensors = load_file(path)
    edit(tensors)
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(tensors, path, None if config is None else {METADATA_KEY: text})


# ------------------------------------------------------------------------------------------------ the embedded model


def test_the_manifest_describes_the_files_of_the_package():
    assert list_models() == sorted(weights.manifest())
    assert "asnet-mini" in list_models()
    for entry in weights.manifest().values():
        assert {file["role"] for file in entry["files"]} == {"head", "backbone"}
        for file in entry["files"]:
            content = (PACKAGE_FOLDER / file["path"]).read_bytes()
            assert len(content) == file["bytes"]
            assert sha256(content).hexdigest() == file["sha256"]


def test_the_embedded_model_needs_no_network_and_unpickles_nothing(model, no_network, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    assert load("asnet-mini").identity == model.identity
    assert FewShotSegmenter.from_pretrained(device="cpu").identity == model.identity


def test_weights_are_stored_in_half_precision_and_used_in_full(model):
    assert {tensor.dtype for tensor in load_file(EMBEDDED / BACKBONE_FILE).values()} == {torch.float16}
    assert_stored_as(EMBEDDED / HEAD_FILE, torch.float16)
    for part in (model.network.head, model.network.backbone):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
        assert not any(parameter.isnan().any() for parameter in part.parameters())


def test_a_loaded_network_is_frozen_and_in_evaluation_mode(model):
    assert not any(parameter.requires_grad for parameter in model.network.backbone.parameters())
    assert not any(module.training for module in model.network.backbone.modules())
    assert not any(module.training for module in model.network.head.modules())


def test_auto_takes_a_device_and_float32():
    segmenter = FewShotSegmenter.from_pretrained()
    assert segmenter.dtype == torch.float32
    assert segmenter.device.type == ("cuda" if torch.cuda.is_available() else segmenter.device.type)
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert segmenter.device == torch.device("cpu")


def with_hash(role, **fields):
    """The manifest with one field of one file replaced."""
    models = json.loads(json.dumps(weights.manifest()))
    for file in models["asnet-mini"]["files"]:
        if file["role"] == role:
            file.update(fields)
    return lambda: models


@pytest.mark.parametrize("role", ["head", "backbone"])
def test_a_file_that_is_not_the_manifests_is_refused(role, monkeypatch):
    monkeypatch.setattr(weights, "manifest", with_hash(role, sha256="0" * 64))
    message = rf"{role}\.safetensors' of model asnet-mini is damaged \(SHA-256 \w{{12}}, expected 0{{12}}\); reinstall"
    with pytest.raises(ValueError, match=message):
        load("asnet-mini")


def test_one_flipped_bit_is_refused(folder, monkeypatch):
    path = folder / HEAD_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # The package's folder joined with an absolute path is that path.
    monkeypatch.setattr(weights, "manifest", with_hash("head", path=str(path)))
    with pytest.raises(ValueError, match="is damaged"):
        load("asnet-mini")


@pytest.mark.parametrize("role", ["head", "backbone"])
def test_a_file_missing_from_the_package_is_named(role, monkeypatch):
    monkeypatch.setattr(weights, "manifest", with_hash(role, path="assets/gone.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors' of model asnet-mini is missing; reinstall"):
        load("asnet-mini")


def test_a_package_without_its_manifest_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PACKAGE_FOLDER", tmp_path / "inside")
    with pytest.raises(FileNotFoundError, match=r"weights_manifest\.json is missing from the package; reinstall"):
        list_models()


def test_an_installed_package_finds_the_manifest_inside_itself(monkeypatch, tmp_path):
    (tmp_path / "weights_manifest.json").write_text('{"models": {"one": {}}}', encoding="utf-8")
    monkeypatch.setattr(weights, "PACKAGE_FOLDER", tmp_path)
    assert list_models() == ["one"]


# -------------------------------------------------------------------------------------------------- folders and files


def test_a_folder_answers_as_the_embedded_model(folder, model, expected, no_network):
    segmenter = load(folder)
    assert segmenter.identity == model.identity.replace("asnet-mini", "copied")
    assert_answers(segmenter, expected)


def test_a_heads_file_answers_as_the_embedded_model(folder, model, expected, no_network):
    alone = folder / "mine.safetensors"
    (folder / HEAD_FILE).rename(alone)
    (folder / BACKBONE_FILE).unlink()
    segmenter = load(str(alone))
    assert segmenter.identity == model.identity.replace("asnet-mini", "mine")
    assert_answers(segmenter, expected)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_the_packages_backbone_stands_in_for_one_that_is_not_there(folder, model, given):
    (folder / BACKBONE_FILE).unlink()
    segmenter = load(str(folder) if given == "folder" else folder / HEAD_FILE)
    assert fingerprint(segmenter) == fingerprint(model)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_backbone_beside_the_head_is_used(folder, model, given):
    def shift(tensors):
        tensors["conv_stem.weight"] += 0.5

    change(folder / BACKBONE_FILE, shift, config=None)
    segmenter = load(folder if given == "folder" else folder / HEAD_FILE)
    assert fingerprint(segmenter) != fingerprint(model)


def test_supports_outlive_the_place_where_the_model_was(folder, model):
    moved = folder.rename(folder.with_name("asnet-mini"))
    supports = model.encode({"dog": [photo(1), box_mask()]})
    assert load(moved).predict(photo(5), supports).names == ("dog",)


def test_any_other_weight_is_another_identity(folder, model):
    def shift(tensors):
        tensors["decoder.3.bias"][0] += 1

    change(folder / HEAD_FILE, shift)
    assert fingerprint(load(folder)) != fingerprint(model)


def test_a_saved_head_is_the_same_head(folder):
    torch.manual_seed(0)
    head = ASNet((5, 6, 2))
    for dtype, tolerance in ((torch.float16, 1e-3), (torch.float32, 0)):
        path = folder / f"{dtype}.safetensors"
        save_head(path, head, HeadConfig(**CONFIG), dtype=dtype)
        assert_stored_as(path, dtype)
        network = load_network(ModelFiles(path, folder / BACKBONE_FILE))
        assert network.input_side == 288
        for name, tensor in network.head.state_dict().items():
            allowed = tolerance if tensor.numel() > LARGEST_EXACT else 0
            torch.testing.assert_close(tensor, head.state_dict()[name], rtol=allowed, atol=allowed)


def test_a_head_is_saved_in_half_precision_with_its_description(tmp_path):
    save_head(tmp_path / HEAD_FILE, ASNet((5, 6, 2)), HeadConfig(**CONFIG))
    with safe_open(tmp_path / HEAD_FILE, framework="pt") as file:
        assert json.loads(file.metadata()[METADATA_KEY]) == CONFIG
    assert_stored_as(tmp_path / HEAD_FILE, torch.float16)


# --------------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    "name",
    [
        "asnet-maxi",
        "a/b/c",
        "./org/repo",
        "/no/where",
        "~/repo",
        "model.ckpt",
        "",
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(name, no_network, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=f"there is no model '{name}': give one of asnet-mini.*a folder with head.safet"
    ):
        load(name)


def test_a_pickled_checkpoint_is_never_opened(tmp_path, monkeypatch):
    torch.save({"state_dict": {}}, tmp_path / "model.ckpt")
    shutil.copy(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match="there is no model"):
        load(tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match=r"model\.safetensors' is not a safetensors file or is damaged"):
        load(tmp_path / "model.safetensors")


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no weights file '.*head\.safetensors'; check the path"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no weights file '.*mine\.safetensors'; check the path"):
        load(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("name", [HEAD_FILE, BACKBONE_FILE])
@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_file_cut_short_is_refused(folder, name, keep):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:keep])
    with pytest.raises(ValueError, match=f"{name}' is not a safetensors file or is damaged .*; get it again"):
        load(folder)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        {},
        {"method": "asnet", "backbone": "efficientnet_lite0"},
        CONFIG | {"colour": "blue"},
        CONFIG | {"backbone": ["resnet50"]},
        CONFIG | {"input_side": "288"},
    ],
)
def test_a_head_without_a_description_is_refused(folder, config):
    change(folder / HEAD_FILE, config=config)
    with pytest.raises(ValueError, match=r"head\.safetensors' is not a head of this SDK"):
        load(folder)


def test_a_backbone_is_not_a_head(folder):
    shutil.copy(folder / BACKBONE_FILE, folder / HEAD_FILE)
    with pytest.raises(ValueError, match=r"head\.safetensors' is not a head of this SDK"):
        load(folder)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG | {"method": "hsnet-9"},
        CONFIG | {"backbone": "resnet51"},
        CONFIG | {"input_side": 0},
        CONFIG | {"input_side": 16},
        CONFIG | {"input_side": 288.5},
    ],
)
def test_a_head_of_a_model_that_is_not_known_is_refused(folder, config):
    change(folder / HEAD_FILE, config=config)
    with pytest.raises(ValueError, match=r"describes a model that this version does not know .*; update fscs-sdk"):
        load(folder)


def test_a_head_for_another_backbone_does_not_fit_the_one_beside_it(folder):
    change(folder / HEAD_FILE, config=CONFIG | {"backbone": "resnet50"})
    with pytest.raises(ValueError, match=r"backbone\.safetensors' does not fit its network: \d+ tensors are missing"):
        load(folder)


def test_a_backbone_that_is_nowhere_is_asked_for(folder):
    change(folder / HEAD_FILE, config=CONFIG | {"backbone": "resnet50"})
    (folder / BACKBONE_FILE).unlink()
    message = r"head\.safetensors' needs the backbone resnet50: put its weights at '.*backbone\.safetensors'"
    with pytest.raises(FileNotFoundError, match=message):
        load(folder)


def drop(tensors):
    del tensors["decoder.0.bias"]


def add(tensors):
    tensors["decoder.9.bias"] = torch.zeros(1)


def reshape(tensors):
    tensors["decoder.0.bias"] = torch.zeros(64)


@pytest.mark.parametrize("edit", [drop, add, reshape])
def test_a_head_that_does_not_fit_is_refused_with_a_tensors_name(folder, edit):
    change(folder / HEAD_FILE, edit)
    name = "decoder.9.bias" if edit is add else "decoder.0.bias"
    with pytest.raises(ValueError, match=rf"head\.safetensors' does not fit its network: 1 tensors .*such as '{name}'"):
        load(folder)


@pytest.mark.parametrize("stem", ["missing", "unknown", "reshaped"])
def test_a_backbone_that_does_not_fit_is_refused_with_a_tensors_name(folder, stem):
    def edit(tensors):
        kernel = tensors["conv_stem.weight"]
        if stem == "missing":
            del tensors["conv_stem.weight"]
        elif stem == "unknown":
            tensors["conv_stem.weight2"] = kernel.clone()
        else:
            tensors["conv_stem.weight"] = kernel[:, :1].contiguous()

    change(folder / BACKBONE_FILE, edit, config=None)
    with pytest.raises(ValueError, match=r"backbone\.safetensors' does not fit .*such as 'conv_stem\.weight"):
        load(folder)


def test_weights_that_are_not_numbers_are_refused(folder):
    def edit(tensors):
        tensors["decoder.3.bias"][0] = float("nan")

    change(folder / HEAD_FILE, edit)
    with pytest.raises(ValueError, match=r"head\.safetensors"):
        load(folder)


# ----------------------------------------------------------------------------------------------------------- the Hub


@pytest.fixture
def hub(folder, monkeypatch):
    """The Hub's client, which answers with a folder and keeps what it was asked."""
    asked = []

    def download(repo_id, **options):
        asked.append((repo_id, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def test_a_repository_is_asked_for_by_name_and_nothing_else(hub, model, tmp_path):
    segmenter = load("org/repo", revision="v2", cache_dir=tmp_path / "cache", token="secret", local_files_only=True)
    assert segmenter.identity == model.identity.replace("asnet-mini", "repo")
    ((repo, options),) = hub
    assert repo == "org/repo"
    assert options == {
        "revision": "v2",
        "cache_dir": tmp_path / "cache",
        "token": "secret",
        "local_files_only": True,
        "allow_patterns": [HEAD_FILE, BACKBONE_FILE],
    }


def test_a_repository_without_options_leaves_them_to_the_client(hub, folder):
    assert locate("org/repo") == ModelFiles.in_folder(folder)
    ((_, options),) = hub
    assert options["revision"] is options["cache_dir"] is options["token"] is None
    assert options["local_files_only"] is False


def test_what_is_on_the_disk_is_not_looked_up(hub, folder, monkeypatch):
    (folder.parent / "org").mkdir()
    folder.rename(folder.parent / "org" / "repo")
    monkeypatch.chdir(folder.parent)
    assert locate("org/repo").head.is_file()
    assert locate("org/mine.safetensors").head.name == "mine.safetensors"
    assert hub == []


def test_a_repository_without_a_head_is_refused(hub, folder):
    (folder / HEAD_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no weights file '.*head\.safetensors'"):
        load("org/repo")


RESPONSE = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    "failure",
    [
        LocalEntryNotFoundError("no snapshot\nand a second line"),
        RepositoryNotFoundError("no snapshot\n\nfor url", response=RESPONSE),
        OfflineModeIsEnabled("no snapshot"),
        ConnectionError("no snapshot"),
        OSError("no snapshot"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failed_download_is_one_sentence(monkeypatch, failure):
    def download(repo_id, **_):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(
        OSError, match=r"^cannot get model 'org/repo' from the Hugging Face Hub: no snapshot$"
    ) as caught:
        load("org/repo")
    assert caught.value.__cause__ is failure


def test_a_failed_download_without_a_word_is_named_by_its_kind(monkeypatch):
    def download(repo_id, **_):
        raise ConnectionResetError

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(OSError, match=r"Hugging Face Hub: ConnectionResetError$"):
        load("org/repo")


def test_a_name_that_cannot_be_a_repository_is_refused():
    with pytest.raises(ValueError, match=r"not a name\?"):
        load("org/not a name?", local_files_only=True)


def test_a_repository_that_was_never_downloaded_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"^cannot get model 'org/repo' from the Hugging Face Hub: "):
        load("org/repo", cache_dir=tmp_path, local_files_only=True)
