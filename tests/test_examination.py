"""What shots say of each other: on made-up answers for pairs, on a toy network, and a little on the embedded model."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import photo
from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.examination import Examination, Photos, examine
from fscs_sdk.supports import CALIBRATION
from test_segmenter import backbone_passes, same, same_supports, toy

SIDE = 24
pytestmark = pytest.mark.filterwarnings("ignore::fscs_sdk.images.ImageWarning")  # masks that are odd on purpose


def scene(seed, place, colour=255, side=SIDE):
    """A noisy photo with a bright box at a place (row, column), and the mask of the box."""
    image = np.random.default_rng(seed).integers(0, 60, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), dtype=bool)
    row, column = place
    mask[row : row + 8, column : column + 8] = True
    image[mask] = colour
    return image, mask


def photos(masks, pixels, class_index, tagged=None, names=("dog", "cat")):
    count = len(class_index)
    colours = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(np.stack(pixels[:count])).permute(0, 3, 1, 2) / 255, 6
    )
    return Photos(
        names=names[: max(class_index) + 1],
        class_index=np.array(class_index),
        tagged=np.zeros(count, bool) if tagged is None else np.array(tagged),
        masks=np.stack(masks[:count]),
        marked=np.array([mask.mean() for mask in masks[:count]]),
        pixels=np.stack(pixels),
        features=((colours,), (colours,)),
        close_masks=np.stack(masks[:count]),
    )


class World:
    """Answers for pairs as a model would give that finds what a support's mask marks: every photo shows one kind of
    thing (a number) at a place; a support teaches the kind that is under its mask, or the background's."""

    def __init__(self, kinds, truths, given_masks, noise=0.3):
        self.kinds, self.truths, self.given, self.noise = kinds, truths, given_masks, noise
        self.asked = []

    def __call__(self, photo, shots, scale):
        self.asked += [(photo, shot) for shot in shots]
        return torch.stack([self.answer(photo, shot) for shot in shots]).float()

    def answer(self, photo, shot):
        generator = torch.Generator().manual_seed(1000 * photo + shot)
        truth = torch.from_numpy(self.truths[photo])
        inside = (self.given[shot] & self.truths[shot]).sum() / max(1, self.given[shot].sum())
        found = torch.full(truth.shape, -3.0)
        if self.kinds[photo] == self.kinds[shot]:
            found[truth] = 6 * float(inside) - 2
        found[~truth] += 3 * float(1 - inside)
        return found + self.noise * torch.randn(truth.shape, generator=generator)


def world(shots=(5, 5), negatives=2):
    """Classes of boxes at different places, and photos of other things: (photos, answers)."""
    kinds = [way for way, count in enumerate(shots) for _ in range(count)] + [9] * negatives
    drawn = [scene(number, ((number * 5) % 15, (number * 7) % 15)) for number in range(len(kinds))]
    masks = [mask for _, mask in drawn]
    given = photos(masks, [image for image, _ in drawn], kinds[: sum(shots)])
    return given, World(kinds, masks, masks)


def with_mask(given, answers, shot, mask):
    masks, marked = given.masks.copy(), given.marked.copy()
    masks[shot], marked[shot] = mask, mask.mean()
    changed = dataclasses.replace(given, masks=masks, marked=marked, close_masks=masks)
    return changed, World(answers.kinds, answers.truths, [*masks, *answers.given[len(masks) :]])


# ------------------------------------------------------------------------------------------------------ good supports


def test_good_shots_are_not_suspected_and_find_each_other():
    given, answers = world()
    examination, settings_ = examine(given, answers, delta=0.6)
    assert examination.suspects == ()
    assert examination.remarks == ()
    assert [(one.name, one.shots, one.calibrated, one.positives) for one in examination.classes] == [
        ("dog", 5, True, 5),
        ("cat", 5, True, 5),
    ]
    assert [(one.foreign, one.negatives) for one in examination.classes] == [(5, 2)] * 2
    for shot in examination.shots:
        assert shot.score > 0.9
        assert shot.iou > 0.8
        assert (shot.claimed_by, shot.shows, shot.tagged) == (None, (), False)
    for one in examination.classes:
        low, high = one.interval
        assert 0.85 < low < one.right < high <= 1
        assert one.name in one.advice
    assert settings_.thresholds.tolist() == [0.5, 0.5]
    assert settings_.thresholds.dtype == torch.float32
    calibration = settings_.calibration
    assert calibration is not None
    assert [len(values) for values in (calibration.offsets, calibration.cuts, calibration.slopes)] == [2, 2, 2]


