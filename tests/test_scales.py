"""Classes that are looked for in the query's tiles: when that is chosen, and what then holds."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fscs_sdk import Shot, SupportSet
from fscs_sdk.calibration import EVEN_SHARE, LARGEST, OFFSETS, tiles_pay
from fscs_sdk.examination import Examination, examine
from fscs_sdk.supports import CALIBRATION
from test_examination import World, join, scene, toy_negatives, toy_supports, world
from test_segmenter import backbone_passes, check_contract, same, same_supports, toy

pytestmark = pytest.mark.filterwarnings("ignore::fscs_sdk.images.ImageWarning")


# ---------------------------------------------------------------------------------------------------- what is chosen


class Sighted(World):
    """Finds some classes in tiles alone, and others in whole photos alone."""

    def __init__(self, other: World, in_tiles: set[int]) -> None:
        super().__init__(other.kinds, other.truths, other.given)
        self.in_tiles = in_tiles

    def __call__(self, photo: int, shots: list[int], scale: str) -> torch.Tensor:
        found = super().__call__(photo, shots, scale)
        blind = (self.kinds[shots[0]] in self.in_tiles) != (scale == "tiles")
        return -found if blind else found


def test_the_scale_is_the_one_at_which_the_shots_find_each_other() -> None:
    photos, answers = world((5, 5))
    calls: list[tuple[int, int]] = []
    examination, found = examine(
        photos,
        Sighted(answers, {1}),
        delta=0.6,
        scales=["auto", "auto"],
        progress=lambda done, total: calls.append((done, total)),
    )
    assert found.scales == ("whole", "tiles")
    assert [one.scale for one in examination.classes] == ["whole", "tiles"]
    assert "in tiles" in str(examination.classes[1])
    assert "in tiles" not in str(examination.classes[0])
    assert calls[-1] == (examination.pairs, examination.pairs)
    assert Examination.from_dict(examination.to_dict()) == examination
    plain, _ = examine(photos, answers, delta=0.6)
    for one, other in zip(examination.classes, plain.classes, strict=True):  # as if nothing else had been asked
        assert one.threshold == pytest.approx(other.threshold)
        assert one.offset == other.offset


@pytest.mark.parametrize("scale", ["whole", "tiles"])
def test_what_is_asked_for_is_not_chosen(scale: str) -> None:
    photos, answers = world((4, 4))
    _, found = examine(photos, Sighted(answers, {0, 1}), delta=0.6, scales=[scale, scale])
    assert found.scales == (scale, scale)


def test_evidence_and_size_decide_together() -> None:
    whole = np.full((5, len(OFFSETS)), 0.5)
    assert tiles_pay(whole, whole, 0.01)
    assert not tiles_pay(whole, whole, 0.2)
    assert tiles_pay(whole, whole + 0.1, 0.2)
    assert not tiles_pay(whole, whole - 0.1, 0.01)
    assert tiles_pay(whole[:2], whole[:2] - 0.05, 0.01)  # two shots say less
    assert not tiles_pay(whole, whole, EVEN_SHARE)


@settings(deadline=None)
@given(st.integers(2, 6), st.randoms(use_true_random=False), st.floats(0, 1))
def test_the_order_of_shots_does_not_matter_for_the_scale(count, random, share) -> None:
    numbers = np.random.default_rng(random.getrandbits(32)).random((2, count, len(OFFSETS)))
    order = random.sample(range(count), count)
    assert tiles_pay(*numbers, share) == tiles_pay(*numbers[:, order], share)


def test_what_is_large_or_alone_is_not_even_asked() -> None:
    photos, answers = world((4, 1))
    large = dataclasses.replace(photos, marked=np.full(5, LARGEST + 0.01))
    for given_, expected in ((photos, {0}), (large, set())):
        asked: set[int] = set()

        def ask(photo, shots, scale, asked=asked):
            asked |= {int(photos.class_index[shots[0]])} if scale == "tiles" else set()
            return answers(photo, shots, scale)

        examine(given_, ask, delta=0.6, scales=["auto", "auto"])
        assert asked == expected


# ---------------------------------------------------------------------------------------------------- on a toy network


def test_with_one_shot_alone_nothing_changes() -> None:
    model, supports = toy(), toy_supports(1)
    with backbone_passes(model) as passes:
        auto = model.encode(supports, calibrate=True)
    assert same_supports(auto, model.encode(supports))
    assert not auto.in_tiles
    assert sum(passes) == 2


def test_in_tiles_all_promises_hold(tmp_path) -> None:
    model = toy()
    supports = model.encode(toy_supports(), calibrate=True, negatives=toy_negatives(), scales="tiles")
    assert supports.scales == ("tiles", "tiles")
    images = [scene(600 + seed, (4, 2 * seed), (250, 20, 20), side=40 + seed)[0] for seed in range(3)]
    with backbone_passes(model) as passes:
        predictions = [model.predict(image, supports) for image in images]
    assert sum(passes) == 5 * 3
    for image, prediction in zip(images, predictions, strict=True):
        check_contract(prediction, supports, image)
    for streamed, prediction in zip(model.stream(images, supports), predictions, strict=True):
        assert same(streamed, prediction)
    supports.save(tmp_path / "tiles.safetensors")
    loaded = SupportSet.load(tmp_path / "tiles.safetensors")
    assert loaded.scales == supports.scales
    assert same(model.predict(images[0], loaded), predictions[0])
    assert "in tiles" in loaded.report
    other = model.encode(toy_supports(), calibrate=True, negatives=toy_negatives(), scales="whole")
    assert other.source != supports.source
    assert [one.shape for one in other.features[0]] == [one.shape for one in supports.features[0]]


def test_a_class_in_tiles_changes_nothing_for_the_others() -> None:
    model = toy()
    alone = model.encode(toy_supports(4, ("red", "blue")), calibrate=True, scales="whole")
    green = model.encode(toy_supports(4, ("green",)), calibrate=True, scales="tiles")
    both = dataclasses.replace(join(alone, green), scales=("whole", "whole", "tiles"))
    image, _ = scene(77, (3, 3), (250, 20, 20))
    image[14:22, 12:20] = (20, 20, 250)
    answer, more = model.predict(image, alone), model.predict(image, both)
    assert answer.present == {"red": True, "blue": True}
    assert more.present == {"red": True, "blue": True, "green": False}
    assert np.array_equal(more.mask, answer.mask)
    assert np.array_equal(more.background, answer.background)
    assert np.array_equal(more.foreground[:2], answer.foreground)
    assert np.array_equal(more.foreground[2], model.predict(image, green).foreground[0])
    turned = model.encode(toy_supports(4, ("green", "red", "blue")), calibrate=True, scales={"green": "tiles"})
    assert turned.scales[0] == "tiles"


@settings(max_examples=6, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), classes=st.permutations(["red", "blue", "green"]))
def test_the_order_of_shots_and_classes_does_not_matter(order, classes) -> None:
    model, supports = toy(), toy_supports(4, ("red", "blue", "green"))
    scales = {"red": "tiles", "green": "auto"}
    other = {name: [supports[name][position] for position in order] for name in classes}
    first = model.encode(supports, calibrate=True, scales=scales)
    second = model.encode(other, calibrate=True, scales=scales)
    for name in classes:
        here, there = first.names.index(name), second.names.index(name)
        assert first.scales[here] == second.scales[there]
        for field in CALIBRATION:
            one, two = getattr(first.calibration, field)[here], getattr(second.calibration, field)[there]
            assert one == two


def test_a_class_tag_has_no_tile_and_is_looked_for_all_the_same() -> None:
    model = toy()
    tags = {"red": [Shot(shot.image) for shot in toy_supports()["red"]]}
    supports = model.encode(tags, calibrate=True, scales="tiles")
    whole = model.encode(tags, calibrate=True, scales="whole")
    assert all(map(torch.equal, supports.features[0], whole.features[0]))
    assert not model.encode(tags, calibrate=True).in_tiles
    check_contract(model.predict(toy_supports()["red"][0].image, supports), supports, toy_supports()["red"][0].image)


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path) -> None:
    model, supports = toy(), toy_supports()
    with pytest.raises(ValueError, match="a scale is part of a calibration; encode with calibrate=True"):
        model.encode(supports, scales="tiles")
    with pytest.raises(ValueError, match="a scale was given for 'cow', which is not one of the classes"):
        model.encode(supports, calibrate=True, scales={"cow": "tiles"})
    with pytest.raises(ValueError, match="the scale of 'red' is 'tile'; it must be 'auto', 'whole' or 'tiles'"):
        model.encode(supports, calibrate=True, scales={"red": "tile"})
    tiles = model.encode(supports, calibrate=True, scales={"red": "tiles"})
    query = model.encode_query(supports["red"][0].image)
    with pytest.raises(ValueError, match="encode the query with tiles=True"):
        model.infer(query, tiles)
