from collections.abc import Iterator
from copy import deepcopy
from functools import cache

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.backbone import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, _tapped
from fscs_sdk.model.correlation import support_pyramid
from fscs_sdk.model.efficientnet_lite import EfficientNetLite0
from fscs_sdk.model.fast.folded import fold

VITS = (
    *("vit_small_patch14_reg4_dinov2.lvd142m", "vit_base_patch14_reg4_dinov2.lvd142m"),
    *("vit_small_patch16_dinov3.lvd1689m", "vit_base_patch16_dinov3.lvd1689m"),
)
NAMES = ("resnet50", "resnet101", "vgg16", "densenet169", "efficientnet_lite0", *VITS)
SMALL_SIDE = 80  # the smallest at which rounding up (ResNet) and down (VGG) differ
VIT_SIDE = 112  # patches of 14 and of 16 fill it


@cache
def backbone(name: str) -> Backbone:
    """With random weights, batch statistics that are not those of a fresh network, and blocks that change tokens."""
    torch.manual_seed(0)
    built = Backbone(name)
    generator = torch.Generator().manual_seed(1)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.num_features
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            module.weight.copy_(torch.rand(size, generator=generator) * 0.5 + 0.5)
            module.bias.copy_(torch.randn(size, generator=generator) * 0.1)
    for weight_name, weight in built.named_parameters():
        if weight_name.split(".")[-1] in ("gamma", "gamma_1", "gamma_2"):
            weight.fill_(0.5)  # a fresh one is 1e-5
    return built


@pytest.fixture(scope="module", autouse=True)
def _forget_backbones() -> Iterator[None]:
    yield
    backbone.cache_clear()


