"""Backbones that are not ours: where they are found, which names are read, and which a head refuses. No network."""

import json
import pickle
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision.models
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.assembly import load_network, read_backbone
from fscs_sdk.checkpoints.fingerprint import differences, fingerprint
from fscs_sdk.checkpoints.head import FINGERPRINT_KEY, METADATA_KEY, HeadConfig, save_head
from fscs_sdk.checkpoints.tensors import weights_of
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, ModelFiles
from fscs_sdk.weights import imagenet as backbones
from fscs_sdk.weights.imagenet import backbone_file, describe_sources, feature_name, feature_tensors
from fscs_sdk.weights.manifest import HubSource, TorchvisionSource, WeightFile, backbone_entries, backbone_weights

SHARED = Path(__file__).parents[2] / "shared" / "weights" / "densenet169_imagenet_features.safetensors"
EMBEDDED = PACKAGE_FOLDER / "assets" / "asnet-mini"
OTHERS = ("resnet50", "resnet101", "vgg16", "densenet169")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No request leaves this machine, and no cache of its user is looked at."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def put(cache, source, tensors):
    """A file in the Hub client's cache, as a download would have left it."""
    path = cache / f"models--{source.repo.replace('/', '--')}" / "snapshots" / (source.revision or COMMIT) / source.file
    path.parent.mkdir(parents=True)
    save_file(tensors, path)
    if source.revision is None:
        (path.parents[2] / "refs").mkdir()
        (path.parents[2] / "refs" / "main").write_text(COMMIT)
    return path


def hub(name="first", revision=None):
    return HubSource(f"org/{name}", "model.safetensors", revision)


@pytest.fixture
def sources(monkeypatch):
    """Makes the manifest's backbones come from some sources."""

    def choose(*chosen):
        monkeypatch.setattr(backbones, "backbone_weights", lambda name: WeightFile("backbone", None, None, chosen))

    return choose


def number(path):
    """What the tiny files of these tests hold."""
    return load_file(path)["w"].item()


def wants(value):
    def accept(path):
        if number(path) != value:
            raise ValueError(f"it holds {number(path)}")

    return accept


# --------------------------------------------------------------------------------------------------- names and manifest


@pytest.mark.parametrize("name", OTHERS)
def test_timm_names_the_features_as_torchvision_does(name):
    with torch.device("meta"):
        theirs, wanted = timm.create_model(name, pretrained=False), weights_of(Backbone(name).network)
    found = feature_tensors(theirs.state_dict())
    assert {key: tensor.shape for key, tensor in found.items()} == {key: t.shape for key, t in wanted.items()}


@pytest.mark.parametrize("name", OTHERS)
def test_torchvision_names_its_classifier_as_we_know_it(name):
    with torch.device("meta"):
        theirs, wanted = torchvision.models.get_model(name), weights_of(Backbone(name).network)
    assert feature_tensors(theirs.state_dict()).keys() == wanted.keys()


@pytest.mark.parametrize("name", OTHERS)
def test_the_manifest_knows_the_original_weights_of_torchvision(name):
    entry = backbone_entries()[name]
    spec = BACKBONES[name]
    assert entry["normalisation"] == {"mean": list(spec.mean), "std": list(spec.std)}
    on_the_hub, from_torchvision = backbone_weights(name).sources
    assert on_the_hub.repo == f"timm/{name}.tv_in1k"
    weights = torchvision.models.get_weight(from_torchvision.weights)
    assert from_torchvision.weights.endswith("Weights.IMAGENET1K_V1")
    assert backbones._HASH_IN_NAME.fullmatch(backbones._torchvision_url(from_torchvision).file)
    assert torchvision.models.get_model_weights(name).IMAGENET1K_V1 is weights
    assert describe_sources(name) == f"timm/{name}.tv_in1k on the Hub or torchvision's {from_torchvision.weights}"


def test_every_backbone_is_in_the_manifest():
    assert backbone_entries().keys() == BACKBONES.keys()
    assert describe_sources("efficientnet_lite0") == "the package"
    assert describe_sources("resnet51") == ""


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("features.denseblock1.denselayer1.norm.1.weight", "features.denseblock1.denselayer1.norm1.weight"),
        ("features.denseblock4.denselayer32.conv.2.weight", "features.denseblock4.denselayer32.conv2.weight"),
        ("features.denseblock1.denselayer1.norm1.running_var", "features.denseblock1.denselayer1.norm1.running_var"),
        ("features.norm5.weight", "features.norm5.weight"),
        ("features.24.bias", "features.24.bias"),
        ("layer1.0.downsample.1.weight", "layer1.0.downsample.1.weight"),
        ("layer1.0.bn1.num_batches_tracked", None),
        ("fc.weight", None),
        ("classifier.6.bias", None),
        ("pre_logits.fc1.weight", None),
        ("head.fc.bias", None),
        ("headroom.weight", "headroom.weight"),
    ],
)
def test_names_of_features(stored, name):
    assert feature_name(stored) == name


