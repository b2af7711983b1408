"""Overlays: what a person sees."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import box_mask, photo
from fscs_sdk import Prediction
from fscs_sdk.formats import PALETTE, class_colors, drawing, overlay
from fscs_sdk.formats.drawing import LEGEND_ABSENT, LEGEND_PRESENT, _entries
from fscs_sdk.formats.lettering import drawable, shorten, typeface
from predictions import ODD_NAMES, prediction, quick


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
    answer = make_prediction(300, 400, ("dog",), {"dog": True})
    picture = overlay(answer)
    (color,) = class_colors(("dog",))
    inside, outside = (150, 200), (10, 10)
    expected = 0.55 * answer.image[inside].astype(float) + 0.45 * np.array(color)
    assert np.abs(picture[inside] - expected).max() <= 1
    assert (picture[outside] == answer.image[outside]).all()
    assert (picture[300:] != 255).any(), "there is no legend below the photo"


def test_the_line_of_full_colour_is_the_edge_of_the_area() -> None:
    answer = make_prediction(300, 400, ("dog",), {"dog": True})
    picture = overlay(answer)
    (color,) = class_colors(("dog",))
    assert (picture[75:225, 100] == color).all()  # the first column of the box
    assert (picture[75:225, 99] == 255).all()  # the rim beside it


def test_pieces_of_a_large_photo_are_tinted_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    distance = np.hypot(*(np.mgrid[:500, :700] - np.array([240, 320])[:, None, None]))
    mask = np.digitize(distance + 20 * np.sin(np.arange(700) / 15), [90, 130, 200]) % 3
    answer = prediction(mask, ("dog", "cat"), image=photo(1, 500, 700))
    monkeypatch.setattr(drawing, "TILE", 10_000)
    whole = overlay(answer)
    for tile in (33, 128):
        monkeypatch.setattr(drawing, "TILE", tile)
        assert (overlay(answer) == whole).all()


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("color", PALETTE)
def test_an_edge_stands_out_on_black_and_white_photos(level: int, color: tuple[int, int, int]) -> None:
    """Within three pixels of an edge there is light and dark, whatever the class's colour and the photo."""
    name = next(f"class {n}" for n in range(1000) if class_colors([f"class {n}"]) == [color])
    answer = prediction(box_mask(300, 400).astype(int), (name,), image=np.full((300, 400, 3), level, np.uint8))
    across = overlay(answer)[150, 97:103].astype(int).sum(axis=-1)
    assert across.max() - across.min() > 3 * 90


def test_an_area_that_fills_the_photo_has_no_edge_at_the_photos_border() -> None:
    answer = prediction(np.ones((300, 400), int), ("dog",), image=np.zeros((300, 400, 3), np.uint8))
    picture = overlay(answer)[:300]
    assert (picture == picture[150, 200]).all()


def test_classes_that_touch_leave_each_other_their_pixels() -> None:
    mask = np.ones((240, 300), int)
    mask[:, 150:] = 2
    picture = overlay(prediction(mask, ("dog", "cat")))
    first, second = class_colors(("dog", "cat"))
    assert (picture[:240, 149] == first).all()
    assert (picture[:240, 150] == second).all()


def test_an_absent_class_leaves_the_photo_alone_but_stands_in_the_legend() -> None:
    answer = make_prediction(300, 400, ("dog",), {"dog": False})
    picture = overlay(answer)
    assert (picture[:300] == answer.image).all()
    assert (picture[300:] != 255).any()


def test_plot_is_the_overlay_and_leaves_the_image_alone() -> None:
    answer = make_prediction(100, 300, ("dog", "cat"), {"dog": True, "cat": False})
    before = answer.image.copy()
    assert (answer.plot() == overlay(answer)).all()
    assert (answer.image == before).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 900), (700, 9)])
def test_odd_sizes_get_a_legend_too(size: tuple[int, int]) -> None:
    name = "a class with a rather long name that cannot fit"
    picture = overlay(make_prediction(*size, (name,), {name: True}))
    assert picture.dtype == np.uint8
    assert picture.shape[1] >= 240
    assert picture.shape[0] > size[0]


