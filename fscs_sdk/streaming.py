"""Work that goes on while its result is not needed: decoding ahead, copies beside a device's work, late fetching."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], work: Callable[[Item], Result], *, threads: int, most: int) -> Iterator[Result]:
    """``work(item)`` for each item, in order, begun by threads before it is asked for.

    Items are taken in the caller's thread, at most ``most`` before their result is. An exception, of an item or of
    ``items`` itself, is raised where its result would stand.
    """
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    workers = ThreadPoolExecutor(threads, "fscs-ahead")

    def fill() -> None:
        try:
            waiting.extend(workers.submit(work, item) for item in islice(source, most - len(waiting)))
        except Exception as error:  # noqa: BLE001 (what stands before it comes first)
            failed: Future[Result] = Future()
            failed.set_exception(error)
            waiting.append(failed)

    try:
        fill()
        while waiting:
            result = waiting.popleft().result()
            fill()
            yield result
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


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