@given(st.text("abdefnorst.12_", max_size=40) | st.from_regex(r"[a-z]+denselayer[0-9]\.(norm|conv)\.[0-9]\.[a-z.]+"))
def test_renaming_is_done_once_and_keeps_what_it_does_not_know(stored):
    name = feature_name(stored)
    if name is None:
        assert stored.split(".")[0] in backbones.CLASSIFIER or stored.endswith("num_batches_tracked")
    else:
        assert feature_name(name) == name
        assert name == stored or "denselayer" in stored
        assert name.replace(".", "") == stored.replace(".", "")


# --------------------------------------------------------------------------------------------------- finding a file


def test_a_cached_file_is_found_without_a_look_at_the_network(cache, sources):
    sources(hub(), hub("second", COMMIT))
    path = put(cache, hub("second", COMMIT), {"w": torch.tensor(2.0)})
    assert backbone_file("any", cache_dir=cache) == path
    assert backbone_file("any", cache_dir=str(cache), accept=wants(2.0), local_files_only=True) == path


def test_a_source_that_is_refused_is_passed_over(cache, sources):
    sources(hub(), hub("second"))
    put(cache, hub(), {"w": torch.tensor(1.0)})
    put(cache, hub("second"), {"w": torch.tensor(2.0)})
    asked = []

    def accept(path):
        asked.append(number(path))
        wants(2.0)(path)

    assert number(backbone_file("any", accept=accept, cache_dir=cache)) == 2.0
    assert asked == [1.0, 2.0]


def test_when_all_are_refused_the_error_lists_them_and_asks_each_once(cache, sources):
    sources(hub(), hub("second"), hub("third"))
    put(cache, hub(), {"w": torch.tensor(1.0)})
    put(cache, hub("second"), {"w": torch.tensor(2.0)})
    with pytest.raises(ValueError, match="no source of any will do") as caught:
        backbone_file("any", accept=wants(3.0), cache_dir=cache)
    message = str(caught.value)
    assert "org/first on the Hub: it holds 1.0; " in message
    assert "org/second on the Hub: it holds 2.0" in message
    assert "org/third on the Hub: cannot get 'model.safetensors' of org/third: it is not in the cache" in message
    assert message.count("org/first") == 1


def test_when_none_can_be_had_the_error_is_of_the_system_and_lists_them(cache):
    with pytest.raises(OSError, match="no source of resnet50 will do") as caught:
        backbone_file("resnet50", cache_dir=cache)
    assert "timm/resnet50.tv_in1k on the Hub: cannot get 'model.safetensors'" in str(caught.value)
    assert "torchvision's ResNet50_Weights.IMAGENET1K_V1: cannot get 'https://" in str(caught.value)
    assert str(caught.value).count("downloads are off") == 2
    assert not list(cache.rglob("*.pth"))


def test_a_backbone_that_the_manifest_does_not_know_is_none(cache):
    assert backbone_file("resnet51", cache_dir=cache) is None


def test_the_packaged_backbone_comes_from_the_package(cache):
    assert backbone_file("efficientnet_lite0", cache_dir=cache) == EMBEDDED / BACKBONE_FILE
    with pytest.raises(ValueError, match="the package: no"):
        backbone_file(
            "efficientnet_lite0", cache_dir=cache, accept=lambda path: (_ for _ in ()).throw(ValueError("no"))
        )


# -------------------------------------------------------------------------------------------------- torchvision's files

WEIGHTS = TorchvisionSource("ResNet50_Weights.IMAGENET1K_V1")


@pytest.fixture
def server(tmp_path, monkeypatch, sources):
    """torchvision's server, with one file: ``publish`` puts a content there, ``asked`` counts the downloads."""
    state = SimpleNamespace(asked=0, content=b"")

    def publish(content, *, name=None):
        file = tmp_path / "published.pth"
        torch.save(content, file)
        state.content = file.read_bytes()
        state.name = name or f"net-{sha256(state.content).hexdigest()[:8]}.pth"
        address = SimpleNamespace(url=f"https://download.example.org/models/{state.name}")
        monkeypatch.setattr("torchvision.models.get_weight", lambda name: address)

    def http_get(url, file, *, displayed_filename):
        assert url.endswith(f"/{displayed_filename}")
        state.asked += 1
        file.write(state.content)

    monkeypatch.setattr("huggingface_hub.file_download.http_get", http_get)
    sources(WEIGHTS)
    state.publish = publish
    return state


