import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import authors_program
import reference
from fscs_sdk.checkpoints.authors import learner_from_authors
from fscs_sdk.model.asnet import SUPPORT_SIDES, ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import query_pyramid, support_pyramid
from fscs_sdk.model.ifsl import infer
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.model.squeeze import AttentiveSqueeze

MASKS = ("none", "full", "box", "speck", "dust", "empty")
QUERY_SIDES = ((2, 3), (4, 5), (8, 9))
SUPPORT_LEVEL_SIDES = ((9, 7), (17, 18), (20, 17))

Maps = list[list[Tensor]]

#: Rounding alone gives up to 3e-6; ignoring the mask gives 1e-2.
TOLERANCE = 3e-5


def pyramid(seed: int, maps: int, sides: tuple[tuple[int, int], ...], levels: tuple[int, ...]) -> Maps:
    """Random maps (maps, C, side, side), ``levels`` of them in each level, of unlike widths."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(maps, 5 + index, *size, generator=generator) for index in range(count)]
        for size, count in zip(sides, levels, strict=True)
    ]


def masks_of(kinds: list[str], side: int = 60) -> Tensor | None:
    """Float (P, side, side), or None where any is ``none``."""
    if "none" in kinds:
        return None
    masks = torch.zeros(len(kinds), side, side)
    for mask, kind in zip(masks, kinds, strict=True):
        if kind == "full":
            mask[:] = 1
        if kind == "box":
            mask[:35, 12:50] = 1
        if kind == "speck":
            mask[7, 10] = 1  # seen on a 9x7 key grid, and on no coarser one
        if kind == "dust":
            mask[4, 11] = 1  # between the positions that any of the key grids looks at
    return masks


def randomized(learner: ASNet, seed: int = 0) -> ASNet:
    """Weights under which mistakes show: no norm or bias at its default, attention far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.5)
            else:
                parameter.mul_(2)
    return learner.eval()


@pytest.fixture(scope="module")
def learner() -> ASNet:
    torch.manual_seed(0)
    return randomized(ASNet((3, 2, 1)))


@pytest.fixture(scope="module")
def golden_learner() -> ASNet:
    learner = ASNet((3, 6, 4))
    learner.load_state_dict(learner_from_authors(authors_program.learner_state()))
    return learner.eval()


