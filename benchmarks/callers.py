"""Many callers of one model on a CPU: ``python -m benchmarks.callers`` prints JSON.

Answers a second of ``asnet-mini``, 1-way 1-shot, encoded supports, a JPEG of 640 x 480 decoded each time: by one, two,
four ... workers of one process, by as many processes with one worker each, and with client threads that share one
model, whose 95th percentile is the time that the slowest 5 % of their calls take at least. Rounds of all of them
alternate, so that what else the machine does falls on all alike; the best of each is told, and the processor time
that one answer takes, which hardly depends on what else there is to do. ``--beside 2``: how many answers are left
beside two processes that never rest.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS

QUERY = PHOTOS / "cat_query.jpg"


def ask_many(model: FewShotSegmenter, count: int) -> tuple[float, float]:
    """Answers a second of a stream, and the processor's seconds that one of them took."""
    supports = model.encode({"cat": SUPPORTS["cat"]})
    begun, used = time.perf_counter(), time.process_time()
    for _ in model.stream([QUERY] * count, supports):
        pass
    return count / (time.perf_counter() - begun), (time.process_time() - used) / count


def ask_from_threads(model: FewShotSegmenter, clients: int, count: int) -> tuple[float, float]:
    """Answers a second of all clients together, and the 95th percentile of the seconds that a call took."""
    supports = model.encode({"cat": SUPPORTS["cat"]})

    def ask(_: int) -> float:
        begun = time.perf_counter()
        model.predict(QUERY, supports)
        return time.perf_counter() - begun

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = sorted(pool.map(ask, range(count)))
    return count / (time.perf_counter() - begun), seconds[min(count - 1, int(0.95 * count))]


class Processes:
    """Processes that hold a model each, with one worker, and answer together."""

    def __init__(self, number: int) -> None:
        command = [sys.executable, "-m", "benchmarks.callers", "--child"]
        self._all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
        ]

    def ask(self, count: int) -> tuple[float, float]:
        """As :func:`ask_many`, all processes together."""
        pipes = [(process.stdin, process.stdout) for process in self._all if process.stdin and process.stdout]
        for given, _ in pipes:
            given.write(f"{count // len(pipes)}\n")
            given.flush()
        told = [[float(number) for number in answered.readline().split()] for _, answered in pipes]
        return sum(rate for rate, _ in told), statistics.mean(seconds for _, seconds in told)

    def close(self) -> None:
        for process in self._all:
            process.communicate()


def serve() -> None:
    """What each of the processes does: for every number on a line, that many answers."""
    torch.set_num_threads(1)
    model = FewShotSegmenter.from_pretrained(device="cpu")
    for line in sys.stdin:
        rate, seconds = ask_many(model, int(line))
        sys.stdout.write(f"{rate} {seconds}\n")
        sys.stdout.flush()


def measure(count: int, rounds: int, *, threads: int, clients: tuple[int, ...] = (1, 2, 4, 8)) -> dict[str, Any]:
    """Best of some rounds of ``count`` answers; see the module."""
    model = FewShotSegmenter.from_pretrained(device="cpu")
    numbers = [number for number in (1, 2, 4, 8, 16) if number <= threads]
    processes = {number: Processes(number) for number in numbers[1:]}

    def by_workers(number: int) -> Callable[[], tuple[float, float]]:
        def ask() -> tuple[float, float]:
            torch.set_num_threads(number)
            return ask_many(model, count)

        return ask

    def by_clients(number: int) -> Callable[[], tuple[float, float]]:
        def ask() -> tuple[float, float]:
            torch.set_num_threads(threads)
            return ask_from_threads(model, number, count)

        return ask

    ways: dict[str, Callable[[], tuple[float, float]]] = {f"{n} workers": by_workers(n) for n in numbers}
    ways |= {f"{n} processes": lambda n=n: processes[n].ask(count) for n in processes}  # type: ignore[misc]
    ways |= {f"{n} clients": by_clients(n) for n in clients}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, ask in ways.items():
            result = ask()
            if turn:  # the first warms up
                found[name].append(result)
    for each in processes.values():
        each.close()
    second = {name: "p95_s" if name.endswith("clients") else "cpu_s_per_answer" for name in ways}
    return {
        name: {"answers_per_s": round(max(r for r, _ in runs), 2), second[name]: round(min(s for _, s in runs), 4)}
        for name, runs in found.items()
    }


@contextlib.contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Processes beside this one that never rest."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure_beside(count: int, rounds: int, *, threads: int, loops: int) -> dict[str, float]:
    """Answers a second alone and beside busy loops, in turn, best of some rounds.

    What is fair: that each of the workers and loops gets as much of the processors as any other.
    """
    model = FewShotSegmenter.from_pretrained(device="cpu")
    alone, beside = [], []
    ask_many(model, count)
    for _ in range(rounds):
        alone.append(ask_many(model, count)[0])
        with busy_loops(loops):
            beside.append(ask_many(model, count)[0])
    processors = os.cpu_count() or 1
    fair = min(1.0, processors / (threads + loops)) / min(1.0, processors / threads)
    shared = statistics.median(with_loops / without for with_loops, without in zip(beside, alone, strict=True))
    return {
        "loops": loops,
        "alone_answers_per_s": round(max(alone), 2),
        "beside_answers_per_s": round(max(beside), 2),
        "share_of_fair": round(shared / fair, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=32, help="answers in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=int, metavar="LOOPS", help="instead, answers beside so many busy loops")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve()
        return
    threads = torch.get_num_threads()
    if options.beside:
        beside = measure_beside(options.count, options.rounds, threads=threads, loops=options.beside)
        sys.stdout.write(json.dumps({"threads": threads, **beside}, indent=2) + "\n")
        return
    report = {"threads": threads, **measure(options.count, options.rounds, threads=threads)}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
