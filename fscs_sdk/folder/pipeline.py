"""Ask ahead, write behind: the model never waits for a file, and memory is bounded."""

import os
import stat
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from fscs_sdk.folder.identity import PhotoFile, stamp
from fscs_sdk.folder.inputs import Photo
from fscs_sdk.folder.journal import Record
from fscs_sdk.folder.output import FATAL, OutputFolder
from fscs_sdk.folder.plan import Plan, Work, is_video
from fscs_sdk.prediction import Failure, Prediction, sentence

#: Bytes of predictions that wait to be written; one more may be in memory, however large it is.
MEMORY = 512 * 2**20


@dataclass
class _Job:
    """A photo on its way."""

    photo: Photo
    stamp: tuple[int, int, int] | None = None
    error: str | None = None
    begun: float = field(default_factory=time.monotonic)


def answers(work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
    """Stream the photos through the model, write behind it, and hand out the records as their files are complete.

    Raises:
        OSError: the output folder is full or gone.
    """
    asked: deque[_Job] = deque()
    writing: deque[tuple[Future[Record], int]] = deque()
    writers = ThreadPoolExecutor(work.workers, "fscs-write")

    def sources() -> Iterator[str]:
        """The files that can be asked about; the others wait in their places among those ``asked``."""
        for photo in plan.todo:
            if is_video(photo.path):
                continue
            asked.append(_looked_at(photo))
            if asked[-1].error is None:
                yield photo.source

    def write(job: _Job, prediction: Prediction | None) -> Iterator[Record]:
        """Let a thread write, as soon as memory allows; the records are of those that are through."""
        size = 0 if prediction is None else prediction.image.nbytes + prediction.mask.nbytes
        if prediction is not None and work.writes_maps:
            size += 4 * prediction.mask.size * (len(prediction.names) + 1)
        while writing and (
            writing[0][0].done()
            or len(writing) >= 2 * work.workers
            or size + sum(waiting for _, waiting in writing) > MEMORY
        ):
            yield writing.popleft()[0].result()
        writing.append((writers.submit(_finished, job, prediction, work, plan, output), size))

    stream = iter(work.model.stream(sources(), work.supports, max_pixels=work.max_pixels, on_error="skip"))
    try:
        for answer in stream:
            while asked[0].error is not None:
                yield from write(asked.popleft(), None)
            job = asked.popleft()
            if isinstance(answer, Failure):
                job.error = answer.reason
            yield from write(job, None if isinstance(answer, Failure) else answer)
            del answer  # or it would be held while the next one is made
        for job in asked:
            yield from write(job, None)
        while writing:
            yield writing.popleft()[0].result()
    finally:
        if isinstance(stream, Generator):
            stream.close()
        writers.shutdown(wait=True, cancel_futures=True)


def _looked_at(photo: Photo) -> _Job:
    job = _Job(photo, error=photo.problem)
    try:
        if job.error is None:
            job.stamp = check_file(photo)
    except OSError as error:
        job.error = sentence(error)
    return job


def check_file(photo: Photo) -> tuple[int, int, int]:
    """The :func:`~fscs_sdk.folder.identity.stamp` of a photo's file.

    Raises:
        OSError: it is none, or not there.
    """
    if not stat.S_ISREG(os.stat(photo.source).st_mode):  # reading a pipe would wait for ever
        raise OSError(f"{photo.source!r} is not a file; give the path of a photo")
    return stamp(photo.source)


def _finished(job: _Job, prediction: Prediction | None, work: Work, plan: Plan, output: OutputFolder) -> Record:
    """Write a photo's files, remove what is left of earlier answers, and make its record.

    Raises:
        OSError: the output folder is full or gone.
    """
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
        seconds=time.monotonic() - job.begun,
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