# ---- Against the authors' program ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [True, False], ids=["plain", "inference"])
@pytest.mark.parametrize("name", authors_program.PAIRS)
def test_equals_the_authors_program(golden_learner: ASNet, name: str, gradients: bool) -> None:
    correlations, mask, expected = authors_program.pair(name)
    sizes = [(c.shape[2], c.shape[3]) for c in correlations]
    ours = [c.permute(0, 1, 4, 5, 2, 3).flatten(4) for c in correlations]
    with torch.set_grad_enabled(gradients):
        logits = golden_learner.squeeze(ours, sizes, mask)
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", authors_program.PAIRS)
@torch.no_grad()
def test_reference_equals_the_authors_program(golden_learner: ASNet, name: str) -> None:
    correlations, mask, expected = authors_program.pair(name)
    ours = reference.asnet(dict(golden_learner.state_dict()), correlations, mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


# ---- Against the reference -------------------------------------------------------------------------------------------


# No shrinking: it would take minutes.
@settings(deadline=None, max_examples=12, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
@torch.no_grad()
def test_equals_the_reference_for_any_ways_shots_and_sides(data: st.DataObject) -> None:
    """From a query's and its supports' feature maps to the answer of both protocols."""

    def sides(*ranges: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        return tuple(data.draw(st.tuples(*[st.integers(*bounds)] * 2)) for bounds in ranges)

    seed = data.draw(st.integers(0, 2**31), label="seed")
    ways, shots = data.draw(st.sampled_from([(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)]), label="ways, shots")
    levels = data.draw(st.tuples(*[st.integers(1, 3)] * 3), label="maps of the levels")
    kinds = data.draw(st.lists(st.sampled_from(MASKS), min_size=ways * shots, max_size=ways * shots), label="masks")
    query = pyramid(seed, 1, sides((2, 3), (4, 6), (8, 12)), levels)
    support = pyramid(seed + 1, ways * shots, sides((5, 13), (17, 20), (17, 20)), levels)
    mask = masks_of(kinds)
    torch.manual_seed(seed)
    learner = randomized(ASNet(levels), seed)

    ours = learner(query_pyramid(query), support_pyramid(support), mask)
    repeated = [[feature.expand(ways * shots, -1, -1, -1) for feature in level] for level in query]
    expected = reference.asnet(learner.state_dict(), reference.hypercorrelation(repeated, support), mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=TOLERANCE)

    size, thresholds = (11, 14), torch.full((ways,), 0.5)
    for protocol, literal in (("paper", reference.paper_answer), ("authors", reference.authors_answer)):
        answer = infer(ours.split(shots), size, thresholds, protocol=protocol)
        wanted = literal(expected.split(shots), size, thresholds.tolist())
        torch.testing.assert_close(answer.foreground, wanted.foreground, rtol=0, atol=1e-4)
        torch.testing.assert_close(answer.background, wanted.background, rtol=0, atol=1e-4)
        if ((answer.scores - 0.5).abs() > 1e-4).all():
            assert answer.present.tolist() == wanted.present
            two_best = torch.cat([wanted.background[None], wanted.foreground]).topk(2, dim=0).values
            clear = two_best[0] - two_best[1] > 1e-3
            assert torch.equal(answer.mask[clear], wanted.mask[clear])


@pytest.mark.parametrize("gradients", [True, False], ids=["plain", "inference"])
@pytest.mark.parametrize("kind", MASKS)
def test_equals_the_reference_for_every_kind_of_mask(learner: ASNet, kind: str, gradients: bool) -> None:
    query, support = pyramid(1, 1, QUERY_SIDES, learner.maps), pyramid(2, 1, SUPPORT_LEVEL_SIDES, learner.maps)
    mask = masks_of([kind])
    expected = reference.asnet(learner.state_dict(), reference.hypercorrelation(query, support), mask)
    with torch.set_grad_enabled(gradients):
        ours = learner(query_pyramid(query), support_pyramid(support), mask)
    torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_equals_the_reference_where_supports_are_pooled(learner: ASNet) -> None:
    query = pyramid(3, 1, QUERY_SIDES, learner.maps)
    support = pyramid(4, 1, ((13, 13), (25, 25), (50, 50)), learner.maps)
    mask = masks_of(["box"])
    expected = reference.asnet(learner.state_dict(), reference.hypercorrelation(query, support), mask)
    ours = learner(query_pyramid(query), support_pyramid(support), mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=TOLERANCE)


# ---- Table a.6 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("maps", "count"), [((3, 6, 4), 1_320_610)])
def test_number_of_learnable_parameters(maps: tuple[int, int, int], count: int) -> None:
    assert sum(parameter.numel() for parameter in ASNet(maps).parameters() if parameter.requires_grad) == count


def output_shapes(learner: ASNet, run: Callable[[], Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of what every layer of table a.6 returns, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, module in learner.named_modules():
        if isinstance(module, AttentiveSqueeze | nn.Conv2d):
            handles.append(
                module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape)}))
            )
    try:
        shapes["logits"] = tuple(run().shape)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


@pytest.mark.parametrize("level4_side", [8, 12, 13, 17])
@pytest.mark.parametrize("side", [17, 25, 32])
@torch.no_grad()
def test_shapes_of_table_a6(learner: ASNet, level4_side: int, side: int) -> None:
    query = query_pyramid(pyramid(5, 2, ((2, 2), (3, 4), (5, 6)), learner.maps))
    support = support_pyramid(pyramid(6, 2, ((level4_side,) * 2, (side,) * 2, (side,) * 2), learner.maps))
    shapes = output_shapes(learner, lambda: learner(query, support, None))
    first = (level4_side + 4 - 5) // 4 + 1
    second = (first + 2 - 3) // 2 + 1
    pooled = (side + 4 - 5) // 4 + 1
    assert shapes == {
        "level4.0": (2, 32, first, first, 4),
        "level4.1": (2, 128, second, second, 4),
        "level3.0": (2, 32, pooled, pooled, 12),
        "level3.1": (2, 128, 2, 2, 12),
        "mix43.0": (2, 128, 2, 2, 12),
        "mix43.1": (2, 128, 1, 1, 12),
        "level2.0": (2, 32, pooled, pooled, 30),
        "level2.1": (2, 128, 2, 2, 30),
        "mix32.0": (2, 128, 2, 2, 30),
        "mix32.1": (2, 128, 1, 1, 30),
        "decoder.0": (2, 128, 5, 6),
        "decoder.1": (2, 64, 5, 6),
        "decoder.2": (2, 64, 10, 12),
        "decoder.3": (2, 2, 10, 12),
        "logits": (2, 2, 10, 12),
    }


@torch.no_grad()
def accepts(learner: ASNet, sides: tuple[tuple[int, int], ...]) -> bool:
    query = [[torch.zeros(1, 2, 1, 1)] * count for count in learner.maps]
    support = [[torch.zeros(1, 2, *size)] * count for size, count in zip(sides, learner.maps, strict=True)]
    return learner(query, support, None).shape == (1, 2, 2, 2)


@pytest.mark.parametrize("side", range(17, 33))
def test_support_sides_that_can_be_squeezed_are_accepted(learner: ASNet, side: int) -> None:
    assert side in SUPPORT_SIDES
    assert accepts(learner, ((13, 13), (side, 49 - side), (49 - side, side)))


@pytest.mark.parametrize("size", [(16, 20), (20, 16), (33, 20), (20, 33), (1, 1), (50, 50)])
@pytest.mark.parametrize("level", [1, 2])
def test_other_support_sides_are_refused(learner: ASNet, level: int, size: tuple[int, int]) -> None:
    sides = [(13, 13), (25, 25), (25, 25)]
    sides[level] = size
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} positions cannot be squeezed.*17 to 32.*272 pixels"):
        accepts(learner, tuple(sides))


