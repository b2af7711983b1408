"""Decode ahead, answer, write behind: the model never waits for a file, and memory is bounded."""

import os
import stat
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fscs_sdk.folder.identity import PhotoFile, stamp
from fscs_sdk.folder.inputs import Photo
from fscs_sdk.folder.journal import Record
from fscs_sdk.folder.output import FATAL, OutputFolder
from fscs_sdk.folder.plan import Plan, Work, is_video
from fscs_sdk.images import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fscs_sdk.prediction import Prediction

#: Bytes of decoded photos that wait for the model, and of predictions that wait to be written; one more of each may be
#: in memory, however large it is.
MEMORY = 512 * 2**20


@dataclass
class _Job:
    """A photo on its way."""

    photo: Photo
    stamp: tuple[int, int, int] | None = None
    image: "NDArray[np.uint8] | None" = None
    error: str | None = None
    seconds: float = 0.0


def answers(work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
    """Decode ahead, answer, write behind, and hand out the records as their files are complete, in order.

    Raises:
        OSError: the output folder is full or gone.
    """
    writing: deque[tuple[Future[Record], int]] = deque()
    readers = ThreadPoolExecutor(work.workers, "fscs-read")
    writers = ThreadPoolExecutor(work.workers, "fscs-write")
    try:
        jobs = _decoded(readers, (photo for photo in plan.todo if not is_video(photo.path)), work)
        while batch := list(islice(jobs, work.batch_size)):
            for job, prediction in _predicted(work, batch):
                size = 0 if prediction is None else prediction.image.nbytes + prediction.mask.nbytes
                while writing and (
                    writing[0][0].done()
                    or len(writing) >= 2 * work.workers
                    or size + sum(waiting for _, waiting in writing) > MEMORY
                ):
                    yield writing.popleft()[0].result()
                writing.append((writers.submit(_finished, job, prediction, work, plan, output), size))
        while writing:
            yield writing.popleft()[0].result()
    finally:
        readers.shutdown(wait=False, cancel_futures=True)
        writers.shutdown(wait=True, cancel_futures=True)


def _decoded(readers: ThreadPoolExecutor, photos: Iterable[Photo], work: Work) -> Iterator[_Job]:
    """Decoded photos, in order, some of them decoded before they are asked for: as many as memory allows if the next
    ones are as large as the last ones were. As their sizes are not known at first, it begins with two.
    """
    waiting = iter(photos)
    decoding: deque[Future[_Job]] = deque()
    largest = MEMORY // 2

    def fill() -> None:
        ahead = min(2 * work.workers + work.batch_size, max(1, MEMORY // max(1, largest))) - len(decoding)
        decoding.extend(readers.submit(_decode, photo, work.max_pixels) for photo in islice(waiting, max(0, ahead)))

    fill()
    while decoding:
        job = decoding.popleft().result()
        largest = max(largest // 2, 0 if job.image is None else job.image.nbytes)
        fill()
        yield job


def _decode(photo: Photo, max_pixels: int) -> _Job:
    begun = time.monotonic()
    job = _Job(photo, error=photo.problem)
    try:
        if job.error is None:
            job.stamp = check_file(photo)
            job.image = read_image(photo.source, max_pixels=max_pixels)
    except Exception as error:  # noqa: BLE001 (whatever is wrong with one photo, the others are answered)
        job.error = sentence(error)
    job.seconds = time.monotonic() - begun
    return job


def check_file(photo: Photo) -> tuple[int, int, int]:
    """The :func:`~fscs_sdk.folder.identity.stamp` of a photo's file.

    Raises:
        OSError: it is none, or not there.
    """
    if not stat.S_ISREG(os.stat(photo.source).st_mode):  # reading a pipe would wait for ever
        raise OSError(f"{photo.source!r} is not a file; give the path of a photo")
    return stamp(photo.source)


def _predicted(work: Work, jobs: Sequence[_Job]) -> "Iterator[tuple[_Job, Prediction | None]]":
    """The answers of a batch; where it fails, of its photos one by one, so that a bad one fails alone."""
    yield from ((job, None) for job in jobs if job.image is None)
    ready = [job for job in jobs if job.image is not None]
    answered = 0
    begun = time.monotonic()
    try:
        images = [job.image for job in ready if job.image is not None]
        for prediction in work.model.predict_batch(images, work.supports) if images else ():
            job = ready[answered]
            answered += 1
            job.seconds += time.monotonic() - begun
            yield job, prediction
            begun = time.monotonic()
    except Exception as error:  # noqa: BLE001 (as above: the memory that a huge photo wants, say)
        if len(ready) > 1:
            for job in ready[answered:]:
                yield from _predicted(work, [job])
            return
        ready[0].error, ready[0].image = sentence(error), None
        yield ready[0], None


def _finished(job: _Job, prediction: "Prediction | None", work: Work, plan: Plan, output: OutputFolder) -> Record:
    """Write a photo's files, remove what is left of earlier answers, and make its record.

    Raises:
        OSError: the output folder is full or gone.
    """
    begun = time.monotonic()
    job.image = None
    files: dict[str, tuple[str, ...]] = {}
    if prediction is not None:
        try:
            stem = output.stem(plan.places[job.photo.path])
            for format in work.formats:
                written = format.write(prediction, stem)
                files[format.name] = tuple(file.relative_to(output.path).as_posix() for file in written)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FATAL:
                raise
            job.error = sentence(error)
    return make_record(
        job.photo,
        job.stamp,
        plan,
        output,
        error=job.error,
        presence={} if prediction is None else prediction.present,
        scores={} if prediction is None else prediction.scores,
        files=files,
        seconds=job.seconds + time.monotonic() - begun,
    )


def make_record(
    photo: Photo,
    at: tuple[int, int, int] | None,
    plan: Plan,
    output: OutputFolder,
    *,
    error: str | None,
    presence: Mapping[str, bool],
    scores: Mapping[str, float],
    files: Mapping[str, tuple[str, ...]],
    seconds: float,
) -> Record:
    """The journal's line for an answer whose files are written; what is left of earlier answers is removed.

    Args:
        at: the file's stamp when it was read.
        error: why there is no answer; then the others count for nothing.
        files: what was written, by format.
    """
    good, earlier = error is None, plan.earlier[photo.path]
    more = {} if is_video(photo.path) else earlier.more
    new = {file for written in files.values() for file in written}
    if good:
        output.remove(earlier.files - {file for kept in more.values() for file in kept} - new)
    file = PhotoFile(photo.source)
    return Record(
        path=photo.path,
        status="ok" if good else "failed",
        error=error,
        presence=dict(presence) if good else {},
        scores={name: round(score, 6) for name, score in scores.items()} if good else {},
        files={**more, **files} if good else {},
        seconds=round(seconds, 4),
        digest=file.digest if file.stamp == at else "",  # one that changed meanwhile is answered again
        **file.state,
        run=plan.run,
        stale=() if good else tuple(sorted(earlier.files | new)),
    )


def sentence(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it; make the photo smaller"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename!r}: {error.strerror.lower()}" if error.filename is not None else error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
