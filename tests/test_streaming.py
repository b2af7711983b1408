"""Work ahead and one behind: order, bounds and errors."""

import threading
from collections.abc import Iterator

import pytest
import torch

from fscs_sdk.streaming import Transfers, ahead, one_behind


def test_work_ahead_keeps_order_and_bound() -> None:
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

    results = ahead(items(), work, threads=3, most=4)
    assert taken == []
    assert next(results) == 0
    assert taken == list(range(5))
    release.set()
    assert list(results) == [item * item for item in range(1, 20)]


def test_a_failure_ahead_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from (2, 1, 0)
        raise OSError("the list ends early")

    work = ahead(items(), lambda item: 1 / item, threads=2, most=8)
    assert [next(work), next(work)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(work)
    works = ahead(items(), lambda item: item, threads=2, most=8)
    assert [next(works) for _ in range(3)] == [2, 1, 0]
    with pytest.raises(OSError, match="ends early"):
        next(works)


def test_a_loop_that_ends_early_leaves_no_thread() -> None:
    results = ahead(iter(range(100)), lambda item: item, threads=2, most=3)
    next(results)
    results.close()  # type: ignore[attr-defined]
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("fscs-ahead")]
    for thread in workers:
        thread.join(10)
    assert not any(thread.is_alive() for thread in workers)


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
