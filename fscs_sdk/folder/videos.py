"""The answer for a video: its frames at a rate, one pass, and what becomes of them in files.

For ``clip.mp4`` these are ``clip.mp4.overlay.mp4``, the frames with the areas tinted; ``clip.mp4.presence.csv``, every
class in every frame; and ``clip.mp4.spans.csv``, when each class is there (:func:`~fscs_sdk.folder.spans.find_spans`).
While it goes on every frame's answer is a line of ``clip.mp4.partial.jsonl``, mask included, so that a run that was
stopped asks the model for no frame twice.
"""

import base64
import contextlib
import csv
import io
import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.atomic import write_atomically
from fscs_sdk.folder.identity import PhotoFile
from fscs_sdk.folder.inputs import Photo
from fscs_sdk.folder.journal import Record
from fscs_sdk.folder.output import FATAL, OutputFolder
from fscs_sdk.folder.pipeline import check_file, make_record
from fscs_sdk.folder.plan import Plan, Work, is_video
from fscs_sdk.folder.spans import find_spans
from fscs_sdk.formats import overlay
from fscs_sdk.prediction import Failure, Prediction, sentence
from fscs_sdk.video import Frame, read_frames

if TYPE_CHECKING:
    import cv2

OVERLAY, PRESENCE, SPANS = ".overlay.mp4", ".presence.csv", ".spans.csv"
PARTIAL, PARTIAL_OVERLAY = ".partial.jsonl", ".partial.mp4"


@dataclass(frozen=True)
class _Moment:
    """What was found in a frame: by class, in the supports' order."""

    seconds: float
    scores: tuple[float, ...]
    present: tuple[bool, ...]
    pixels: tuple[int, ...]


