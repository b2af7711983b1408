import math
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import authors_program
import reference
from fscs_sdk.model import ifsl
from fscs_sdk.model.ifsl import PROTOCOLS, Calibration, Inference, ProtocolName, infer, merge, pool_shots

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
seeds = st.integers(0, 2**31)
shot_counts = st.lists(st.integers(1, 5), min_size=1, max_size=4)
a_protocol = st.sampled_from(PROTOCOLS)


def logits_of(*maps: list[list[float]]) -> Tensor:
    """Shots (K, 2, h, w) whose softmax is these foreground probabilities."""
    foreground = torch.tensor(maps)
    return torch.stack([(1 - foreground).log(), foreground.log()], dim=1)


def random_logits(seed: int, shots: list[int], size: tuple[int, int] = (4, 5)) -> list[Tensor]:
    """For each class (K, 2, h, w), some classes mostly foreground and some mostly background."""
    generator = torch.Generator().manual_seed(seed)
    tilts = torch.randn(len(shots), generator=generator) * 3
    tilted = []
    for count, tilt in zip(shots, tilts, strict=True):
        logits = torch.randn(count, 2, *size, generator=generator) * 2
        logits[:, 1] += tilt
        tilted.append(logits)
    return tilted


def halves(ways: int) -> Tensor:
    return torch.full((ways,), 0.5)


def assert_answers_agree(ours: Inference, theirs: reference.Answer) -> None:
    torch.testing.assert_close(ours.foreground, theirs.foreground, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.background, theirs.background, rtol=0, atol=1e-5)
    assert ours.present.tolist() == theirs.present
    channels = torch.cat([theirs.background[None], theirs.foreground])
    for row, column in (ours.mask != theirs.mask).nonzero().tolist():  # only rounding may decide differently
        chosen = channels[ours.mask[row, column], row, column]
        torch.testing.assert_close(chosen, channels[theirs.mask[row, column], row, column], rtol=0, atol=1e-6)


# ---- By hand ---------------------------------------------------------------------------------------------------------


@protocols
def test_one_class_by_hand(protocol: ProtocolName) -> None:
    answer = infer([logits_of([[0.9, 0.2], [0.6, 0.4]])], (2, 2), halves(1), protocol=protocol)
    torch.testing.assert_close(answer.foreground, torch.tensor([[[0.9, 0.2], [0.6, 0.4]]]))
    torch.testing.assert_close(answer.background, torch.tensor([[0.1, 0.8], [0.4, 0.6]]))
    torch.testing.assert_close(answer.scores, torch.tensor([0.9]))
    assert answer.present.tolist() == [True]
    assert answer.mask.tolist() == [[1, 0], [1, 0]]
    assert answer.mask.dtype == torch.uint8


def test_equation_3_is_the_mean_over_classes() -> None:
    shots = [logits_of([[0.9, 0.3]]), logits_of([[0.5, 0.1]])]
    answer = infer(shots, (1, 2), halves(2))
    torch.testing.assert_close(answer.background, torch.tensor([[0.3, 0.8]]))  # (0.1 + 0.5) / 2, (0.7 + 0.9) / 2
    assert answer.mask.tolist() == [[1, 0]]


def test_authors_background_is_the_geometric_mean_over_classes() -> None:
    shots = [logits_of([[0.9, 0.3]]), logits_of([[0.6, 0.1]])]
    answer = infer(shots, (1, 2), halves(2), protocol="authors")
    torch.testing.assert_close(answer.background, torch.tensor([[0.04, 0.63]]).sqrt())


@protocols
def test_the_larger_of_two_present_classes_wins_a_pixel(protocol: ProtocolName) -> None:
    shots = [logits_of([[0.9, 0.6, 0.1]]), logits_of([[0.7, 0.8, 0.2]])]
    answer = infer(shots, (1, 3), halves(2), protocol=protocol)
    assert answer.present.tolist() == [True, True]
    assert answer.mask.tolist() == [[1, 2, 0]]


@protocols
def test_an_absent_class_leaves_its_pixels_to_the_next_best(protocol: ProtocolName) -> None:
    shots = [logits_of([[0.8, 0.8, 0.1]]), logits_of([[0.6, 0.2, 0.7]])]
    answer = infer(shots, (1, 3), torch.tensor([0.9, 0.5]), protocol=protocol)
    assert answer.present.tolist() == [False, True]
    assert answer.mask.tolist() == [[2, 0, 2]]
    torch.testing.assert_close(answer.foreground[0], torch.tensor([[0.8, 0.8, 0.1]]))  # the map itself is not touched


