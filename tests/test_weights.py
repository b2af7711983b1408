"""from_pretrained: the embedded model, folders, files, the Hub; and every way in which files can be wrong."""

import json
import os
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
from fscs_sdk import FewShotSegmenter, list_models
from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX, LARGEST_EXACT, METADATA_KEY, HeadConfig, save_head
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.weights import (
    BACKBONE_FILE,
    HEAD_FILE,
    PACKAGE_FOLDER,
    ModelFiles,
    locate_model,
    manifest,
    sources,
    verification,
)
from fscs_sdk.weights.verification import check_file

EMBEDDED = PACKAGE_FOLDER / "assets" / "asnet-mini"
CONFIG = {"method": "asnet", "backbone": "efficientnet_lite0", "input_side": 288, "adapter": True}
BARE = CONFIG | {"adapter": False, "threshold": 0.5, "close_up": 0.0}


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
    """A head's large tensors; its small ones and its adapter are exact."""
    for name, tensor in load_file(path).items():
        exact = tensor.numel() <= LARGEST_EXACT or name.startswith(ADAPTER_PREFIX)
        assert tensor.dtype == (torch.float32 if exact else dtype), name


def change(path, edit=lambda tensors: None, config=CONFIG):
    """Write a head or backbone again after an edit of its tensors; ``config`` is the head's description."""
    tensors = load_file(path)
    edit(tensors)
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(tensors, path, None if config is None else {METADATA_KEY: text})


# ------------------------------------------------------------------------------------------------ the embedded model


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


def test_auto_takes_a_device_and_what_it_multiplies_fast():
    segmenter = FewShotSegmenter.from_pretrained()
    assert segmenter.dtype in (torch.float32, torch.bfloat16)
    assert segmenter.device.type == ("cuda" if torch.cuda.is_available() else segmenter.device.type)
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert segmenter.device == torch.device("cpu")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's weights and manifest; ``package(role, **fields)`` changes what it says of a file."""
    place = tmp_path / "package"
    shutil.copytree(EMBEDDED, place / "assets" / "asnet-mini")
    path = place / "weights_manifest.json"
    known = json.loads(manifest.MANIFEST_PLACES[1].read_text(encoding="utf-8"))
    path.write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (path,))
    monkeypatch.setattr(sources, "PACKAGE_FOLDER", place)

    def change(role, **fields):
        for file in known["models"]["asnet-mini"]["files"]:
            if file["role"] == role:
                file.update(fields)
        path.write_text(json.dumps(known), encoding="utf-8")

    change.folder = place / "assets" / "asnet-mini"
    return change


@pytest.mark.parametrize("role", ["head", "backbone"])
def test_a_file_that_is_not_the_manifests_is_refused(role, package, no_network):
    package(role, sha256="0" * 64)
    message = (
        rf"{role}\.safetensors' is not the published file: its SHA-256 is \w{{12}}, 0{{12}} was expected; reinstall"
    )
    with pytest.raises(ValueError, match=message):
        load("asnet-mini")


def test_one_flipped_bit_is_refused_and_the_file_stays_for_its_package(package, no_network):
    path = package.folder / HEAD_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"is not the published file: .*; reinstall fscs-sdk$"):
            load("asnet-mini")
    assert path.read_bytes() == content


@pytest.mark.parametrize("role", ["head", "backbone"])
def test_a_file_missing_from_the_package_is_named(role, package, no_network):
    (package.folder / f"{role}.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{role}\.safetensors' is missing from the package; reinstall fscs-sdk"
    ):
        load("asnet-mini")


def test_a_package_without_its_manifest_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (tmp_path / "inside", tmp_path / "outside"))
    with pytest.raises(FileNotFoundError, match=r"weights_manifest\.json is missing from the package; reinstall"):
        list_models()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"models": []}',
        '{"models": null}',
        '{"models": {"": {}}}',
        '{"models": {"one": 1}}',
    ],
)
def test_a_damaged_manifest_says_so(monkeypatch, tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (tmp_path / "manifest.json",))
    with pytest.raises(ValueError, match=r"reinstall fscs-sdk"):
        list_models()


