"""Many photos and one support set -> files and a journal; resumes, shards, and never loses a photo."""

import contextlib
import errno
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from fscs_sdk.files import write_atomically
from fscs_sdk.folder.inputs import Inputs, Photo, find_inputs, shard
from fscs_sdk.folder.journal import JOURNAL, Entry, OpenJournal, read_journal, write_journal
from fscs_sdk.formats import Format, select

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fscs_sdk.prediction import Prediction
    from fscs_sdk.segmenter import FewShotSegmenter
    from fscs_sdk.supports import SupportSet

DEFAULT_FORMATS = ("mask", "overlay")
#: Part of every fingerprint: raise it when the same inputs would give other files.
RESULT_VERSION = 1
#: What the run keeps for itself inside the output folder.
STATE_FOLDER = ".fscs"
#: No photo after these: the next one would fail in the same way.
FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True)
class Settings:
    """How a run works.

    Attributes:
        formats: names from :data:`fscs_sdk.formats.WRITERS`.
        batch_size: photos that pass the backbone together.
        workers: threads that decode, and as many that write.
        overwrite: answer again what is done.
        follow_links: see :func:`~.inputs.find_inputs`.
        shard: (i, n): only the i-th of n parts, with a journal of its own; :func:`~.merge.merge_journals` joins them.
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    batch_size: int = 1
    workers: int = 2
    overwrite: bool = False
    follow_links: bool = False
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError("no format is chosen; name at least one, such as mask")
        if self.batch_size < 1 or self.workers < 1:
            raise ValueError("batch_size and workers must be at least 1")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]} is none: i/n needs 1 <= i <= n")


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        inputs: all photos, of all shards, and what was passed over.
        here: the photos of this shard.
        todo: those of them that are new, changed, or failed before.
        run: fingerprint of the model, the supports and the settings.
    """

    inputs: Inputs
    here: tuple[Photo, ...]
    todo: tuple[Photo, ...]
    run: str


@dataclass(frozen=True)
class Summary:
    """What a run did: how many photos it answered, how many were done before, and the entries of those that failed."""

    answered: int
    done_before: int
    failed: tuple[Entry, ...]
    out: Path
    collected: tuple[Path, ...] = field(default=())


def predict_folder(
    model: "FewShotSegmenter",
    sources: Sequence[str | os.PathLike[str]],
    supports: "Mapping[str, object] | SupportSet",
    out: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    started: Callable[[Plan], object] = lambda plan: None,
    advance: Callable[[Entry], object] = lambda entry: None,
) -> Summary:
    """Answer every photo of files, folders, patterns and lists, into files below ``out``.

    The input tree is mirrored: ``photos/a/b.jpg`` of the folder ``photos`` becomes ``out/a/b.jpg.mask.png``. Every file
    appears whole or not at all. ``out/journal.jsonl`` has one line for each photo (see :class:`~.journal.Entry`); a
    photo that cannot be read or answered is a line with its error, and the run goes on. Called again, only photos
    are answered that are new, changed or failed, or all of them where model, supports or settings changed. Stopped at
    any moment, the next call goes on to the same result.

    Args:
        sources: see :func:`~.inputs.find_inputs`.
        supports: as for ``model.predict``; encoded once.
        settings: formats and the way of working.
        started: called once, when it is known what is to be done.
        advance: called for every photo when its line is written.

    Raises:
        ValueError: no photos, an unknown format, or supports that cannot be used.
        OSError: the disk is full, ``out`` cannot be written, or another run is writing to it.
    """
    settings, out = settings or Settings(), Path(out)
    formats = select(settings.formats)
    encoded = model.encode(supports) if isinstance(supports, Mapping) else supports
    work = plan(model, sources, encoded, out, settings)
    started(work)
    state = out / STATE_FOLDER
    state.mkdir(parents=True, exist_ok=True)
    with _locked(state / f"{_part(settings)}.lock"):
        record = {"formats": list(settings.formats), "names": list(encoded.names)}
        _write_json(state / f"{_part(settings)}.json", {**record, "places": [photo.place for photo in work.here]})
        journal = out / journal_name(settings.shard)
        entries = read_journal(journal)
        failed: list[Entry] = []
        try:
            with OpenJournal(journal) as opened:
                for entry in _answers(model, encoded, work, out, formats, settings):
                    opened.append(entry)
                    entries[entry.place] = entry
                    failed += [entry] if entry.status == "failed" else []
                    advance(entry)
        finally:
            with contextlib.suppress(OSError):  # what was appended is there; the disk may be full
                write_journal(journal, entries.values())
        collected = () if settings.shard else collect(out, entries.values(), formats, encoded.names)
    answered = len(work.todo) - len(failed)
    return Summary(answered, len(work.here) - len(work.todo), tuple(failed), out, collected)


