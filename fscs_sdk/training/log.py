"""What a run tells of itself: a table with a row for every so many steps, and where their time went."""

import contextlib
import csv
import io
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from fscs_sdk.atomic import write_atomically
from fscs_sdk.training.losses import TERMS

#: What a step's time goes to; the rest is bookkeeping. ``data``: waiting for the batch.
PHASES = ("data", "backbone", "head")
COLUMNS = (
    "step",
    "loss",
    *TERMS,
    "learning_rate",
    "pairs_per_second",
    "seconds",
    *(f"{phase}_seconds" for phase in PHASES),
)


class Log:
    """``log.csv``: the loss and its weighted terms are means over the steps since the last row, seconds are sums."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, str]]:
        """All whole rows, under the columns of the file's own version.

        Raises:
            OSError: the file cannot be read.
        """
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def rewind(self, step: int) -> None:
        """Drop the rows after a step: a run that was killed goes on from its last checkpoint, and writes them anew."""
        kept = [row for row in self.rows() if int(row["step"]) <= step]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(self.path, text.getvalue().encode())

    def add(self, values: Mapping[str, str]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(values)


class Stopwatch:
    """Seconds by phase, and in all, since the last reading.

    Work that a CUDA device does is timed by that device, and is not waited for until :meth:`read`.

    Args:
        seconds: what an earlier watch had when it was read last, to go on from.
    """

    def __init__(self, device: torch.device, seconds: Mapping[str, float] | None = None) -> None:
        self.device = device
        before = seconds or {}
        self._seconds = {phase: before.get(phase, 0.0) for phase in PHASES}
        self._pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._begun = time.perf_counter() - before.get("all", 0.0)

    @contextlib.contextmanager
    def waiting(self, phase: str) -> Iterator[None]:
        """Time what this thread does, or waits for."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] += time.perf_counter() - begun

    @contextlib.contextmanager
    def computing(self, phase: str) -> Iterator[None]:
        """Time what the device does."""
        if self.device.type != "cuda":
            with self.waiting(phase):
                yield
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        yield
        end.record()
        self._pending.append((phase, begin, end))

    def read(self) -> dict[str, float]:
        """Seconds by phase, and in ``all``. Waits for the device."""
        for phase, begin, end in self._pending:
            end.synchronize()
            self._seconds[phase] += begin.elapsed_time(end) / 1000
        self._pending.clear()
        return {**self._seconds, "all": time.perf_counter() - self._begun}