def test_a_model_that_must_be_converted_says_where_it_comes_from_and_how(monkeypatch, tmp_path, model):
    convert = {"origin": "the authors' folder, linked from their README", "command": "fscs convert fold0.ckpt theirs"}
    known = {"models": {"theirs": {"status": "convert", "convert": convert}, "ours": {}}, "backbones": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (tmp_path / "manifest.json",))
    monkeypatch.chdir(tmp_path)
    message = (
        r"^theirs must be converted first: get its checkpoint \(the authors' folder, linked from their README\), "
        r"run `fscs convert fold0\.ckpt theirs`, and load the folder that this writes$"
    )
    with pytest.raises(ValueError, match=message):
        load("theirs")
    assert list_models() == ["ours"]
    shutil.copytree(EMBEDDED, tmp_path / "theirs")  # what the command would write
    assert fingerprint(load("theirs")) == fingerprint(model)


# ----------------------------------------------------------------------------------------------------------- checking


@pytest.fixture
def hashed(monkeypatch):
    """The files that were hashed."""
    found = []
    real = verification.file_sha256

    def count(path):
        found.append(path)
        return real(path)

    monkeypatch.setattr(verification, "file_sha256", count)
    return found


@pytest.fixture
def cached(tmp_path):
    """A file, its SHA-256, and where its stamp goes."""
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"weights")
    return path, sha256(b"weights").hexdigest(), tmp_path / "new" / "stamp.json"


def test_a_file_that_does_not_change_is_hashed_once(cached, hashed):
    path, expected, stamp = cached
    for _ in range(3):
        check_file(path, expected, mend="mend it", stamp=stamp)
    assert hashed == [path]
    assert [file.name for file in stamp.parent.iterdir()] == ["stamp.json"]


@pytest.mark.parametrize("edit", ["bytes", "size", "time", "place", "kept time"])
def test_a_file_that_may_have_changed_is_hashed_again(cached, hashed, edit):
    path, expected, stamp = cached
    check_file(path, expected, mend="mend it", stamp=stamp)
    status = path.stat()
    if edit == "place":
        path = path.rename(path.with_name("other.safetensors"))
    elif edit == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        path.write_bytes(b"weighty" if edit == "bytes" else b"another" if edit == "kept time" else b"more weights")
    if edit == "kept time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if edit in ("time", "place"):
        check_file(path, expected, mend="mend it", stamp=stamp)
    else:
        with pytest.raises(ValueError, match=r"it was set aside as 'file\.safetensors\.corrupt'; mend it$"):
            check_file(path, expected, mend="mend it", stamp=stamp)
        assert not path.exists()
    assert len(hashed) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '["elsewhere", 7, 0, 0]', '{"size": 7}'])
def test_a_stamp_that_says_nothing_of_this_file_is_not_trusted(cached, hashed, content):
    path, expected, stamp = cached
    stamp.parent.mkdir()
    stamp.write_text(content, encoding="utf-8")
    check_file(path, expected, mend="mend it", stamp=stamp)
    assert hashed == [path]


def test_a_stamp_that_cannot_be_written_only_costs_time(cached, hashed):
    path, expected, stamp = cached
    stamp.parent.write_text("a file where a folder should be")
    check_file(path, expected, mend="mend it", stamp=stamp)
    check_file(path, expected, mend="mend it", stamp=stamp)
    assert len(hashed) == 2


def test_setting_aside_follows_the_links_and_leaves_none(tmp_path):
    (tmp_path / "blob").write_bytes(b"bad")
    (tmp_path / "inner").symlink_to("blob")
    (tmp_path / "outer").symlink_to("inner")
    with pytest.raises(
        ValueError, match=r"outer' is not the published file: .* set aside as 'blob\.corrupt'; mend it$"
    ):
        check_file(tmp_path / "outer", "0" * 64, mend="mend it")
    assert [path.name for path in tmp_path.iterdir()] == ["blob.corrupt"]


