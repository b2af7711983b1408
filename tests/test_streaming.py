"""Work ahead and one behind: order, bounds and errors."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fscs_sdk.prediction import Failure
from fscs_sdk.streaming import Failed, Transfers, ahead, attempt, count_workers, one_behind, run, share, workers


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# ---- Workers ---------------------------------------------------------------------------------------------------------


def test_workers_compute_with_one_thread_inside_operators_and_the_caller_as_before(two_threads: None) -> None:
    """Seen in what processors did: more threads inside an operator take more time than the one that called it."""
    matrix = torch.ones(512, 512)

    def threads_inside(_: object = None) -> float:
        process, thread = time.process_time(), time.thread_time()
        for _ in range(10):
            matrix @ matrix
        return (time.process_time() - process) / (time.thread_time() - thread)

    assert share(lambda _: torch.get_num_threads(), range(6)) == [1] * 6
    assert run(threads_inside) < 1.3
    assert torch.get_num_threads() == 2
    assert threads_inside() > 1.5
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def test_there_are_as_many_workers_as_torch_may_use_threads(two_threads: None) -> None:
    together = threading.Barrier(2)  # more than there are workers would wait for ever
    assert count_workers() == 2
    assert share(lambda item: (together.wait(10), item)[1], range(4)) == [0, 1, 2, 3]
    assert workers() is workers()
    two = workers()
    torch.set_num_threads(1)
    assert workers() is not two
    assert len({run(threading.get_ident) for _ in range(5)}) == 1
    torch.set_num_threads(100)
    assert count_workers() == 16


def test_a_worker_does_its_own_shared_work(two_threads: None) -> None:
    """It would wait for ever for workers that all wait."""
    assert share(lambda outer: share(lambda inner: (outer, inner), range(3)), range(5)) == [
        [(outer, inner) for inner in range(3)] for outer in range(5)
    ]


def test_workers_know_nothing_of_the_callers_settings() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        seen = run(lambda: (torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.ones(1).device))
    assert seen == (False, False, torch.device("cpu"))


def test_an_error_of_a_worker_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        share(lambda item: 1 / item, (2, 1, 0))
    with pytest.raises(ValueError, match="bad"):
        attempt("photo", lambda: int("bad")).settle("raise")
    failure = attempt("photo", lambda: int("bad")).settle("skip")
    assert failure == Failure("photo", "invalid literal for int() with base 10: 'bad'")
    assert attempt("photo", lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "there is not enough memory for it; make the photo smaller"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), "'a.jpg': no such file or directory"),
        (OSError("two\nlines"), "two lines"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_failure_says_what_is_wrong_in_one_line(error: Exception, sentence: str) -> None:
    def fail() -> None:
        raise error

    failed = attempt("photo", fail)
    assert isinstance(failed, Failed)
    assert failed.settle("skip") == Failure("photo", sentence)


# ---- Ahead and behind ------------------------------------------------------------------------------------------------


def test_work_ahead_keeps_order_and_bound(pool: ThreadPoolExecutor) -> None:
    taken: list[int] = []
    release = threading.Event()

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        if item == 1:  # the second is the last to be done
            release.wait(10)
        return item * item

    results = ahead(items(), work, pool=pool, most=4, size=lambda _: 0)
    assert taken == []
    assert next(results) == 0
    assert taken == list(range(5))  # one was handed out, four wait
    release.set()
    assert list(results) == [item * item for item in range(1, 20)]


def test_large_results_are_few(pool: ThreadPoolExecutor) -> None:
    """Room for five of 20 bytes, and then for one of what fills it alone; small ones later let it fill again."""
    taken: list[int] = []
    sizes = [20] * 10 + [1000] * 10 + [20] * 30
    items = (taken.append(index) or size for index, size in enumerate(sizes))
    results = ahead(items, lambda size: size, pool=pool, most=8, size=lambda size: size, room=100)
    waiting = []
    for done, _ in enumerate(results, start=1):
        waiting.append(len(taken) - done)
    assert max(waiting[:10]) == 5
    assert set(waiting[13:20]) == {1}
    assert max(waiting[20:]) == 5


def test_a_failure_ahead_is_raised_in_its_turn(pool: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield from (2, 1, 0)
        raise OSError("the list ends early")

    work = ahead(items(), lambda item: 1 / item, pool=pool, most=8, size=lambda _: 0)
    assert [next(work), next(work)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(work)
    works = ahead(items(), lambda item: item, pool=pool, most=8, size=lambda _: 0)
    assert [next(works) for _ in range(3)] == [2, 1, 0]
    with pytest.raises(OSError, match="ends early"):
        next(works)


def test_a_loop_that_ends_early_leaves_no_work() -> None:
    begun: list[int] = []
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        results = ahead(
            range(100),
            lambda item: (begun.append(item), item and release.wait(10)),
            pool=pool,
            most=9,
            size=lambda _: 0,
        )
        next(results)
        results.close()  # type: ignore[attr-defined]
        release.set()
    assert len(begun) <= 2


def test_one_behind_hands_out_what_stands_before_a_failure() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            made.append(item)
            yield item
        raise ValueError("the fourth")

    behind = one_behind(items())
    for item in range(2):
        assert next(behind) == item
        assert made == list(range(item + 2))
    assert next(behind) == 2
    with pytest.raises(ValueError, match="the fourth"):
        next(behind)
    assert list(one_behind("abc")) == ["a", "b", "c"]


def test_what_goes_up_comes_down() -> None:
    transfers = Transfers(torch.device("cpu"))
    up = transfers.upload(torch.arange(6).view(2, 3).numpy())
    (down,) = transfers.download([up * 2])()
    assert down.tolist() == [[0, 2, 4], [6, 8, 10]]
