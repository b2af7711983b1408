"""FewShotSegmenter: the contract on the embedded model, and on a toy network where many predictions are needed."""

import contextlib
import dataclasses
import io
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import fscs_sdk
from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.devices import choose_device, choose_dtype, multiplies_bfloat16
from fscs_sdk.images import ImageWarning
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.baselines.ablations import UnmaskedASNet
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.prediction import Failure
from fscs_sdk.segmenter import PHOTOS_AHEAD, _Decoded
from fscs_sdk.streaming import Failed, Transfers, run
from fscs_sdk.weights.manifest import PACKAGE_FOLDER

CLOSE = 1e-5  # the most that another order of the same sums may change a map
PNG = io.BytesIO()
Image.fromarray(photo(7)).save(PNG, "PNG")
PNG_BYTES = PNG.getvalue()


class ToyBackbone(torch.nn.Module):
    """Stands in for a backbone: the photo's colours on a grid of 4 x 4, the same for every level."""

    def forward(self, photos):
        colors = F.adaptive_avg_pool2d(photos.float() / 255, 4)
        return ((colors,), (colors,), (colors,))


class ToyHead(torch.nn.Module):
    """Stands in for a head: how alike is each query colour to the support's mean colour under its mask?"""

    def forward(self, query, support, support_mask):
        colors = support[0][0]
        weights = torch.ones_like(colors[:, :1])
        if support_mask is not None:
            weights = F.adaptive_avg_pool2d(support_mask[:, None], 4) + 1e-6
        prototype = (colors * weights).sum((2, 3)) / weights.sum((2, 3))
        logits = 30 * (torch.einsum("qchw,pc->phw", query[0][0], prototype) - 0.9)
        return torch.stack([-logits, logits], dim=1)


def toy(protocol="paper"):
    network = FewShotNetwork(ToyBackbone(), ToyHead(), 32)
    return FewShotSegmenter(network, name="toy", device="cpu", protocol=protocol)


def check_contract(prediction, supports, image):
    """What every prediction promises, whatever the weights."""
    names, (height, width) = supports.names, image.shape[:2]
    assert prediction.names == names
    assert list(prediction.scores) == list(prediction.present) == list(names)
    assert all(type(value) is float and 0 <= value <= 1 for value in prediction.scores.values())
    assert all(type(value) is bool for value in prediction.present.values())
    assert prediction.image.dtype == np.uint8
    assert (prediction.image == image).all()
    assert prediction.foreground.dtype == prediction.background.dtype == np.float32
    assert prediction.foreground.shape == (len(names), height, width)
    assert prediction.background.shape == prediction.mask.shape == (height, width)
    for maps in (prediction.foreground, prediction.background):
        assert maps.min() >= 0
        assert maps.max() <= 1
    check_presence(prediction, supports.thresholds)
    check_mask(prediction)


def check_presence(prediction, thresholds):
    for (name, score), threshold in zip(prediction.scores.items(), thresholds.tolist(), strict=True):
        assert prediction.present[name] == (score >= threshold)


def check_mask(prediction):
    """Eq. 5, and that no absent class is anywhere."""
    assert prediction.mask.dtype == (np.uint8 if len(prediction.names) <= 255 else np.uint16)
    present = np.array([prediction.present[name] for name in prediction.names])
    assert present[np.unique(prediction.mask[prediction.mask > 0]).astype(int) - 1].all()
    best = np.where(present[:, None, None], prediction.foreground, -1).max(axis=0)
    chosen = np.concatenate([prediction.background[None], prediction.foreground])
    chosen = np.take_along_axis(chosen, prediction.mask[None].astype(int), axis=0)[0]
    assert (chosen >= np.maximum(best, prediction.background) - 1e-6).all()


def same(first, second):
    """Bit for bit."""
    return (
        (first.names, first.scores, first.present) == (second.names, second.scores, second.present)
        and first.mask.dtype == second.mask.dtype
        and all(
            np.array_equal(getattr(first, name), getattr(second, name))
            for name in ("foreground", "background", "mask", "image")
        )
    )


def same_supports(first, second):
    tensors = [(s.class_index, s.masks, s.tagged, s.thresholds, *itertools.chain(*s.features)) for s in (first, second)]
    texts = [(supports.names, supports.model, supports.source) for supports in (first, second)]
    return texts[0] == texts[1] and all(map(torch.equal, *tensors))


def assert_close(first, second):
    """Up to rounding; so where two answers are equally probable, or a score is its threshold, no mask is compared."""
    np.testing.assert_allclose(list(first.scores.values()), list(second.scores.values()), atol=CLOSE)
    np.testing.assert_allclose(first.foreground, second.foreground, atol=CLOSE)
    np.testing.assert_allclose(first.background, second.background, atol=CLOSE)


@contextlib.contextmanager
def backbone_passes(model):
    """A list that receives the number of photos of every pass through the backbone."""
    passes = []
    handle = model.network.backbone.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    try:
        yield passes
    finally:
        handle.remove()


@contextlib.contextmanager
def pairs_in_the_head(model):
    """A list that receives the number of pairs of every pass through the head."""
    pairs = []
    handle = model.network.head.register_forward_hook(lambda _, inputs, __: pairs.append(len(inputs[1][0][0])))
    try:
        yield pairs
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def pets(model):
    """Three classes: masked, mixed, and tagged only."""
    mask = box_mask()
    return model.encode(
        {"dog": [photo(1), mask], "cat": [Shot(photo(2), mask), Shot(photo(3))], "bird": [Shot(photo(4))]}
    )


@pytest.fixture(scope="module")
def authors(model):
    """The same network under the authors' protocol, and so of the same identity."""
    return FewShotSegmenter(model.network, name="asnet-mini", device="cpu", protocol="authors")


# ------------------------------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize("protocol", ["paper", "authors"])
@pytest.mark.parametrize("threshold", [0, 0.3, 0.5, 0.9, 1])
def test_every_promise_of_a_prediction(model, authors, pets, protocol, threshold):
    supports = pets.with_thresholds(threshold)
    segmenter = model if protocol == "paper" else authors
    prediction = segmenter.predict(photo(5), supports)
    check_contract(prediction, supports, photo(5))
    if threshold == 0:
        assert all(prediction.present.values())


def test_a_class_reported_absent_is_nowhere_in_the_mask(model, pets):
    query = photo(1)
    everything = model.predict(query, pets.with_thresholds(0))
    shown = [name for name in pets.names if everything.class_mask(name).any()]
    assert shown, "no class has a pixel, so this test could not fail: choose another photo"
    for name in shown:
        score = everything.scores[name]
        supports = pets.with_thresholds(0).with_thresholds({name: min(1.0, score + 1e-3)})
        prediction = model.predict(query, supports)
        check_contract(prediction, supports, query)
        if score < 1:
            assert not prediction.present[name]
            assert not prediction.class_mask(name).any()