@pytest.mark.parametrize("size", [(30_000, 8), (200_000, 8), (8, 30_000), (2_000, 120)])
def test_the_overlay_of_a_slim_photo_stays_in_bounds(size: tuple[int, int]) -> None:
    picture = overlay(make_prediction(*size, ("dog", "cat"), {"dog": True, "cat": False}))
    assert picture.shape[0] <= size[0] + 100  # not scaled up
    assert picture[..., 0].size <= max(2**24, 2 * size[0] * size[1])


def test_a_small_photo_is_enlarged_pixel_by_pixel_and_its_edges_stay_thin() -> None:
    mask = np.zeros((8, 8), int)
    mask[2:6, 2:6] = 1
    answer = prediction(mask, ("dog",), image=photo(1, 8, 8))
    picture = overlay(answer)
    assert (picture[:30, :30] == answer.image[0, 0]).all()
    changed = (picture[:240] != answer.image.repeat(30, 0).repeat(30, 1)).any(axis=-1)
    assert changed.sum() < 126**2


def test_areas_are_numbered_only_where_colours_come_twice() -> None:
    names = tuple(f"class {number}" for number in range(12))
    colors = class_colors(names)
    one, other = next(pair for pair in itertools.combinations(range(12), 2) if colors[pair[0]] == colors[pair[1]])
    mask = np.zeros((300, 400), int)
    mask[20:140, 20:380] = one + 1
    alone = overlay(prediction(mask, names))[:300]
    mask[160:280, 20:380] = other + 1
    both = overlay(prediction(mask, names))[:300]
    assert len(np.unique(alone[40:120, 40:360].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(both[40:120, 40:360].reshape(-1, 3), axis=0)) > 2


def test_the_legend_has_present_classes_first_and_counts_the_rest() -> None:
    names = tuple(f"class {number}" for number in range(100))
    scores = {name: 0.9 if number % 2 else number / 250 for number, name in enumerate(names)}
    answer = prediction(np.zeros((9, 9), int), names, scores=scores)
    entries = _entries(answer, class_colors(names), {}, [2])
    assert [entry.present for entry in entries[:LEGEND_PRESENT]] == [True] * LEGEND_PRESENT
    assert entries[LEGEND_PRESENT].text == f"and {50 - LEGEND_PRESENT} more present"
    absent = entries[LEGEND_PRESENT + 1 :]
    assert [entry.number for entry in absent[:-1]] == list(range(85, 101, 2))  # the likeliest, in order
    assert absent[-1].text == f"and {50 - LEGEND_ABSENT} more absent"
    assert [entry.text for entry in entries[:2]] == ["class 1: present, 0.90", "class 3: present, 0.90, wins no pixel"]


@given(st.lists(st.text(), unique=True, max_size=12))
def test_colours_are_stable_and_distinct_while_there_are_enough(names: list[str]) -> None:
    colors = class_colors(names)
    assert colors == class_colors(names)
    assert len(set(colors)) == min(len(names), len(PALETTE))
    if names:
        assert colors[0] == class_colors(names[:1])[0]


#: What is seen, in linear RGB, by those without red, green or blue receptors (Machado, Oliveira and Fernandes, 2009).
COLOUR_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear):
    """CIE L*a*b* (D65) of a linear RGB colour."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = matrix @ np.clip(linear, 0, 1) / (0.9505, 1.0, 1.089)
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", COLOUR_BLINDNESS)
def test_the_palette_can_be_told_apart_with_any_colour_vision(kind: str) -> None:
    """2.3 is a just noticeable difference."""
    values = np.array(PALETTE) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.array(COLOUR_BLINDNESS[kind]) @ color) for color in linear]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 10


@quick
@given(st.text(min_size=1) | st.sampled_from(ODD_NAMES))
def test_any_name_can_be_drawn(name: str) -> None:
    assert overlay(make_prediction(20, 30, (name,), {name: True})).ndim == 3


def test_letters_that_no_typeface_has_are_spelt_out() -> None:
    assert drawable("dog") == "dog"
    assert drawable("a\nb") == "a b"
    assert drawable("\u1c7e dog") in ("\u1c7e dog", r"\u1c7e dog")  # Ol Chiki: few computers can write it


@given(st.text(min_size=1), st.integers(20, 400))
def test_a_shortened_text_fits_where_anything_does(text: str, width: int) -> None:
    font = typeface(13)
    shown = shorten(drawable(text), font, width)
    assert font.getlength(shown) <= width or len(shown) <= 5