@protocols
def test_nothing_is_a_normal_answer(protocol: ProtocolName) -> None:
    answer = infer([logits_of([[0.4, 0.1]])] * 3, (2, 4), halves(3), protocol=protocol)
    assert answer.present.tolist() == [False] * 3
    assert not answer.mask.any()
    assert answer.background.shape == (2, 4)


@protocols
def test_every_class_has_its_own_threshold(protocol: ProtocolName) -> None:
    answer = infer([logits_of([[0.4]])] * 3, (1, 1), torch.tensor([0.3, 0.5, 0.39]), protocol=protocol)
    assert answer.present.tolist() == [True, False, True]


@protocols
@pytest.mark.parametrize(("threshold", "present"), [(0.0, True), (0.5, True), (0.5001, False), (1.0, False)])
def test_reaching_the_threshold_is_enough(protocol: ProtocolName, threshold: float, present: bool) -> None:
    even = torch.zeros(1, 2, 2, 2)
    answer = infer([even], (2, 2), torch.tensor([threshold]), protocol=protocol)
    assert answer.present.tolist() == [present]


def test_paper_averages_logits_before_the_softmax() -> None:
    shots = torch.tensor([[[[0.0]], [[4.0]]], [[[0.0]], [[-1.0]]]])
    answer = infer([shots], (1, 1), halves(1))
    torch.testing.assert_close(answer.foreground, torch.tensor(1.5).sigmoid().view(1, 1, 1))


def test_presence_is_read_before_upsampling() -> None:
    peak = torch.full((1, 1, 3, 3), 0.1)
    peak[0, 0, 1, 1] = 0.9
    for protocol in PROTOCOLS:
        answer = infer([logits_of(peak[0, 0].tolist())], (2, 2), halves(1), protocol=protocol)
        assert answer.foreground.max() < 0.5  # corners only: the peak falls between the four pixels
        assert answer.present.tolist() == [True]
        torch.testing.assert_close(answer.scores, torch.tensor([0.9]))


def test_maps_are_resized_with_aligned_corners() -> None:
    answer = infer([logits_of([[0.2, 0.6]])], (1, 3), halves(1))
    torch.testing.assert_close(answer.foreground[0, 0], torch.tensor([0.2, 0.4, 0.6]))


@pytest.mark.parametrize(
    ("peaks", "present"),
    [((0.9,), True), ((0.9, 0.1), True), ((0.9, 0.1, 0.1), False), ((0.9, 0.9, 0.1, 0.1), True), ((0.1, 0.1), False)],
)
def test_authors_presence_needs_half_of_the_votes(peaks: tuple[float, ...], present: bool) -> None:
    shots = logits_of(*[[[peak, 0.05]] for peak in peaks])
    assert infer([shots], (1, 2), halves(1), protocol="authors").present.tolist() == [present]


def test_merge_takes_the_best_of_background_and_present_classes() -> None:
    foreground = torch.tensor([[[0.9, 0.4]], [[0.8, 0.3]]])
    background = torch.tensor([[0.15, 0.65]])
    assert merge(foreground, background, torch.tensor([True, True])).tolist() == [[1, 0]]
    assert merge(foreground, background, torch.tensor([True, True])).dtype == torch.int64
    assert merge(foreground, background, torch.tensor([False, True])).tolist() == [[2, 0]]
    assert merge(foreground, background, torch.tensor([False, False])).tolist() == [[0, 0]]


def test_on_a_tie_the_class_wins_where_the_background_comes_last() -> None:
    """Eq. 4 puts the background last, and an argmax takes the first of equals; the authors' program puts it first."""
    half, present = torch.full((1, 1), 0.5), torch.tensor([True])
    assert merge(half[None], half, present).tolist() == [[1]]
    assert merge(half[None], half, present, background_last=False).tolist() == [[0]]
    assert merge(torch.stack([half, half]), half, torch.tensor([True, True])).tolist() == [[1]]
    assert merge(torch.stack([half, half]), half, torch.tensor([False, True])).tolist() == [[2]]
    assert merge(half[None], half, present, dtype=torch.uint8).dtype == torch.uint8
    even = torch.zeros(1, 2, 1, 1)
    assert infer([even], (3, 3), halves(1)).mask.tolist() == [[1] * 3] * 3


