"""The first answer of a fresh process: ``python -m benchmarks.cold`` prints JSON.

``fscs predict`` of one photo with saved supports, and beside it a process that imports PyTorch and nothing else; in
turn, files in the system's cache. Seconds of the clock and of the processor: the smallest and the median.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS


def seconds(command: list[str]) -> tuple[float, float]:
    """Of the clock and of the processor, from the start of a process to its end."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    taken, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--repeats", default=5, show_default=True)
def main(repeats: int) -> None:
    """Print how long a fresh process takes to its first answer."""
    spent: dict[str, list[tuple[float, float]]] = {"import torch": [], "fscs predict": []}
    with tempfile.TemporaryDirectory() as scratch:
        supports = Path(scratch, "cat.safetensors")
        FewShotSegmenter.from_pretrained().encode({"cat": SUPPORTS["cat"]}).save(supports)
        for turn in range(repeats + 1):
            predict = ["predict", str(PHOTOS / "cat_query.jpg"), "--supports", str(supports)]
            found = {
                "import torch": seconds([sys.executable, "-c", "import torch"]),
                "fscs predict": seconds(
                    [sys.executable, "-m", "fscs_sdk.cli", *predict, "--out", str(Path(scratch, str(turn)))]
                ),
            }
            for name, taken in found.items():
                spent[name] += [taken] if turn else []  # the first fills the cache
    report = {
        name: {
            "least_s": round(min(clock for clock, _ in taken), 2),
            "median_s": round(statistics.median(clock for clock, _ in taken), 2),
            "least_processor_s": round(min(processor for _, processor in taken), 2),
        }
        for name, taken in spent.items()
    }
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