def test_every_pair_is_asked_once_and_none_that_says_nothing():
    given, answers = world((5, 4), negatives=3)
    calls = []
    examination, _ = examine(given, answers, delta=0.6, progress=lambda done, total: calls.append((done, total)))
    assert len(set(answers.asked)) == len(answers.asked) == examination.pairs
    assert not [pair for pair in answers.asked if pair[0] == pair[1]]
    assert calls[-1] == (examination.pairs, examination.pairs)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    order = [shot for shot, _ in answers.asked]
    assert order == sorted(order)  # so that a photo's maps need not be kept


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_cost_is_bounded(most):
    given, answers = world((12, 5), negatives=9)
    examination, _ = examine(given, answers, delta=0.6, negatives_per_class=most)
    own = 12 * 10 + 5 * 4
    assert examination.pairs == len(answers.asked) == own + (12 + 5) * 2 * most
    with pytest.raises(ValueError, match="negatives_per_class is -1"):
        examine(given, answers, delta=0.6, negatives_per_class=-1)


# ------------------------------------------------------------------------------------------------------- bad supports


@pytest.mark.parametrize("shot", [0, 2, 4])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: ~mask, "inverted"),
        (lambda mask: ~(mask & np.roll(mask, (4, 4), (0, 1))), "inverted"),  # 97 % of the photo
        (lambda mask: np.ones_like(mask), "marks the whole photo"),
        (lambda mask: np.roll(mask, (12, 12), (0, 1)), "mask|unlike"),
    ],
)
def test_a_bad_mask_is_named_first_with_a_reason(shot, change, words):
    given, answers = world()
    bad = with_mask(given, answers, shot, change(given.masks[shot]))
    examination, _ = examine(*bad, delta=0.6)
    first = examination.suspects[0]
    assert (first.name, first.shot) == ("dog", shot + 1)
    assert any(word in first.reason for word in words.split("|"))
    assert 0.65 <= first.sureness < 1
    assert not examination.certain
    assert not [other for other in examination.suspects if (other.name, other.shot) != ("dog", shot + 1)]
    # It sets nothing: the other four decide.
    assert examination.classes[0].positives == 4


def test_a_moved_mask_is_named_and_where_it_belongs_even_where_nobody_finds_anything():
    given, _ = world(negatives=0)

    def nothing(photo, shots, scale):
        return torch.randn(len(shots), SIDE, SIDE, generator=torch.Generator().manual_seed(photo)) - 3

    assert examine(given, nothing, delta=0.6)[0].suspects == ()
    shot = 1  # the box stands at row 5, column 7
    bad, _ = with_mask(given, World([0] * 10, [], []), shot, np.roll(given.masks[shot], (4, 4), (0, 1)))
    first, *others = examine(bad, nothing, delta=0.6)[0].suspects
    assert (first.name, first.shot, others) == ("dog", shot + 1, [])
    assert "moved: it fits the photo better 17 % of the width to the left and 17 % of the height up" in first.reason


def test_another_thing_is_named_by_its_features_where_the_maps_do_not_tell():
    given, answers = world((5,), negatives=0)

    def looking(kinds):
        """Channel 0 around the boxes, channel 1 or 2 in them."""
        maps = torch.zeros(5, 3, SIDE, SIDE)
        for shot, kind in enumerate(kinds):
            inside = torch.from_numpy(given.masks[shot])
            maps[shot, 0], maps[shot, kind] = (~inside).float(), inside.float()
        return dataclasses.replace(given, features=((maps,), (maps,)))

    assert examine(looking([1, 1, 1, 1, 1]), answers, delta=0.6)[0].suspects == ()
    (one,) = examine(looking([1, 1, 1, 2, 1]), answers, delta=0.6)[0].suspects
    assert (one.name, one.shot) == ("dog", 4)
    assert "looks like another thing" in one.reason


