"""On a CUDA device: the kernels run, every path gives the CPU's answers, and devices are what they are called."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fscs_sdk import FewShotSegmenter, Prediction, SupportSet
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.images import read_image
from fscs_sdk.model.fast.cpu import runs_triton

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

PATHS = [PHOTOS / name for name in QUERIES]
#: Largest difference of a foreground map from the CPU's in float32, and the least share of mask pixels that are equal.
CLOSE = {"float32": (0.02, 0.998), "float16": (0.06, 0.995), "bfloat16": (0.25, 0.98)}


@pytest.fixture(scope="module")
def expected(model: FewShotSegmenter) -> list[Prediction]:
    return FewShotSegmenter.from_pretrained(device="cpu", dtype="float32").predict(PATHS, SUPPORTS)


@pytest.fixture(scope="module")
def on_gpu() -> FewShotSegmenter:
    return FewShotSegmenter.from_pretrained(device="cuda")


def assert_close(found: list[Prediction], expected: list[Prediction], dtype: str) -> None:
    largest, equal = CLOSE[dtype]
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours.foreground - theirs.foreground).max() <= largest
        assert (ours.mask == theirs.mask).mean() >= equal
        assert ours.present == theirs.present


def test_triton_is_not_passed_over_in_silence() -> None:
    assert runs_triton(torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.parametrize("dtype", CLOSE)
def test_every_precision_gives_the_answers_of_the_cpu(expected: list[Prediction], dtype: str) -> None:
    model = FewShotSegmenter.from_pretrained(device="cuda", dtype=dtype)
    assert_close(model.predict(PATHS, SUPPORTS), expected, dtype)


def test_the_plain_path_gives_the_answers_of_the_kernels(
    on_gpu: FewShotSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = on_gpu.predict(PATHS, SUPPORTS)
    monkeypatch.setattr("fscs_sdk.model.squeeze.has_fused_kernels", lambda _: False)
    assert_close(on_gpu.predict(PATHS, SUPPORTS), fused, "float16")


def test_automatic_is_float16(on_gpu: FewShotSegmenter) -> None:
    assert on_gpu.dtype == torch.float16


def test_a_stream_gives_what_single_calls_give(on_gpu: FewShotSegmenter) -> None:
    supports = on_gpu.encode(SUPPORTS)
    alone = [on_gpu.predict(path, supports) for path in PATHS]
    assert_close(list(on_gpu.stream(PATHS, supports)), alone, "float16")
    assert_close(on_gpu.predict([read_image(path) for path in PATHS], supports), alone, "float16")


def test_supports_go_from_one_device_to_the_other(on_gpu: FewShotSegmenter, expected: list[Prediction]) -> None:
    on_cpu = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32")
    assert_close(on_gpu.predict(PATHS, on_cpu.encode(SUPPORTS)), expected, "float16")
    assert_close(on_cpu.predict(PATHS, on_gpu.encode(SUPPORTS)), expected, "float16")


def test_a_copy_and_a_pickle_answer_alike(on_gpu: FewShotSegmenter) -> None:
    supports = on_gpu.encode(SUPPORTS)
    answer = on_gpu.predict(PATHS[0], supports)
    for other in (copy.deepcopy(on_gpu), pickle.loads(pickle.dumps(on_gpu))):
        np.testing.assert_array_equal(other.predict(PATHS[0], supports).mask, answer.mask)


def test_eight_threads_get_the_answers_of_one(on_gpu: FewShotSegmenter) -> None:
    two: list[SupportSet] = [on_gpu.encode(SUPPORTS), on_gpu.encode({"cat": SUPPORTS["cat"]})]
    jobs = [(path, supports) for _ in range(4) for path in PATHS for supports in two]
    alone = {(path, len(supports)): on_gpu.predict(path, supports) for path in PATHS for supports in two}
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda job: on_gpu.predict(*job), jobs))
    assert_close(together, [alone[path, len(supports)] for path, supports in jobs], "float16")


@pytest.mark.parametrize("index", range(max(1, torch.cuda.device_count())))
def test_a_device_is_the_one_that_was_named(index: int, expected: list[Prediction]) -> None:
    model = FewShotSegmenter.from_pretrained(device=f"cuda:{index}")
    assert {weight.device for weight in model.network.backbone.parameters()} == {torch.device("cuda", index)}
    assert_close(model.predict(PATHS, SUPPORTS), expected, "float16")


def test_automatic_is_the_current_device(on_gpu: FewShotSegmenter) -> None:
    assert on_gpu.device == torch.device("cuda", torch.cuda.current_device())