def plan(
    model: "FewShotSegmenter",
    sources: Sequence[str | os.PathLike[str]],
    supports: "SupportSet",
    out: Path,
    settings: Settings,
) -> Plan:
    """What :func:`predict_folder` would do; nothing is written.

    Raises:
        ValueError, OSError: as :func:`predict_folder`.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"'{out}' is not a folder; choose another output folder")
    inputs = find_inputs(sources, out=out, follow_links=settings.follow_links)
    if not inputs.photos:
        passed = f" ({inputs.links} links, {inputs.others} other files)" if inputs.links or inputs.others else ""
        raise ValueError(f"there are no photos in {', '.join(map(str, sources))}{passed}; check the path")
    here = shard(inputs.photos, *settings.shard) if settings.shard else inputs.photos
    run = _fingerprint(model, supports, settings.formats)
    done = {} if settings.overwrite else read_journal(out / journal_name(settings.shard))
    todo = tuple(photo for photo in here if not _is_done(photo, done.get(photo.place), run, out))
    return Plan(inputs, here, todo, run)


def journal_name(part: tuple[int, int] | None) -> str:
    """The journal's file name, of a whole run or of a shard (i, n)."""
    return JOURNAL if part is None else f"journal.{part[0]}-of-{part[1]}.jsonl"


def collect(out: Path, entries: Iterable[Entry], formats: Sequence[Format], names: Sequence[str]) -> tuple[Path, ...]:
    """Write the files of the whole run (COCO, CSV, YOLO) from those of its photos."""
    written: list[Path] = []
    answered = sorted((entry for entry in entries if entry.status == "ok"), key=lambda entry: entry.place)
    for format in formats:
        if format.whole_run is None or format.ending is None:
            continue
        files = {e.place: out / f"{e.place}{format.ending}" for e in answered if f"{e.place}{format.ending}" in e.files}
        written += format.collect(files, out, names=names)
    return tuple(written)


def _is_done(photo: Photo, entry: Entry | None, run: str, out: Path) -> bool:
    if entry is None or entry.status != "ok" or entry.run != run:
        return False
    try:
        status = photo.path.stat()
    except OSError:
        return False
    same = (status.st_size, status.st_mtime_ns) == (entry.size, entry.modified)
    return same and all((out / file).is_file() for file in entry.files)


def _fingerprint(model: "FewShotSegmenter", supports: "SupportSet", formats: Sequence[str]) -> str:
    """Changes when an answer or its files could."""
    digest = sha256(json.dumps([RESULT_VERSION, model.identity, model.protocol, str(model.dtype)]).encode())
    digest.update(json.dumps([sorted(set(formats)), list(supports.names)]).encode())
    tensors = [feature for level in supports.features for feature in level]
    for tensor in (*tensors, supports.masks, supports.tagged, supports.class_index, supports.thresholds):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass
class _Job:
    """A photo on its way: when it was begun, what the file system says of it, and its pixels once decoded."""

    photo: Photo
    started: float
    size: int = 0
    modified: int = 0
    image: "NDArray[np.uint8] | None" = None
    error: str | None = None


def _answers(
    model: "FewShotSegmenter",
    supports: "SupportSet",
    work: Plan,
    out: Path,
    formats: Sequence[Format],
    settings: Settings,
) -> Iterator[Entry]:
    """Decode ahead, answer, write behind: at most a few photos are in memory, whatever the number.

    Raises:
        OSError: the disk is full, or the output folder has become useless in another way.
    """
    window = 2 * settings.workers + settings.batch_size
    real_out = Path(os.path.realpath(out))
    writing: deque[Future[Entry]] = deque()
    reader, writer = ThreadPoolExecutor(settings.workers), ThreadPoolExecutor(settings.workers)
    try:
        for jobs in _batches(_ahead(reader, work.todo, window), settings.batch_size):
            for job, prediction in _predict(model, supports, jobs):
                writing.append(writer.submit(_finish, job, prediction, work.run, out, real_out, formats))
            while len(writing) > settings.workers or (writing and writing[0].done()):
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)