def test_a_photo_of_another_class_is_named_and_so_is_the_class():
    given, answers = world()
    answers.kinds[1] = 1  # given for dog, shows a cat
    examination, _ = examine(given, answers, delta=0.6)
    first = examination.suspects[0]
    assert (first.name, first.shot) == ("dog", 2)
    assert "'cat'" in first.reason
    assert examination.shots[1].claimed_by == "cat"


def test_of_two_shots_the_one_that_another_class_claims_is_named_and_sets_nothing():
    given, answers = world((2, 5))
    answers.kinds[1] = 1  # the second photo of dog shows a cat: the two do not find each other, the cats find it
    examination, _ = examine(given, answers, delta=0.6)
    assert [(one.name, one.shot) for one in examination.suspects] == [("dog", 2)]
    assert "looks like 'cat'" in examination.suspects[0].reason
    assert examination.suspects[0].sureness >= 0.5
    assert examination.classes[0].positives == 1


def test_a_mask_without_a_pixel_is_certainly_wrong():
    given, answers = world()
    bad = with_mask(given, answers, 3, np.zeros((SIDE, SIDE), bool))
    examination, _ = examine(*bad, delta=0.6)
    assert [(one.name, one.shot, one.sureness) for one in examination.suspects] == [("dog", 4, 1.0)]
    assert "without a pixel" in examination.suspects[0].reason
    assert examination.certain
    assert examination.shots[3].iou is None


def test_a_mask_of_next_to_nothing_and_one_of_everything_are_told_without_others():
    given, answers = world((2,), negatives=0)
    masks, marked = given.masks.copy(), np.array([0.0001, 1.0])
    masks[1] = True
    given = dataclasses.replace(given, masks=masks, marked=marked)
    suspects = examine(given, answers, delta=0.6)[0].suspects
    assert [(one.shot, one.sureness > 0.5) for one in suspects] == [(1, True), (2, False)]
    assert "0.01 %" in suspects[0].reason
    assert "whole photo" in suspects[1].reason


def test_a_shot_is_named_once():
    given, answers = world()
    masks = given.masks.copy()
    masks[0] = ~masks[0]
    pixels = given.pixels.copy()
    pixels[0] = pixels[1]
    bad = dataclasses.replace(given, masks=masks, pixels=pixels, marked=masks.mean(axis=(1, 2)))
    named = [(one.name, one.shot) for one in examine(bad, answers, delta=0.6)[0].suspects]
    assert len(named) == len(set(named)) > 0


def test_the_same_photo_twice_is_found_whatever_its_compression():
    given, answers = world()
    pixels = given.pixels.copy()
    pixels[3] = np.clip(pixels[1].astype(int) + np.random.default_rng(0).integers(-1, 2, pixels[1].shape), 0, 255)
    examination, _ = examine(dataclasses.replace(given, pixels=pixels), answers, delta=0.6)
    assert [(one.name, one.shot, one.sureness) for one in examination.suspects] == [("dog", 4, 1.0)]
    assert "same photo as shot 2" in examination.suspects[0].reason
    assert (1, 3) not in answers.asked  # a photo that looks for itself proves nothing
    assert (3, 1) not in answers.asked


def test_a_photo_under_two_classes_is_wrong_where_both_mark_the_same_place():
    given, answers = world()
    pixels, masks = given.pixels.copy(), given.masks.copy()
    pixels[7], masks[7] = pixels[2], masks[2]
    two = dataclasses.replace(given, pixels=pixels, masks=masks)
    examination, _ = examine(two, answers, delta=0.6)
    assert [(one.name, one.shot) for one in examination.suspects if one.sureness == 1] == [("cat", 3)]
    assert "shot 3 of 'dog'" in examination.suspects[0].reason
    masks[7] = np.roll(masks[2], 10, axis=0)
    examination, _ = examine(dataclasses.replace(two, masks=masks), answers, delta=0.6)
    assert not examination.certain  # a dog and a cat in one photo
    assert not [pair for pair in answers.asked if pair[0] == 7 and pair[1] < 5]  # it is no photo without a dog


