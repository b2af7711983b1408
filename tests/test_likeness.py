"""How alike what shots mark is, on made-up features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.likeness import Look, distance, margin, near_duplicates

RED, BLUE, WALL = np.eye(3, dtype=np.float32)


def look(thing, place=slice(2, 5), elsewhere=WALL, given_mask=None):
    """A photo of a thing at a place, something else around it."""
    maps = np.tile(elsewhere[:, None, None], (1, 8, 8)).astype(np.float32)
    maps[:, place, place] = thing[:, None, None]
    mask = np.zeros((32, 32), dtype=bool)
    mask[4 * place.start : 4 * place.stop, 4 * place.start : 4 * place.stop] = True
    levels = [torch.from_numpy(maps), 3 * torch.from_numpy(np.concatenate([maps, maps]))]
    return Look.of(levels, mask if given_mask is None else given_mask(mask))


def test_what_looks_alike_is_near_and_another_thing_is_far():
    reds = [look(RED, slice(first, first + 3)) for first in (0, 2, 4)]
    assert distance(reds[0], reds[1:]) == pytest.approx(np.log(1e-3), abs=0.1)
    assert distance(look(BLUE), reds) == pytest.approx(0, abs=1e-6)
    assert distance(look(RED, given_mask=np.logical_not), reds) > -1


def test_the_margin_is_of_the_marked_over_the_likest_place_beside_it():
    reds = [look(RED), look(RED, slice(4, 7))]
    assert margin(look(RED), reds) == pytest.approx(1, abs=1e-5)
    assert margin(look(BLUE), reds) == pytest.approx(0, abs=1e-5)
    assert margin(look(WALL), reds) == pytest.approx(-1, abs=1e-5)  # it marks what the others leave out
    assert margin(look(RED), [look(RED, given_mask=np.ones_like)]) == 0  # nothing is beside it


def test_lengths_of_features_do_not_matter():
    reds = [look(RED), look(5 * RED, elsewhere=0.1 * WALL)]
    assert distance(look(0.2 * RED), reds) == pytest.approx(distance(look(RED), reds), abs=1e-3)


@settings(max_examples=30, deadline=None, database=None)
@given(st.permutations(range(4)), st.integers(0, 5))
def test_the_order_of_the_others_does_not_matter(order, seed):
    draw = np.random.default_rng(seed)
    one, *others = (
        Look.of([torch.from_numpy(draw.normal(size=(7, 6, 6))).float()], draw.random((24, 24)) > 0.7) for _ in range(5)
    )
    again = [others[number] for number in order]
    assert distance(one, again) == distance(one, others)
    assert margin(one, again) == margin(one, others)


def test_an_empty_mask_and_features_of_nothing_stay_finite():
    nothing = Look.of([torch.zeros(5, 4, 4)], np.zeros((16, 16), dtype=bool))
    assert np.isfinite([distance(nothing, [nothing, nothing]), margin(nothing, [nothing])]).all()


def noise(seed, cells=8, side=48):
    """A photo (3, side, side) of coloured patches."""
    patches = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(patches, (side, side), mode="bilinear")[0] * 255


def test_frames_of_one_scene_are_near_duplicates_whatever_their_light_and_others_are_not():
    scene, moved = noise(1), noise(1).roll(1, dims=2)
    grain = 8 * torch.randn(scene.shape, generator=torch.Generator().manual_seed(0))
    darker = 0.6 * scene + 10
    alike = near_duplicates(torch.stack([scene, scene + grain, darker, moved, noise(2), noise(3)]))
    assert alike[:4, :4].min() > 0.6
    assert (alike[:4, 4:] == 0).all()
    assert alike[4, 5] == 0


def test_photos_of_one_colour_are_not_near_duplicates_for_it():
    red = torch.tensor([200.0, 90.0, 20.0])[:, None, None]
    scenes = torch.stack([red + (noise(seed) - 128) / 12 for seed in range(1, 6)])
    assert (near_duplicates(scenes) == np.eye(5)).all()


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_likeness_of_photos_is_symmetric_in_0_to_1_and_finite_for_one_colour(seeds):
    alike = near_duplicates(torch.stack([noise(seed) if seed else torch.full((3, 48, 48), 128.0) for seed in seeds]))
    assert alike.shape == (len(seeds), len(seeds))
    assert ((alike >= 0) & (alike <= 1)).all()
    assert np.allclose(alike, alike.T, atol=1e-9)
    assert (np.diag(alike) == 1).all()
    for one, other in zip(*np.triu_indices(len(seeds), 1), strict=True):
        assert alike[one, other] == pytest.approx(float(seeds[one] == seeds[other] != 0), abs=1e-6)
