"""Plain ViTs as backbones: which tokens become which maps, sides, weights, and the chain from photos to an answer."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, Shot, training
from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.checkpoints.head import HeadConfig, save_head
from fscs_sdk.checkpoints.tensors import load_state, weights_of
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.model.heads import build_head
from fscs_sdk.model.vit import plain_vit, token_pyramid
from fscs_sdk.supports import SupportSet
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, ModelFiles
from fscs_sdk.weights.manifest import HubSource, backbone_entries, backbone_weights

DINOV2, DINOV3 = "vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"
NAMES = (DINOV2, DINOV3)
VITS = [name for name, spec in BACKBONES.items() if spec.tap == "tokens"]
SIDE = 112


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return random_vit(str(request.param))


def random_vit(name: str) -> Backbone:
    """With random weights in which every block changes the tokens."""
    torch.manual_seed(0)
    built = Backbone(name)
    for key, weight in built.named_parameters():
        if key.split(".")[-1] in ("gamma", "gamma_1", "gamma_2"):
            weight.fill_(0.5)  # a fresh one is 1e-5
    return built


def photos(count: int = 1, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def normalized(batch: Tensor) -> Tensor:
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (batch / 255 - mean) / std


# ---- What becomes of the tokens --------------------------------------------------------------------------------------


@torch.no_grad()
def test_maps_are_timms_own_normalised_intermediates(backbone: Backbone) -> None:
    """Blocks 3 to 11, a quarter of the depth for each level, without class and register tokens."""
    theirs = backbone.network.forward_intermediates(
        normalized(photos(2, 224)), indices=list(range(3, 12)), norm=True, intermediates_only=True, output_fmt="NCHW"
    )
    level4, level3, level2 = backbone(photos(2, 224))
    for ours, block in zip(level3, theirs[3:6], strict=True):
        torch.testing.assert_close(ours, block, rtol=1e-4, atol=1e-4)
    for ours, block in zip(level4, theirs[6:9], strict=True):
        by_hand = (block[..., ::2, ::2] + block[..., 1::2, ::2] + block[..., ::2, 1::2] + block[..., 1::2, 1::2]) / 4
        torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-4)
    for ours, block in zip(level2, theirs[0:3], strict=True):
        assert ours.shape[-1] == 2 * block.shape[-1]
        torch.testing.assert_close(F.avg_pool2d(ours, 2)[..., 1:-1, 1:-1], smoothed(block), rtol=1e-4, atol=1e-4)


def smoothed(x: Tensor) -> Tensor:
    """What the mean of the four points between a position and its neighbours is: weights 1, 6, 1 of eight each way."""
    kernel = torch.tensor([1.0, 6.0, 1.0]) / 8
    weight = (kernel[:, None] * kernel).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, weight, groups=x.shape[1])


def test_an_odd_grid_is_pooled_to_the_next_larger_half() -> None:
    network = nn.Module()
    network.norm, network.num_prefix_tokens = nn.Identity(), 2  # type: ignore[assignment]
    grid = torch.arange(15.0).view(1, 15, 1)
    tokens = torch.cat([torch.full((1, 2, 1), 99.0), grid], dim=1)
    (coarse,), (middle,), (fine,) = token_pyramid(network, ((tokens,), (tokens,), (tokens,)), (3, 5))
    assert torch.equal(middle[0, 0], torch.arange(15.0).view(3, 5))
    assert torch.equal(coarse[0, 0], torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]))
    assert fine.shape == (1, 1, 6, 10)
    assert fine.min() == 0
    assert fine.max() == 14


@torch.no_grad()
def test_position_embeddings_are_interpolated_as_timm_does_it() -> None:
    """A network that timm builds for the side, with the embeddings that it makes when it reads a file."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    ours = random_vit(DINOV2)
    theirs = timm.create_model(DINOV2, pretrained=False, num_classes=0, img_size=SIDE).eval()
    theirs.load_state_dict(checkpoint_filter_fn(dict(ours.network.state_dict()), theirs))
    assert theirs.pos_embed.shape[1] == (SIDE // 14) ** 2 < ours.network.pos_embed.shape[1] == 37**2
    x = normalized(photos())
    torch.testing.assert_close(ours.network.forward_features(x), theirs.forward_features(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_network_built_without_values_answers_as_one_built_with_them(name: str) -> None:
    """What files do not hold, such as the periods of rotary embeddings, is there all the same."""
    straight = random_vit(name)
    with torch.device("meta"):
        hollow = Backbone(name)
    load_state(hollow.network, {key: x.clone() for key, x in weights_of(straight.network).items()}, Path("x"))
    assert not any(x.is_meta for x in (*hollow.parameters(), *hollow.buffers()))
    for ours, theirs in zip(hollow(photos()), straight(photos()), strict=True):
        assert all(map(torch.equal, ours, theirs))


# ---- What is refused, each in a sentence -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "patch", "near"), [(DINOV2, 14, "98 or 112"), (DINOV3, 16, "96 or 112")])
def test_a_side_that_patches_do_not_fill(name: str, patch: int, near: str, tmp_path: Path) -> None:
    sentence = f"cannot be cut into patches of {patch}; use a multiple of {patch}, such as"
    with torch.device("meta"):
        network = Backbone(name)
    with pytest.raises(ValueError, match=f"photos of 110 pixels a side {sentence} {near}$"):
        network(photos(side=110))
    with pytest.raises(ValueError, match=rf"side 300 does not suit the backbone {name}: photos of 300 .* {sentence}"):
        TrainConfig(backbone=name, side=300, whole_share=1.0)
    save_head(tmp_path / HEAD_FILE, build_head("panet", BACKBONES[name]), HeadConfig("panet", name, 300))
    with pytest.raises(ValueError, match=rf"head\.safetensors' cannot be asked on {name}: .* {sentence} "):
        load_network(ModelFiles.in_folder(tmp_path))


def test_windows_of_a_vit_need_an_even_grid() -> None:
    with pytest.raises(ValueError, match="windows need an input side that 28 divides, not 378"):
        TrainConfig(backbone=DINOV2, side=378)
    assert TrainConfig(backbone=DINOV2, side=392).uses_windows
    assert not TrainConfig(backbone=DINOV2, side=378, whole_share=1.0).uses_windows


def test_what_is_not_a_plain_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^swin_tiny_patch4_window7_224 is not a plain ViT: it does not keep one"):
        plain_vit("swin_tiny_patch4_window7_224")
    with pytest.raises(ValueError, match=r"^timm [0-9.]+ has no vit_of_tomorrow; pip install --upgrade timm$"):
        plain_vit("vit_of_tomorrow")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=rf"the backbone {DINOV2} is timm's, which is not .*; pip install"):
        Backbone(DINOV2)


@pytest.mark.parametrize("name", VITS)
def test_the_manifest_says_what_is_known_of_the_weights_and_what_not(name: str) -> None:
    entry, file = backbone_entries()[name], backbone_weights(name)
    assert file is not None
    assert file.sha256 is None
    assert file.sources == (HubSource(f"timm/{name}", "model.safetensors"),)
    assert "Not fetched by this project" in entry["verification"]
    assert timm.get_pretrained_cfg(name).hf_hub_id == f"timm/{name}"
    assert entry["licence"].startswith("Apache-2.0" if "dinov2" in name else "LicenseRef-DINOv3")
    spec, cfg = BACKBONES[name], timm.get_pretrained_cfg(name)
    assert entry["normalisation"] == {"mean": list(spec.mean), "std": list(spec.std)}
    assert (cfg.mean, cfg.std) == (spec.mean, spec.std)


# ---- The whole chain -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on DINOv2's network with random weights, at the smallest side."""
    folder, trunk = tmp_path_factory.mktemp("vit"), random_vit(DINOV2)
    weights = weights_of(trunk.network)
    head = build_head("asnet-touched", trunk.spec)
    save_head(folder / HEAD_FILE, head, HeadConfig("asnet-touched", DINOV2, 280), backbone=weights)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / BACKBONE_FILE)
    return folder


def test_photos_in_and_an_answer_out(folder: Path, tmp_path: Path) -> None:
    model = FewShotSegmenter.from_pretrained(folder, device="cpu", dtype="float32")
    supports = model.encode({"a": [Shot(photo(1), box_mask()), Shot(photo(2))], "b": [photo(3), box_mask()]})
    supports.save(tmp_path / "supports.safetensors")
    first = model.predict(photo(4), supports)
    second = model.predict(photo(4), SupportSet.load(tmp_path / "supports.safetensors"))
    assert first.foreground.shape == (2, 60, 80)
    assert np.isfinite(first.foreground).all()
    assert np.array_equal(first.mask, second.mask)
    assert first.scores == second.scores


def test_weights_of_another_training_or_network_are_refused(folder: Path, tmp_path: Path) -> None:
    stored = load_file(folder / BACKBONE_FILE)
    save_file({**stored, "cls_token": stored["cls_token"] + 1}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=rf"other\.safetensors' holds a {DINOV2} of another training .*'cls_token'"):
        FewShotSegmenter.from_pretrained(folder, backbone=tmp_path / "other.safetensors", device="cpu")
    with torch.device("meta"):
        dinov3 = weights_of(Backbone(DINOV3).network)
    save_file({key: torch.zeros(x.shape) for key, x in dinov3.items()}, tmp_path / "dinov3.safetensors")
    with pytest.raises(ValueError, match=r"dinov3\.safetensors' does not fit its network: \d+ tensors are missing"):
        FewShotSegmenter.from_pretrained(folder, backbone=tmp_path / "dinov3.safetensors", device="cpu")


def test_the_counted_operations_are_those_of_a_vit() -> None:
    """Twelve blocks on 28 x 28 patches and five tokens more, width 384; and the pairs and photos of a step."""
    from benchmarks.training import cost

    recipe = Path(training.__file__).parent / "recipes" / "dinov2-small.json"
    found = cost(TrainConfig.load(recipe))
    tokens, width = 28 * 28 + 5, 384
    block = 2 * tokens * width * (3 * width + width + 2 * 4 * width) + 4 * tokens**2 * width
    assert found["photo"] == 12 * block + 2 * 28 * 28 * 3 * 14 * 14 * width
    assert (found["photos"], found["pairs"]) == (9, 24)
    assert found["parameters"] == sum(weight.numel() for weight in Backbone(DINOV2).parameters())
    assert found["bytes"] > 4 * 3 * (56 * 56) * (28 * 28)  # level 2's correlation alone


def test_the_recipes_of_dinov2_and_dinov3_are_those_of_the_paper_but_for_the_features() -> None:
    recipes = Path(training.__file__).parent / "recipes"
    paper, *ours = (TrainConfig.load(recipes / f"{name}.json") for name in ("paper", "dinov2-small", "dinov3-small"))
    differ = {"backbone", "side", "steps", "pairs", "pairs_at_once", "backbone_bfloat16"}
    for recipe in ours:
        assert {key for key, value in vars(recipe).items() if value != getattr(paper, key)} <= differ
        assert recipe.backbone.split(".")[0] in ("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3")