def test_negatives_that_equal_a_support_are_named_and_not_believed():
    given, answers = world(negatives=3)
    pixels = given.pixels.copy()
    pixels[10:] = pixels[0]
    examination, _ = examine(dataclasses.replace(given, pixels=pixels), answers, delta=0.6)
    assert [(one.name, one.shot, one.sureness) for one in examination.suspects] == [("dog", 1, 1.0)]
    assert "among the negatives" in examination.suspects[0].reason
    assert examination.classes[0].negatives == 0
    plain, _ = examine(*world(negatives=0), delta=0.6)
    assert examination.classes[0].threshold == pytest.approx(plain.classes[0].threshold, abs=0.1)


def test_a_negative_that_shows_a_class_is_remarked():
    given, answers = world()
    answers.kinds[11] = 1
    examination, _ = examine(given, answers, delta=0.6)
    assert examination.remarks == ("negative 2 seems to show 'cat'; if it does, take it out",)


def test_a_photo_of_a_class_that_shows_another_is_remarked_and_moves_little():
    given, answers = world((5, 6))
    plain, _ = examine(given, answers, delta=0.6)

    def ask(photo, shots, scale):
        found = answers(photo, shots, scale)
        if photo == 2 and min(shots) >= 5:  # shot 3 of dog has a cat in its corner, which nobody marked
            found[:, -4:, -4:] = torch.maximum(found[:, -4:, -4:], torch.tensor(4.0))
        return found

    examination, _ = examine(given, ask, delta=0.6)
    assert examination.remarks == ("shot 3 of 'dog' seems to show 'cat' too",)
    assert examination.shots[2].shows == ("cat",)
    assert examination.suspects == ()
    assert examination.classes[1].threshold == pytest.approx(plain.classes[1].threshold, abs=0.1)


# ------------------------------------------------------------------------------------------------------ near-duplicates


def with_frames(count, first=4):
    """Some photos of a class and ``count`` more frames of the first's scene, which find each other very well."""
    given, answers = world((first, 4), negatives=3)
    frames = [np.random.default_rng(seed).integers(-12, 13, given.pixels[0].shape) for seed in range(count)]
    pixels = [np.clip(given.pixels[0].astype(int) + grain, 0, 255).astype(np.uint8) for grain in frames]
    order = [*range(first), *[0] * count, *range(first, len(given.pixels))]  # what each photo shows
    shots = [*range(first), *[0] * count, *range(first, first + 4)]
    new = photos(
        [given.masks[shot] for shot in shots],
        [*given.pixels[:first], *pixels, *given.pixels[first:]],
        [int(given.class_index[shot]) for shot in shots],
    )

    def ask(photo, others, scale):
        found = [answers.answer(order[photo], order[other]) for other in others]
        frame = [order[photo] == order[other] == 0 for other in others]
        return torch.stack([6 + one.clamp(-3) if near else one for one, near in zip(found, frame, strict=True)])

    return new, ask


@pytest.mark.parametrize("count", [1, 2, 4])
def test_more_frames_of_one_scene_move_no_threshold_and_are_remarked(count):
    alone, frames = (examine(*with_frames(more), delta=0.6)[0] for more in (0, count))
    assert frames.classes[0].threshold == pytest.approx(alone.classes[0].threshold, abs=0.01 * count)
    assert frames.classes[0].offset == pytest.approx(alone.classes[0].offset, abs=0.5)
    assert frames.classes[0].interval[0] <= alone.classes[0].interval[0] + 0.02  # they make nothing surer
    assert alone.remarks == ()
    numbers = ", ".join(str(shot) for shot in (1, *range(5, 4 + count)))
    assert frames.remarks == (
        f"shots {numbers} and {4 + count} of 'dog' are nearly the same photo and count like one; "
        "others of other places would say more",
    )


def test_shots_that_are_all_frames_of_one_scene_change_nothing():
    given, ask = with_frames(3, first=1)
    plain = examine(*with_frames(0, first=1), delta=0.6)[0].classes[0]
    found = examine(given, ask, delta=0.6)[0].classes[0]
    assert found.positives == 0
    assert found.threshold == pytest.approx(plain.threshold, abs=1e-6)
    assert found.offset == 0