def _ahead(reader: ThreadPoolExecutor, photos: Sequence[Photo], window: int) -> Iterator[_Job]:
    """Decoded photos in order, at most ``window`` of them decoded before they are asked for."""
    waiting = iter(photos)
    decoding = deque(reader.submit(_decode, photo) for photo in islice(waiting, window))
    while decoding:
        job = decoding.popleft().result()
        decoding.extend(reader.submit(_decode, photo) for photo in islice(waiting, 1))
        yield job


def _batches(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    while batch := list(islice(jobs, size)):
        yield batch


def _decode(photo: Photo) -> _Job:
    from fscs_sdk.images import read_image

    job = _Job(photo, time.monotonic())
    try:
        status = photo.path.stat()
        job.size, job.modified = status.st_size, status.st_mtime_ns
        job.image = read_image(photo.path)
    except Exception as error:  # noqa: BLE001 (whatever is wrong with one photo, the others are answered)
        job.error = _reason(error)
    return job


def _predict(
    model: "FewShotSegmenter", supports: "SupportSet", jobs: Sequence[_Job]
) -> "list[tuple[_Job, Prediction | None]]":
    """Answers of a batch; should it fail, of its photos one by one, so that one bad photo fails alone."""
    images = [job.image for job in jobs if job.image is not None]
    try:
        predictions = iter(model.predict_batch(images, supports))
    except Exception as error:  # noqa: BLE001 (as above: memory that one huge photo wants, say)
        if len(jobs) > 1:
            return [answer for job in jobs for answer in _predict(model, supports, [job])]
        jobs[0].error = jobs[0].error or _reason(error)
        return [(jobs[0], None)]
    return [(job, next(predictions) if job.image is not None else None) for job in jobs]


def _finish(
    job: _Job, prediction: "Prediction | None", run: str, out: Path, real_out: Path, formats: Sequence[Format]
) -> Entry:
    """Write a photo's files and make its line.

    Raises:
        OSError: of a kind that the next photo would meet too.
    """
    job.image = None
    files: list[str] = []
    if prediction is not None:
        try:
            files = _write(job.photo, prediction, out, real_out, formats)
        except OSError as error:
            if error.errno in FATAL:
                raise
            job.error = _reason(error)
        except Exception as error:  # noqa: BLE001 (a format that cannot hold this answer, say)
            job.error = _reason(error)
    good = prediction is not None and job.error is None
    return Entry(
        path=str(job.photo.path),
        place=job.photo.place,
        status="ok" if good else "failed",
        error=job.error,
        present=dict(prediction.present) if prediction is not None and good else {},
        scores={name: round(score, 6) for name, score in prediction.scores.items()} if prediction and good else {},
        files=tuple(files) if good else (),
        seconds=round(time.monotonic() - job.started, 4),
        size=job.size,
        modified=job.modified,
        run=run,
    )


def _write(photo: Photo, prediction: "Prediction", out: Path, real_out: Path, formats: Sequence[Format]) -> list[str]:
    stem = out / photo.place
    stem.parent.mkdir(parents=True, exist_ok=True)
    if not Path(os.path.realpath(stem.parent)).is_relative_to(real_out):
        raise ValueError(f"'{stem.parent}' is a link that leads out of '{out}'; remove it, or choose another folder")
    written = [path for format in formats for path in format.write(prediction, stem)]
    return [path.relative_to(out).as_posix() for path in written]


def _reason(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it; make the photo smaller"
    if isinstance(error, OSError) and error.strerror:
        where = f"'{error.filename}': " if error.filename else ""
        return f"{where}{error.strerror.lower()}"
    return " ".join(str(error).split()) or type(error).__name__


def _part(settings: Settings) -> str:
    return "run" if settings.shard is None else f"run.{settings.shard[0]}-of-{settings.shard[1]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OSError(
            f"another run is writing to '{path.parent.parent}'; wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _write_json(path: Path, value: object) -> None:
    write_atomically(path, json.dumps(value).encode("ascii"))
