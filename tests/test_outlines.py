"""Where an outline fits a photo best, on drawn photos."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.outlines import best_offset

SIDE = 96


def drawn(row=34, column=30, height=24, width=30, noise=12):
    """A grey photo with a bright box at a place, and the box's mask."""
    pixels = 90 + np.random.default_rng(3).integers(-noise, noise + 1, (SIDE, SIDE, 3))
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[row : row + height, column : column + width] = True
    pixels[mask] += 110
    return pixels.clip(0, 255).astype(np.uint8), mask


def found(mask, sure=4.0):
    """What others find: the box itself, on a coarse map."""
    return np.where(mask, sure, -sure)[::4, ::4].astype(np.float64)


NOTHING = np.zeros((24, 24))


@pytest.mark.parametrize("others", [True, False])
def test_a_good_mask_fits_best_where_it_is(others):
    pixels, mask = drawn()
    assert best_offset(pixels, mask, found(mask) if others else NOTHING).gain < -1


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize(("down", "right"), [(12, 14), (-10, 14), (0, -14), (12, 0)])
def test_a_moved_mask_fits_better_where_it_came_from(down, right, others):
    """The edges alone tell, where nobody finds anything in the photo."""
    pixels, mask = drawn()
    moved = best_offset(pixels, np.roll(mask, (down, right), (0, 1)), found(mask) if others else NOTHING)
    assert moved.gain > 2
    assert moved.down == pytest.approx(-down / SIDE, abs=2.1 / SIDE)
    assert moved.right == pytest.approx(-right / SIDE, abs=2.1 / SIDE)


def test_a_hand_that_shakes_is_no_move():
    pixels, mask = drawn()
    for shift in ((1, 1), (-2, 1)):
        assert best_offset(pixels, np.roll(mask, shift, (0, 1)), found(mask)).gain < 0


def test_edges_that_run_across_the_outline_count_little():
    """Stripes across every outline: no place is better than another."""
    _, mask = drawn()
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::6] = 255
    tall = np.zeros_like(mask)
    tall[44:50, 10:86] = True
    assert abs(best_offset(stripes, tall, NOTHING).gain) < 3


@settings(max_examples=40, deadline=None, database=None)
@given(
    st.integers(0, 95), st.integers(0, 95), st.integers(1, 96), st.integers(1, 96), st.integers(1, 30), st.booleans()
)
def test_any_mask_and_photo_give_finite_numbers(row, column, height, width, cells, plain):
    pixels, _ = drawn()
    if plain:
        pixels = np.full_like(pixels, 255)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[row : row + height, column : column + width] = True
    moved = best_offset(pixels, mask, np.random.default_rng(cells).normal(size=(cells, cells)))
    assert np.isfinite([moved.gain, moved.down, moved.right]).all()
    assert max(abs(moved.down), abs(moved.right)) <= 0.6 + 1 / 72


def test_where_there_is_no_outline_nothing_is_said():
    pixels, mask = drawn()
    for nothing in (np.zeros_like(mask), np.ones_like(mask)):
        assert best_offset(pixels, nothing, NOTHING).gain == 0