# ------------------------------------------------------------------------------------------------------ little to go on


def test_one_shot_alone_is_examined_and_changes_nothing():
    given, answers = world((1,), negatives=0)
    examination, settings_ = examine(given, answers, delta=0.6)
    assert settings_.calibration is None
    assert settings_.thresholds.tolist() == pytest.approx([0.6])
    (one,) = examination.classes
    assert (one.calibrated, one.positives, one.foreign, one.negatives) == (False, 0, 0, 0)
    assert (one.threshold, one.offset) == (0.6, 0.0)
    assert one.interval[1] - one.interval[0] > 0.4
    assert "proves little" in one.advice
    assert (examination.shots[0].score, examination.shots[0].iou) == (None, None)
    assert (
        "as the model asks; no photo could be asked for it, so how many of its answers are right is not known"
        in str(one)
    )


def test_shots_without_a_mask_take_part():
    given, answers = world()
    tagged = dataclasses.replace(given, tagged=np.ones(10, bool), masks=np.ones_like(given.masks), marked=np.ones(10))
    examination, settings_ = examine(tagged, answers, delta=0.6)
    assert [(one.calibrated, one.positives, one.offset) for one in examination.classes] == [(True, 5, 0.0)] * 2
    assert all("% of answers right" in str(one) for one in examination.classes)
    assert all(shot.score is not None and shot.iou is None for shot in examination.shots)
    assert examination.suspects == ()
    assert settings_.calibration is not None


@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data())
def test_whatever_the_masks_and_answers_all_numbers_are_finite(data):
    shots = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    given, _ = world(tuple(shots[:2]), negatives=data.draw(st.integers(0, 2)))
    count = len(given.class_index)
    masks = given.masks.copy()
    for shot in range(count):
        kind = data.draw(st.sampled_from(["box", "pixel", "none", "all"]))
        if kind == "pixel":
            masks[shot] = False
            masks[shot, 5, 7] = True
        elif kind != "box":
            masks[shot] = kind == "all"
    tagged = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    masks[tagged] = True
    given = dataclasses.replace(given, masks=masks, tagged=tagged, marked=masks.mean(axis=(1, 2)))
    size = data.draw(st.sampled_from([0.0, 1.0, 100.0]))

    def ask(photo, shots, scale):
        generator = torch.Generator().manual_seed(photo)
        return size * torch.randn(len(shots), 6, 6, generator=generator)

    examination, settings_ = examine(given, ask, delta=data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    text = json.dumps(examination.to_dict(), allow_nan=False)
    assert Examination.from_dict(json.loads(text)) == examination
    assert str(examination)
    if settings_.calibration is not None:
        for values in (settings_.calibration.offsets, settings_.calibration.cuts, settings_.calibration.slopes):
            assert values.isfinite().all()
            assert values.dtype == torch.float32


# ---------------------------------------------------------------------------------------------------- on a toy network


def toy_supports(count=4, classes=("red", "blue")):
    """Boxes of a class's colour on noise."""
    colours = {"red": (250, 20, 20), "blue": (20, 20, 250), "green": (20, 250, 20), "white": (250, 250, 250)}
    return {
        name: [
            Shot(*scene(50 * way + number, ((number * 5) % 15, (number * 7 + way) % 15), colours[name]))
            for number in range(count)
        ]
        for way, name in enumerate(classes)
    }


def toy_negatives(count=3):
    return [
        np.random.default_rng(900 + number).integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8) for number in range(count)
    ]


def test_without_calibrate_and_with_one_shot_alone_nothing_changes():
    model, supports = toy(), toy_supports(1)
    plain, calibrated = model.encode(supports), model.encode(supports, calibrate=True)
    assert plain.examination is None
    assert same_supports(plain, calibrated)
    assert calibrated.calibration is None
    assert calibrated.examination is not None
    query, _ = scene(7, (3, 3), (250, 20, 20))
    assert same(model.predict(query, plain), model.predict(query, calibrated))


