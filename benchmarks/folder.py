"""A folder beside the model: ``python -m benchmarks.folder PHOTOS`` prints JSON.

The same photos go through ``model.stream``, which writes nothing, and through ``predict_folder``, in turn: answers a
second, and what share of the first the second keeps, with masks and overlays and with every format of results that is
installed. ``--pixels 24`` writes the photos as JPEGs of so many megapixels first. ``--soak`` runs a folder of so many
files, copies of the photos, and prints the process's memory at every tenth of them. ``--draft``: what it would save and
change if the decoder made JPEGs smaller by itself; ``--writers``: what each format takes of a photo, and its bytes.
"""

import itertools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from PIL import Image

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import SUPPORTS
from fscs_sdk.folder import predict_folder
from fscs_sdk.formats import WRITERS, Format, MissingPackageError
from fscs_sdk.supports import SupportSet


def resident_bytes() -> int:
    """Memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill(folder: Path, photos: list[Path], megapixels: float | None) -> list[Path]:
    """The photos in a folder, or enlarged copies of them."""
    files = []
    for number, photo in enumerate(photos):
        files.append(folder / f"{number:04}.jpg")
        if megapixels is None:
            shutil.copy(photo, files[-1])
            continue
        with Image.open(photo) as image:
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = (round(image.width * scale), round(image.height * scale))
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(files[-1], quality=90)
    return files


def compare(model: FewShotSegmenter, supports: SupportSet, folder: Path, files: list[Path], rounds: int) -> Any:
    """Answers a second of each way and processor time an answer, best of some rounds, and what share of ``stream``'s
    pace each keeps: by the clock, and by the processor's, which other work on the machine hardly changes."""
    available = [name for name, writer in WRITERS.items() if _is_installed(writer)]
    scratch = folder.parent

    def stream() -> None:
        for _ in model.stream([str(file) for file in files], supports):
            pass

    def run(formats: list[str]) -> Callable[[], None]:
        def folder_run() -> None:
            out = scratch / "out"
            predict_folder(model, folder, supports, out, formats=formats)
            shutil.rmtree(out)

        return folder_run

    ways = {"stream": stream, "mask, overlay": run(["mask", "overlay"]), "all formats": run(available)}
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            begun, used = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first warms up
                clock[name].append(time.perf_counter() - begun)
                processor[name].append(time.process_time() - used)

    def share(spent: dict[str, list[float]], name: str) -> float:
        pairs = zip(spent["stream"], spent[name], strict=True)
        return round(statistics.median(alone / together for alone, together in pairs), 3)

    return {
        "formats": available,
        **{
            name: {
                "answers_per_s": round(len(files) / min(clock[name]), 2),
                "processor_ms": round(1000 * min(processor[name]) / len(files), 1),
                "share_of_stream": share(clock, name),
                "share_of_processor": share(processor, name),
            }
            for name in ways
        },
    }


def _is_installed(writer: Format) -> bool:
    try:
        writer.require()
    except MissingPackageError:
        return False
    return True


def writers(model: FewShotSegmenter, supports: SupportSet, files: list[Path]) -> Any:
    """Processor time and bytes of each format, a photo; best of three. The maps are made once, and counted apart."""
    spent: dict[str, list[float]] = defaultdict(list)
    size: dict[str, list[int]] = defaultdict(list)
    for file in files:
        prediction = model.predict(file, supports)
        begun = time.process_time()
        size["maps"].append(prediction.foreground.nbytes)
        spent["maps"].append(time.process_time() - begun)
        for name in filter(lambda name: _is_installed(WRITERS[name]), WRITERS):
            seconds = []
            for _ in range(3):
                begun = time.process_time()
                data = WRITERS[name].encode(prediction, photo=file.name)
                seconds.append(time.process_time() - begun)
            spent[name].append(min(seconds))
            size[name].append(sum(map(len, data.values())))
    return {
        name: {"ms": round(1000 * statistics.fmean(spent[name]), 1), "kilobytes": round(statistics.fmean(kept) / 1000)}
        for name, kept in size.items()
    }


def draft(model: FewShotSegmenter, supports: SupportSet, files: list[Path]) -> Any:
    """JPEGs decoded whole, and at the least of the sizes that the decoder can make which is twice the network's."""
    side = 2 * model.network.input_side
    spent: dict[str, float] = {"whole": 0, "scaled": 0}
    same, largest = [], 0.0
    for file in files:
        answers = []
        for way in spent:
            begun = time.process_time()
            with Image.open(file) as image:
                if way == "scaled":
                    image.draft("RGB", (side, side))
                image.load()
            spent[way] += time.process_time() - begun
            answers.append(model.predict(image, supports))
        whole, scaled = answers
        same += [whole.present[name] == scaled.present[name] for name in whole.names]
        largest = max(largest, *(abs(whole.scores[name] - scaled.scores[name]) for name in whole.names))
    return {
        **{f"{way}_ms": round(1000 * seconds / len(files), 1) for way, seconds in spent.items()},
        "photos": len(files),
        "same_presences": statistics.fmean(same),
        "largest_score_difference": round(largest, 4),
    }


def soak(model: FewShotSegmenter, supports: SupportSet, folder: Path, photos: list[Path], count: int) -> Any:
    """Memory at every tenth of ``count`` photos."""
    for number, photo in enumerate(itertools.islice(itertools.cycle(photos), count)):
        place = folder / f"{number % 100:02}"
        place.mkdir(exist_ok=True)
        shutil.copy(photo, place / f"{number:06}.jpg")
    memory, begun = [], time.perf_counter()

    def progress(done: int, total: int, _: object) -> None:
        if done and done % max(1, total // 10) == 0:
            memory.append(resident_bytes())

    summary = predict_folder(model, folder, supports, folder.parent / "out", progress=progress)
    after_first = memory[1:]
    return {
        "answered": summary.answered,
        "failed": len(summary.failed),
        "answers_per_s": round(summary.answered / (time.perf_counter() - begun), 2),
        "megabytes": [round(size / 1e6) for size in memory],
        "rise_from_second_tenth": round(max(after_first) / after_first[0] - 1, 4),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", default=64, show_default=True, help="Photos at most, evenly from the folder.")
@click.option("--pixels", "megapixels", type=float, help="Megapixels to enlarge them to.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--soak", "count", type=int, help="Instead, memory over so many files.")
@click.option("--draft", "instead", flag_value="draft", help="Instead, what decoding JPEGs smaller saves and changes.")
@click.option("--writers", "instead", flag_value="writers", help="Instead, the time and bytes of each format.")
def main(
    photos: Path, limit: int, megapixels: float | None, rounds: int, count: int | None, instead: str | None
) -> None:
    """Print what a folder's run costs beside the answers themselves."""
    model = FewShotSegmenter.from_pretrained(device="cpu")
    supports = model.encode(SUPPORTS)
    found = sorted(photos.rglob("*.jpg"))
    found = found[:: max(1, len(found) // limit)][:limit]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photos")
        folder.mkdir()
        if count:
            report = soak(model, supports, folder, found, count)
        elif instead:
            look = {"draft": draft, "writers": writers}[instead]
            report = look(model, supports, fill(folder, found, megapixels))
        else:
            report = compare(model, supports, folder, fill(folder, found, megapixels), rounds)
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
