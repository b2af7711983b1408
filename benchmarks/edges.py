"""``python -m benchmarks.edges FOLDER ...``: what maps that follow the photo's edges gain and lose, source by source.

A folder holds ``images/`` and ``masks/`` of the same names (the values of masks are classes, 255 is unknown). Questions
are 1-way 1-shot about a class that is there, and the map is cut at one half: presence is told. *mIoU* sums over photos;
*boundary F* counts outline pixels within two pixels of the other outline, on photos of some 400 pixels.
"""

import random
import time
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.images import read_image
from fscs_sdk.segmenter import FewShotSegmenter

Mask = NDArray[np.bool_]
UNKNOWN = 255
#: Share of a photo below which a class is not asked for.
SMALLEST = 0.003
TOLERANCE = 2
REPEATS = 9
#: Of the files whose answers are timed, width and height.
SIZES = ((640, 480), (4000, 3000))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--photos", default=24, show_default=True, help="Questions a folder.")
@click.option("--model", default="asnet-mini", show_default=True)
def main(folders: tuple[Path, ...], photos: int, model: str) -> None:
    """Ask photos of FOLDERS with and without edges, and print a table; then what edges cost."""
    segmenter = FewShotSegmenter.from_pretrained(model, device="cpu", dtype="float32")
    if folders:
        print_table(segmenter, folders, photos)
    for size in SIZES:
        plainly, following = cost(segmenter, size)
        click.echo(
            f"{size[0]} x {size[1]} pixels: {1e3 * plainly:.0f} ms of one processor, with edges "
            f"{1e3 * following:.0f} ms, {following / plainly - 1:.1%} more"
        )


def print_table(segmenter: FewShotSegmenter, folders: tuple[Path, ...], photos: int) -> None:
    """A row for each folder, as it is measured, and the mean."""
    rows = []
    click.echo("| source | mIoU, the paper's maps | with edges | boundary F, the paper's maps | with edges |")
    click.echo("|---|---|---|---|---|")
    for folder in folders:
        rows.append(measure(segmenter, folder, photos))
        click.echo(f"| {folder.name} | " + " | ".join(f"{100 * value:.1f}" for value in rows[-1]) + " |")
    click.echo("| mean | " + " | ".join(f"{100 * value:.1f}" for value in np.mean(rows, axis=0)) + " |")


def cost(segmenter: FewShotSegmenter, size: tuple[int, int]) -> tuple[float, float]:
    """Least seconds of processor time for a file of so many pixels and one class, without and with edges."""
    plain = FewShotSegmenter(segmenter.network, name="plain", device="cpu", dtype="float32", edges=False)
    supports, times = plain.encode({"cat": SUPPORTS["cat"]}), list[float]()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        photo = Image.fromarray(read_image(PHOTOS / "cat_query.jpg")).resize(size, Image.Resampling.BICUBIC)
        photo.save(Path(folder) / "photo.jpg", quality=90)
        for turn in range(REPEATS + 1):
            for model in (plain, segmenter):
                start = time.process_time()
                model.predict(Path(folder) / "photo.jpg", replace(supports, model=model.identity))
                if turn:
                    times.append(time.process_time() - start)
    torch.set_num_threads(before)
    return min(times[::2]), min(times[1::2])


def measure(segmenter: FewShotSegmenter, folder: Path, photos: int) -> tuple[float, float, float, float]:
    """mIoU without and with edges, boundary F without and with, each from 0 to 1."""
    rng = random.Random(zlib.crc32(folder.name.encode()))
    by_class = {name: found for name, found in sorted(classes_of(folder).items()) if len(found) > 1}
    if not by_class:
        raise click.UsageError(f"'{folder}' has no class that two photos show")
    shared, either, outlines = np.zeros(2), np.zeros(2), np.zeros(2)
    for _ in range(photos):
        name = rng.choice(list(by_class))
        asked, support = rng.sample(by_class[name], 2)
        photo, truth, known = labelled(folder, asked, name[1])
        shown, mask, _ = labelled(folder, support, name[1])
        supports = segmenter.encode({"it": [shown, mask]})
        maps = segmenter.infer(segmenter.encode_query(photo), supports).maps
        for index, some in enumerate((replace(maps, edges=None), maps)):
            found = (some.probabilities()[0][0] >= 0.5).numpy() & known
            shared[index] += (found & truth).sum()
            either[index] += (found | truth).sum()
            outlines[index] += boundary_f(found, truth, known) / photos
    overlap = shared / np.maximum(either, 1)
    return float(overlap[0]), float(overlap[1]), float(outlines[0]), float(outlines[1])


def classes_of(folder: Path) -> dict[tuple[str, int], list[Path]]:
    """(Folder below ``masks/``, value) -> the masks that show it large enough."""
    found = defaultdict(list)
    for path in sorted((folder / "masks").rglob("*.png")):
        counts = np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
        for value in np.flatnonzero(counts[1:254]) + 1:
            if counts[value] >= SMALLEST * counts.sum():
                below = path.parent.relative_to(folder / "masks").as_posix()
                found[below, int(value)].append(path.relative_to(folder / "masks"))
    return found


def labelled(folder: Path, mask: Path, value: int) -> tuple[NDArray[np.uint8], Mask, Mask]:
    """A photo, where it shows a class, and where that is known."""
    values = np.asarray(Image.open(folder / "masks" / mask))
    return read_image(folder / "images" / mask.parent / f"{mask.stem}.jpg"), values == value, values != UNKNOWN


def boundary_f(found: Mask, truth: Mask, known: Mask) -> float:
    """The harmonic mean of the shares of each outline that is near the other; 0 where one of them is empty."""
    square, disc = np.ones((3, 3), np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE + 1,) * 2)
    outlines = [(area != cv2.erode(area.astype(np.uint8), square).astype(bool)) & known for area in (found, truth)]
    if not all(outline.any() for outline in outlines):
        return 0.0
    near = [cv2.dilate(outline.astype(np.uint8), disc).astype(bool) for outline in outlines]
    precision = (outlines[0] & near[1]).sum() / outlines[0].sum()
    recall = (outlines[1] & near[0]).sum() / outlines[1].sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


if __name__ == "__main__":
    main()