def video_answers(work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
    """Answer the videos that are to do, one after the other; the records as their files are complete.

    Raises:
        OSError: the output folder is full or gone.
    """
    for photo in plan.todo:
        if is_video(photo.path):
            yield _answer(photo, work, plan, output)


def _answer(photo: Photo, work: Work, plan: Plan, output: OutputFolder) -> Record:
    begun, at, error, files = time.monotonic(), None, photo.problem, {}
    moments: list[_Moment] = []
    if error is None:
        try:
            at = check_file(photo)
            stem = output.stem(plan.places[photo.path])
            moments = _watch(photo, work, plan.run, stem)
            written = _write(stem, work, moments)
            files = {work.video_format: tuple(file.relative_to(output.path).as_posix() for file in written)}
        except Exception as problem:
            if isinstance(problem, OSError) and problem.errno in FATAL:
                raise
            error = sentence(problem)
    best = {name: max((moment.scores[n] for moment in moments), default=0.0) for n, name in enumerate(work.names)}
    seen = {name: any(moment.present[n] for moment in moments) for n, name in enumerate(work.names)}
    return make_record(
        photo, at, plan, output, error=error, presence=seen, scores=best, files=files, seconds=time.monotonic() - begun
    )


def _watch(photo: Photo, work: Work, run: str, stem: Path) -> list[_Moment]:
    """Answer a video's frames, or find their answers in what a stopped run left, and write the annotated video.

    Raises:
        VideoError: the video cannot be read to its end.
        OSError: a file cannot be written.
    """
    made_of = {"digest": PhotoFile(photo.source).digest, "run": run, "frames": work.video_format}
    partial, video = _sibling(stem, PARTIAL), _sibling(stem, PARTIAL_OVERLAY)
    moments: list[_Moment] = []
    with contextlib.closing(_Answers(partial, made_of)) as answers, _Recorder(video, work) as recorder:
        try:
            for frame, prediction in _answered(photo, work, answers):
                recorder.add(prediction)
                pixels = np.bincount(prediction.mask.ravel(), minlength=len(work.names) + 1)[1:]
                in_order = [(prediction.scores[name], prediction.present[name]) for name in work.names]
                scores, present = zip(*in_order, strict=True)
                moments.append(_Moment(frame.seconds, scores, present, tuple(pixels.tolist())))
        except ValueError:  # the same file would fail again, at the same frame
            answers.discard()
            raise
    recorder.check(len(moments))
    return moments


def _answered(photo: Photo, work: Work, answers: "_Answers") -> Iterator[tuple[Frame, Prediction]]:
    """The frames with their answers: first those that a stopped run left, then the model's.

    Raises:
        VideoError: the video cannot be read to its end.
        RuntimeError: the model cannot answer a frame.
    """
    frames = iter(read_frames(photo.source, fps=work.fps, max_pixels=work.max_pixels))
    left: list[Frame] = []
    for frame in frames:
        found = answers.found(frame, work.names)
        if found is None:
            left.append(frame)
            break
        yield frame, found
    asked: deque[Frame] = deque()

    def images() -> "Iterator[NDArray[np.uint8]]":
        for frame in chain(left, frames):
            asked.append(frame)
            yield frame.image

    for answer in work.model.stream(images(), work.supports, max_pixels=work.max_pixels, on_error="skip"):
        frame = asked.popleft()
        if isinstance(answer, Failure):
            raise RuntimeError(answer.reason)
        answers.keep(frame, answer)
        yield frame, answer


def _write(stem: Path, work: Work, moments: Sequence[_Moment]) -> list[Path]:
    """Write the tables and give the annotated video its name; what was kept for a stopped run goes."""
    paths = [stem.with_name(stem.name + ending) for ending in (OVERLAY, PRESENCE, SPANS)]
    rows: list[Sequence[object]] = [("seconds", "class", "present", "score", "pixels")]
    for moment in moments:
        found = zip(work.names, moment.present, moment.scores, moment.pixels, strict=True)
        rows += [
            (f"{moment.seconds:.3f}", name, str(there).lower(), f"{score:.6f}", n) for name, there, score, n in found
        ]
    spans: list[Sequence[object]] = [("class", "start", "end", "score")]
    for number, (name, threshold) in enumerate(zip(work.names, work.supports.thresholds.tolist(), strict=True)):
        scores = ((moment.seconds, moment.scores[number]) for moment in moments)
        for span in find_spans(scores, threshold, 1 / work.fps):
            spans.append((name, f"{span.start:.3f}", f"{span.end:.3f}", f"{span.score:.6f}"))
    write_atomically(paths[1], _table(rows))
    write_atomically(paths[2], _table(spans))
    os.replace(_sibling(stem, PARTIAL_OVERLAY), paths[0])
    _sibling(stem, PARTIAL).unlink()
    return paths


def _table(rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _sibling(stem: Path, ending: str) -> Path:
    """A file beside the results; a link of that name is removed, for it might lead anywhere."""
    path = stem.with_name(stem.name + ending)
    if path.is_symlink():
        path.unlink()
    return path


class _Answers:
    """The answers of a video's frames in the order of their numbers, as lines of a file: read, then added to."""

    def __init__(self, path: Path, made_of: Mapping[str, str]) -> None:
        self._path = path
        path.touch()
        self._file = path.open("r+b")
        self._reading = self._line() == dict(made_of)
        if not self._reading:
            self._restart(0)
            self._add(dict(made_of))

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def found(self, frame: Frame, names: tuple[str, ...]) -> Prediction | None:
        """The answer of the next frame, if a stopped run left it."""
        if not self._reading:
            return None
        place = self._file.tell()
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            prediction = _prediction(self._line(), frame, names)
            if prediction is not None:
                return prediction
        self._reading = False
        self._restart(place)
        return None

    def keep(self, frame: Frame, prediction: Prediction) -> None:
        buffer = io.BytesIO()
        Image.fromarray(prediction.mask).save(buffer, "PNG", compress_level=1)
        self._add(
            {
                "frame": frame.number,
                "seconds": frame.seconds,
                "scores": list(prediction.scores.values()),
                "present": list(prediction.present.values()),
                "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
            }
        )

    def _line(self) -> Any:
        line = self._file.readline()
        with contextlib.suppress(ValueError):
            return json.loads(line) if line.endswith(b"\n") else None
        return None

    def _restart(self, place: int) -> None:
        self._file.seek(place)
        self._file.truncate()

    def _add(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self._file.flush()


def _prediction(line: Any, frame: Frame, names: tuple[str, ...]) -> Prediction | None:
    """The answer that a line holds of a frame, as far as drawing needs it; None if it is of another.

    Raises:
        ValueError, KeyError, TypeError, OSError: the line is none.
    """
    if line is None or line["frame"] != frame.number or line["seconds"] != frame.seconds:
        return None
    with Image.open(io.BytesIO(base64.b64decode(line["mask"]))) as image:
        mask = np.asarray(image)
    if mask.shape != frame.image.shape[:2]:
        return None
    return Prediction(
        names=names,
        scores=dict(zip(names, line["scores"], strict=True)),
        present=dict(zip(names, line["present"], strict=True)),
        foreground=np.broadcast_to(np.float32(0), (len(names), *mask.shape)),  # not kept, and not drawn
        background=np.broadcast_to(np.float32(0), mask.shape),
        mask=mask,
        image=frame.image,
    )


class _Recorder:
    """An annotated video that grows frame by frame, all of the first one's size."""

    def __init__(self, path: Path, work: Work) -> None:
        self._path, self._fps = path, work.fps
        self._writer: cv2.VideoWriter | None = None
        self._height = self._width = 0

    def __enter__(self) -> "_Recorder":
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.release()
        if error[0] is not None:
            self._path.unlink(missing_ok=True)

    def add(self, prediction: Prediction) -> None:
        """Draw a frame's answer and add it.

        Raises:
            OSError: the video cannot be written.
        """
        import cv2

        if self._writer is None:
            self._height, self._width = _page(prediction)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._fps, (self._width, self._height))
            if not self._writer.isOpened():
                raise OSError(f"the annotated video '{self._path}' cannot be written; check the folder and its space")
        page = np.full((self._height, self._width, 3), 255, np.uint8)
        picture = overlay(prediction)[: self._height]
        page[: picture.shape[0], : picture.shape[1]] = picture
        self._writer.write(cv2.cvtColor(page, cv2.COLOR_RGB2BGR))

    def check(self, frames: int) -> None:
        """Raise OSError unless the file holds so many frames: OpenCV does not say when a disk is full."""
        import cv2

        capture = cv2.VideoCapture(str(self._path))
        there = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if there != frames:
            raise OSError(f"the annotated video '{self._path}' could not be written whole; check the disk's space")


def _page(prediction: Prediction) -> tuple[int, int]:
    """Height and width of a page that holds every frame's picture, whatever its legend says; even, as codecs want."""
    pages = [overlay(replace(prediction, present=dict.fromkeys(prediction.names, there))) for there in (False, True)]
    height, width = max(page.shape[0] for page in pages), pages[0].shape[1]
    return height + height % 2, width + width % 2
