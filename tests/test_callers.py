"""One model, many callers: threads, copies, processes, and whatever PyTorch's global settings are."""

import copy
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from callers_child import CAT, PERSON, QUERIES, answer
from conftest import photo
from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.model.backbone import BACKBONES, Backbone
from fscs_sdk.model.fast.cpu import FRAMES_REMEMBERED, _Scratch

THREADS = 8


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request):
    return FewShotSegmenter.from_pretrained(device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def supports(model):
    return model.encode({"cat": CAT, "person": PERSON})


@pytest.fixture
def one_thread():
    """Inside operators: more sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(encoded):
    return [encoded.masks, encoded.thresholds, encoded.class_index, encoded.tagged, *itertools.chain(*encoded.features)]


def same(first, second):
    """Bit for bit, types included."""
    names = ("foreground", "background", "mask")
    arrays = [(getattr(first, name), getattr(second, name)) for name in names]
    return first.scores == second.scores and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


# ---- Threads ---------------------------------------------------------------------------------------------------------


def test_threads_that_share_a_model_get_the_answers_of_one(model, supports, one_thread):
    """The whole of the model that ships: photos decoded, supports encoded and queries answered beside each other."""
    alone = [model.predict(query, supports) for query in QUERIES]
    start = threading.Barrier(THREADS)

    def ask(number):
        start.wait()
        found = []
        for turn in range(4):
            if (number + turn) % 4 == 0:
                again = model.encode({"cat": CAT, "person": PERSON})
                found.append(all(map(torch.equal, tensors(again), tensors(supports))))
            query = (number + turn) % len(QUERIES)
            found.append(same(model.predict(QUERIES[query], supports), alone[query]))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(itertools.chain(*pool.map(ask, range(THREADS))))
    assert len(found) == THREADS * (4 + 1)
    assert all(found)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_pass_in_the_midst_of_another_changes_neither(name, one_thread):
    """Whatever threads do, one pass begins or ends within another."""
    backbone = Backbone(name)
    first, second = (torch.from_numpy(photo(seed, 112, 112)).permute(2, 0, 1)[None] for seed in (1, 2))
    alone = [backbone(photos) for photos in (first, second)]
    middle = backbone.network.get_submodule(backbone.spec.levels[1][0])
    inside = []

    def answer_another(module, inputs, output):
        handle.remove()
        with ThreadPoolExecutor(1) as pool:
            inside.append(pool.submit(backbone, second).result())
        inside.append(backbone(second))

    handle = middle.register_forward_hook(answer_another)
    beside = backbone(first)
    assert len(inside) == 2
    for expected, found in zip([alone[0], alone[1], alone[1]], [beside, *inside], strict=True):
        assert all(map(torch.equal, itertools.chain(*expected), itertools.chain(*found)))


def test_supports_near_a_device_are_those_that_were_asked_for(model, supports):
    """Two sets in turn, where a device keeps the last: each call gets its own."""
    shared = copy.copy(model)
    shared.device = torch.device("meta")  # anything but a CPU
    other = model.encode({"cat": CAT})
    wrong = []

    def ask(mine):
        for _ in range(100):
            if shared._near(mine).names != mine.names:
                wrong.append(mine.names)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, (supports, other) * 2))
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_the_memory_of_a_thread_shrinks_when_less_is_needed():
    scratch = _Scratch()

    def layers(size, count):
        for _ in range(count):
            with scratch.frame():
                assert scratch.take(size, dtype=torch.uint8).shape == (size,)

    layers(1 << 20, 1)
    assert len(scratch.memory) == 1 << 20
    layers(1 << 10, 2 * FRAMES_REMEMBERED)
    assert len(scratch.memory) == 1 << 10
    layers(1 << 20, 1)
    assert len(scratch.memory) == 1 << 20


# ---- Copies and processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_answers_as_the_model(model, supports, made, one_thread):
    expected = model.predict(QUERIES[0], supports)
    copied = made(model)
    assert copied.identity == model.identity
    assert same(copied.predict(QUERIES[0], supports), expected)
    weights = next(copied.network.head.parameters())
    assert weights.data_ptr() != next(model.network.head.parameters()).data_ptr()
    assert same(model.predict(QUERIES[0], supports), expected)


@pytest.mark.parametrize("made", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_supports_and_answers_can_be_copied(model, supports, made, one_thread):
    expected = model.predict(QUERIES[0], supports)
    copied = made(supports)
    assert isinstance(copied, SupportSet)
    assert same(made(model.predict(QUERIES[0], copied)), expected)


def test_a_spawned_process_takes_the_model(model, supports, one_thread):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        scores = pool.apply(answer, [(model, QUERIES[0], supports)])
    assert scores == pytest.approx(model.predict(QUERIES[0], supports).scores, abs=1e-3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_answers_whatever_the_parent_did():
    """In a process of its own: this one may have threads, which a fork does not take along."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = [sys.executable, str(Path(__file__).with_name("callers_child.py"))]
    run = subprocess.run(child, capture_output=True, text=True, timeout=240, env=environment)
    assert run.returncode == 0, run.stderr


def test_a_gpus_model_is_refused_after_a_fork(model, monkeypatch):
    forked = copy.copy(model)
    forked.device = torch.device("cuda", 1)
    forked._process = -1
    with pytest.raises(ValueError, match="the model's device 'cuda:1' cannot be used in a process that was forked"):
        forked.encode_query(photo(1))


# ---- PyTorch's global settings ---------------------------------------------------------------------------------------


@pytest.fixture(params=["dtype", "device", "grad", "inference", "autocast"])
def setting(request):
    """A setting of the caller's own program that is not PyTorch's own."""
    if request.param == "dtype":
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)
        return
    with {
        "device": lambda: torch.device("meta"),
        "grad": torch.enable_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }[request.param]():
        yield


def test_global_settings_change_nothing(model, supports, setting, tmp_path, one_thread):
    with torch.device("cpu"), torch.autocast("cpu", enabled=False):
        expected = model.predict(QUERIES[0], supports)
    state = torch.get_rng_state()
    again = model.encode({"cat": CAT, "person": PERSON})
    again.save(tmp_path / "pets.safetensors")
    for encoded in (supports, again, SupportSet.load(tmp_path / "pets.safetensors")):
        assert all(
            a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(tensors(encoded), tensors(supports), strict=True)
        )
        assert same(model.predict(Image.open(QUERIES[0]), encoded), expected)
    assert model.predict(QUERIES[0], {"tag": Shot(CAT[0])}).foreground.dtype == expected.foreground.dtype == np.float32
    loaded = FewShotSegmenter.from_pretrained(device="cpu", dtype=str(model.dtype).removeprefix("torch."))
    assert loaded.identity == model.identity
    assert same(loaded.predict(QUERIES[0], again), expected)
    assert torch.equal(torch.get_rng_state(), state)