def test_a_file_that_cannot_be_set_aside_is_to_be_deleted(cached, monkeypatch):
    path, _, stamp = cached

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(verification.os, "replace", refuse)
    with pytest.raises(ValueError, match=r"is damaged and cannot be set aside \(Read-only file system\); delete it$"):
        check_file(path, "0" * 64, mend="mend it", stamp=stamp)


def test_a_file_that_another_process_replaces_meanwhile_is_not_set_aside(cached, monkeypatch):
    path, expected, _ = cached

    def hash_of_what_was_there(found):
        found.write_bytes(b"good weights that have just come")
        return "f" * 64

    monkeypatch.setattr(verification, "file_sha256", hash_of_what_was_there)
    with pytest.raises(ValueError, match=r"is not the published file"):
        check_file(path, expected, mend="mend it")
    assert path.exists()


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
    change(folder / HEAD_FILE)  # a head without a fingerprint of its backbone, which would refuse this one
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
        save_head(path, head, HeadConfig(**BARE), dtype=dtype)
        assert_stored_as(path, dtype)
        network = load_network(ModelFiles(path, folder / BACKBONE_FILE))
        assert (network.input_side, network.threshold) == (288, 0.5)
        for name, tensor in network.head.state_dict().items():
            allowed = tolerance if tensor.numel() > LARGEST_EXACT else 0
            torch.testing.assert_close(tensor, head.state_dict()[name], rtol=allowed, atol=allowed)


def test_a_head_says_how_it_is_asked_and_an_older_one_is_asked_as_in_the_paper(folder):
    for said, expected in ({"threshold": 0.7, "close_up": 0.25}, (0.7, 0.25)), ({}, (0.5, 0.0)):
        change(folder / HEAD_FILE, config=CONFIG | said)
        network = load(folder).network
        assert (network.threshold, network.close_up) == expected


def test_a_head_is_saved_in_half_precision_with_its_description(tmp_path):
    save_head(tmp_path / HEAD_FILE, ASNet((5, 6, 2)), HeadConfig(**BARE))
    with safe_open(tmp_path / HEAD_FILE, framework="pt") as file:
        assert json.loads(file.metadata()[METADATA_KEY]) == BARE | {"format": 2, "protocol": "paper"}
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
        ValueError, match=f"there is no model '{name}': give one of asnet-base, asnet-mini.*a folder with head.safet"
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
        CONFIG | {"adapter": "no"},
        CONFIG | {"threshold": 1.5},
        CONFIG | {"threshold": "0.6"},
        CONFIG | {"threshold": True},
        CONFIG | {"threshold": None},
        CONFIG | {"close_up": -0.1},
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
        CONFIG | {"protocol": "theirs"},
    ],
)
def test_a_head_of_a_model_that_is_not_known_is_refused(folder, config):
    change(folder / HEAD_FILE, config=config)
    with pytest.raises(ValueError, match=r"describes a model that this version does not know .*; update fscs-sdk"):
        load(folder)


@pytest.mark.parametrize("config", [CONFIG | {"input_side": 288.5}, CONFIG | {"more": 1}, CONFIG | {"threshold": 2}])
def test_a_head_that_describes_itself_wrongly_is_refused(folder, config):
    change(folder / HEAD_FILE, config=config)
    with pytest.raises(ValueError, match="is not a head of this SDK"):
        load(folder)


@pytest.mark.parametrize("version", [0, 3, "2", None, 1.5])
def test_a_head_of_a_later_format_asks_for_an_update(folder, version):
    change(folder / HEAD_FILE, config=CONFIG | {"format": version, "of_tomorrow": 1})
    with pytest.raises(ValueError, match=r"is a head of format .*, this version reads up to 2; update fscs-sdk"):
        load(folder)