@settings(max_examples=80, deadline=None, database=None)
@given(data=st.data())
def test_every_promise_for_any_ways_shots_thresholds_and_sizes(data):
    segmenter = toy(data.draw(st.sampled_from(["paper", "authors"])))
    shots = st.tuples(st.integers(0, 50), st.booleans())
    classes = data.draw(st.lists(st.lists(shots, min_size=1, max_size=4), min_size=1, max_size=5))
    supports = {
        f"class {number}": [Shot(photo(seed, 20, 24), box_mask(20, 24) if masked else None) for seed, masked in shots]
        for number, shots in enumerate(classes)
    }
    threshold = {name: data.draw(st.sampled_from([0, 0.3, 0.5, 0.9, 1])) for name in supports}
    query = photo(data.draw(st.integers(0, 50)), data.draw(st.integers(8, 70)), data.draw(st.integers(8, 70)))
    encoded = segmenter.encode(supports, threshold=threshold)
    prediction = segmenter.predict(query, encoded)
    check_contract(prediction, encoded, query)
    if segmenter.protocol == "paper":
        np.testing.assert_allclose(prediction.background, 1 - prediction.foreground.mean(axis=0), atol=1e-6)
    assert same(prediction, segmenter.predict(query, encoded))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 300), (211, 33), (288, 288)])
def test_answers_have_the_photos_own_size(model, pets, height, width):
    query = photo(1, height, width)
    check_contract(model.predict(query, pets), pets, query)


def test_the_order_of_the_classes_only_orders_the_answers(model):
    classes = {"dog": [photo(1), box_mask()], "cat": [(photo(2), box_mask()), (photo(3), box_mask())]}
    classes["bird"] = Shot(photo(4))
    first = model.predict(photo(1), classes)
    for order in itertools.permutations(classes):
        second = model.predict(photo(1), {name: classes[name] for name in order})
        assert second.names == order
        back = [second.names.index(name) for name in first.names]
        reordered = dataclasses.replace(
            second,
            names=first.names,
            scores={name: second.scores[name] for name in first.names},
            present={name: second.present[name] for name in first.names},
            foreground=second.foreground[back],
        )
        assert_close(first, reordered)
        ranked = np.sort(np.concatenate([first.foreground, first.background[None]]), axis=0)
        clear = ranked[-1] - ranked[-2] > 10 * CLOSE
        if all(abs(score - 0.5) > CLOSE for score in first.scores.values()):
            assert clear.any()
            for name in classes:
                assert np.array_equal(first.class_mask(name)[clear], second.class_mask(name)[clear])


def test_a_class_is_judged_without_regard_to_the_others(model, pets):
    together = model.predict(photo(5), pets)
    alone = {"dog": [photo(1), box_mask()], "bird": Shot(photo(4))}
    for name, shots in alone.items():
        prediction = model.predict(photo(5), {name: shots})
        index = together.names.index(name)
        assert prediction.scores[name] == pytest.approx(together.scores[name], abs=CLOSE)
        np.testing.assert_allclose(prediction.foreground[0], together.foreground[index], atol=CLOSE)


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_the_same_shot_many_times_is_one_shot(model, authors, protocol):
    segmenter = model if protocol == "paper" else authors
    shot = (photo(1), box_mask())
    assert_close(segmenter.predict(photo(5), {"dog": [shot]}), segmenter.predict(photo(5), {"dog": [shot] * 5}))


def test_another_shot_changes_the_answer(model):
    one = model.predict(photo(5), {"dog": [photo(1), box_mask()]})
    two = model.predict(photo(5), {"dog": [(photo(1), box_mask()), (photo(2), box_mask())]})
    assert not np.allclose(one.foreground, two.foreground, atol=10 * CLOSE)


def test_a_mask_says_more_than_a_tag(model):
    tagged = model.predict(photo(5), {"dog": Shot(photo(1))})
    masked = model.predict(photo(5), {"dog": Shot(photo(1), box_mask())})
    assert not np.allclose(tagged.foreground, masked.foreground, atol=10 * CLOSE)


def test_a_tag_is_a_mask_of_the_whole_photo(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mask is full
        full = model.encode({"dog": [photo(1), np.ones((60, 80), dtype=np.bool_)]})
    tagged = model.encode({"dog": Shot(photo(1))})
    assert tagged.tagged.tolist() == [True]
    assert full.tagged.tolist() == [False]
    assert_close(model.predict(photo(5), full), model.predict(photo(5), tagged))


def test_for_one_way_and_one_shot_the_protocols_agree(model, authors):
    supports = model.encode({"dog": [photo(1), box_mask()]})
    without = FewShotSegmenter(model.network, name="asnet-mini", device="cpu", edges=False)
    paper, other = without.predict(photo(5), supports), authors.predict(photo(5), supports)
    assert other.scores["dog"] == pytest.approx(paper.scores["dog"], abs=CLOSE)
    # Not the maps: paper brings probabilities to the photo's size, authors their logarithms. At its corners they meet.
    corners = (slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    np.testing.assert_allclose(other.foreground[corners], paper.foreground[corners], atol=CLOSE)
    np.testing.assert_allclose(other.background, 1 - other.foreground[0], atol=0.1)
    assert other.present == paper.present


def test_for_several_shots_the_protocols_differ(model, authors):
    supports = model.encode({"dog": [(photo(seed), box_mask()) for seed in (1, 2, 3)]})
    paper, other = model.predict(photo(5), supports), authors.predict(photo(5), supports)
    assert not np.allclose(paper.foreground, other.foreground, atol=10 * CLOSE)


def test_the_same_call_gives_the_same_answer(model, pets):
    first = model.predict(photo(5), pets)
    model.predict(photo(6), {"other": [photo(8), box_mask()]})  # leaves no trace
    assert same(first, model.predict(photo(5), pets))


def test_nothing_that_the_caller_passed_is_changed(model):
    query, support, mask = photo(5), photo(1), box_mask()
    tensor = torch.from_numpy(photo(2)).permute(2, 0, 1)
    before = [query.copy(), support.copy(), mask.copy(), tensor.clone()]
    for array in (query, support, mask):
        array.flags.writeable = False
    shots = [(support, mask), Shot(tensor)]
    classes = {"dog": shots}
    prediction = model.predict(query, classes)
    assert list(classes) == ["dog"]
    assert classes["dog"] is shots
    assert len(shots) == 2
    for array, copy in zip([query, support, mask, tensor], before, strict=True):
        assert (array == copy).all()
    prediction.image[:] = 0
    assert (query == before[0]).all()


# --------------------------------------------------------------------------------------------- the ways to the answer


def test_encoding_first_changes_nothing(model):
    classes = {"dog": [photo(1), box_mask()], "cat": [Shot(photo(2))]}
    assert same(model.predict(photo(5), classes), model.predict(photo(5), model.encode(classes)))


def test_a_list_a_loop_and_a_stream_are_the_same(model, pets):
    queries = [photo(5), photo(6, 40, 30), photo(7)]
    loop = [model.predict(query, pets) for query in queries]
    for answers in (model.predict(queries, pets), model.predict(tuple(queries), pets), [*model.stream(queries, pets)]):
        assert len(answers) == len(loop)
        assert all(map(same, answers, loop))


def test_a_list_of_one_gives_a_list_of_one(model, pets):
    answers = model.predict([photo(5)], pets)
    assert isinstance(answers, list)
    assert len(answers) == 1
    assert same(answers[0], model.predict(photo(5), pets))


def test_no_query_no_answer(model, pets):
    assert model.predict([], pets) == []
    assert list(model.stream(iter(()), pets)) == []


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 4], indirect=True)
def test_the_number_of_threads_changes_no_answer(model, threads):
    """Not even by rounding: of encoding, of one photo with several pairs, and of many photos."""
    classes = {"dog": [(photo(1), box_mask()), Shot(photo(3))], "cat": [photo(2), box_mask()]}
    queries = [photo(seed, 40 + seed, 60) for seed in range(5)]  # made once: their maker is not so exact
    supports = model.encode(classes)
    answers = model.predict(queries, supports)
    torch.set_num_threads(3)
    assert same_supports(supports, model.encode(classes))
    assert all(same(answer, model.predict(query, supports)) for answer, query in zip(answers, queries, strict=True))


