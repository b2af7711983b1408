"""Overlays: what a person sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import box_mask, photo
from fscs_sdk import Prediction
from fscs_sdk.formats import PALETTE, class_colors, overlay


def make_prediction(height: int, width: int, names: tuple[str, ...], present: dict[str, bool]) -> Prediction:
    mask = np.zeros((height, width), np.uint8)
    for index, name in enumerate(names, start=1):
        if present[name]:
            mask[box_mask(height, width) & (mask == 0)] = index
    return Prediction(
        names=names,
        scores=dict.fromkeys(names, 0.75),
        present=present,
        foreground=np.zeros((len(names), height, width), np.float32),
        background=np.ones((height, width), np.float32),
        mask=mask,
        image=photo(1, height, width),
    )


def test_the_area_is_tinted_in_the_class_colour_and_the_rest_is_the_photo() -> None:
    prediction = make_prediction(300, 400, ("dog",), {"dog": True})
    picture = overlay(prediction)
    (color,) = class_colors(("dog",))
    inside, outside = (150, 200), (10, 10)
    expected = 0.55 * prediction.image[inside].astype(float) + 0.45 * np.array(color)
    assert np.abs(picture[inside] - expected).max() <= 1
    assert (picture[outside] == prediction.image[outside]).all()
    assert (picture[300:] != 255).any(), "there is no legend below the photo"


def test_an_absent_class_leaves_the_photo_alone_but_stands_in_the_legend() -> None:
    prediction = make_prediction(300, 400, ("dog",), {"dog": False})
    picture = overlay(prediction)
    assert (picture[:300] == prediction.image).all()
    assert (picture[300:] != 255).any()


def test_plot_is_the_overlay_and_leaves_the_image_alone() -> None:
    prediction = make_prediction(100, 300, ("dog", "cat"), {"dog": True, "cat": False})
    before = prediction.image.copy()
    assert (prediction.plot() == overlay(prediction)).all()
    assert (prediction.image == before).all()


@pytest.mark.parametrize("size", [(8, 8), (8, 900), (700, 9)])
def test_odd_sizes_get_a_legend_too(size: tuple[int, int]) -> None:
    picture = overlay(make_prediction(*size, ("a class with a rather long name that cannot fit",), {
        "a class with a rather long name that cannot fit": True
    }))  # fmt: skip
    assert picture.dtype == np.uint8
    assert picture.shape[1] >= 240
    assert picture.shape[0] > size[0]


@given(st.lists(st.text(), unique=True, max_size=12))
def test_colours_are_stable_and_distinct_while_there_are_enough(names: list[str]) -> None:
    colors = class_colors(names)
    assert colors == class_colors(names)
    assert len(set(colors)) == min(len(names), len(PALETTE))


@given(st.text(min_size=1))
def test_any_name_can_be_drawn(name: str) -> None:
    assert overlay(make_prediction(20, 30, (name,), {name: True})).ndim == 3
