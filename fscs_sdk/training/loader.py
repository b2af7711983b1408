"""Batches as tensors, prepared ahead of the step that needs them."""

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fscs_sdk.training.data import Batch, Catalogue

#: Threads that prepare batches: half of the processors, up to 8. They change speed, not results.
WORKERS = max(1, min(8, (os.cpu_count() or 2) // 2))


@dataclass(frozen=True)
class BatchTensors:
    """A batch of S samples and P pairs of K shots.

    Attributes:
        photos: uint8 (S, 3, side, side).
        labels: int32 (S, side, side), as in ``Sample``.
        queries, supports, classes: int64 (P,), (P, K), (P,); the first two index samples.
        strong, masked: bool (P,), as in ``Pair``.
        present: bool (P,), whether the query's tags name the class.
    """

    photos: Tensor
    labels: Tensor
    queries: Tensor
    supports: Tensor
    classes: Tensor
    strong: Tensor
    masked: Tensor
    present: Tensor

    def to(self, device: torch.device) -> "BatchTensors":
        """The same on a device; the copies of pinned tensors are not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "BatchTensors":
        """The same in memory that a CUDA device copies from by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "BatchTensors":
        changed: dict[str, Any] = {name: change(x) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return dataclasses.replace(self, **changed)


def collate(batch: Batch) -> BatchTensors:
    """A batch as tensors on the CPU."""
    samples, pairs = batch.samples, batch.pairs
    return BatchTensors(
        photos=torch.from_numpy(np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2)),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        queries=torch.tensor([pair.query for pair in pairs]),
        supports=torch.tensor([pair.supports for pair in pairs]),
        classes=torch.tensor([pair.label for pair in pairs]),
        strong=torch.tensor([pair.strong for pair in pairs]),
        masked=torch.tensor([pair.masked for pair in pairs]),
        present=torch.tensor([pair.label in samples[pair.query].tags for pair in pairs]),
    )


def load_batches(
    catalogue: Catalogue, steps: range, *, workers: int = WORKERS, pin: bool = False
) -> Generator[BatchTensors, None, None]:
    """The batches of some steps, in order; up to ``workers`` of them are prepared ahead, each in a thread.

    Args:
        pin: put them into memory that a CUDA device copies from by itself.
    """

    def prepare(step: int) -> BatchTensors:
        tensors = collate(catalogue.batch(step))
        return tensors.pin() if pin else tensors

    threads = ThreadPoolExecutor(workers)
    try:
        upcoming = deque(threads.submit(prepare, step) for step in steps[:workers])
        for step in steps:
            batch = upcoming.popleft().result()
            if step + workers in steps:
                upcoming.append(threads.submit(prepare, step + workers))
            yield batch
    finally:
        threads.shutdown(cancel_futures=True)