def file_switches(call):
    """Calls and returns that go from one source file of the package to another, workers' work included."""
    package = str(Path(fscs_sdk.__file__).parent)
    files, switches = [], []

    def follow(frame, event, _):
        file = frame.f_code.co_filename
        if file.startswith(package) and event in ("call", "return"):
            before = files[-1:]
            files.append(file) if event == "call" else files.pop()
            if before and files and before != files[-1:]:
                switches.append((before[0], files[-1]))

    def followed():
        sys.setprofile(follow)
        try:
            call()
        finally:
            sys.setprofile(None)

    run(followed)  # by a worker, which does itself what would be shared with others
    return switches


def test_a_querys_way_leads_through_few_files(exact):
    """What a reader has to follow from a photo to its mask."""
    supports = exact.encode({"dog": [photo(1), box_mask()]})
    assert 50 < len(file_switches(lambda: exact.predict(PNG_BYTES, supports))) <= 100


@pytest.mark.parametrize("threads", [2, 4], indirect=True)
def test_a_stream_of_several_threads_is_bounded(threads):
    segmenter = toy()
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    taken = []
    stream = segmenter.stream((taken.append(seed) or photo(seed) for seed in range(100)), supports)
    assert iter(stream) is stream
    assert taken == []
    for count in range(1, 10):
        next(stream)
        assert len(taken) <= count + 2 * threads
    assert len(taken) == 9 + 2 * threads


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("way", ["stream", "list", "gpu"])
def test_a_bad_photo_can_be_skipped_and_keeps_its_place(model, pets, threads, way, tmp_path):
    good = PNG_BYTES
    bad = [b"", good[: len(good) // 2], tmp_path / "gone.png", object(), photo(1).astype(float) * 9]
    queries = [good, bad[0], good, *bad[1:], good]
    answers = {
        "stream": lambda: list(model.stream(iter(queries), pets, on_error="skip")),
        "list": lambda: model.predict(queries, pets),
        "gpu": lambda: list(ahead_of(model, queries, pets, on_error="skip")),
    }[way]()
    assert len(answers) == len(queries)
    expected = model.predict(good, pets)
    for query, answer in zip(queries, answers, strict=True):
        if query is good:
            assert same(answer, expected)
        else:
            assert isinstance(answer, Failure)
            assert answer.source is query
    reasons = [answer.reason for answer in answers if isinstance(answer, Failure)]
    assert reasons[0] == "query 2 is empty (0 bytes): save or copy it again"
    if way != "gpu":
        assert reasons[2] == f"'{tmp_path / 'gone.png'}' does not exist: check the path"
    assert all(": " in reason and "\n" not in reason for reason in reasons)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("way", ["stream", "gpu"])
def test_a_stream_goes_on_after_an_error(model, pets, threads, way):
    queries = [PNG_BYTES, b"", PNG_BYTES, b"text", PNG_BYTES]
    stream = model.stream(queries, pets) if way == "stream" else ahead_of(model, queries, pets)
    expected = model.predict(PNG_BYTES, pets)
    for number, query in enumerate(queries, start=1):
        if query is PNG_BYTES:
            assert same(next(stream), expected)
        else:
            with pytest.raises(ValueError, match=f"query {number} is "):
                next(stream)
    assert list(stream) == []
    with pytest.raises(ValueError, match="query 2 is empty"):
        model.predict(queries, pets, on_error="raise")


def test_what_is_asked_of_a_failure_names_its_reason(model, pets):
    (failure,) = model.predict([b""], pets)
    for copied in (failure, deepcopy(failure), pickle.loads(pickle.dumps(failure))):
        with pytest.raises(AttributeError, match="there is no present of a photo without an answer: query 1 is empty"):
            _ = copied.present
        assert copied == failure
    assert not hasattr(failure, "__array__")


def test_a_file_at_its_end_is_told_to_go_back(model, pets):
    written = io.BytesIO()
    Image.fromarray(photo(7)).save(written, "PNG")
    with pytest.raises(ValueError, match=r"the query has been read or written to its end: .* seek\(0\)"):
        model.predict(written, pets)
    written.seek(0)
    assert same(model.predict(written, pets), model.predict(PNG_BYTES, pets))


def test_a_source_of_photos_that_fails_ends_the_stream_all_the_same(model, pets):
    def photos():
        yield photo(1)
        raise OSError("the camera is gone")

    stream = model.stream(photos(), pets, on_error="skip")
    assert same(next(stream), model.predict(photo(1), pets))
    with pytest.raises(OSError, match="the camera is gone"):
        next(stream)


@pytest.mark.parametrize("queries", ["photos/", b"bytes", Path("a.jpg"), 7, None, Image.fromarray(photo(1)), photo(1)])
def test_what_is_not_many_photos_is_refused_in_one_sentence(model, pets, queries):
    with pytest.raises(ValueError, match=r"many photos are a list or another iterable of them, not .*; for one photo"):
        model.stream(queries, pets)


def test_an_unknown_rule_for_errors_is_refused(model, pets):
    with pytest.raises(ValueError, match="on_error 'ignore' is unknown; choose raise or skip"):
        model.stream([photo(1)], pets, on_error="ignore")
    with pytest.raises(ValueError, match="on_error 'ignore' is unknown"):
        model.predict([photo(1)], pets, on_error="ignore")


def test_the_limit_of_pixels_is_an_option_wherever_a_photo_is_read(model, pets):
    large = photo(1, 100, 101)
    calls = {
        "predict": lambda **limit: model.predict(large, pets, **limit),
        "predict a list": lambda **limit: model.predict([large], pets, on_error="raise", **limit),
        "stream": lambda **limit: list(model.stream([large], pets, **limit)),
        "encode": lambda **limit: model.encode({"dog": Shot(large)}, **limit),
        "supports of predict": lambda **limit: model.predict(photo(1, 9, 9), {"dog": Shot(large)}, **limit),
        "a mask": lambda **limit: model.encode({"dog": [large, box_mask(100, 101)]}, **limit),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=r"10100 pixels and the limit is 10099: .* raise max_pixels"):
            call(max_pixels=10_099)
        assert call(max_pixels=10_100) is not None, name
    failure = model.predict([large], pets, max_pixels=10, on_error="skip")[0]
    assert isinstance(failure, Failure)
    assert "raise max_pixels" in failure.reason


def test_a_threshold_can_be_given_with_the_photo(model, pets):
    score = model.predict(photo(5), pets).scores["dog"]
    assert model.predict(photo(5), pets, threshold=score).present["dog"]
    assert not model.predict(photo(5), pets, threshold={"dog": score + 1e-4}).present["dog"]
    classes = {"dog": [photo(1), box_mask()]}
    assert not model.predict([photo(5)], classes, threshold=1.0)[0].present["dog"]
    assert [answer.present["dog"] for answer in model.stream([photo(5)], pets, threshold=0.0)] == [True]
    with pytest.raises(ValueError, match="it must be a number from 0 to 1"):
        model.predict(photo(5), pets, threshold=2)


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_maps_are_made_when_they_are_asked_for(model, authors, pets, protocol):
    answer = (model if protocol == "paper" else authors).predict(photo(5), pets)
    assert not {"foreground", "background"} & set(vars(answer))
    copies = [
        deepcopy(answer),
        pickle.loads(pickle.dumps(answer)),
        dataclasses.replace(answer, names=answer.names),
    ]
    foreground = answer.foreground
    assert answer.foreground is foreground
    assert foreground.flags.writeable
    for other in copies:
        assert np.array_equal(other.foreground, foreground)
        assert np.array_equal(other.background, answer.background)
    with pytest.raises(AttributeError, match="a Prediction has no attribute 'maps'"):
        _ = answer.maps


def test_of_many_classes_in_a_large_photo_only_the_mask_takes_memory(tmp_path):
    """60 classes in 6 megapixels: their maps would take 1.4 GB."""
    code = (
        "import resource, numpy as np, sys, test_segmenter as t\n"
        "model = t.toy()\n"
        "supports = model.encode({str(n): [t.photo(n), t.box_mask()] for n in range(60)}, threshold=0.0)\n"
        "model.predict(t.photo(99, 50, 50), supports)\n"
        "image = np.zeros((2000, 3000, 3), np.uint8)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "answer = model.predict(image, supports)\n"
        "assert answer.mask.shape == (2000, 3000)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=240)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 150  # MB: the photo, its copy, the mask, and bands of all maps


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_a_stream_of_one_thread_takes_a_photo_only_when_its_answer_is_asked_for(threads):
    segmenter = toy()
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    taken = []

    def photos():
        for seed in range(5):
            taken.append(seed)
            yield photo(seed)

    stream = segmenter.stream(photos(), supports)
    assert iter(stream) is stream
    assert taken == []
    for count in range(1, 4):
        next(stream)
        assert taken == list(range(count))


def test_a_stream_encodes_its_supports_once_and_at_once():
    segmenter = toy()
    with backbone_passes(segmenter) as passes:
        stream = segmenter.stream([photo(5), photo(6)], {"dog": [photo(1), box_mask()], "cat": Shot(photo(2))})
        assert passes == [1, 1]
        list(stream)
        assert passes == [1, 1, 1, 1]


def test_a_bad_photo_ends_a_stream_only_when_it_is_reached():
    segmenter = toy()
    stream = segmenter.stream([photo(5), b"", photo(6)], {"dog": [photo(1), box_mask()]})
    next(stream)
    with pytest.raises(ValueError, match=r"query 2 is empty \(0 bytes\): save or copy it again"):
        next(stream)


# ---- As on a GPU -----------------------------------------------------------------------------------------------------


def ahead_of(segmenter, queries, supports, *, on_error="raise"):
    """The stream of a GPU, on the CPU."""
    numbered = ((query, f"query {n}") for n, query in enumerate(queries, start=1))
    answers = segmenter._stream_to_device(numbered, supports, 10**8)
    return map(lambda answer: answer.settle(on_error) if isinstance(answer, Failed) else answer, answers)


def test_the_stream_of_a_gpu_gives_the_same_answers(model, pets):
    queries = [photo(seed, 40 + seed, 60) for seed in range(5)]
    assert all(map(same, ahead_of(model, queries, pets), model.stream(queries, pets)))
    assert len(list(ahead_of(model, queries, pets))) == 5
    assert list(ahead_of(model, [], pets)) == []


def test_the_stream_of_a_gpu_is_bounded_and_one_behind():
    segmenter = toy()
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    taken = []
    stream = ahead_of(segmenter, (taken.append(n) or photo(n) for n in range(100)), supports)
    with backbone_passes(segmenter) as passes:
        for count in range(1, 4):
            next(stream)
            assert passes == [1] * (count + 1)  # the work of the next is given before an answer is waited for
            assert len(taken) == count + 1 + PHOTOS_AHEAD


def test_a_bad_photo_ends_the_stream_of_a_gpu_only_when_it_is_reached():
    segmenter = toy()
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    stream = ahead_of(segmenter, [photo(5), photo(6), b"", photo(7)], supports)
    next(stream)
    next(stream)
    with pytest.raises(ValueError, match=r"query 3 is empty \(0 bytes\): save or copy it again"):
        next(stream)


@pytest.fixture
def valueless(monkeypatch):
    """A model on the meta device, whose tensors have no values: what asks for one (item, bool, cpu, nonzero) raises."""
    segmenter = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    segmenter.device = torch.device("meta")
    for part in segmenter.network.parts:
        part.to("meta")
    monkeypatch.setattr(segmenter, "_autocast", lambda _: contextlib.nullcontext())  # knows no meta device
    return segmenter


def begin(segmenter, supports):
    """All of a query's work, and what fetches the answer."""
    resized = np.zeros((segmenter.network.input_side, segmenter.network.input_side, 3), np.uint8)
    return segmenter._begin(_Decoded(photo(5), resized[None]), supports, Transfers(segmenter.device))


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_no_answer_is_waited_for_before_it_is_fetched(valueless, pets, protocol):
    valueless.protocol = protocol
    fetch = begin(valueless, pets)
    with pytest.raises(NotImplementedError, match="meta"):
        fetch()


class CopiesBetweenDevices(TorchDispatchMode):
    """The sizes of what moved from one device to another."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [x for x in args if isinstance(x, torch.Tensor) and x.dim() > 0]
        devices = {x.device for x in (*tensors, out) if isinstance(x, torch.Tensor)}
        if len(devices) > 1:
            self.sizes.append(tuple(tensors[0].shape))
        return out


@pytest.mark.parametrize("fits", [True, False])
def test_supports_move_to_the_device_once(valueless, pets, fits):
    valueless.max_memory = 10**12 if fits else 1
    begin(valueless, pets)
    with CopiesBetweenDevices() as copies:
        begin(valueless, pets)
    side = valueless.network.input_side
    assert copies.sizes[:2] == [(1, side, side, 3), (60, 80, 3)]  # what the network sees, and the photo for its edges
    assert (len(copies.sizes) == 2) == fits
    other = dataclasses.replace(pets, thresholds=pets.thresholds / 2)
    assert valueless._near(pets) is not valueless._near(other)


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (1, 3), (3, 1), (2, 5)])
def test_every_photo_passes_the_backbone_once(model, ways, shots):
    classes = {str(way): [(photo(shots * way + shot), box_mask()) for shot in range(shots)] for way in range(ways)}
    with backbone_passes(model) as passes:
        supports = model.encode(classes)
    assert passes == [1] * ways * shots
    with backbone_passes(model) as passes:
        model.predict(photo(100), supports)
    assert passes == [1]


def test_the_supports_of_a_list_of_queries_pass_the_backbone_once(model):
    with backbone_passes(model) as passes:
        model.predict([photo(5), photo(6)], {"dog": [photo(1), box_mask()], "cat": Shot(photo(2))})
    assert sum(passes) == 2 + 2


def test_an_encoded_query_meets_any_number_of_supports(model, pets):
    with backbone_passes(model) as passes:
        query = model.encode_query(photo(5))
        answers = [model.infer(query, pets.with_thresholds(threshold)) for threshold in (0.2, 0.8)]
    assert passes == [1]
    assert query.size == (60, 80)
    assert torch.equal(answers[0].foreground, answers[1].foreground)
    assert np.array_equal(model.predict(photo(5), pets).foreground, answers[0].foreground.numpy())


def test_the_number_of_pairs_at_once_changes_no_answer(model, pets, monkeypatch):
    first = model.predict(photo(5), pets)
    for at_once in (1, 3):
        monkeypatch.setattr("fscs_sdk.segmenter.PAIRS_AT_ONCE", {"cpu": at_once})
        assert_close(first, model.predict(photo(5), pets))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda path: path, id="path"),
        pytest.param(str, id="string"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: io.BytesIO(path.read_bytes()), id="file object"),
        pytest.param(Image.open, id="PIL"),
        pytest.param(lambda path: np.asarray(Image.open(path)), id="numpy"),
        pytest.param(lambda path: torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1), id="torch"),
    ],
)
def test_a_photo_is_the_same_photo_in_every_form(model, form, tmp_path):
    path, mask = tmp_path / "photo.png", box_mask()
    path.write_bytes(PNG_BYTES)
    supports = model.encode({"dog": [form(path), mask]})
    assert same_supports(supports, model.encode({"dog": [photo(7), mask]}))
    assert same(model.predict(form(path), supports), model.predict(photo(7), supports))


@pytest.fixture(scope="module")
def exact(model):
    """The embedded model in float32, whatever the processor."""
    return FewShotSegmenter(model.network, name="asnet-mini", device="cpu", dtype="float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reduced_precision_runs_and_stays_near(exact, dtype):
    segmenter = FewShotSegmenter(exact.network, name="asnet-mini", device="cpu", dtype=dtype)
    classes = {"dog": [photo(1), box_mask()], "cat": Shot(photo(2))}
    supports = segmenter.encode(classes)
    kept = torch.float32 if dtype == "float32" else torch.float16
    assert all(feature.dtype == kept for feature in itertools.chain(*supports.features))
    prediction = segmenter.predict(photo(5), supports)
    check_contract(prediction, supports, photo(5))
    full = exact.predict(photo(5), exact.encode(classes))
    difference = np.abs(prediction.foreground - full.foreground)
    assert difference.mean() <= (0 if dtype == "float32" else 0.01)
    assert difference.max() <= (0 if dtype == "float32" else 0.1)


@pytest.mark.parametrize("hardware", [True, False])
def test_the_automatic_precision_follows_the_processor(model, hardware, monkeypatch):
    monkeypatch.setattr("fscs_sdk.devices.multiplies_bfloat16", lambda: hardware)
    monkeypatch.setattr("fscs_sdk.devices.has_onednn", lambda: True)
    segmenter = FewShotSegmenter(model.network, name="asnet-mini", device="cpu")
    assert segmenter.dtype == (torch.bfloat16 if hardware else torch.float32)
    assert toy().dtype == torch.float32  # what was measured was ASNet
    assert choose_dtype("auto", model.network, torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", toy().network, torch.device("cuda")) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx512_bf16": False, "amx_bf16": False, "sse4a": True}, False),
        ({"avx512_bf16": True, "amx_bf16": False, "sse4a": True}, True),  # AMD
        ({"avx512_bf16": True, "amx_bf16": False, "sse4a": False}, False),  # Intel without AMX: half of float32's speed
        ({"avx512_bf16": True, "amx_bf16": True, "sse4a": False}, True),
    ],
)
def test_the_processor_is_asked_for_a_bfloat16_that_is_fast(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert multiplies_bfloat16() is expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_precision_takes_supports_of_the_other(exact, dtype):
    reduced = FewShotSegmenter(exact.network, name="asnet-mini", device="cpu", dtype="bfloat16")
    first, second = (exact, reduced) if dtype == "float32" else (reduced, exact)
    classes = {"dog": [photo(1), box_mask()], "cat": Shot(photo(2))}
    own, foreign = (first.predict(photo(5), by.encode(classes)) for by in (first, second))
    assert np.abs(own.foreground - foreign.foreground).max() < (0.001 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_supports_answer_exactly_in_every_precision(exact, dtype, tmp_path):
    segmenter = FewShotSegmenter(exact.network, name="asnet-mini", device="cpu", dtype=dtype)
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    supports.save(tmp_path / "dog.safetensors")
    loaded = SupportSet.load(tmp_path / "dog.safetensors")
    assert same(segmenter.predict(photo(5), supports), segmenter.predict(photo(5), loaded))


@pytest.mark.parametrize(("limit", "device"), [(1, "cpu"), (2 * 10**8, "cuda"), (10**12, "cpu"), (10**12, "cuda")])
def test_a_memory_limit_changes_no_answer(exact, limit, device, monkeypatch):
    """The CPU's own limits are lifted, so that the memory limit is what decides, as on a device."""
    monkeypatch.setattr("fscs_sdk.segmenter.PAIRS_AT_ONCE", {"cpu": 1 if device == "cpu" else 32})
    monkeypatch.setattr("fscs_sdk.segmenter.PHOTOS_AT_ONCE", {"cpu": 1 if device == "cpu" else 8})
    classes = {f"class {seed}": [(photo(seed), box_mask()), Shot(photo(seed + 10))] for seed in range(2)}
    expected = exact.predict(photo(5), classes)
    limited = FewShotSegmenter(exact.network, name="x", device="cpu", dtype="float32", max_memory=limit)
    with backbone_passes(limited) as passes, pairs_in_the_head(limited) as pairs:
        prediction = limited.predict(photo(5), classes)
    assert sum(pairs) == 4
    assert (max(pairs) == 1) == (limit < 10**9 or device == "cpu")
    assert (max(passes) == 1) == (device == "cpu")
    assert_close(prediction, expected)


def test_many_classes_and_shots_fit_a_limit():
    """100 classes of 5 shots: the head sees a few pairs at a time, and every class is answered for itself."""
    segmenter = toy()
    supports = segmenter.encode(
        {f"class {way}": [Shot(photo(7 * way + k, 8, 8)) for k in range(5)] for way in range(100)}
    )
    segmenter = FewShotSegmenter(segmenter.network, name="toy", device="cpu", max_memory=1000)
    with pairs_in_the_head(segmenter) as pairs:
        prediction = segmenter.predict(photo(3), supports)
    assert set(pairs) == {1}
    assert len(pairs) == 500
    check_contract(prediction, supports, photo(3))
    assert_close(prediction, toy().predict(photo(3), supports))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_memory_limit_must_be_above_zero(model, limit):
    with pytest.raises(ValueError, match=f"max_memory is {limit}; it must be a number of bytes above 0"):
        FewShotSegmenter(model.network, name="x", device="cpu", max_memory=limit)
    with pytest.raises(ValueError, match=f"max_memory is {limit}"):
        FewShotSegmenter.from_pretrained(device="cpu", max_memory=limit)


def test_half_precision_runs(model):
    segmenter = FewShotSegmenter(model.network, name="asnet-mini", device="cpu", dtype="float16")
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    check_contract(segmenter.predict(photo(5), supports), supports, photo(5))


def repeated(supports, count):
    """The first shot of a set as ``count`` classes."""
    return dataclasses.replace(
        supports,
        names=tuple(f"class {number}" for number in range(1, count + 1)),
        class_index=torch.arange(count),
        features=tuple(tuple(f[:1].expand(count, -1, -1, -1) for f in level) for level in supports.features),
        masks=supports.masks[:1].expand(count, -1, -1),
        tagged=supports.tagged[:1].expand(count),
        thresholds=supports.thresholds[:1].expand(count),
    )


@pytest.mark.parametrize(("count", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_the_mask_holds_the_number_of_the_last_class(count, dtype):
    segmenter = toy()
    supports = repeated(segmenter.encode({"dog": Shot(photo(1))}), count).with_thresholds(1)
    supports = supports.with_thresholds({f"class {count}": 0.0})
    prediction = segmenter.predict(photo(1), supports)
    check_contract(prediction, supports, photo(1))
    assert prediction.mask.dtype == dtype
    assert prediction.mask.max() == count


# --------------------------------------------------------------------------------------------------------- supports


def support_forms(path, mask_path):
    """Every way to write the one shot of photo 7 with the box mask."""
    image, mask = photo(7), box_mask()
    return {
        "list": [image, mask],
        "tuple": (image, mask),
        "list of tuples": [(image, mask)],
        "list of lists": [[image, mask]],
        "tuple of lists": ([image, mask],),
        "shot": Shot(image, mask),
        "list of shots": [Shot(image, mask)],
        "paths": [path, str(mask_path)],
        "path and array": [str(path), mask],
        "bytes": [path.read_bytes(), mask_path.read_bytes()],
        "mask as 0 and 1": [image, mask.astype(np.uint8)],
        "mask as floats": [image, mask.astype(np.float32)],
        "mask as tensor": [image, torch.from_numpy(mask)],
    }


def test_every_form_of_a_shot_is_the_same_shot(tmp_path):
    segmenter = toy()
    path, mask_path = tmp_path / "photo.png", tmp_path / "mask.png"
    path.write_bytes(PNG_BYTES)
    Image.fromarray(box_mask()).save(mask_path)
    expected = segmenter.encode({"x": Shot(photo(7), box_mask())})
    assert len(expected) == 1
    for form, value in support_forms(path, mask_path).items():
        assert same_supports(segmenter.encode({"x": value}), expected), form


def test_the_source_of_supports_tells_what_they_were_made_from_and_not_how(exact):
    image, mask = photo(7), box_mask()
    classes = {"dog": [image, mask], "cat": Shot(photo(2))}
    source = exact.encode(classes).source
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        reduced = FewShotSegmenter(exact.network, name="other", device="cpu", dtype="bfloat16")
        assert reduced.encode(classes).source == source
    finally:
        torch.set_num_threads(threads)
    segmenter = toy()
    assert segmenter.encode(classes).source == toy(protocol="authors").encode(classes).source
    darker, smaller = image.copy(), mask.copy()
    darker[0, 0, 0] ^= 1
    smaller[tuple(np.argwhere(mask)[0])] = False
    others = [
        classes,
        {"cat": Shot(photo(2)), "dog": [image, mask]},
        {"dog": [darker, mask], "cat": Shot(photo(2))},
        {"dog": [image, smaller], "cat": Shot(photo(2))},
        {"dog": Shot(image), "cat": Shot(photo(2))},
        {"dog": [(image, mask), (image, mask)], "cat": Shot(photo(2))},
        {"Dog": [image, mask], "cat": Shot(photo(2))},
    ]
    sources = [segmenter.encode(other).source for other in others]
    sources.append(segmenter.encode(classes, threshold={"dog": 0.7}).source)
    assert len(set(sources)) == len(sources)
    assert segmenter.encode(classes, threshold=0.5).source == sources[0]  # the model's own


def test_several_shots_and_classes_keep_their_order(model):
    mask = box_mask()
    classes = {"b": [(photo(1), mask), [photo(2), mask], Shot(photo(3))], "a": Shot(photo(4)), "c": (photo(5), mask)}
    supports = model.encode(classes)
    assert supports.names == ("b", "a", "c")
    assert supports.class_index.tolist() == [0, 0, 0, 1, 2]
    assert supports.tagged.tolist() == [False, False, True, True, False]
    assert supports.masks[supports.tagged].all()
    assert not supports.masks[~supports.tagged].all()
    assert supports.thresholds.tolist() == pytest.approx([model.network.threshold] * 3)
    for number, (value, seed) in enumerate([((photo(1), mask), 1), ((photo(2), mask), 2), (Shot(photo(3)), 3)]):
        single = model.encode({"b": [value]})
        for level, single_level in zip(supports.features, single.features, strict=True):
            for feature, single_feature in zip(level, single_level, strict=True):
                torch.testing.assert_close(feature[number], single_feature[0], atol=CLOSE, rtol=0, msg=f"shot {seed}")


@pytest.mark.parametrize("at_once", [1, 8])
def test_more_photos_than_fit_into_one_pass_keep_their_order(at_once, monkeypatch):
    monkeypatch.setattr("fscs_sdk.segmenter.PHOTOS_AT_ONCE", {"cpu": at_once})
    segmenter = toy()
    count = 17
    supports = segmenter.encode({"dog": [Shot(photo(seed)) for seed in range(count)]})
    for seed in range(count):
        single = segmenter.encode({"dog": Shot(photo(seed))})
        torch.testing.assert_close(supports.features[0][0][seed], single.features[0][0][0])


def test_encode_takes_thresholds_for_all_or_by_name():
    segmenter = toy()
    classes = {"dog": Shot(photo(1)), "cat": Shot(photo(2))}
    assert segmenter.encode(classes, threshold=0.25).thresholds.tolist() == [0.25, 0.25]
    assert segmenter.encode(classes, threshold={"cat": 1}).thresholds.tolist() == [0.5, 1.0]


def test_an_object_between_the_models_positions_is_told():
    image = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    crack = np.zeros((900, 1200), bool)
    box = crack.copy()
    box[200:800, 300:900] = True
    crack[500:502, 20:1180] = True  # 160 of 288: between the key positions at 143.5 and 179.4
    touching = FewShotSegmenter.from_pretrained(dtype="float32")
    head = ASNet(touching.network.head.maps).eval()
    head.load_state_dict(touching.network.head.state_dict())
    paper = FewShotSegmenter(dataclasses.replace(touching.network, head=head), name="paper", dtype="float32")
    given = {"crack": [Shot(image, box), Shot(image, crack)]}
    with pytest.warns(ImageWarning, match=r"shot 2 of class 'crack'.*crop the photo.*draw it thicker"):
        supports = paper.encode(given)
    assert supports.masks[1].any()
    assert touching.encode(given).masks[1].any()  # a head that sees touched keys has nothing to tell


def test_an_object_that_is_small_in_its_photo_is_seen_close_up_where_the_model_says_so():
    big = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    mask = np.zeros((400, 300), dtype=bool)
    mask[100:140, 200:260] = True
    whole, near = toy(), FewShotSegmenter(dataclasses.replace(toy().network, close_up=0.4), name="toy", device="cpu")
    cropped = {"dog": [big[60:180, 170:290], mask[60:180, 170:290]]}
    found, wanted = near.encode({"dog": [big, mask]}), whole.encode(cropped)
    torch.testing.assert_close(found.features, wanted.features)
    assert torch.equal(found.masks, wanted.masks)
    assert not torch.equal(found.masks, whole.encode({"dog": [big, mask]}).masks)
    assert near.identity != whole.identity
    tagged = {"dog": Shot(big)}
    torch.testing.assert_close(near.encode(tagged).features, whole.encode(tagged).features)


def test_without_a_threshold_it_is_the_models_own():
    network = dataclasses.replace(toy().network, threshold=0.75)
    segmenter = FewShotSegmenter(network, name="toy", device="cpu")
    classes = {"dog": Shot(photo(1)), "cat": Shot(photo(2))}
    assert segmenter.encode(classes).thresholds.tolist() == [0.75, 0.75]
    assert segmenter.encode(classes, threshold={"cat": 1}).thresholds.tolist() == [0.75, 1.0]


def test_names_lose_the_blanks_around_them():
    segmenter = toy()
    prediction = segmenter.predict(photo(5), {" hot dog\n": Shot(photo(1))})
    assert prediction.names == ("hot dog",)


def test_a_mask_resized_away_still_answers():
    """A mask of one pixel in a photo larger than the input may leave no pixel at all."""
    segmenter = toy()
    mask = np.zeros((400, 400), dtype=np.bool_)
    mask[1, 1] = True
    supports = segmenter.encode({"speck": [photo(1, 400, 400), mask]})
    check_contract(segmenter.predict(photo(5), supports), supports, photo(5))


def test_a_speck_answers_with_the_embedded_model(model):
    mask = np.zeros((600, 600), dtype=np.bool_)
    mask[0, 0] = True
    supports = model.encode({"speck": [photo(1, 600, 600), mask]})
    check_contract(model.predict(photo(5), supports), supports, photo(5))


# -------------------------------------------------------------------------------------------------------- bad input

NAN_PHOTO = np.full((60, 80, 3), np.nan, dtype=np.float32)


def jpeg_cut_short():
    stream = io.BytesIO()
    Image.fromarray(photo(1)).save(stream, "JPEG")
    return stream.getvalue()[: stream.tell() // 2]


BAD_PHOTOS = [
    pytest.param(NAN_PHOTO, "NaN or infinite values: replace them", id="NaN"),
    pytest.param(photo(1, 1, 1), "1 x 1 pixels.*pass a larger photo", id="1x1"),
    pytest.param(jpeg_cut_short(), "is damaged, cut short.*save or copy it again", id="corrupt"),
    pytest.param(b"", "is empty.*save or copy it again", id="empty"),
    pytest.param(None, "of type NoneType: pass a path, bytes", id="None"),
    pytest.param(np.stack([photo(1)] * 2), r"shape \(2, 60, 80, 3\).*pass one photo at a time", id="batch"),
    pytest.param(photo(1).astype(np.float32), "floats from .* to .*divide by 255", id="floats to 255"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_PHOTOS)
def test_a_bad_query_is_refused_in_one_sentence(bad, message):
    segmenter = toy()
    supports = segmenter.encode({"dog": [photo(1), box_mask()]})
    with pytest.raises(ValueError, match=f"^the query .*{message}"):
        segmenter.predict(bad, supports)
    with pytest.raises(ValueError, match=f"^query 2 .*{message}"):
        segmenter.predict([photo(5), bad], supports, on_error="raise")


@pytest.mark.parametrize(("bad", "message"), BAD_PHOTOS)
def test_a_bad_support_is_refused_by_class_and_number(bad, message):
    with pytest.raises(ValueError, match=f"^the photo of shot 2 of class 'cat' .*{message}"):
        toy().encode({"dog": [photo(1), box_mask()], "cat": [Shot(photo(1)), Shot(bad)]})


def test_a_missing_file_is_named(tmp_path):
    segmenter, path = toy(), tmp_path / "missing.jpg"
    supports = segmenter.encode({"dog": Shot(photo(1))})
    with pytest.raises(FileNotFoundError, match=r"the query .*missing\.jpg.* does not exist: check the path"):
        segmenter.predict(path, supports)
    with pytest.raises(FileNotFoundError, match=r"shot 1 of class 'dog' .*missing\.jpg.* does not exist"):
        segmenter.encode({"dog": Shot(str(path))})
    with pytest.raises(FileNotFoundError, match=r"the mask of shot 1 of class 'dog' .*missing\.jpg.* does not exist"):
        segmenter.encode({"dog": [photo(1), path]})


def test_a_corrupt_file_is_named(tmp_path):
    path = tmp_path / "corrupt.jpg"
    path.write_bytes(jpeg_cut_short())
    with pytest.raises(ValueError, match=r"the query .*corrupt\.jpg.* is damaged, cut short"):
        toy().predict(path, {"dog": Shot(photo(1))})


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (box_mask(60, 81), "81 x 60 but its photo is 80 x 60"),
        (box_mask(80, 60), "turned by 90 degrees"),
        (np.full((60, 80), np.nan, np.float32), "NaN or infinite"),
        (np.arange(4800).reshape(60, 80) % 7, "is not binary"),
        (box_mask()[None, None], r"shape \(1, 1, 60, 80\)"),
    ],
)
def test_a_bad_mask_is_refused_by_class_and_number(mask, message):
    with pytest.raises(ValueError, match=f"^the mask of shot 1 of class 'dog' .*{message}"):
        toy().encode({"dog": [photo(1), mask]})


def test_an_empty_mask_warns_by_class_and_number():
    with pytest.warns(UserWarning, match="the mask of shot 1 of class 'dog' has no foreground pixel"):
        toy().encode({"dog": [photo(1), np.zeros((60, 80), dtype=np.bool_)]})


@pytest.mark.parametrize(
    ("supports", "message"),
    [
        ({}, "there are no support classes: give at least one"),
        ([photo(1), box_mask()], "supports must be a mapping .* not list"),
        ("pets.safetensors", "supports must be a mapping .* or a SupportSet, not str"),
        ({"dog": []}, "class 'dog' has no shots; give at least one"),
        ({"dog": photo(1)}, r"class 'dog' must be \[image, mask\].* not ndarray.*Shot\(image\)"),
        ({"dog": [photo(1)]}, r"a shot of class 'dog' must be an \(image, mask\) pair or a Shot"),
        ({3: Shot(photo(1))}, "class name must be a non-empty string, not 3"),
        ({"": Shot(photo(1))}, "class name must be a non-empty string, not ''"),
        ({"dog": Shot(photo(1)), " dog ": Shot(photo(2))}, "'dog' is given twice"),
    ],
)
def test_bad_supports_are_refused_before_anything_is_computed(supports, message):
    segmenter = toy()
    with backbone_passes(segmenter) as passes:
        for refused in (
            lambda: segmenter.encode(supports),
            lambda: segmenter.predict(photo(5), supports),
            lambda: segmenter.predict([photo(5)], supports),
            lambda: segmenter.stream([photo(5)], supports),
        ):
            with pytest.raises(ValueError, match=message):
                refused()
    assert passes == []


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.01, "threshold of 'dog' is 1.01; it must be a number from 0 to 1"),
        (-0.1, "threshold of 'dog' is -0.1"),
        (float("nan"), "threshold of 'dog' is nan"),
        ("0.5", "threshold of 'dog' is '0.5'"),
        (True, "threshold of 'dog' is True"),
        ({"dog": None}, "threshold of 'dog' is None"),
        ({"dog": 2}, "threshold of 'dog' is 2"),
        ({"cat": 0.5}, r"for 'cat', which is not one of the classes \['dog'\]"),
    ],
)
def test_bad_thresholds_are_refused(threshold, message):
    segmenter = toy()
    with backbone_passes(segmenter) as passes, pytest.raises(ValueError, match=message):
        segmenter.encode({"dog": Shot(photo(1))}, threshold=threshold)
    assert passes == []


def test_supports_of_another_model_are_refused(model, pets):
    stranger = dataclasses.replace(pets, model="other@0123456789ab")
    message = f"encoded by model other@0123456789ab, this is {model.identity}; encode the support photos again"
    with pytest.raises(ValueError, match=message):
        model.predict(photo(5), stranger)
    with pytest.raises(ValueError, match=message):
        model.stream([photo(5)], stranger)
    with pytest.raises(ValueError, match="encoded by model asnet-mini@"):
        toy().predict(photo(5), pets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "device 'abacus' is unknown; use auto, cpu, cuda"),
        ({"device": ""}, "device '' is unknown"),
        ({"dtype": "float64"}, "dtype 'float64' is unknown; choose auto, float32, bfloat16, float16"),
        ({"dtype": torch.float32}, "dtype torch.float32 is unknown"),
        ({"protocol": "mine"}, "protocol 'mine' is unknown; choose paper or authors"),
    ],
)
def test_unknown_options_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        FewShotSegmenter(model.network, name="asnet-mini", **({"device": "cpu"} | options))
    with pytest.raises(ValueError, match=message):
        FewShotSegmenter.from_pretrained(**({"device": "cpu"} | options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises((ValueError, OSError), match=device):
        FewShotSegmenter.from_pretrained(device=device)


# ----------------------------------------------------------------------------------------------------- saved supports


@settings(max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4, unique_by=str.strip))
def test_saved_supports_answer_as_before_whatever_their_names(names, tmp_path):
    segmenter = toy()
    supports = segmenter.encode({name: [Shot(photo(number))] for number, name in enumerate(names)}, threshold=0.3)
    supports.save(tmp_path / "supports.safetensors")
    loaded = SupportSet.load(tmp_path / "supports.safetensors")
    assert loaded.names == tuple(name.strip() for name in names)
    assert same_supports(loaded, supports)
    assert_close(segmenter.predict(photo(5), supports), segmenter.predict(photo(5), loaded))


def test_saved_supports_give_exactly_the_same_answer(model, pets, tmp_path):
    supports = pets.with_thresholds({"dog": 0.123, "cat": 0.9})
    supports.save(tmp_path / "pets.safetensors")
    loaded = SupportSet.load(tmp_path / "pets.safetensors")
    assert same_supports(supports, loaded)
    assert same(model.predict(photo(5), supports), model.predict(photo(5), loaded))


def test_a_model_loaded_again_takes_the_saved_supports(model, pets):
    again = FewShotSegmenter.from_pretrained(device="cpu")
    assert again.identity == model.identity
    assert same(model.predict(photo(5), pets), again.predict(photo(5), pets))


def test_a_copy_of_a_model_under_another_name_takes_its_supports(model):
    copy = FewShotSegmenter(model.network, name="my-copy", device="cpu")
    supports = model.encode({"dog": [photo(1), box_mask()]})
    assert copy.identity != model.identity
    assert copy.predict(photo(5), supports).scores == model.predict(photo(5), supports).scores


def test_thresholds_may_be_numpy_numbers(model):
    supports = model.encode({"dog": [photo(1), box_mask()]}, threshold=np.float32(0.25))
    assert supports.thresholds.tolist() == [0.25]


@pytest.mark.parametrize("device", ["meta", "xpu"])
def test_a_device_that_cannot_compute_here_is_refused(model, device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        FewShotSegmenter(model.network, name="x", device=device)


def test_the_automatic_device_is_one_device_for_every_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert choose_device("auto") == torch.device("cuda", 3)


@pytest.mark.parametrize("device", [None, 1.5, "gpu"])
def test_what_is_no_device_is_refused_in_one_sentence(model, device):
    with pytest.raises(ValueError, match="is unknown; use auto, cpu, cuda, cuda:1 or mps"):
        FewShotSegmenter(model.network, name="x", device=device)


# --------------------------------------------------------------------------------------------------- a model's identity


def test_an_identity_tells_methods_and_crops_apart(model):
    network = model.network
    unmasked, paper = UnmaskedASNet(network.head.maps), ASNet(network.head.maps)
    for head in (unmasked, paper):
        head.load_state_dict(network.head.state_dict())
    others = [
        dataclasses.replace(network, head=paper),
        dataclasses.replace(network, head=unmasked),
        dataclasses.replace(network, close_up=0.25),
        dataclasses.replace(network, input_side=320),
        dataclasses.replace(network, adapter=None),
    ]
    assert len({network.identity(), *(other.identity() for other in others)}) == 6
    assert dataclasses.replace(network, threshold=0.1).identity() == network.identity()


@pytest.mark.parametrize("name", ["asnet-v1.5", "asnet-v1.5.safetensors"])
def test_a_model_is_called_by_its_whole_name(name, tmp_path):
    folder = PACKAGE_FOLDER / "assets" / "asnet-mini"
    if name.endswith(".safetensors"):
        (tmp_path / name).write_bytes((folder / "head.safetensors").read_bytes())
        (tmp_path / "backbone.safetensors").write_bytes((folder / "backbone.safetensors").read_bytes())
    else:
        shutil.copytree(folder, tmp_path / name)
    assert FewShotSegmenter.from_pretrained(tmp_path / name, device="cpu").identity.startswith("asnet-v1.5@")