def test_saturated_logits_stay_finite() -> None:
    shots = torch.tensor([[[[1e4, -1e4]], [[-1e4, 1e4]]]])
    for protocol in PROTOCOLS:
        answer = infer([shots], (1, 5), halves(1), protocol=protocol)
        assert torch.isfinite(answer.foreground).all()
        assert torch.isfinite(answer.background).all()
        assert answer.mask[0, 0] == 0
        assert answer.mask[0, -1] == 1


def test_half_precision_logits_give_float32_maps() -> None:
    shots = random_logits(1, [2])
    low = infer([shots[0].bfloat16()], (4, 5), halves(1))
    high = infer([shots[0].bfloat16().float()], (4, 5), halves(1))
    assert low.foreground.dtype == torch.float32
    torch.testing.assert_close(low.foreground, high.foreground)


# ---- Against the literal reference and the authors' program ----------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seeds, shot_counts, a_protocol, st.integers(0, 2**31))
def test_equals_the_reference(seed: int, shots: list[int], protocol: ProtocolName, threshold_seed: int) -> None:
    logits = random_logits(seed, shots)
    thresholds = torch.rand(len(shots), generator=torch.Generator().manual_seed(threshold_seed))
    answers = {"paper": reference.paper_answer, "authors": reference.authors_answer}
    expected = answers[protocol](logits, (6, 7), thresholds.tolist())
    assert_answers_agree(infer(logits, (6, 7), thresholds, protocol=protocol), expected)


@pytest.mark.parametrize("name", authors_program.INFERENCES)
def test_equals_the_authors_program(name: str) -> None:
    theirs = authors_program.inference(name)
    shot_logits, log_prob = list(theirs["shot_logits"]), theirs["log_prob"]
    size = (log_prob.shape[-2], log_prob.shape[-1])
    answer = infer(shot_logits, size, halves(len(shot_logits)), protocol="authors")
    literal = reference.authors_answer(shot_logits, size, [0.5] * len(shot_logits))
    torch.testing.assert_close(answer.background.log(), log_prob[0], rtol=0, atol=1e-5)
    for found in (answer, literal):
        torch.testing.assert_close(found.foreground.log(), log_prob[1:], rtol=0, atol=1e-5)
        assert list(map(bool, found.present)) == theirs["presence"].bool().tolist()
        assert torch.equal(found.mask.to(torch.uint8), theirs["mask"])


@pytest.mark.parametrize(
    "shots",
    [
        torch.zeros(1, 2, 1, 1),  # an exact tie: the background is the first channel of the authors' argmax
        torch.tensor([[[[0.0]], [[-400.0]]], [[[-300.0]], [[0.0]]]]),  # both means underflow as probabilities
    ],
    ids=["tie", "underflow"],
)
def test_authors_mask_is_decided_on_log_probabilities_with_the_background_first(shots: Tensor) -> None:
    assert reference.authors_answer([shots], (1, 1), [0.5]).mask.tolist() == [[0]]
    answer = infer([shots], (1, 1), halves(1), protocol="authors")
    assert answer.present.tolist() == [True]
    assert answer.mask.tolist() == [[0]]