def test_calibrated_supports_have_the_features_of_plain_ones_and_probabilities_for_scores():
    model, supports = toy(), toy_supports()
    plain = model.encode(supports)
    calibrated = model.encode(supports, calibrate=True, negatives=toy_negatives(), scales="whole")
    assert calibrated.source != plain.source
    assert same_supports(dataclasses.replace(calibrated, thresholds=plain.thresholds, source=plain.source), plain)
    assert calibrated.thresholds.tolist() == [0.5, 0.5]
    assert calibrated.offsets.shape == (2,)
    assert calibrated.report == str(calibrated.examination)
    assert "not examined" in plain.report
    for seed in range(4):
        image, _ = scene(600 + seed, (4, 2 * seed), (250, 20, 20))
        prediction = model.predict(image, calibrated)
        assert prediction.present == {"red": True, "blue": False}
        assert 0 <= prediction.background.min() <= prediction.background.max() <= 1
        for name, score in prediction.scores.items():
            assert prediction.present[name] == (score >= 0.5)


def test_a_photo_passes_the_backbone_once():
    model = toy()
    with backbone_passes(model) as passes:
        whole = model.encode(toy_supports(3), calibrate=True, negatives=toy_negatives(2), scales="whole")
    assert sum(passes) == 6 + 2
    small = toy()
    small.max_memory = 1  # no room for a single query
    with backbone_passes(small) as passes:
        scarce = small.encode(toy_supports(3), calibrate=True, negatives=toy_negatives(2), scales="whole")
    assert sum(passes) == 6 + 6 + 2
    assert scarce.examination == whole.examination


@settings(max_examples=8, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), classes=st.permutations(["red", "blue", "green"]))
def test_the_order_of_shots_and_classes_does_not_matter(order, classes):
    model, negatives = toy(), toy_negatives()
    supports = toy_supports(4, ("red", "blue", "green"))
    supports["red"][2] = Shot(supports["red"][2].image, ~supports["red"][2].mask)
    other = {name: [supports[name][position] for position in order] for name in classes}
    first = model.encode(supports, calibrate=True, negatives=negatives, negatives_per_class=5)
    second = model.encode(other, calibrate=True, negatives=negatives[::-1], negatives_per_class=5)
    for name in classes:
        here, there = first.names.index(name), second.names.index(name)
        for field in CALIBRATION:
            one, two = getattr(first.calibration, field)[here], getattr(second.calibration, field)[there]
            assert one == two
        found, again = first.examination.classes[here], second.examination.classes[there]
        assert found == again
    named = {(one.name, order.index(one.shot - 1) + 1, one.reason, one.sureness) for one in first.examination.suspects}
    assert named == {(one.name, one.shot, one.reason, one.sureness) for one in second.examination.suspects}


def test_a_hundred_classes_of_five_shots_are_examined_within_bounds():
    model = toy()
    supports = {
        f"class {way}": [
            Shot(*scene(1000 * way + number, ((number * 5 + way) % 15, (number * 7 + way) % 15))) for number in range(5)
        ]
        for way in range(100)
    }
    encoded = model.encode(supports, calibrate=True, negatives_per_class=3, scales="whole")
    assert encoded.examination.pairs == 100 * 5 * 4 + 100 * 3 * 5
    assert len(encoded.examination.classes) == len(encoded.calibration.offsets) == 100


def test_asked_again_the_answer_is_the_same():
    first, second = (toy().examine(toy_supports(), negatives=toy_negatives()) for _ in range(2))
    assert first == second
    assert all((one == two).all() for one, two in zip(first.found, second.found, strict=True))


def test_a_class_that_is_absent_changes_no_mask():
    model = toy()
    alone = model.encode(toy_supports(4, ("red", "blue")), calibrate=True, scales="whole")
    image, _ = scene(77, (3, 3), (250, 20, 20))
    image[14:22, 12:20] = (20, 20, 250)
    answer = model.predict(image, alone)
    assert answer.present == {"red": True, "blue": True}
    green = model.encode(toy_supports(4, ("green",)), calibrate=True, scales="whole")
    both = join(alone, green)
    more = model.predict(image, both)
    assert more.present == {"red": True, "blue": True, "green": False}
    assert np.array_equal(more.mask, answer.mask)
    assert np.array_equal(more.background, answer.background)
    assert set(np.unique(answer.mask)) == {0, 1, 2}