@pytest.mark.parametrize("config", [CONFIG, CONFIG | {"format": 2, "protocol": "authors"}])
def test_a_head_is_asked_by_the_protocol_that_it_names(folder, config):
    change(folder / HEAD_FILE, config=config)
    assert FewShotSegmenter.from_pretrained(folder, device="cpu").protocol == config.get("protocol", "paper")
    assert FewShotSegmenter.from_pretrained(folder, device="cpu", protocol="paper").protocol == "paper"


def test_a_head_for_another_backbone_does_not_fit_the_one_beside_it(folder):
    change(folder / HEAD_FILE, config=CONFIG | {"backbone": "resnet50"})
    with pytest.raises(ValueError, match=r"backbone\.safetensors' does not fit its network: \d+ tensors are missing"):
        load(folder)


def test_a_backbone_that_is_nowhere_is_asked_for(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    change(folder / HEAD_FILE, config=CONFIG | {"backbone": "resnet50"})
    (folder / BACKBONE_FILE).unlink()
    message = r"head\.safetensors' needs the backbone resnet50: put its weights at '.*backbone\.safetensors'"
    with pytest.raises(FileNotFoundError, match=message):
        load(folder, cache_dir=tmp_path / "cache", local_files_only=True)


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
    assert locate_model("org/repo") == ModelFiles.in_folder(folder)
    ((_, options),) = hub
    assert options["revision"] is options["cache_dir"] is options["token"] is None
    assert options["local_files_only"] is False


def test_what_is_on_the_disk_is_not_looked_up(hub, folder, monkeypatch):
    (folder.parent / "org").mkdir()
    folder.rename(folder.parent / "org" / "repo")
    monkeypatch.chdir(folder.parent)
    assert locate_model("org/repo").head.is_file()
    assert locate_model("org/mine.safetensors").head.name == "mine.safetensors"
    assert hub == []


def test_a_repository_without_a_head_is_refused(hub, folder):
    (folder / HEAD_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no weights file '.*head\.safetensors'"):
        load("org/repo")


RESPONSE = SimpleNamespace(headers={}, request=None, status_code=404)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (LocalEntryNotFoundError("no snapshot.\nand a second line"), "no snapshot; try again"),
        (
            RepositoryNotFoundError("no snapshot\n\nfor url", response=RESPONSE),
            r"there is no such repository.*\(404\).*",
        ),
        (OfflineModeIsEnabled("no snapshot"), "it is not in the cache and downloads are off; get it once without .*"),
        (ConnectionError("no snapshot"), "no snapshot; try again"),
        (OSError("no snapshot"), "no snapshot; try again"),
        (
            OSError(28, "No space left on device"),
            r"no space is left \(No space left on device\); free some, or give .*",
        ),
        (OSError(104, "Connection reset"), r"the connection failed \(Connection reset\); check it and try again"),
    ],
)
def test_a_failed_download_is_one_sentence(monkeypatch, failure, reason):
    def download(repo_id, **_):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(OSError, match=rf"^cannot get model org/repo: {reason}$") as caught:
        load("org/repo")
    assert caught.value.__cause__ is failure


def test_a_failed_download_without_a_word_is_named_by_its_kind(monkeypatch):
    def download(repo_id, **_):
        raise ConnectionResetError

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(OSError, match=r"^cannot get model org/repo: ConnectionResetError; try again$"):
        load("org/repo")


def test_a_name_that_cannot_be_a_repository_is_refused():
    with pytest.raises(ValueError, match=r"not a name\?"):
        load("org/not a name?", local_files_only=True)


def test_a_repository_that_was_never_downloaded_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"^cannot get model org/repo: it is not in the cache and downloads are off"):
        load("org/repo", cache_dir=tmp_path, local_files_only=True)