def test_votes_of_the_authors_decide_over_their_mean() -> None:
    """Two of five shots see the class, and surely: the votes say absent, the mean of log-probabilities foreground.

    The authors' program takes its mask from the mean, whatever the votes say, and so may leave some pixels of a class
    that it calls absent (never for one shot, where both are the same rule). Here an absent class has no pixels; it is
    the one difference that is meant.
    """
    logits = torch.tensor([[-3.0, -3.0], [-3.0, -3.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    shots = torch.stack([logits, -logits], dim=1)[:, :, None]  # (K, 2, 1, 2)
    background, foreground = shots.log_softmax(dim=1).mean(dim=0)
    assert (foreground > background).all()  # which is the authors' mask
    answer = infer([shots], (1, 2), halves(1), protocol="authors")
    assert answer.present.tolist() == [False]
    assert answer.mask.tolist() == [[0, 0]]
    several = infer([shots, -shots], (1, 2), halves(2), protocol="authors")
    assert several.present.tolist() == [False, True]
    assert set(several.mask.flatten().tolist()) <= {0, 2}


# ---- In bands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [1, 30, 100, 10**6])
@protocols
def test_bands_of_any_height_give_the_same_answer(
    elements: int, protocol: ProtocolName, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = random_logits(3, [2, 1, 3])
    whole = infer(logits, (23, 7), halves(3), protocol=protocol)
    monkeypatch.setitem(ifsl.ELEMENTS_AT_ONCE, "cpu", elements)
    banded = infer(logits, (23, 7), halves(3), protocol=protocol)
    assert len(list(banded.maps.bands())) == {1: 23, 30: 23, 100: 6, 10**6: 1}[elements]
    for name in ("foreground", "background", "mask"):
        assert torch.equal(getattr(banded, name), getattr(whole, name)), name


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40))
def test_maps_are_brought_to_size_as_torch_does(seed: int, height: int, width: int, rows: int, columns: int) -> None:
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    expected = F.interpolate(maps[None], (rows, columns), mode="bilinear", align_corners=True)[0]
    found, _ = ifsl.Maps((maps,), (rows, columns)).probabilities()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_more_classes_than_a_byte_holds_have_wider_masks() -> None:
    answer = infer([logits_of([[0.1]])] * 255 + [logits_of([[0.9]])], (2, 3), halves(256))
    assert answer.mask.dtype == torch.int32
    assert answer.mask.tolist() == [[256] * 3] * 2
    assert infer([logits_of([[0.9]])] * 255, (2, 3), halves(255)).mask.dtype == torch.uint8


# ---- Properties ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(seeds, shot_counts, a_protocol, st.integers(1, 9), st.integers(1, 9), st.floats(0.01, 100))
def test_maps_are_probabilities(
    seed: int, shots: list[int], protocol: ProtocolName, height: int, width: int, scale: float
) -> None:
    logits = [shot * scale for shot in random_logits(seed, shots)]
    answer = infer(logits, (height, width), halves(len(shots)), protocol=protocol)
    assert answer.foreground.shape == (len(shots), height, width)
    for map_ in (answer.foreground, answer.background, answer.scores):
        assert map_.min() >= 0
        assert map_.max() <= 1
    assert answer.mask.min() >= 0
    assert answer.mask.max() <= len(shots)


@settings(deadline=None, max_examples=100)
@given(seeds, shot_counts, a_protocol, st.data())
def test_an_absent_class_is_nowhere_in_the_mask(
    seed: int, shots: list[int], protocol: ProtocolName, data: st.DataObject
) -> None:
    thresholds = data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(shots), max_size=len(shots)))
    answer = infer(random_logits(seed, shots), (7, 6), torch.tensor(thresholds), protocol=protocol)
    for number, present in enumerate(answer.present.tolist(), start=1):
        assert present or not (answer.mask == number).any()


