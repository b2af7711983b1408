"""Where one answer's time goes: ``python -m benchmarks.answer`` prints JSON.

Processor milliseconds of one thread for each part of an answer of ``asnet-mini``, 1-way 1-shot, encoded supports, a
JPEG of 640 x 480: the smallest and the median of some repeats. Other work on the machine changes processor time less
than it changes the clock's, and the smallest least. With ``--photos`` also how much answers differ, on each photo of a
folder, from those of the plain path: no folded weights, no fast layers, float32.
"""

import contextlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import click
import numpy as np
import torch

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.images import read_image, resize_image
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.correlation import correlate
from fscs_sdk.model.squeeze import AttentiveSqueeze
from fscs_sdk.streaming import run

Result = TypeVar("Result")
QUERY = PHOTOS / "cat_query.jpg"


class Clock:
    """Processor time of this thread, by the name of a part; one list entry for each repeat."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)
        self._now: dict[str, float] = defaultdict(float)

    def timed(self, name: str, work: Callable[[], Result]) -> Result:
        begun = time.thread_time()
        try:
            return work()
        finally:
            self._now[name] += time.thread_time() - begun

    def end_repeat(self) -> None:
        for name, seconds in self._now.items():
            self.spent[name].append(1000 * seconds)
        self._now.clear()

    def table(self) -> dict[str, dict[str, float]]:
        return {
            name: {"least_ms": round(min(spent), 2), "median_ms": round(statistics.median(spent), 2)}
            for name, spent in self.spent.items()
        }


@contextlib.contextmanager
def _watched(head: Any, clock: Clock) -> Iterator[None]:
    """Each squeeze layer of a head by its name, the correlations and the decoder."""
    decode: Any = ASNet._decode
    forwards = {name: module for name, module in head.named_modules() if isinstance(module, AttentiveSqueeze)}
    with contextlib.ExitStack() as patches:
        patches.enter_context(
            patch(f"{ASNet.__module__}.correlate", lambda q, s: clock.timed("correlation", lambda: correlate(q, s)))
        )
        patches.enter_context(
            patch.object(ASNet, "_decode", lambda *given: clock.timed("decoder", lambda: decode(*given)))
        )
        for name, module in forwards.items():

            def forward(*given: Any, name: str = name, plain: Any = module.forward) -> Any:
                return clock.timed(f"squeeze {name}", lambda: plain(*given))

            patches.enter_context(patch.object(module, "forward", forward))
        yield


def parts(dtype: str, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each part of an answer; ``answer`` is the whole."""
    model = FewShotSegmenter.from_pretrained(device="cpu", dtype=dtype)
    supports = model.encode({"cat": SUPPORTS["cat"]})
    side, clock = model.network.input_side, Clock()

    def answer() -> None:
        photo = clock.timed("decoding", lambda: read_image(QUERY))
        clock.timed("resizing", lambda: resize_image(photo, side))
        query = clock.timed("backbone, adapter (and resizing)", lambda: model.encode_query(photo))
        with _watched(model.network.head, clock):
            clock.timed("head", lambda: model.ask(query, supports, [0]))
        clock.timed("head, presence, mask", lambda: model.infer(query, supports))
        clock.timed("answer", lambda: model.predict(QUERY, supports))

    def repeat() -> None:
        for turn in range(repeats + 2):
            answer()
            clock.end_repeat()
            if turn < 2:  # warms up
                clock.spent.clear()

    run(repeat)  # as an answer is computed: by a worker, with one thread inside operators
    return clock.table()


@contextlib.contextmanager
def _plainly(model: FewShotSegmenter) -> Iterator[None]:
    backbone = model.network.backbone
    folded, backbone._folded = backbone._folded, ()
    try:
        with patch("fscs_sdk.model.squeeze.is_for_inference", lambda x: False):
            yield
    finally:
        backbone._folded = folded


def agreement(photos: list[Path], dtype: str) -> dict[str, float]:
    """Shares of equal presences and mask pixels with the plain path, over photos and the demo's two classes."""
    plain = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32", edges=False)
    fast = FewShotSegmenter.from_pretrained(device="cpu", dtype=dtype, edges=False)
    with _plainly(plain):
        expected_supports = plain.encode(SUPPORTS)
    supports = fast.encode(SUPPORTS)
    presences, pixels, largest = [], [], 0.0
    for photo in photos:
        with _plainly(plain):
            expected = plain.predict(photo, expected_supports)
        found = fast.predict(photo, supports)
        presences += [found.present[name] == expected.present[name] for name in expected.names]
        pixels.append(float((found.mask == expected.mask).mean()))
        largest = max(largest, float(np.abs(found.foreground - expected.foreground).max()))
    return {
        "photos": len(photos),
        "same_presences": statistics.fmean(presences),
        "same_mask_pixels": statistics.fmean(pixels),
        "largest_map_difference": largest,
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dtype", "dtypes", multiple=True, default=("auto",), show_default=True)
@click.option("--repeats", default=20, show_default=True)
@click.option(
    "--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Compare answers on these."
)
@click.option("--limit", default=100, show_default=True, help="Photos at most, evenly from the folder.")
def main(dtypes: tuple[str, ...], repeats: int, photos: Path | None, limit: int) -> None:
    """Print where the time of one answer goes, and how answers differ from the plain path's."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {dtype: parts(dtype, repeats) for dtype in dtypes} if repeats else {}
    if photos is not None:
        files = sorted(photos.rglob("*.jpg"))
        files = files[:: max(1, len(files) // limit)][:limit]
        report["agreement"] = {dtype: agreement(files, dtype) for dtype in dtypes}
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
