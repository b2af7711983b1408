"""Tiles of a photo and of its maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.images import cut_tiles, fullest_tile, resize_image
from fscs_sdk.model.tiles import SHARE, join_tiles, tile_step


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_tiles_of_one_map_are_joined_to_it(height: int, width: int) -> None:
    down, right = tile_step(height), tile_step(width)
    whole = torch.randn(2, 2, height + down, width + right, generator=torch.Generator().manual_seed(height))
    tiles = [whole[..., top : top + height, left : left + width] for top in (0, down) for left in (0, right)]
    torch.testing.assert_close(join_tiles(torch.stack(tiles)), whole)


@settings(deadline=None)
@given(st.integers(8, 400))
def test_neighbours_overlap_and_leave_no_gap(side: int) -> None:
    step = tile_step(side)
    assert 0 < step < side
    assert (side - 1) / (side + step - 1) == pytest.approx(SHARE, abs=1 / side)  # of the way between the outer ones


def test_a_joined_map_has_no_seam() -> None:
    side = 72
    tiles = torch.zeros(4, 1, 1, side, side)
    tiles[1::2] = 1.0  # both on the right say otherwise
    row = join_tiles(tiles)[0, 0, 30]
    assert row.diff().min() >= 0
    assert row.diff().max() < 2 / (side - tile_step(side))


def test_tiles_are_cut_from_the_corners() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    fine = resize_image(photo, 50)
    tiles = cut_tiles(fine, 30)
    assert np.array_equal(tiles[0], fine[:30, :30])
    assert np.array_equal(tiles[1], fine[:30, 20:])
    assert np.array_equal(tiles[2], fine[20:, :30])
    assert np.array_equal(tiles[3], fine[20:, 20:])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_the_fullest_tile_holds_most_of_an_object(height: int, width: int, data: st.DataObject) -> None:
    photo = np.arange(height * width * 3, dtype=np.int64).reshape(height, width, 3).astype(np.uint8)
    mask = np.zeros((height, width), dtype=np.bool_)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask[row, column] = True
    image, kept = fullest_tile(photo, mask, SHARE)
    assert kept.sum() == 1  # every pixel is in a tile
    assert kept.shape == (max(1, round(SHARE * height)), max(1, round(SHARE * width)))
    assert image.shape[:2] == kept.shape
    assert np.array_equal(image[kept], photo[mask])


def test_a_mask_without_a_pixel_leaves_the_photo_whole() -> None:
    photo, mask = np.zeros((20, 30, 3), dtype=np.uint8), np.zeros((20, 30), dtype=np.bool_)
    assert fullest_tile(photo, mask, SHARE)[0] is photo