def join(first, second):
    """Two calibrated sets of one model as one."""
    numbers = {
        field: torch.cat([getattr(first.calibration, field), getattr(second.calibration, field)])
        for field in CALIBRATION
    }
    return dataclasses.replace(
        first,
        names=first.names + second.names,
        class_index=torch.cat([first.class_index, second.class_index + len(first)]),
        features=tuple(
            tuple(torch.cat(maps) for maps in zip(*levels, strict=True))
            for levels in zip(first.features, second.features, strict=True)
        ),
        masks=torch.cat([first.masks, second.masks]),
        tagged=torch.cat([first.tagged, second.tagged]),
        thresholds=torch.cat([first.thresholds, second.thresholds]),
        calibration=dataclasses.replace(first.calibration, **numbers),
    )


def test_thresholds_set_by_hand_win():
    model, supports = toy(), toy_supports()
    assert model.encode(supports, calibrate=True, threshold=0.9).thresholds.tolist() == pytest.approx([0.9, 0.9])
    some = model.encode(supports, calibrate=True, threshold={"blue": 0.2})
    assert some.thresholds.tolist() == pytest.approx([0.5, 0.2])
    assert some.calibration is not None
    assert some.with_thresholds(0.7).thresholds.tolist() == pytest.approx([0.7, 0.7])
    with pytest.raises(ValueError, match="a threshold was given for 'cow'"):
        model.encode(supports, calibrate=True, threshold={"cow": 0.2})


def test_what_cannot_be_is_refused_in_a_sentence():
    model, supports = toy(), toy_supports(2)
    with pytest.raises(ValueError, match="negatives serve to calibrate"):
        model.encode(supports, negatives=toy_negatives())
    with pytest.raises(ValueError, match="negatives must be a list"):
        model.examine(supports, negatives="photo.jpg")
    with pytest.raises(ValueError, match="negative 2"):
        model.examine(supports, negatives=[toy_negatives()[0], np.zeros((2, 2, 3), np.uint8)])
    authors = toy("authors")
    with pytest.raises(ValueError, match="calibration is for the protocol 'paper'"):
        authors.encode(supports, calibrate=True)
    with pytest.raises(ValueError, match="calibrated for the protocol 'paper'"):
        authors.predict(toy_negatives()[0], model.encode(supports, calibrate=True))
    assert authors.examine(supports).classes[0].name == "red"


def test_calibration_and_examination_are_saved(tmp_path):
    model = toy()
    supports = toy_supports()
    supports["red"][1] = Shot(supports["red"][1].image, ~supports["red"][1].mask)
    saved = model.encode(supports, calibrate=True, negatives=toy_negatives())
    saved.save(tmp_path / "set.safetensors")
    loaded = SupportSet.load(tmp_path / "set.safetensors")
    assert same_supports(saved, loaded)
    assert loaded.examination == saved.examination
    assert loaded.report == saved.report
    for field in CALIBRATION:
        assert torch.equal(getattr(loaded.calibration, field), getattr(saved.calibration, field))
    image, _ = scene(77, (3, 3), (250, 20, 20))
    assert same(model.predict(image, saved), model.predict(image, loaded))


# -------------------------------------------------------------------------------------------------- the embedded model


def test_the_embedded_model_names_an_inverted_mask(model: FewShotSegmenter):
    def shot(number, invert=False):
        image = photo(number, 96, 96)
        mask = np.zeros((96, 96), dtype=bool)
        row, column = 10 + 8 * number, 50 - 8 * number
        mask[row : row + 36, column : column + 36] = True
        image[mask] = (np.indices((36, 36)).sum(axis=0) // 6 % 2 * 255).reshape(-1, 1)  # a chequered thing
        return image, ~mask if invert else mask

    examination = model.examine({"board": [shot(number, invert=number == 1) for number in range(4)]})
    assert (examination.suspects[0].name, examination.suspects[0].shot) == ("board", 2)
    assert [one.shape for one in examination.found] == [(72, 72)] * 4
