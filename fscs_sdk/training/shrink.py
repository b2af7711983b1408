"""A small copy of the sources for another machine: photos in WebP, in zip files of a limited size.

Unpacked into one folder, the files are a ``--data`` like any other: a source's lists and class names travel with its
photos, so what may be trained on there is what may be trained on here. Equal photos and settings give equal files.
"""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from PIL import Image

from fscs_sdk.atomic import write_atomically
from fscs_sdk.training.corpus import read_source

#: What travels of a source's folder beside photos and masks.
DESCRIPTIONS = ("classes.json", "tags.json", "splits/**/*.txt", "SOURCE.txt")
#: What a file's entry costs beside its content and its name, which stands in the file twice.
ENTRY_BYTES = 140
PHOTOS_AT_ONCE = 256


def shrink(
    root: Path, sources: Sequence[str], out: Path, *, side: int, quality: int, limit: int
) -> tuple[list[Path], int]:
    """Write ``out/1.zip``, ``out/2.zip`` ...

    Args:
        root, sources: the folder of all sources, and the names of those that are to travel, whole.
        side: longer side of a photo in pixels; smaller ones keep their size, and every mask has its photo's.
        quality: of WebP, 0 to 100.
        limit: bytes of a file at most.

    Returns:
        The files, and the number of photos in them.

    Raises:
        ValueError: a photo alone is above the limit, or a source's description is malformed.
        OSError: a source cannot be read, or a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    members: list[tuple[str, bytes]] = []
    size = photos = 0
    for name, content in _members(root, sources, side, quality):
        room = len(content) + 2 * len(name.encode()) + ENTRY_BYTES
        if room > limit:
            raise ValueError(f"'{name}' takes {room} bytes and a file at most {limit}; raise --limit")
        if size + room > limit:
            files.append(_write(out / f"{len(files) + 1}.zip", members))
            members, size = [], 0
        members.append((name, content))
        size += room
        photos += "/images/" in name
    files.append(_write(out / f"{len(files) + 1}.zip", members))
    return files, photos


def _members(root: Path, sources: Sequence[str], side: int, quality: int) -> Iterator[tuple[str, bytes]]:
    """All files by their names, source by source."""
    for source in sources:
        folder = root / source
        photos = read_source(root, source, excluded=(), held_out=0, smallest=0, part="all")
        paths = [path for pattern in DESCRIPTIONS for path in sorted(folder.glob(pattern))]
        yield from ((path.relative_to(root).as_posix(), path.read_bytes()) for path in paths)

        def copy(image: Path, mask: Path | None, folder: Path = folder) -> list[tuple[str, bytes]]:
            key = image.relative_to(folder / "images").with_suffix("")
            name = folder.relative_to(root)
            found = [((name / "images" / key).as_posix() + ".webp", _small_photo(image, side, quality))]
            if mask is not None:
                found.append(((name / "masks" / key).as_posix() + ".png", _small_mask(mask, image, side)))
            return found

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(photos), PHOTOS_AT_ONCE):
                some = photos[start : start + PHOTOS_AT_ONCE]
                for found in threads.map(copy, [p.image for p in some], [p.mask for p in some]):
                    yield from found


def _small_photo(path: Path, side: int, quality: int) -> bytes:
    content = io.BytesIO()
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    photo.resize(_small(photo.size, side), Image.Resampling.BICUBIC).save(content, "WEBP", quality=quality, method=4)
    return content.getvalue()


def _small_mask(path: Path, photo: Path, side: int) -> bytes:
    content = io.BytesIO()
    with Image.open(photo) as opened:
        size = _small(opened.size, side)
    with Image.open(path) as opened:
        opened.resize(size, Image.Resampling.NEAREST).save(content, "PNG", optimize=True)
    return content.getvalue()


def _small(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _write(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    content = io.BytesIO()
    with ZipFile(content, "w") as file:
        for name, data in members:
            packed = name.endswith((".webp", ".png"))
            # a date of its own would make every copy another file
            file.writestr(ZipInfo(name), data, ZIP_STORED if packed else ZIP_DEFLATED)
    write_atomically(path, content.getvalue())
    return path