STATE = {
    "conv1.weight": torch.arange(6.0).view(2, 3).t(),
    "features.denseblock1.denselayer1.norm.1.weight": torch.nn.Parameter(torch.ones(2)),
    "bn1.num_batches_tracked": torch.tensor(3),
    "fc.weight": torch.zeros(1000, 8),
}


def test_a_pickled_file_becomes_safetensors_once(cache, server):
    server.publish(STATE)
    path = backbone_file("any", cache_dir=cache)
    tensors = load_file(path)
    assert tensors.keys() == {"conv1.weight", "features.denseblock1.denselayer1.norm1.weight"}
    assert torch.equal(tensors["conv1.weight"], STATE["conv1.weight"])
    assert backbone_file("any", cache_dir=cache) == backbone_file("any", cache_dir=cache, local_files_only=True) == path
    assert server.asked == 1
    left = [file.name for file in cache.rglob("*") if file.is_file() and file.suffix != ".json"]
    assert left == [path.name]
    assert sha256(path.read_bytes()).hexdigest() in path.name


def test_what_torchvision_has_downloaded_itself_is_used(cache, server, tmp_path):
    server.publish(STATE)
    file = tmp_path / "torch" / "hub" / "checkpoints" / server.name
    file.parent.mkdir(parents=True)
    file.write_bytes(server.content)
    path = backbone_file("any", cache_dir=cache, local_files_only=True)
    assert "conv1.weight" in load_file(path)
    assert server.asked == 0
    file.write_bytes(server.content[:-1])
    with pytest.raises(ValueError, match=r"net-\w+\.pth' is damaged or not the published file \(SHA-256"):
        backbone_file("any", cache_dir=tmp_path / "other", local_files_only=True)


@pytest.mark.parametrize("name", ["net-00000000.pth", "net.pth", "net-1234567.pth"])
def test_a_file_that_is_not_the_published_one_is_not_kept(cache, server, name):
    server.publish(STATE, name=name)
    with pytest.raises(ValueError, match="is damaged or not the published file"):
        backbone_file("any", cache_dir=cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]


class Hostile:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (str(self.victim),)


def test_a_hostile_file_runs_nothing_and_is_not_kept(cache, server, tmp_path):
    server.publish({**STATE, "x": Hostile(tmp_path / "was_here")})
    with pytest.raises(ValueError, match=r"was not read: .*it asks for '\w+"):
        backbone_file("any", cache_dir=cache)
    assert not (tmp_path / "was_here").exists()
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 1}, {"w": torch.ones(2).to_sparse()}, {1: torch.ones(2)}])
def test_a_file_without_tensors_by_name_is_not_kept(cache, server, content):
    server.publish(content)
    with pytest.raises(ValueError, match="does not hold tensors by name"):
        backbone_file("any", cache_dir=cache)


def test_an_old_pytorch_is_refused(cache, server, monkeypatch):
    server.publish(STATE)
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(ValueError, match=r"PyTorch 2\.9\.1 cannot read .* safely .*pip install 'torch>=2\.10'"):
        backbone_file("any", cache_dir=cache)


def test_a_kept_file_that_went_bad_is_set_aside_and_got_again(cache, server):
    server.publish(STATE)
    path = backbone_file("any", cache_dir=cache)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert backbone_file("any", cache_dir=cache) == path
    assert server.asked == 2
    assert torch.equal(load_file(path)["conv1.weight"], STATE["conv1.weight"])
    assert path.with_name(f"{path.name}.corrupt").is_file()


