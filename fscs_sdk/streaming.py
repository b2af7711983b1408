"""Many photos, many callers: who computes, what goes on while its result is not needed, and what a failure becomes.

A CPU computes on worker threads of this process, as many as PyTorch may use threads, and each of them with one thread
inside operators: a photo's hundreds of small operators gain nothing from more, while photos and pairs are independent.
So an answer does not depend on the number of threads, nor on who else is asking, nor on what the caller's own thread
has set (gradients, autocast); and as workers are never taken along by a fork, a child makes its own.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.prediction import Failure, sentence

Item = TypeVar("Item")
Result = TypeVar("Result")
#: What becomes of a photo that cannot be answered.
OnError = Literal["raise", "skip"]

#: Workers at most: beyond, the interpreter's lock leaves them little to do, and each takes some hundred megabytes.
MOST_WORKERS = 16

_starting = threading.Lock()
_thread = threading.local()


def workers() -> ThreadPoolExecutor:
    """This process's workers."""
    with _starting:
        return _workers(os.getpid(), count_workers())


def count_workers() -> int:
    """As many as PyTorch may use threads in the caller's thread (``torch.set_num_threads``), and 16 at most."""
    return min(torch.get_num_threads(), MOST_WORKERS)


@cache
def _workers(process: int, count: int) -> ThreadPoolExecutor:
    """PyTorch keeps the number of threads inside operators by thread, and for threads that begin later: while workers
    begin it is 1, and as before once all have.
    """
    before = torch.get_num_threads()
    ready = threading.Barrier(count + 1)

    def begin() -> None:
        _thread.is_worker = True
        torch.get_num_threads()  # or its first operator would take over the number that is there for later threads
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, "fscs-worker", initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)  # begins a thread, as none is idle before all are ready
    except RuntimeError:
        ready.abort()
        raise
    ready.wait()
    torch.set_num_threads(before)
    return pool


def share(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work(item)`` for each item, in order, by the workers; by the caller itself if it is one."""
    if getattr(_thread, "is_worker", False):
        return [work(item) for item in items]
    return list(workers().map(work, items))


def share_out(work: Callable[[slice], Result], count: int) -> list[Result]:
    """``work(slice)`` for consecutive parts of ``count`` items, in order: as many parts as there are workers."""
    step = -(-count // count_workers())
    return share(work, [slice(start, start + step) for start in range(0, count, step)])


def run(call: Callable[[], Result]) -> Result:
    """``call()``, by a worker."""
    return share(lambda _: call(), (None,))[0]


@dataclass(frozen=True)
class Failed:
    """What becomes of a source, until somebody decides, where work on it raises."""

    source: Any
    error: Exception

    def settle(self, on_error: OnError) -> Failure:
        """Raise the error, or say why there is no answer."""
        if on_error == "raise":
            raise self.error
        return Failure(self.source, sentence(self.error))


def attempt(source: Any, call: Callable[[], Result]) -> Result | Failed:
    """What a call returns, or that it failed."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (whatever is wrong with one source, the others are answered)
        return Failed(source, error)


def ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    pool: Executor,
    most: int,
    size: Callable[[Result], int],
    room: int = 2**29,
) -> Iterator[Result]:
    """``work(item)`` for each item, in order, begun by the pool before it is asked for.

    Items are taken in the caller's thread, at most ``most`` before their result is, and fewer where ``room`` bytes
    would not hold the results if they are as large as the last ones; as nothing is known of the first, it begins with
    two.
    An exception, of an item or of ``items`` itself, is raised where its result would stand.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    largest = room // 2

    def fill() -> None:
        count = min(most, max(1, room // max(1, largest)))
        try:
            for item in islice(source, max(0, count - len(waiting))):
                waiting.append(pool.submit(work, item))
        except Exception as error:  # noqa: BLE001 (what stands before it comes first)
            failed: Future[Result] = Future()
            failed.set_exception(error)
            waiting.append(failed)

    try:
        fill()
        while waiting:
            result = waiting.popleft().result()
            largest = max(largest // 2, size(result))
            fill()
            yield result
    finally:
        for future in waiting:
            future.cancel()


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each handed out after the next was made; where making one fails, after those before it."""
    source = iter(items)
    held: list[Item] = []
    while True:
        try:
            made = next(source)
        except Exception as error:
            yield from held
            if isinstance(error, StopIteration):
                return
            raise
        yield from held
        held = [made]


class Transfers:
    """Copies between main memory and a device; on CUDA in streams of their own, so that neither waits for the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._streams = (_stream(device), _stream(device)) if device.type == "cuda" else None

    def upload(self, array: NDArray[Any]) -> Tensor:
        """The array on the device; work that is given to it from now on finds it there."""
        tensor = torch.from_numpy(array)
        if self._streams is None:
            return tensor.to(self.device)
        up, _ = self._streams
        with torch.cuda.stream(up):
            there = tensor.pin_memory().to(self.device, non_blocking=True)
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(up)
        there.record_stream(current)
        return there

    def download(self, tensors: Sequence[Tensor]) -> Callable[[], list[NDArray[Any]]]:
        """Begin to copy what the device has been asked to compute; calling the result waits for it."""
        if self._streams is None:
            return lambda: [tensor.cpu().numpy() for tensor in tensors]
        _, down = self._streams
        down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(down):
            copies = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True) for x in tensors]
            done = down.record_event()
        for tensor in tensors:
            tensor.record_stream(down)  # its memory must not be used again before it is copied

        def fetch() -> list[NDArray[Any]]:
            done.synchronize()
            return [copy.numpy().copy() for copy in copies]  # pinned memory is scarce: an answer does not keep it

        return fetch


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
