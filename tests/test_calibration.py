"""Thresholds and offsets from made-up evidence: pure arithmetic."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fscs_sdk.calibration import OFFSETS, Evidence, fit_presence, mask_offset

quick = settings(max_examples=100, deadline=None, database=None)
peaks = st.lists(st.floats(-30, 30), max_size=12).map(lambda values: np.array(values, dtype=float))
deltas = st.floats(0, 1)


def logit(share):
    return math.log(share / (1 - share))


def normal(mean, count, spread=1.0):
    """Values of a normal variable, evenly spread: no luck."""
    steps = (np.arange(count) + 0.5) / count
    return mean + spread * np.log(steps / (1 - steps)) / 1.702


@st.composite
def evidence(draw):
    return Evidence(own=draw(peaks), outside=draw(peaks), foreign=draw(peaks), named=draw(peaks))


@pytest.mark.parametrize("delta", [0.3, 0.5, 0.6, 0.9])
def test_without_evidence_the_cut_is_the_models_own(delta):
    assert fit_presence(Evidence(), delta).cut == pytest.approx(logit(delta))


@pytest.mark.parametrize("middle", [-3.0, 0.0, 4.0])
def test_much_evidence_moves_the_cut_between_the_groups_wherever_they_are(middle):
    found = fit_presence(Evidence(own=normal(middle + 1.5, 60), named=normal(middle - 1.5, 60)), 0.6)
    assert found.cut == pytest.approx(middle, abs=0.25)
    assert found.spread == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_cut_goes_from_the_models_own_towards_the_evidence_as_it_grows(count):
    cuts = [fit_presence(Evidence(own=normal(6, n), named=normal(3, n)), 0.5).cut for n in (0, count, 200)]
    assert cuts[0] == pytest.approx(0)
    assert cuts[0] < cuts[1] < cuts[2] + 0.05
    assert cuts[2] == pytest.approx(4.5, abs=0.2)


@quick
@given(peaks, peaks, peaks, st.lists(st.floats(-30, 30), max_size=1).map(np.array), st.floats(0.05, 0.95))
def test_without_two_photos_of_a_class_nothing_makes_it_present_that_the_model_calls_absent(
    outside, foreign, named, own, delta
):
    """One example and one negative once made a dog a cat: a score of 0.39 became 0.78."""
    found = fit_presence(Evidence(own=own, outside=outside, foreign=foreign, named=named), delta)
    assert found.cut >= logit(delta) - 1e-12
    for score in (0.1 * delta, 0.6 * delta, delta - 1e-6):
        assert 1 / (1 + math.exp(-min(50.0, max(-50.0, found.slope * (logit(score) - found.cut))))) < 0.5


def test_one_negative_that_is_found_raises_the_cut():
    assert fit_presence(Evidence(named=np.array([2.5])), 0.6).cut > logit(0.6) + 0.5
    assert fit_presence(Evidence(named=np.array([-6.0])), 0.6).cut == pytest.approx(logit(0.6))


def test_two_odd_shots_leave_the_cut_where_good_negatives_are_still_told_apart():
    """Nothing that two photos say makes presence worse than chance: what lies above all negatives stays present."""
    for odd in (-8.0, 12.0):
        found = fit_presence(Evidence(own=np.array([odd, odd]), foreign=normal(-2, 8)), 0.5)
        assert found.cut < 8
        assert (normal(3, 50) >= found.cut).mean() + (normal(-2, 50) < found.cut).mean() >= 1


@quick
@given(evidence(), deltas)
def test_any_evidence_gives_finite_numbers(evidence, delta):
    found = fit_presence(evidence, delta)
    right, low, high = found.right()
    assert all(math.isfinite(value) for value in (found.cut, found.slope, found.spread, *found.means, right, low, high))
    assert found.slope > 0
    assert 0 <= low <= high <= 1
    assert 0 < right <= 1
    shows = found.shows(evidence.foreign)
    assert ((shows >= 0) & (shows <= 1)).all()


@quick
@given(evidence(), st.randoms(use_true_random=False))
def test_the_order_of_photos_does_not_matter(evidence, random):
    def shuffled(values):
        values = values.tolist()
        random.shuffle(values)
        return np.array(values)

    evidence = replace(evidence, own_worth=1 / (1 + np.arange(len(evidence.own)) % 3))
    pairs = shuffled(np.stack([evidence.own, evidence.own_worth], axis=1)).reshape(-1, 2)
    names = ("outside", "foreign", "named")
    other = Evidence(
        own=pairs[:, 0], own_worth=pairs[:, 1], **{name: shuffled(getattr(evidence, name)) for name in names}
    )
    first, second = fit_presence(evidence, 0.6), fit_presence(other, 0.6)
    assert (first.cut, first.slope, first.right()) == (second.cut, second.slope, second.right())


@quick
@given(evidence(), st.floats(-30, 30), st.integers(2, 5))
def test_photos_that_share_what_one_counts_say_what_one_says(evidence, peak, count):
    def with_peaks(peaks, worth):
        own = np.concatenate([evidence.own, peaks])
        return fit_presence(replace(evidence, own=own, own_worth=np.append(np.ones(len(evidence.own)), worth)), 0.6)

    one, shared = with_peaks([peak], [1.0]), with_peaks([peak] * count, [1 / count] * count)
    if len(evidence.own) >= 1:
        assert shared.cut == pytest.approx(one.cut, abs=1e-6)
    assert shared.means == pytest.approx(one.means, abs=1e-6)
    assert shared.spreads == pytest.approx(one.spreads, abs=1e-6)


def test_a_photo_of_another_class_that_shows_this_one_is_seen_and_moves_little():
    own, foreign = normal(4, 5), normal(-2, 9)
    clean = fit_presence(Evidence(own=own, foreign=foreign), 0.6)
    found = fit_presence(Evidence(own=own, foreign=np.append(foreign, 4.2)), 0.6)
    trusted = fit_presence(Evidence(own=own, named=np.append(foreign, 4.2)), 0.6)
    assert found.shows(np.array([4.2]))[0] > 0.8
    assert found.shows(foreign).max() < 0.2
    assert abs(found.cut - clean.cut) < 0.05
    assert trusted.cut > clean.cut + 0.2  # a named negative is believed
    assert trusted.spread > found.spread + 0.5


def test_more_evidence_narrows_what_to_expect():
    widths = []
    for count in (2, 5, 40):
        _, low, high = fit_presence(Evidence(own=normal(3, count), named=normal(-1, count)), 0.6).right()
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.06


def test_what_is_expected_is_what_comes():
    """Of photos from the two groups, the share of right answers and of scores is the one that was foretold."""
    found = fit_presence(Evidence(own=normal(2, 40, 1.5), named=normal(-1, 40, 1.5)), 0.6)
    shown, absent = normal(2, 2000, 1.5), normal(-1, 2000, 1.5)
    share = ((shown >= found.cut).mean() + (absent < found.cut).mean()) / 2
    assert found.right()[0] == pytest.approx(share, abs=0.02)
    scores = 1 / (1 + np.exp(-found.slope * (np.concatenate([shown, absent]) - found.cut)))
    there = np.repeat([1.0, 0.0], 2000)
    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        inside = np.abs(scores - low) < 0.1
        assert there[inside].mean() == pytest.approx(scores[inside].mean(), abs=0.05)


def test_there_is_enough_evidence_with_two_shots_or_a_negative():
    assert not Evidence(own=np.zeros(1), foreign=np.zeros(9)).enough
    assert Evidence(own=np.zeros(2)).enough
    assert Evidence(named=np.zeros(1)).enough


def curve(best, worth=0.8):
    return worth * np.exp(-np.square(OFFSETS - best) / 2)


def test_without_shots_or_preference_nothing_is_added():
    assert mask_offset(np.zeros((0, len(OFFSETS)))) == 0
    assert mask_offset(np.zeros((5, len(OFFSETS)))) == 0
    assert mask_offset(np.full((5, len(OFFSETS)), 0.4)) == 0


@pytest.mark.parametrize("best", [-3.0, -1.0, 0.0, 2.0])
def test_the_offset_is_the_best_of_the_shots_and_nearer_to_nothing_for_few(best):
    many = mask_offset(np.stack([curve(best)] * 20))
    few = mask_offset(np.stack([curve(best)] * 2))
    assert abs(many - best) <= 0.25
    assert abs(few) <= abs(many)
    assert few * best >= 0


def test_one_lucky_offset_is_not_taken():
    lucky = np.full((3, len(OFFSETS)), 0.3)
    lucky[:, 4] = 0.4
    assert mask_offset(lucky) == 0


@quick
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_shots_does_not_matter_for_the_offset(bests, random):
    curves = [curve(best) for best in bests]
    first = mask_offset(np.stack(curves))
    random.shuffle(curves)
    assert mask_offset(np.stack(curves)) == first
    assert first in OFFSETS


def test_two_near_duplicates_prove_no_more_than_one_photo() -> None:
    """Neither that the class is found weakly, nor that there is anything to calibrate by."""
    peaks = np.array([-3.0, -3.1])
    alike, apart = (Evidence(own=peaks, own_worth=np.full(2, worth)) for worth in (0.55, 1.0))
    assert (alike.shown, alike.enough, apart.shown, apart.enough) == (1, False, 2, True)
    lowest = np.log(0.65 / 0.35)
    assert fit_presence(alike, 0.65).cut >= lowest - 1e-9
    assert fit_presence(apart, 0.65).cut < lowest