# ---- What callers rely on --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_mask_of_ones_is_no_mask(learner: ASNet) -> None:
    """So a shot without a mask can stand beside shots with one."""
    query = query_pyramid(pyramid(7, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(8, 3, SUPPORT_LEVEL_SIDES, learner.maps))
    unmasked = learner(query, support, None)
    torch.testing.assert_close(learner(query, support, masks_of(["full"] * 3)), unmasked, rtol=0, atol=1e-6)
    mixed = learner(query, support, masks_of(["box", "full", "empty"]))
    torch.testing.assert_close(mixed[1], unmasked[1], rtol=0, atol=1e-5)
    assert (mixed[0] - unmasked[0]).abs().max() > 100 * TOLERANCE  # a mask does change the answer


@torch.no_grad()
def test_one_query_serves_all_pairs(learner: ASNet) -> None:
    query = query_pyramid(pyramid(9, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(10, 3, SUPPORT_LEVEL_SIDES, learner.maps))
    repeated = [[feature.expand(3, -1, -1, -1) for feature in level] for level in query]
    torch.testing.assert_close(learner(query, support, None), learner(repeated, support, None), rtol=0, atol=1e-5)


def test_correlations_are_asked_for_one_level_at_a_time(learner: ASNet) -> None:
    """So that all of them are never in memory together."""
    made: list[weakref.ref[Tensor]] = []

    def levels() -> Iterator[Tensor]:
        for count, side, positions in zip(learner.maps, (9, 17, 18), (6, 20, 72), strict=True):
            assert all(earlier() is None for earlier in made)
            level = torch.rand(1, count, side, side, positions)
            made.append(weakref.ref(level))
            yield level
            del level

    with torch.no_grad():
        assert learner.squeeze(levels(), QUERY_SIDES, None).shape == (1, 2, 16, 18)
    assert len(made) == 3


@torch.no_grad()
def test_supports_of_half_precision_are_brought_to_the_querys(learner: ASNet) -> None:
    network = FewShotNetwork(Backbone("efficientnet_lite0"), learner, 288)
    query = query_pyramid(pyramid(19, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(20, 2, SUPPORT_LEVEL_SIDES, learner.maps))
    half = [[feature.half() for feature in level] for level in support]
    rounded = [[feature.float() for feature in level] for level in half]
    full = network.pair_logits(query, rounded, None, at_once=1)
    assert torch.equal(network.pair_logits(query, half, None, at_once=1), full)
    assert full.dtype == torch.float32


@pytest.mark.parametrize("masked", [True, False])
def test_pairs_at_once_change_no_answer(learner: ASNet, masked: bool) -> None:
    network = FewShotNetwork(Backbone("efficientnet_lite0"), learner, 288)
    query = query_pyramid(pyramid(11, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(12, 5, SUPPORT_LEVEL_SIDES, learner.maps))
    float_masks = masks_of(["box", "speck", "full", "empty", "box"])
    masks = float_masks.bool() if masked else None
    one, two, five, many = (network.pair_logits(query, support, masks, at_once=count) for count in (1, 2, 5, 99))
    with torch.no_grad():
        whole = learner(query, support, float_masks if masked else None)
    for logits in (one, two, five, many):
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kinds", [["none"], ["box"], ["empty"]])
def test_runs_under_bfloat16_autocast_near_float32(learner: ASNet, kinds: list[str]) -> None:
    query = query_pyramid(pyramid(13, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(14, 1, SUPPORT_LEVEL_SIDES, learner.maps))
    mask = masks_of(kinds)
    plain = learner(query, support, mask)
    with torch.autocast("cpu", torch.bfloat16):
        fast = learner(query, support, mask)
    torch.testing.assert_close(fast.float().softmax(1), plain.softmax(1), rtol=0, atol=0.05)
    learner.zero_grad()
    fast.float().square().mean().backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    learner.zero_grad()


@pytest.mark.parametrize("kinds", [["none"], ["box"], ["empty"]])
@torch.no_grad()
def test_runs_under_float16_autocast_near_float32(learner: ASNet, kinds: list[str]) -> None:
    query = query_pyramid(pyramid(13, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(14, 1, SUPPORT_LEVEL_SIDES, learner.maps))
    mask = masks_of(kinds)
    plain = learner(query, support, mask)
    with torch.autocast("cpu", torch.float16):
        fast = learner(query, support, mask)
    torch.testing.assert_close(fast.float().softmax(1), plain.softmax(1), rtol=0, atol=0.02)


def test_every_parameter_is_learned(learner: ASNet) -> None:
    query = query_pyramid(pyramid(15, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(16, 1, SUPPORT_LEVEL_SIDES, learner.maps))
    learner.zero_grad()
    learner(query, support, None).square().mean().backward()
    idle = {
        name for name, parameter in learner.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    learner.zero_grad()
    assert {name for name in idle if not name.endswith("key.bias")} == set()  # the softmax takes a key's bias out again


def test_a_wrong_number_of_levels_is_refused(learner: ASNet) -> None:
    query = query_pyramid(pyramid(17, 1, QUERY_SIDES, learner.maps))
    support = support_pyramid(pyramid(18, 1, SUPPORT_LEVEL_SIDES, learner.maps))
    with pytest.raises(ValueError, match="zip"):
        learner(query[1:], support, None)