def test_an_unknown_name_of_weights_asks_for_another_torchvision(cache, sources):
    sources(TorchvisionSource("ResNet50_Weights.IMAGENET1K_V9"))
    with pytest.raises(ValueError, match=r"this torchvision has no ResNet50_Weights.IMAGENET1K_V9; pip install"):
        backbone_file("any", cache_dir=cache)


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, server):
    server.publish(STATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot get 'https.*the cache folder '.*file' cannot be written"):
        backbone_file("any", cache_dir=tmp_path / "file")


# --------------------------------------------------------------------------------------------------- a head's choice


@pytest.fixture(scope="module")
def trunk():
    """The packaged backbone's tensors."""
    return load_file(EMBEDDED / BACKBONE_FILE)


@pytest.fixture(scope="module")
def other(trunk):
    """The same with one kernel's first two channels exchanged."""
    name = "blocks.2.0.conv_pw.weight"
    kernel = trunk[name][[1, 0, *range(2, len(trunk[name]))]]
    return {**trunk, name: kernel}


@pytest.fixture
def head(tmp_path):
    """A copy of the packaged head in a folder of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    return Path(shutil.copy(EMBEDDED / HEAD_FILE, folder / HEAD_FILE))


def load(name, **options):
    return FewShotSegmenter.from_pretrained(name, device="cpu", **options)


REFUSED = (
    r"holds a efficientnet_lite0 of another training or precision than the one that '.*head\.safetensors' was trained "
    r"on \(1 of 240 tensors differ, such as 'blocks\.2\.0\.conv_pw\.weight'\)"
)
WRONG = "its answers would be wrong and nothing would show it"


def test_the_packaged_head_knows_its_backbone(trunk):
    with safe_open(EMBEDDED / HEAD_FILE, framework="pt") as file:
        recorded = file.metadata()[FINGERPRINT_KEY]
    assert recorded == fingerprint(trunk)
    assert differences(recorded, read_backbone(EMBEDDED / BACKBONE_FILE, "efficientnet_lite0")) == []


def test_a_file_of_ones_own_is_used(head, trunk, model, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({name: tensor.float() for name, tensor in trunk.items()}, path)
    for file in (path, str(path)):
        assert load(head.parent, backbone=file).identity.endswith(model.identity.split("@")[1])
    assert load("asnet-mini", backbone=path).identity == model.identity


def test_a_file_of_timm_with_classifier_and_counters_is_used(head, trunk, model, tmp_path):
    with torch.device("meta"):
        names = timm.create_model("tf_efficientnet_lite0").state_dict()
    whole = {name: trunk.get(name, torch.zeros(tensor.shape)) for name, tensor in names.items()}
    assert len(whole) > len(trunk)
    save_file(whole, tmp_path / "timm.safetensors")
    assert load(head, backbone=tmp_path / "timm.safetensors").identity.endswith(model.identity.split("@")[1])


def test_other_weights_are_refused_with_a_reason_and_a_cure(head, other, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(other, path)
    message = rf"other\.safetensors' {REFUSED}; .*{WRONG}; leave `backbone` out to have .* found \(the package\)$"
    with pytest.raises(ValueError, match=message):
        load(head.parent, backbone=path)
    with pytest.raises(ValueError, match=REFUSED):
        load("asnet-mini", backbone=path)


def test_other_weights_beside_the_head_are_refused(head, other):
    save_file(other, head.with_name(BACKBONE_FILE))
    with pytest.raises(ValueError, match=rf"{REFUSED}; .*{WRONG}; remove the file to have"):
        load(head.parent)


def test_a_head_that_does_not_tell_takes_what_fits(head, other):
    """Files of earlier versions."""
    with safe_open(head, framework="pt") as file:
        described = file.metadata()[METADATA_KEY]
    save_file(load_file(head), head, {METADATA_KEY: described})
    save_file(other, head.with_name(BACKBONE_FILE))
    loaded = load_network(ModelFiles.in_folder(head.parent)).backbone.network.state_dict()
    name = "blocks.2.0.conv_pw.weight"
    assert torch.equal(loaded[name], other[name].float())


@pytest.mark.parametrize("recorded", ["", "1:abc", "7:AAAA"])
def test_a_damaged_fingerprint_is_not_passed_over(head, recorded):
    with safe_open(head, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(head), head, {**metadata, FINGERPRINT_KEY: recorded})
    with pytest.raises(ValueError, match=r"head\.safetensors' does not tell which backbone it needs: the fingerprint"):
        load(head)


def test_the_next_source_is_tried_when_the_first_has_other_weights(head, other, trunk, model, cache, sources):
    sources(hub(), hub("second"))
    put(cache, hub(), other)
    put(cache, hub("second"), trunk)
    assert load(head.parent, cache_dir=cache).identity.endswith(model.identity.split("@")[1])


def test_when_no_source_has_the_weights_the_error_lists_them_and_says_why(head, other, cache, sources):
    sources(hub(), hub("second"))
    put(cache, hub(), other)
    put(cache, hub("second"), {name: tensor for name, tensor in other.items() if name != "conv_stem.weight"})
    with pytest.raises(ValueError, match=r"head\.safetensors' needs the backbone efficientnet_lite0: put") as caught:
        load(head.parent, cache_dir=cache)
    message = str(caught.value)
    assert "org/first on the Hub: " in message
    assert "(1 of 240 tensors differ, such as 'blocks.2.0.conv_pw.weight'); org/second on the Hub: " in message
    assert "1 tensors are missing, unknown or of another shape, such as 'conv_stem.weight'" in message
    assert "give backbone='FILE.safetensors'" in message
    assert message.endswith(WRONG)
    assert "\n" not in message


def test_when_no_source_can_be_had_the_error_says_where_to_put_the_file(head, cache, sources):
    sources(hub())
    with pytest.raises(
        FileNotFoundError, match=r"put its weights at '.*backbone\.safetensors', or give .* will do: org"
    ):
        load(head.parent, cache_dir=cache, local_files_only=True)


def test_a_pickled_backbone_is_converted_first_and_never_opened(head, tmp_path, monkeypatch):
    path = tmp_path / "resnet50-0676ba61.pth"
    path.write_bytes(pickle.dumps({}))
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match=r"resnet50-0676ba61\.pth' is not a .*`fscs convert FILE\.pth OUT`"):
        load(head, backbone=path)


def test_a_backbone_that_is_not_there_is_named(head, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no weights file '.*none\.safetensors'; check the path"):
        load(head, backbone=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"the backbone '' is not a|the backbone '\.' is not a"):
        load(head, backbone="")


def test_a_backbone_of_another_kind_does_not_fit(head, tmp_path):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match=r"resnet\.safetensors' does not fit its network: 241 tensors are missing"):
        load(head, backbone=tmp_path / "resnet.safetensors")


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the shared weights")
def test_a_head_on_densenet_finds_its_weights_among_the_sources(tmp_path, cache, sources):
    """Which release of DenseNet-169 a source holds, the fingerprint decides."""
    released = load_file(SHARED)
    config = HeadConfig("asnet", "densenet169", 288)
    save_head(tmp_path / HEAD_FILE, ASNet(BACKBONES["densenet169"].maps), config, backbone=released)
    assert load_network(ModelFiles.in_folder(tmp_path), backbone=SHARED).backbone.name == "densenet169"
    sources(hub(), hub("second"))
    put(cache, hub(), {name: tensor + 1e-4 * tensor.abs().mean() for name, tensor in released.items()})
    with pytest.raises(ValueError, match=rf"\(8\d\d of 844 tensors differ, .*{WRONG}$"):
        load_network(ModelFiles.in_folder(tmp_path), cache_dir=cache)
    put(cache, hub("second"), released)
    loaded = weights_of(load_network(ModelFiles.in_folder(tmp_path), cache_dir=cache).backbone.network)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in released.items())


# --------------------------------------------------------------------------------------------------- packaging


def test_a_packaged_head_records_the_backbone_that_it_was_trained_on(tmp_path, monkeypatch, trunk):
    from fscs_sdk.training import packaging
    from fscs_sdk.training.config import TrainConfig

    run, package = tmp_path / "run", tmp_path / "package"
    run.mkdir()
    package.mkdir()
    TrainConfig().save(run / "config.json")
    save_file(ASNet(BACKBONES["efficientnet_lite0"].maps).state_dict(), run / HEAD_FILE)
    place = {"type": "package", "path": f"assets/asnet-mini/{BACKBONE_FILE}"}
    known = {"models": {}, "backbones": {"efficientnet_lite0": {"sha256": "old", "bytes": 1, "sources": [place]}}}
    (tmp_path / "weights_manifest.json").write_text(json.dumps(known))
    monkeypatch.setattr(packaging, "PACKAGE_FOLDER", package)
    monkeypatch.setattr(packaging, "load_lite0", lambda: {name: tensor.float() for name, tensor in trunk.items()})
    monkeypatch.setattr(packaging, "_largest_change", lambda first, second: 0.0)
    packaging.package_run(run, "asnet-mini")
    folder = package / "assets" / "asnet-mini"
    with safe_open(folder / HEAD_FILE, framework="pt") as file:
        assert differences(file.metadata()[FINGERPRINT_KEY], load_file(folder / BACKBONE_FILE)) == []
    content = json.loads((tmp_path / "weights_manifest.json").read_text())
    head, backbone = content["models"]["asnet-mini"]["files"]
    assert head["sha256"] == sha256((folder / HEAD_FILE).read_bytes()).hexdigest()
    assert head["sources"] == [{"type": "package", "path": f"assets/asnet-mini/{HEAD_FILE}"}]
    assert {"role": "backbone", **content["backbones"]["efficientnet_lite0"]} == backbone
    assert backbone["sha256"] == sha256((folder / BACKBONE_FILE).read_bytes()).hexdigest()
