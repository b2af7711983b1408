import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from fscs_sdk.model.correlation import correlate, normalize, pool, query_pyramid, support_pyramid

sides = st.integers(1, 6)
seeds = st.integers(0, 2**31)


def maps(seed: int, pairs: int, channels: list[int], height: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(pairs, count, height, width, generator=generator) for count in channels]


def paper_layout(correlation: Tensor, height: int, width: int) -> Tensor:
    """(P, L, h, w, Q) -> (P, L, H, W, h, w)."""
    return correlation.unflatten(4, (height, width)).permute(0, 1, 4, 5, 2, 3)


def test_normalize_by_hand() -> None:
    feature = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(normalize(feature).flatten(), torch.tensor([3.0, 4.0]) / (5 + 1e-5), rtol=0, atol=1e-7)


def test_normalize_survives_a_zero_feature() -> None:
    assert torch.equal(normalize(torch.zeros(1, 4, 2, 2)), torch.zeros(1, 4, 2, 2))


def test_the_epsilon_is_added_to_the_norm() -> None:
    feature = torch.full((1, 1, 1, 1), 1e-5)
    torch.testing.assert_close(normalize(feature).item(), 0.5)


@pytest.mark.parametrize(("side", "pooled"), [(17, 17), (32, 32), (33, 17), (50, 25), (64, 32), (65, 17)])
def test_pool_halves_until_the_side_fits(side: int, pooled: int) -> None:
    assert pool(torch.zeros(1, 2, side, side), 32).shape == (1, 2, pooled, pooled)


def test_pool_counts_the_zeros_around_the_map() -> None:
    pooled = pool(torch.ones(1, 1, 50, 50), 32)[0, 0]
    torch.testing.assert_close(pooled[0, 0].item(), 4 / 9)
    torch.testing.assert_close(pooled[0, 1].item(), 6 / 9)
    torch.testing.assert_close(pooled[1, 1].item(), 1.0)


def test_small_maps_are_not_pooled() -> None:
    feature = torch.randn(1, 3, 25, 13)
    assert pool(feature, 32) is feature


def test_only_supports_are_pooled_and_pooling_comes_first() -> None:
    (feature,) = maps(0, 1, [8], 50, 50)
    (pooled,) = support_pyramid([[feature]])[0]
    expected = normalize(F.avg_pool2d(feature, 3, stride=2, padding=1))
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(query_pyramid([[feature]])[0][0], normalize(feature))


def test_a_map_meets_only_its_own_partner() -> None:
    first, second = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    assert correlate([first, second], [first, first]).flatten().tolist() == [1.0, 0.0]


def test_negative_cosines_are_clamped() -> None:
    feature = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert correlate([feature], [-feature]).item() == 0


def test_levels_of_unlike_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        correlate(maps(0, 1, [4, 4], 2, 2), maps(0, 1, [4], 2, 2))


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 3), st.lists(st.integers(1, 9), min_size=1, max_size=3), sides, sides, sides, sides)
def test_equals_the_reference(
    seed: int, pairs: int, channels: list[int], height: int, width: int, support_height: int, support_width: int
) -> None:
    query = maps(seed, pairs, channels, height, width)
    support = maps(seed + 1, pairs, channels, support_height, support_width)
    (expected,) = reference.hypercorrelation([query], [support])
    ours = correlate(query_pyramid([query])[0], support_pyramid([support])[0])
    assert ours.shape == (pairs, len(channels), support_height, support_width, height * width)
    torch.testing.assert_close(paper_layout(ours, height, width), expected, rtol=0, atol=1e-5)


def test_pooled_supports_equal_the_reference() -> None:
    query, support = maps(3, 2, [5, 7], 3, 4), maps(4, 2, [5, 7], 50, 50)
    (expected,) = reference.hypercorrelation([query], [support])
    ours = correlate(query_pyramid([query])[0], support_pyramid([support])[0])
    torch.testing.assert_close(paper_layout(ours, 3, 4), expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 4), sides, sides)
def test_values_are_cosines_and_one_query_serves_every_support(seed: int, pairs: int, height: int, width: int) -> None:
    (query,) = query_pyramid([maps(seed, 1, [6], height, width)])
    (support,) = support_pyramid([maps(seed + 1, pairs, [6], 4, 3)])
    shared = correlate(query, support)
    assert shared.min() >= 0
    assert shared.max() <= 1 + 1e-6
    repeated = correlate([feature.expand(pairs, -1, -1, -1) for feature in query], support)
    torch.testing.assert_close(shared, repeated)


def test_features_are_not_changed() -> None:
    query, support = maps(5, 1, [4], 3, 3), maps(6, 1, [4], 3, 3)
    before = [feature.clone() for feature in query + support]
    correlate(query_pyramid([query])[0], support_pyramid([support])[0])
    for feature, copy in zip(query + support, before, strict=True):
        assert torch.equal(feature, copy)
