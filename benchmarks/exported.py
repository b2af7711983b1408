"""``python -m benchmarks.exported``: an exported model in ONNX Runtime beside the SDK, its answers and its time.

Both answer photos at the network's side, on the same number of threads, in turn. With ``--photos`` their presences and
maps are compared on every photo of a folder; with ``--int8`` those of a variant whose backbone is quantised too.
"""

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.export import export
from fscs_sdk.images import read_image, resize_image
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")


class CalibrationPhotos:
    """What onnxruntime's quantisation reads: photos, one after the other."""

    def __init__(self, photos: list[NDArray[np.uint8]]) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._photos, None)
        return None if photo is None else {"photos": photo[None]}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", default="asnet-mini", show_default=True)
@click.option("--supports", "supports_file", type=click.Path(dir_okay=False, path_type=Path), help="Else the demo's.")
@click.option("--threads", default=1, show_default=True)
@click.option("--repeats", default=9, show_default=True)
@click.option("--photos", "folder", type=click.Path(file_okay=False, path_type=Path), help="Compare answers on these.")
@click.option("--limit", type=int, help="Only so many of them.")
@click.option("--realtime", is_flag=True, help="Time ahead of all other processes (Linux, root).")
@click.option("--int8", is_flag=True, help="Also a variant with an int8 backbone.")
def main(
    model: str,
    supports_file: Path | None,
    threads: int,
    repeats: int,
    folder: Path | None,
    limit: int | None,
    realtime: bool,
    int8: bool,
) -> None:
    """Print JSON: milliseconds a query and how far answers agree.

    Of a query's time the smallest and the median of the repeats, and the median of the processor's, which other work
    on the machine changes least.
    """
    torch.set_num_threads(threads)
    plain = FewShotSegmenter.from_pretrained(model, device="cpu", dtype="float32")
    supports = plain.encode(SUPPORTS) if supports_file is None else SupportSet.load(supports_file)
    side = plain.network.input_side
    paths = sorted(path for path in (folder or PHOTOS).rglob("*") if path.suffix.lower() in PHOTO_ENDINGS)
    photos = [resize_image(read_image(path), side) for path in paths if "mask" not in path.stem][:limit]
    with tempfile.TemporaryDirectory() as scratch:
        file = export(plain, supports, Path(scratch, "model.onnx"))[0]
        asked = {"SDK, float32": _sdk(plain, supports), "ONNX Runtime": _runtime(file, threads)}
        if int8:
            asked["ONNX Runtime, int8 backbone"] = _runtime(_quantised(file, photos[: len(photos) // 4 or 1]), threads)
        automatic = FewShotSegmenter.from_pretrained(model, device="cpu")
        asked["SDK, auto"] = _sdk(automatic, automatic.encode(SUPPORTS) if supports_file is None else supports)
        with _ahead_of_others() if realtime else contextlib.nullcontext():
            report = _times(asked, photos[0], repeats)
        if folder is not None:
            report |= {f"{name}: answers": found for name, found in _agreement(asked, photos).items()}
    click.echo(json.dumps({"threads": threads, "classes": len(supports), "photos": len(photos), **report}, indent=1))


Answer = tuple[NDArray[np.bool_], NDArray[np.float32]]


def _sdk(model: FewShotSegmenter, supports: SupportSet) -> Callable[[NDArray[np.uint8]], Answer]:
    def answer(photo: NDArray[np.uint8]) -> Answer:
        found = model.infer(model.encode_query(photo), supports)
        return found.present.numpy(), found.scores.numpy()

    return answer


def _runtime(file: Path, threads: int) -> Callable[[NDArray[np.uint8]], Answer]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def answer(photo: NDArray[np.uint8]) -> Answer:
        scores, present, *_ = session.run(None, {"photos": photo[None]})
        return present[0], scores[0]

    return answer


def _quantised(file: Path, photos: list[NDArray[np.uint8]]) -> Path:
    """The same graph with the convolutions outside of its loops, which are the backbone's, in int8."""
    from onnxruntime.quantization import QuantFormat, quantize_static

    target = file.with_name("int8.onnx")
    quantize_static(
        file,
        target,
        CalibrationPhotos(photos),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
    )
    return target


@contextlib.contextmanager
def _ahead_of_others() -> Iterator[None]:
    """All threads that there are now run before those of other processes. Seconds only: the machine stands still."""

    def schedule(policy: int, priority: int) -> None:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))

    schedule(os.SCHED_FIFO, 1)
    try:
        yield
    finally:
        schedule(os.SCHED_OTHER, 0)


def _times(
    asked: dict[str, Callable[[NDArray[np.uint8]], Answer]], photo: NDArray[np.uint8], repeats: int
) -> dict[str, Any]:
    wall: dict[str, list[float]] = {name: [] for name in asked}
    processor: dict[str, list[float]] = {name: [] for name in asked}
    for repeat in range(repeats + 1):  # the first is for warming up
        for name, answer in asked.items():
            start, busy = time.perf_counter(), time.process_time()
            answer(photo)
            if repeat:
                wall[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - busy)
    return {
        name: {
            "smallest ms": round(min(wall[name]) * 1e3, 1),
            "median ms": round(statistics.median(wall[name]) * 1e3, 1),
            "processor ms": round(statistics.median(processor[name]) * 1e3, 1),
        }
        for name in asked
    }


def _agreement(
    asked: dict[str, Callable[[NDArray[np.uint8]], Answer]], photos: list[NDArray[np.uint8]]
) -> dict[str, Any]:
    """How far each agrees with the first: photos with the same presences, and the largest difference of a score."""
    reference, *others = asked
    expected = [asked[reference](photo) for photo in photos]
    report = {}
    for name in others:
        found = [asked[name](photo) for photo in photos]
        same = [bool((one[0] == two[0]).all()) for one, two in zip(expected, found, strict=True)]
        apart = max(float(np.abs(one[1] - two[1]).max()) for one, two in zip(expected, found, strict=True))
        report[name] = {"same presences": sum(same), "of": len(photos), "largest difference of a score": apart}
    return report


if __name__ == "__main__":
    main()
