"""The contract of ``fscs_sdk.model.network.Head``, that every method keeps: one class, run for each of ``HEADS``."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, Shot
from fscs_sdk.checkpoints.assembly import load_network
from fscs_sdk.checkpoints.head import METADATA_KEY, HeadConfig, save_head
from fscs_sdk.checkpoints.tensors import write_tensors
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.model.correlation import query_pyramid, support_pyramid
from fscs_sdk.model.heads import HEADS, build_head
from fscs_sdk.model.ifsl import infer
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, ModelFiles

BACKBONE = "efficientnet_lite0"
TRUNK = PACKAGE_FOLDER / "assets" / "asnet-mini" / BACKBONE_FILE
CHANNELS = ((192, 192, 192, 192, 320), (80, 80, 80, 112, 112, 112), (40, 40))
QUERY_SIDES = ((2, 3), (4, 6), (8, 12))
SUPPORT_SIDES = ((9, 9), (18, 18), (18, 18))
MASK_SIDE = 72
MASKS = ("half", "full", "tiny", "speck", "empty")

Maps = list[list[Tensor]]


def maps(seed: int, count: int, sides: tuple[tuple[int, int], ...]) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(count, width, *side, generator=generator) for width in level]
        for level, side in zip(CHANNELS, sides, strict=True)
    ]


def queries(count: int = 1, sides: tuple[tuple[int, int], ...] = QUERY_SIDES) -> Maps:
    return query_pyramid(maps(1, count, sides))


def supports(count: int) -> Maps:
    return support_pyramid(maps(2, count, SUPPORT_SIDES))


def masks(*kinds: str) -> Tensor:
    """Float (P, side, side)."""
    out = torch.zeros(len(kinds), MASK_SIDE, MASK_SIDE)
    for mask, kind in zip(out, kinds, strict=True):
        if kind == "full":
            mask[:] = 1
        if kind == "half":
            mask[:40] = 1
        if kind == "tiny":
            mask[35:38, 40:44] = 1
        if kind == "speck":
            mask[6, 10] = 1  # between all the points of any level that a mask is sampled at
    return out


def pick(pyramid: Maps, index: object) -> Maps:
    return [[feature[index] for feature in level] for level in pyramid]


@pytest.fixture(scope="module", params=HEADS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def head(method: str) -> nn.Module:
    torch.manual_seed(0)
    return build_head(method, BACKBONES[BACKBONE]).eval()


class TestEveryHead:
    @pytest.mark.parametrize("sides", [QUERY_SIDES, ((1, 1), (2, 2), (4, 4)), ((3, 2), (5, 3), (9, 5))])
    @torch.no_grad()
    def test_logits_have_twice_the_sides_of_level_2(self, head: nn.Module, sides: tuple[tuple[int, int], ...]) -> None:
        """For whole queries, for windows of them, for sides that are no multiples of each other."""
        logits = head(queries(sides=sides), supports(2), masks("half", "full"))
        assert logits.shape == (2, 2, 2 * sides[2][0], 2 * sides[2][1])
        assert logits.isfinite().all()

    @torch.no_grad()
    def test_pairs_at_once_are_pairs_by_themselves(self, head: nn.Module) -> None:
        support, mask = supports(3), masks("half", "tiny", "full")
        at_once = head(queries(), support, mask)
        for pair in range(3):
            alone = slice(pair, pair + 1)
            expected = head(queries(), pick(support, alone), mask[alone])
            torch.testing.assert_close(at_once[alone], expected, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_the_order_of_shots_does_not_matter(self, head: nn.Module) -> None:
        """Two classes of one and three shots, in two orders."""
        support, mask, order = supports(4), masks("half", "tiny", "full", "half"), [0, 3, 1, 2]
        thresholds = torch.full((2,), 0.5)
        first = infer(head(queries(), support, mask).split([1, 3]), (30, 20), thresholds)
        second = infer(head(queries(), pick(support, order), mask[order]).split([1, 3]), (30, 20), thresholds)
        assert first.foreground.shape == (2, 30, 20)
        torch.testing.assert_close(first.foreground, second.foreground, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first.scores, second.scores, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_one_query_serves_all_pairs(self, head: nn.Module) -> None:
        support, mask = supports(2), masks("half", "full")
        repeated = [[feature.expand(2, -1, -1, -1) for feature in level] for level in queries()]
        expected = head(repeated, support, mask)
        torch.testing.assert_close(head(queries(), support, mask), expected, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_every_pair_has_its_own_query(self, head: nn.Module) -> None:
        both, support, mask = queries(2), supports(2), masks("half", "half")
        logits = head(both, support, mask)
        for pair in range(2):
            expected = head(pick(both, slice(pair, pair + 1)), support, mask)[pair]
            torch.testing.assert_close(logits[pair], expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(logits[0], logits[1], rtol=1e-3)

    @torch.no_grad()
    def test_masks_of_every_kind_give_numbers(self, head: nn.Module) -> None:
        support = pick(supports(1), [0] * len(MASKS))
        logits = head(queries(), support, masks(*MASKS))
        assert logits.isfinite().all()

    @torch.no_grad()
    def test_no_mask_is_a_mask_of_ones(self, head: nn.Module) -> None:
        """So a class tag can stand beside shots with a mask."""
        expected = head(queries(), supports(2), masks("full", "full"))
        torch.testing.assert_close(head(queries(), supports(2), None), expected, rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_masks_matter(self, head: nn.Module, method: str) -> None:
        boxed, full = (head(queries(), supports(1), masks(kind)) for kind in ("half", "full"))
        assert torch.equal(boxed, full) == (method == "asnet-unmasked")

    @pytest.mark.parametrize("masked", [True, False])
    def test_every_parameter_learns(self, head: nn.Module, masked: bool) -> None:
        head.zero_grad()
        head(queries(), supports(2), masks("half", "tiny") if masked else None).square().mean().backward()
        idle = [name for name, weight in head.named_parameters() if weight.grad is None or not weight.grad.any()]
        finite = all(weight.grad.isfinite().all() for weight in head.parameters() if weight.grad is not None)
        head.zero_grad()
        assert finite
        # The softmax takes a key's bias out again.
        assert [name for name in idle if not name.endswith("key.bias")] == []

    def test_gradients_are_finite_differences(self, head: nn.Module) -> None:
        """Along a random direction, in float64. Up to 0.4 % apart: ReLUs crossed by the steps, attention in float32."""
        exact = copy.deepcopy(head).double()
        inputs = [[[feature.double() for feature in level] for level in maps] for maps in (queries(), supports(2))]
        mask, weights = masks("half", "tiny").double(), list(exact.parameters())
        generator = torch.Generator().manual_seed(3)
        moves = [w.detach().abs().mean() * torch.randn(w.shape, generator=generator).double() for w in weights]
        gradients = torch.autograd.grad(exact(*inputs, mask).square().mean(), weights)
        slope = sum((gradient * move).sum() for gradient, move in zip(gradients, moves, strict=True))
        step, values = 1e-5, []
        with torch.no_grad():
            for steps in (step, -2 * step):
                for weight, move in zip(weights, moves, strict=True):
                    weight.add_(move, alpha=steps)
                values.append(exact(*inputs, mask).square().mean())
        torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=1e-2, atol=0)

    @torch.no_grad()
    def test_bfloat16_autocast_is_near_float32(self, head: nn.Module) -> None:
        support, mask = supports(2), masks("half", "empty")
        plain = head(queries(), support, mask)
        with torch.autocast("cpu", torch.bfloat16):
            fast = head(queries(), support, mask)
        torch.testing.assert_close(fast.float().softmax(1), plain.softmax(1), rtol=0, atol=0.05)

    def test_a_saved_head_comes_back_through_the_same_door(self, head: nn.Module, method: str, tmp_path: Path) -> None:
        save_head(tmp_path / HEAD_FILE, head, HeadConfig(method, BACKBONE, 288), dtype=torch.float32)
        network = load_network(ModelFiles(tmp_path / HEAD_FILE, TRUNK))
        assert type(network.head) is type(head)
        with torch.no_grad():
            expected = head(queries(), supports(1), masks("half"))
            assert torch.equal(network.head(queries(), supports(1), masks("half")), expected)

    def test_another_method_does_not_take_its_weights(self, head: nn.Module, method: str, tmp_path: Path) -> None:
        other = "panet" if method != "panet" else "hsnet"
        save_head(tmp_path / HEAD_FILE, head, HeadConfig(other, BACKBONE, 288))
        with pytest.raises(ValueError, match="does not fit its network"):
            load_network(ModelFiles(tmp_path / HEAD_FILE, TRUNK))

    def test_a_wrong_number_of_levels_is_refused(self, head: nn.Module) -> None:
        with pytest.raises(ValueError, match="zip"):
            head(queries()[:2], supports(1), None)


@pytest.mark.parametrize("method", ["hsnet", "pfenet", "panet"])
def test_a_baseline_serves_as_a_model(method: str, tmp_path: Path) -> None:
    """Photos in, a prediction out, with masks and class tags, by the very calls that ASNet is used with."""
    head = build_head(method, BACKBONES[BACKBONE])
    save_head(tmp_path / HEAD_FILE, head, HeadConfig(method, BACKBONE, 288))
    shutil.copy(TRUNK, tmp_path)
    model = FewShotSegmenter.from_pretrained(tmp_path, device="cpu")
    shots = {"a": [Shot(photo(1), box_mask()), Shot(photo(2))], "b": [photo(3), box_mask()]}
    prediction = model.predict(photo(4), shots)
    assert prediction.foreground.shape == (2, 60, 80)
    assert np.isfinite(prediction.foreground).all()
    assert set(np.unique(prediction.mask)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("asnet", 1_320_610),
        ("hsnet", 2_573_794),  # paper: 2.6 M
        ("pfenet", 8_455_682),  # paper: 10.8 M, of which 2.4 M only make intermediate losses
        ("panet", 1_835_008),  # paper: its backbone's
        ("asnet-local", 1_320_610),
        ("asnet-unmasked", 1_320_610),
    ],
)
def test_number_of_learnable_parameters(method: str, count: int) -> None:
    head = build_head(method, BACKBONES["resnet50"])
    assert sum(weight.numel() for weight in head.parameters() if weight.requires_grad) == count


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_of_the_maps_are_what_the_backbone_gives(name: str) -> None:
    with torch.device("meta"):
        pyramid = Backbone(name).to("meta")(torch.empty(1, 3, 336, 336, dtype=torch.uint8))
    assert BACKBONES[name].channels == tuple(tuple(feature.shape[1] for feature in level) for level in pyramid)
    assert tuple(map(len, BACKBONES[name].channels)) == BACKBONES[name].maps


def test_channels_of_every_map_of_the_test_backbone() -> None:
    assert BACKBONES[BACKBONE].channels == CHANNELS


@pytest.mark.parametrize("method", ["hsnet", "pfenet", "panet"])
@pytest.mark.parametrize("name", ["vgg16", "densenet169"])
def test_a_head_can_be_built_for_every_backbone(method: str, name: str) -> None:
    assert isinstance(build_head(method, BACKBONES[name]), nn.Module)


@pytest.mark.parametrize(
    ("method", "message"),
    [("hsnet-9", "describes a model that this version does not know .*; update"), (["hsnet"], "is not a head of this")],
)
def test_a_file_of_an_unknown_method_is_refused(method: object, message: str, tmp_path: Path) -> None:
    description = {"method": method, "backbone": BACKBONE, "input_side": 288}
    write_tensors(tmp_path / HEAD_FILE, {}, {METADATA_KEY: json.dumps(description)})
    with pytest.raises(ValueError, match=message):
        load_network(ModelFiles(tmp_path / HEAD_FILE, TRUNK))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(
        ValueError, match="there is no method 'hsnet-9'; choose one of asnet, asnet-touched, hsnet, pfenet, panet"
    ):
        build_head("hsnet-9", BACKBONES[BACKBONE])
