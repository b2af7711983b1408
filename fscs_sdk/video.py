"""Frames of a video, in one pass: any file that OpenCV opens, or an open ``cv2.VideoCapture``."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, isfinite
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import cv2

#: Endings of the files that are taken for videos, in lower case.
VIDEO_ENDINGS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mts", ".m2ts"}
)
#: A file that goes on for so many times the frames that its header counts, and so many more, has no end.
ENDLESS, ENDLESS_FRAMES = 2, 1000
#: A file that ends before this share of the frames that its header counts, and by more than a few, is cut short.
WHOLE, FEW_FRAMES = 0.9, 5
#: Frames without a later time after which a file's times are taken for damaged.
STANDING = 1000


class VideoError(ValueError):
    """A video that cannot be read to its end; the message names it and the cure."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that was taken.

    Attributes:
        number: counted from 0 among those that are taken.
        seconds: its time in the video.
        image: uint8 (H, W, 3), RGB, upright.
    """

    number: int
    seconds: float
    image: NDArray[np.uint8]


def is_capture(source: object) -> "TypeGuard[cv2.VideoCapture]":
    """Whether something is a ``cv2.VideoCapture``; who holds one has imported OpenCV."""
    return isinstance(source, getattr(sys.modules.get("cv2"), "VideoCapture", ()))


def capture_frames(capture: "cv2.VideoCapture") -> Iterator[NDArray[np.uint8]]:
    """All frames from where an open capture stands, uint8 (H, W, 3) RGB; a camera's have no end. It is left open.

    Raises:
        VideoError: it is not open.
    """
    if not capture.isOpened():
        raise VideoError("the video capture is not open; check its path or camera")
    while True:
        found, image = capture.read()
        if not found:
            return
        yield _rgb(image)


def read_frames(path: str, *, fps: float, max_pixels: int) -> Iterator[Frame]:
    """Frames of a file at a rate: the first one, and of each following step of 1 / ``fps`` seconds the first.

    Times are the file's own, so its frames may come at any rate, also at a changing one. What its header says of how it
    was held is followed. One frame is in memory at a time.

    Raises:
        VideoError: it cannot be opened, has no frame, has no times, has no end, ends early, or has frames that are too
            large or change their size.
    """
    import cv2

    capture = cv2.VideoCapture(path)
    try:
        if not capture.isOpened():
            raise VideoError(f"{path!r} is no video that can be read here, or is damaged; convert it to MP4 (H.264)")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        yield from _sampled(capture, path, fps, max_pixels)
    except cv2.error as error:
        raise VideoError(f"{path!r} cannot be decoded ({error.err}); convert it to MP4 (H.264)") from None
    finally:
        capture.release()


def _sampled(capture: "cv2.VideoCapture", path: str, fps: float, max_pixels: int) -> Iterator[Frame]:
    clock = _Clock(capture, path)
    taken, due, shape = 0, 0.0, None
    while capture.grab():
        seconds = clock.tick()
        if taken and seconds < due - 1e-6:
            continue
        found, image = capture.retrieve()
        if not found:
            break
        if image.shape[0] * image.shape[1] > max_pixels:
            raise VideoError(f"{path!r} has frames of {image.shape[1]} x {image.shape[0]} pixels; raise max_pixels")
        if shape not in (None, image.shape):
            raise VideoError(f"the frames of {path!r} change their size after {seconds:.1f} s; convert it to one size")
        shape = image.shape
        yield Frame(taken, seconds, _rgb(image))
        taken += 1
        due = (floor(seconds * fps + 1e-6) + 1) / fps
    clock.check_end()


class _Clock:
    """The time of each frame that is grabbed, by its own stamp; without stamps by the rate in the header."""

    def __init__(self, capture: "cv2.VideoCapture", path: str) -> None:
        import cv2

        self._stamp, self._capture, self._path = cv2.CAP_PROP_POS_MSEC, capture, path
        self._rate = float(capture.get(cv2.CAP_PROP_FPS))
        self._declared = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._grabbed, self._latest, self._standing = 0, 0.0, 0

    def tick(self) -> float:
        """Seconds of the frame that was just grabbed; never before those of the last one."""
        number, stamp = self._grabbed, self._capture.get(self._stamp) / 1000
        self._grabbed += 1
        if self._declared > 0 and self._grabbed > ENDLESS * self._declared + ENDLESS_FRAMES:
            raise VideoError(f"{self._path!r} goes on after the {self._declared:.0f} frames that it counts; cut it")
        if not isfinite(stamp) or stamp < 0 or (number and stamp == 0):
            if not 0 < self._rate < 1e4:
                raise VideoError(f"{self._path!r} says nothing of the times of its frames; convert it to MP4 (H.264)")
            stamp = number / self._rate
        self._standing = 0 if stamp > self._latest else self._standing + 1
        if self._standing > STANDING:
            raise VideoError(f"the time of {self._path!r} stands still at {self._latest:.1f} s; convert it to MP4")
        self._latest = max(self._latest, stamp)
        return self._latest

    def check_end(self) -> None:
        """Refuse a file that ended at once, or long before its end."""
        if not self._grabbed:
            raise VideoError(f"{self._path!r} holds no frame that can be decoded; record or copy it again")
        missing = self._declared - self._grabbed
        if missing > FEW_FRAMES and self._grabbed < WHOLE * self._declared:
            raise VideoError(
                f"{self._path!r} ends after {self._grabbed} of {self._declared:.0f} frames, at {self._latest:.1f} s: "
                "it is cut short or damaged; copy it again"
            )


def _rgb(image: Any) -> NDArray[np.uint8]:
    """A frame of OpenCV's, in its order of colours or grey, as RGB."""
    import cv2

    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)