def photos(count: int = 1, side: int = SMALL_SIDE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def side_for(name: str) -> int:
    """A small side that the backbone takes."""
    return VIT_SIDE if name in VITS else SMALL_SIDE


def normalized(batch: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Channel by channel, for an independent check of what a network is given."""
    channels = [(batch[:, c].float() / 255 - mean[c]) / std[c] for c in range(3)]
    return torch.stack(channels, dim=1)


def imagenet(batch: Tensor) -> Tensor:
    return normalized(batch, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def assert_levels_equal(ours: tuple[tuple[Tensor, ...], ...], expected: list[list[Tensor]]) -> None:
    assert [len(level) for level in ours] == [len(level) for level in expected]
    for our_level, expected_level in zip(ours, expected, strict=True):
        for our_map, expected_map in zip(our_level, expected_level, strict=True):
            scale = max(1.0, expected_map.abs().max().item())
            torch.testing.assert_close(our_map, expected_map, rtol=1e-4, atol=1e-5 * scale)


# ---- Every backbone --------------------------------------------------------------------------------------------------

SHAPES = {  # input side; for each level the maps' channels in order of depth, and their side
    "resnet50": (400, ([2048] * 3, 13), ([1024] * 6, 25), ([512] * 4, 50)),
    "resnet101": (400, ([2048] * 3, 13), ([1024] * 23, 25), ([512] * 4, 50)),
    "vgg16": (400, ([512], 12), ([512] * 3, 25), ([512] * 3, 50)),
    "densenet169": (
        400,
        ([640 + 32 * 11, 640 + 32 * 22, 1664], 12),
        ([256 + 32 * 6, 256 + 32 * 16, 1280], 25),
        ([512], 50),
    ),
    "efficientnet_lite0": (288, ([192] * 4 + [320], 9), ([80] * 3 + [112] * 3, 18), ([40] * 2, 36)),
    "vit_small_patch14_reg4_dinov2.lvd142m": (392, ([384] * 3, 14), ([384] * 3, 28), ([384] * 3, 56)),
    "vit_base_patch14_reg4_dinov2.lvd142m": (280, ([768] * 3, 10), ([768] * 3, 20), ([768] * 3, 40)),
    "vit_small_patch16_dinov3.lvd1689m": (400, ([384] * 3, 13), ([384] * 3, 25), ([384] * 3, 50)),
    "vit_base_patch16_dinov3.lvd1689m": (272, ([768] * 3, 9), ([768] * 3, 17), ([768] * 3, 34)),
}


def test_every_backbone_is_tested() -> None:
    assert set(NAMES) == set(BACKBONES) == set(SHAPES)


@pytest.mark.parametrize("name", NAMES)
def test_maps_at_full_size(name: str) -> None:
    side, *levels = SHAPES[name]
    with torch.device("meta"):  # shapes without the arithmetic
        pyramid = Backbone(name).to("meta")(torch.zeros(2, 3, side, side, dtype=torch.uint8))
    expected = [[(2, count, size, size) for count in channels] for channels, size in levels]
    assert [[tuple(feature.shape) for feature in level] for level in pyramid] == expected
    assert BACKBONES[name].maps == tuple(len(channels) for channels, _ in levels)
    pooled = [[feature.shape[-1] for feature in level] for level in support_pyramid(pyramid)]
    assert all(17 <= size <= 32 for level in pooled[1:] for size in level)


def test_a_real_photo_at_full_size() -> None:
    pyramid = backbone("resnet50")(photos(side=400))
    assert [[feature.shape[-1] for feature in level] for level in pyramid] == [[13] * 3, [25] * 6, [50] * 4]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_loop(name: str) -> None:
    batch = photos(3, side_for(name))
    together = backbone(name)(batch)
    for index in range(3):
        alone = backbone(name)(batch[index : index + 1])
        assert_levels_equal(alone, [[feature[index : index + 1] for feature in level] for level in together])


@pytest.mark.parametrize("name", NAMES)
def test_backbone_is_frozen(name: str) -> None:
    frozen = backbone(name)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    before = {key: tensor.clone() for key, tensor in frozen.state_dict().items()}
    assert frozen.train() is frozen
    assert nn.Sequential(frozen).train()[0] is frozen
    assert not any(module.training for module in frozen.modules())
    pyramid = frozen(photos(side=side_for(name)))
    assert not any(feature.requires_grad for level in pyramid for feature in level)
    for key, tensor in frozen.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_maps_of_one_photo_outlive_the_next(name: str) -> None:
    first = backbone(name)(photos(side=side_for(name), seed=1))
    copies = [[feature.clone() for feature in level] for level in first]
    backbone(name)(photos(side=side_for(name), seed=2))
    for level, level_copies in zip(first, copies, strict=True):
        for feature, copy in zip(level, level_copies, strict=True):
            assert torch.equal(feature, copy)


def test_nothing_is_kept_after_a_failed_pass() -> None:
    frozen = backbone("efficientnet_lite0")
    with pytest.raises(RuntimeError):
        frozen(torch.zeros(1, 4, 64, 64, dtype=torch.uint8))
    assert _tapped.get() is None
    frozen(photos())
    assert _tapped.get() is None


@pytest.mark.parametrize("name", ["resnet", "", "ResNet50"])
def test_an_unknown_name_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"there is no backbone '{name}'; choose one of resnet50, .*efficientnet_lite0"
    ):
        Backbone(name)


@pytest.mark.parametrize("name", NAMES)
def test_heads_that_features_do_not_need_are_dropped(name: str) -> None:
    keys = Backbone.state_dict(backbone(name)).keys()
    assert not [key for key in keys if key.startswith(("network.fc.", "network.classifier.", "network.conv_head."))]
    assert all(key.startswith("network.") for key in keys)  # mean and std are constants, not weights


def test_imagenet_statistics() -> None:
    assert (IMAGENET_MEAN, IMAGENET_STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for name in (*NAMES[:4], *VITS):
        assert (BACKBONES[name].mean, BACKBONES[name].std) == (IMAGENET_MEAN, IMAGENET_STD)


# ---- What is tapped, recomputed by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
@torch.no_grad()
def test_resnet_taps_are_sums_before_the_relu(name: str) -> None:
    network = backbone(name).network
    x = network.maxpool(torch.relu(network.bn1(network.conv1(imagenet(photos())))))
    sums: list[list[Tensor]] = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        sums.append([])
        for block in stage:
            inner = torch.relu(block.bn1(block.conv1(x)))
            inner = torch.relu(block.bn2(block.conv2(inner)))
            total = block.bn3(block.conv3(inner)) + (x if block.downsample is None else block.downsample(x))
            sums[-1].append(total)
            torch.testing.assert_close(total.relu(), block(x), rtol=1e-4, atol=1e-4)
            x = total.relu()
    taps = backbone(name)(photos())
    assert_levels_equal(taps, [sums[3], sums[2], sums[1]])
    assert all((feature < 0).any() for level in taps for feature in level)


@torch.no_grad()
def test_vgg_taps_are_convolutions_before_the_relu_and_the_last_pooling() -> None:
    network = backbone("vgg16").network
    outputs = []
    x = imagenet(photos())
    for layer in network.features:
        x = layer(x)
        outputs.append(x)
    assert all(isinstance(network.features[index], nn.Conv2d) for index in (17, 19, 21, 24, 26, 28))
    assert isinstance(network.features[30], nn.MaxPool2d)
    taps = backbone("vgg16")(photos())
    assert_levels_equal(taps, [[outputs[i] for i in indices] for indices in ((30,), (24, 26, 28), (17, 19, 21))])
    assert all((feature < 0).any() for level in taps[1:] for feature in level)
    pooled = torch.nn.functional.max_pool2d(taps[1][-1].relu(), 2)
    torch.testing.assert_close(taps[0][0], pooled)


@torch.no_grad()
def test_densenet_taps_are_concatenations_standardized_by_the_next_norm() -> None:
    features = backbone("densenet169").network.features
    x = features.pool0(torch.relu(features.norm0(features.conv0(imagenet(photos())))))
    read: dict[str, tuple[Tensor, nn.BatchNorm2d]] = {}
    for number in range(1, 5):
        for index, layer in enumerate(getattr(features, f"denseblock{number}").children(), start=1):
            read[f"{number}.{index}"] = (x, layer.norm1)
            inner = layer.conv1(torch.relu(layer.norm1(x)))
            x = torch.cat([x, layer.conv2(torch.relu(layer.norm2(inner)))], dim=1)
        last = features.norm5 if number == 4 else getattr(features, f"transition{number}").norm
        read[f"{number}.end"] = (x, last)
        if number < 4:
            transition = getattr(features, f"transition{number}")
            x = transition.pool(transition.conv(torch.relu(transition.norm(x))))

    def standardized(name: str) -> Tensor:
        concatenated, norm = read[name]
        mean, variance = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        return (concatenated - mean) / (variance + norm.eps).sqrt()

    expected = [["4.12", "4.23", "4.end"], ["3.7", "3.17", "3.end"], ["2.end"]]
    assert_levels_equal(backbone("densenet169")(photos()), [[standardized(key) for key in level] for level in expected])


@torch.no_grad()
@pytest.mark.parametrize("side", [288, 300, 331, 384])
def test_lite0_is_the_network_of_timm(side: int) -> None:
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    ours = EfficientNetLite0().eval()
    ours.load_state_dict({name: theirs.state_dict()[name] for name in ours.state_dict()})
    x = torch.randn(1, 3, side, side)
    theirs.conv_head = theirs.bn2 = torch.nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(ours(x)["blocks.6.0"], theirs.forward_features(x), rtol=0, atol=1e-5)


def test_lite0_taps_are_block_outputs() -> None:
    network = backbone("efficientnet_lite0").network
    x = F.relu6(network.bn1(network.conv_stem(normalized(photos(), (127 / 255,) * 3, (128 / 255,) * 3))))
    outputs: list[list[Tensor]] = []
    for stage in network.blocks:
        outputs.append([])
        for block in stage:
            x = block(x)
            outputs[-1].append(x)
    expected = [outputs[5] + outputs[6], outputs[3] + outputs[4], outputs[2]]
    assert_levels_equal(backbone("efficientnet_lite0")(photos()), expected)


# ---- Normalisations folded into convolutions -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_a_folded_backbone_gives_the_same_maps_and_holds_the_same_weights(name: str) -> None:
    frozen = deepcopy(backbone(name))
    expected = frozen(photos(2))
    before = {key: tensor.clone() for key, tensor in frozen.state_dict().items()}
    frozen.fold()
    assert frozen.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in frozen.state_dict().items())
    assert_levels_equal(frozen(photos(2)), [list(level) for level in expected])


def test_of_lite0_no_normalisation_is_left_and_a_copy_answers_alike() -> None:
    frozen = deepcopy(backbone("efficientnet_lite0"))
    network = frozen.network
    frozen.network = nn.Identity()  # a folded backbone does without it
    frozen._folded = (fold(network),)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen._folded[0].modules())
    assert_levels_equal(deepcopy(frozen)(photos()), [list(level) for level in backbone("efficientnet_lite0")(photos())])
