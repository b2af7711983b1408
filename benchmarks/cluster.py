"""``python -m benchmarks.cluster``: what a folder run costs on Ray beside the plain run, on this machine."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.segmenter import FewShotSegmenter


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--few", default=20, show_default=True, help="Photos of the short run.")
@click.option("--many", default=120, show_default=True, help="Photos of the long run.")
@click.option("--actors", "counts", multiple=True, default=(1, 2), show_default=True, help="Models under Ray.")
def main(few: int, many: int, counts: tuple[int, ...]) -> None:
    """Print, for the plain run and for Ray's, the seconds of two whole commands, what a photo more costs, and the rest.

    The photos are copies of the demo's; the results are masks.
    """
    ways: dict[str, list[str]] = {"plain": []} | {
        f"Ray, actors {count}": ["--engine", "ray", "--actors", str(count)] for count in counts
    }
    click.echo(f"{os.cpu_count()} processors")
    click.echo(
        f"| run | {few} photos, s | {many} photos, s | a photo, ms | before and after, s |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        FewShotSegmenter.from_pretrained(device="cpu").encode(SUPPORTS).save(folder / "supports.safetensors")
        for count in (few, many):
            (folder / f"photos{count}").mkdir()
            for number in range(count):
                name = list(QUERIES)[number % len(QUERIES)]
                shutil.copy(PHOTOS / name, folder / f"photos{count}" / f"{number}.jpg")
        for way, options in ways.items():
            short, long = (_seconds(folder, count, options) for count in (few, many))
            each = (long - short) / (many - few)
            click.echo(f"| {way} | {short:.1f} | {long:.1f} | {1e3 * each:.0f} | {short - few * each:.1f} |")


def _seconds(folder: Path, count: int, options: list[str]) -> float:
    """How long a whole command takes for so many photos.

    Raises:
        RuntimeError: it fails, or does not answer all.
    """
    out = folder / "out"
    command = [sys.executable, "-m", "fscs_sdk.cli", "predict", str(folder / f"photos{count}"), "--device", "cpu"]
    command += ["--supports", str(folder / "supports.safetensors"), "--out", str(out), "--formats", "mask", "--json"]
    begun = time.perf_counter()
    # Ray's workers give way to every other process unless they are told not to.
    done = subprocess.run(
        command + options, env=os.environ | {"RAY_worker_niceness": "0"}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - begun
    if done.returncode or json.loads(done.stdout)["answered"] != count:
        raise RuntimeError(done.stderr or done.stdout)
    shutil.rmtree(out)
    return seconds


if __name__ == "__main__":
    main()