@settings(deadline=None, max_examples=60)
@given(seeds, shot_counts, a_protocol, st.randoms(use_true_random=False))
def test_permuting_the_classes_permutes_the_answers(
    seed: int, shots: list[int], protocol: ProtocolName, shuffler: random.Random
) -> None:
    logits = random_logits(seed, shots)
    thresholds = torch.rand(len(shots), generator=torch.Generator().manual_seed(seed))
    order = list(range(len(shots)))
    shuffler.shuffle(order)
    straight = infer(logits, (6, 5), thresholds, protocol=protocol)
    shuffled = infer([logits[index] for index in order], (6, 5), thresholds[order], protocol=protocol)
    torch.testing.assert_close(shuffled.foreground, straight.foreground[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(shuffled.background, straight.background)
    assert shuffled.present.tolist() == straight.present[order].tolist()
    names = torch.tensor([0] + [index + 1 for index in order])
    differs = names[shuffled.mask.long()] != straight.mask
    background_gap = (straight.foreground.amax(dim=0) - straight.background).abs()
    assert not differs[background_gap > 1e-6].any()  # the mean over classes is summed in another order


@settings(deadline=None, max_examples=60)
@given(seeds, shot_counts, a_protocol)
def test_the_order_of_shots_does_not_matter(seed: int, shots: list[int], protocol: ProtocolName) -> None:
    logits = random_logits(seed, shots)
    straight = infer(logits, (4, 5), halves(len(shots)), protocol=protocol)
    reversed_ = infer([shot.flip(0) for shot in logits], (4, 5), halves(len(shots)), protocol=protocol)
    torch.testing.assert_close(reversed_.foreground, straight.foreground)
    torch.testing.assert_close(reversed_.scores, straight.scores)


@settings(deadline=None, max_examples=60)
@given(seeds, st.floats(0, 1, width=32))
def test_protocols_agree_for_one_way_and_one_shot(seed: int, threshold: float) -> None:
    """At the maps' own size: between positions one interpolates probabilities, the other log-probabilities."""
    logits = random_logits(seed, [1])
    thresholds = torch.tensor([threshold])
    paper, authors = (infer(logits, (4, 5), thresholds, protocol=protocol) for protocol in ("paper", "authors"))
    torch.testing.assert_close(paper.foreground, authors.foreground, rtol=0, atol=1e-6)
    torch.testing.assert_close(paper.background, authors.background, rtol=0, atol=1e-6)
    torch.testing.assert_close(paper.scores, authors.scores, rtol=0, atol=1e-6)
    if abs(paper.scores.item() - threshold) > 1e-6:
        assert torch.equal(paper.present, authors.present)
        assert torch.equal(paper.mask, authors.mask)


@settings(deadline=None, max_examples=100)
@given(seeds, shot_counts, st.floats(0, 1, width=32))
def test_authors_presence_is_a_count_of_votes(seed: int, shots: list[int], threshold: float) -> None:
    logits = random_logits(seed, shots)
    answer = infer(logits, (4, 5), torch.full((len(shots),), threshold), protocol="authors")
    for maps, present in zip(logits, answer.present.tolist(), strict=True):
        votes = [bool(shot.log_softmax(dim=0)[1].exp().max() >= threshold) for shot in maps]
        assert present == (2 * sum(votes) >= len(votes))


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(2, 5), a_protocol)
def test_repeating_a_shot_changes_nothing(seed: int, times: int, protocol: ProtocolName) -> None:
    once = random_logits(seed, [1, 1])
    repeated = [once[0].repeat(times, 1, 1, 1), once[1]]
    one, many = (infer(logits, (6, 6), halves(2), protocol=protocol) for logits in (once, repeated))
    torch.testing.assert_close(many.foreground, one.foreground)
    torch.testing.assert_close(many.scores, one.scores)


# ---- Calibrated ------------------------------------------------------------------------------------------------------


def calibration(offsets: list[float], cuts: list[float], slopes: list[float], *, pooled: bool = False) -> Calibration:
    return Calibration(*map(torch.tensor, (offsets, cuts, slopes)), torch.full((len(offsets),), pooled))


def test_an_offset_moves_the_map_and_not_the_score() -> None:
    logits = [logits_of([[0.9, 0.2], [0.6, 0.4]])]
    answer = infer(logits, (2, 2), halves(1), calibration=calibration([2.0], [0.0], [1.0]))
    expected = (torch.tensor([[0.9, 0.2], [0.6, 0.4]]).logit() + 2).sigmoid()
    torch.testing.assert_close(answer.foreground[0], expected)
    torch.testing.assert_close(answer.scores, torch.tensor([0.9]))
    assert answer.mask.tolist() == [[1, 1], [1, 1]]


def test_the_score_is_even_at_the_cut_and_as_steep_as_its_slope() -> None:
    peak = torch.tensor(0.9).logit().item()
    for cut, slope in ((peak, 3.0), (peak - 1, 2.0), (peak + 1, 0.5)):
        answer = infer([logits_of([[0.9, 0.2]])], (1, 2), halves(1), calibration=calibration([0.0], [cut], [slope]))
        torch.testing.assert_close(answer.scores[0], torch.tensor(slope * (peak - cut)).sigmoid())
        assert answer.present.tolist() == [cut <= peak]


@settings(deadline=None, max_examples=40)
@given(seeds, shot_counts)
def test_a_calibration_that_changes_nothing_gives_the_papers_maps_and_scores(seed: int, shots: list[int]) -> None:
    logits, ways = random_logits(seed, shots), len(shots)
    nothing = calibration([0.0] * ways, [0.0] * ways, [1.0] * ways)
    paper, same = infer(logits, (6, 7), halves(ways)), infer(logits, (6, 7), halves(ways), calibration=nothing)
    assert torch.equal(paper.foreground, same.foreground)
    assert torch.equal(paper.scores, same.scores)
    assert torch.equal(paper.present, same.present)
    if ways == 1:
        assert torch.equal(paper.mask, same.mask)


def test_shots_that_find_two_places_are_sure_of_both_and_of_the_class() -> None:
    """The paper's mean of [4, -4] and [-4, 4] is [0, 0]."""
    back, legs = torch.tensor([[4.0, -4.0]]), torch.tensor([[-4.0, 4.0]])
    shots = torch.stack([torch.stack([torch.zeros(1, 2), one]) for one in (back, legs)])
    answer = infer([shots], (1, 2), halves(1), calibration=calibration([0.0], [0.0], [1.0], pooled=True))
    torch.testing.assert_close(answer.scores, torch.tensor([4.0]).sigmoid())
    both = torch.tensor(4 * math.log(math.cosh(1))).sigmoid()
    torch.testing.assert_close(answer.foreground[0, 0], both.expand(2))


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 6), st.sampled_from([0.1, 3.0, 80.0]))
def test_pooled_shots(seed: int, count: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(count, 4, 5, generator=generator, dtype=torch.float64)
    found, peak = pool_shots(logits)
    assert bool(found.isfinite().all())
    assert bool((found >= logits.mean(dim=0) - 1e-9).all())
    assert bool((found <= logits.amax(dim=0) + 1e-9).all())
    torch.testing.assert_close(peak, logits.amax(dim=(1, 2)).mean())
    if count == 1:
        torch.testing.assert_close(found, logits[0])
    order = torch.randperm(count, generator=generator)
    again, same = pool_shots(logits[order])
    torch.testing.assert_close(again, found)
    torch.testing.assert_close(same, peak)
    weights = torch.rand(count, generator=generator, dtype=torch.float64) + 0.1
    ignored, others = torch.cat([weights, torch.zeros(1)]), torch.cat([logits, 9 * torch.ones(1, 4, 5)])
    for one, two in zip(pool_shots(logits, weights), pool_shots(others, ignored), strict=True):
        torch.testing.assert_close(one, two)


@settings(deadline=None, max_examples=40)
@given(seeds, shot_counts, st.integers(0, 4))
def test_an_absent_class_more_changes_neither_mask_nor_background(seed: int, shots: list[int], position: int) -> None:
    logits, ways = random_logits(seed, shots), len(shots)
    generator = torch.Generator().manual_seed(seed)
    numbers = [torch.randn(ways, generator=generator) for _ in range(2)]
    found = Calibration(*numbers, torch.ones(ways), torch.rand(ways, generator=generator) > 0.5)
    before = infer(logits, (6, 7), halves(ways), calibration=found)
    position = min(position, ways)
    absent = random_logits(seed + 1, [2])[0]
    absent[:, 1] -= absent[:, 1].max() - absent[:, 0].min() + 1  # its peak is below 0 everywhere

    def insert(values: Tensor, value: float) -> Tensor:
        return torch.cat([values[:position], torch.tensor([value]).to(values.dtype), values[position:]])

    added = insert(found.offsets, 5.0), insert(found.cuts, 0.0), insert(found.slopes, 1.0), insert(found.pooled, 1.0)
    more = Calibration(*added)
    after = infer([*logits[:position], absent, *logits[position:]], (6, 7), halves(ways + 1), calibration=more)
    assert not after.present[position]
    renumbered = after.mask - (after.mask > position).long()
    assert torch.equal(renumbered, before.mask)
    assert torch.equal(after.background, before.background)


@settings(deadline=None, max_examples=40)
@given(seeds, shot_counts)
def test_calibrated_equation_3_is_the_mean_over_the_classes_that_are_present(seed: int, shots: list[int]) -> None:
    logits, ways = random_logits(seed, shots), len(shots)
    found = calibration([0.0] * ways, [0.0] * ways, [1.0] * ways)
    answer = infer(logits, (6, 7), halves(ways), calibration=found)
    shown = answer.foreground[answer.present]
    expected = 1 - shown.mean(dim=0) if len(shown) else torch.ones(6, 7)
    torch.testing.assert_close(answer.background, expected)
    torch.testing.assert_close(answer.foreground, infer(logits, (6, 7), halves(ways)).foreground)


def test_a_class_that_just_reaches_its_threshold_counts_for_the_background() -> None:
    answer = infer([torch.zeros(1, 2, 1, 1)], (1, 1), halves(1), calibration=calibration([0.0], [0.0], [1.0]))
    assert (answer.scores.tolist(), answer.present.tolist()) == ([0.5], [True])
    assert answer.background.tolist() == [[0.5]]
    assert answer.mask.tolist() == [[1]]


def test_nothing_present_is_all_background() -> None:
    answer = infer([logits_of([[0.4, 0.2]])], (1, 2), halves(1), calibration=calibration([3.0], [0.0], [1.0]))
    assert answer.background.tolist() == [[1.0, 1.0]]
    assert answer.mask.tolist() == [[0, 0]]


def test_the_authors_protocol_takes_no_calibration() -> None:
    with pytest.raises(ValueError, match="answered by the protocol 'paper' alone"):
        infer([logits_of([[0.4]])], (1, 1), halves(1), protocol="authors", calibration=calibration([0.0], [0.0], [1.0]))
