"""The one thread that asks the model: what the disk says now -> answers on disk, the most needed first.

There is no queue of photos. The thread compares the answers that are there with the workspace's state, answers the most
needed photo that has no answer for it, and looks again. So a change needs no bookkeeping: whatever was begun for an
older state is simply not the next photo. Other work for the model (an export, another program's question) is done
between two photos. One thread, because the model's products take all cores already.
"""

import copy
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.app.events import Events
from fscs_sdk.app.workspace import Photo, UnknownPhotoError, Workspace, photo_size
from fscs_sdk.atomic import write_atomically
from fscs_sdk.examination import Examination
from fscs_sdk.prediction import Prediction
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet

Result = TypeVar("Result")
#: Longer side of the maps that the page gets for its sliders and heat layers.
MAP_SIDE = 384
#: Bytes that one pixel of one class takes while a photo is answered: its map, twice.
BYTES_PER_VALUE = 8
#: Seconds between two words about how far the examination is.
GLANCE = 0.2
#: Jobs that may wait for the model besides the photos.
MOST_JOBS = 64

log = logging.getLogger(__name__)


class _OvertakenError(Exception):
    """The workspace changed while its supports were examined: begin again."""


class BusyError(RuntimeError):
    """So many wait for the model already that it is kinder to refuse."""


@dataclass(frozen=True)
class Answer:
    """What was found in a photo, without its pixels.

    Attributes:
        state: the workspace's state that it answers; see :meth:`Workspace.state`.
        thresholds: those that were in force.
        width, height: of the photo.
        map_size: (height, width) of the maps in ``answers/<photo>.maps.png``, where those of the classes stand one
            below the other, the background last.
        seconds: that the model took.
        error: why there is no answer, or None.
    """

    state: str
    names: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    present: tuple[bool, ...] = ()
    thresholds: tuple[float, ...] = ()
    width: int = 0
    height: int = 0
    map_size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    error: str | None = None

    def doubt(self) -> float:
        """How near the nearest score is to its threshold: 1 on it, 0 at the end of the scale."""
        nearness = [
            1 - abs(score - cut) / max(1e-6, cut if score < cut else 1 - cut)
            for score, cut in zip(self.scores, self.thresholds, strict=True)
        ]
        return max(nearness, default=0.0)


class Asker:
    """Keeps every query's answer up to date, in a thread of its own."""

    def __init__(self, model: FewShotSegmenter, workspace: Workspace, events: Events) -> None:
        """Begin with the answers on disk; :meth:`start` starts the thread."""
        self.workspace, self.events = workspace, events
        self._models = {edges: copy.copy(model) for edges in (False, True)}
        for edges, one in self._models.items():
            one.edges = edges and one.protocol == "paper"
        self.answers: dict[str, Answer] = {}
        self.supports: SupportSet | None = None
        self.own_thresholds: dict[str, float] = {}
        self.examination: Examination | None = None
        self.state = ""
        self.problem: str | None = None
        self.progress: dict[str, float] = {}
        self._wake = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changes, self._seen = 1, 0
        self._cancelled = self._stopped = self._renewing = False
        self._wanted: str | None = None
        self._encoded_for = ""
        self._told = 0.0
        self._thread = threading.Thread(target=self._run, name="fscs-asker", daemon=True)
        self._show_progress(0, 0, 0.0, running=False)
        for query in workspace.queries():
            answer = self._stored(query)
            if answer is not None:
                self.answers[query.id] = answer

    @property
    def model(self) -> FewShotSegmenter:
        """The model that the workspace asks now; both share one network."""
        return self._models[self.workspace.settings().edges]

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """End after the photo in hand."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def changed(self) -> None:
        """The workspace is another: look again."""
        with self._wake:
            self._changes += 1
            self._cancelled = False
            self._wake.notify_all()

    def cancel(self) -> None:
        """Answer no more photos until something changes."""
        with self._wake:
            self._cancelled = True
            self._wake.notify_all()

    def want(self, identifier: str) -> None:
        """Answer this photo next: someone looks at it."""
        with self._wake:
            self._wanted = identifier

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Run something between two photos, in the thread of the model. A future that is cancelled is never begun.

        Raises:
            BusyError: too many wait.
        """
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:  # noqa: BLE001  it belongs to whoever waits
                    future.set_exception(error)

        with self._wake:
            if len(self._jobs) >= MOST_JOBS:
                raise BusyError(f"{MOST_JOBS} questions wait for the model already; ask again in a moment")
            self._jobs.append(run)
            self._wake.notify_all()
        return future

    def encoded(self) -> SupportSet:
        """The supports of the workspace as it is now. In the model's thread only.

        Raises:
            ValueError: there are none, or one cannot be used.
        """
        state = self.workspace.support_state()
        if self.supports is None or self._encoded_for != state:
            shots = self.workspace.supports()
            if not shots:
                raise ValueError("no class has a marked photo yet; mark one first")
            settings = self.workspace.settings()
            negatives = [photo.path for photo in self.workspace.negatives()]
            if settings.calibrate:
                encoded = self.model.encode(shots, calibrate=True, negatives=negatives, progress=self._examining)
                self.examination = encoded.examination
            else:
                encoded = self.model.encode(shots)
                self.examination = self.model.examine(
                    shots, negatives=negatives, scales="whole", progress=self._examining
                )
            known = {name: value for name, value in settings.thresholds.items() if name in encoded.names}
            self.own_thresholds = dict(zip(encoded.names, encoded.thresholds.tolist(), strict=True))
            self.supports, self._encoded_for = encoded.with_thresholds(known), state
            self.supports.save(self.workspace.encoded)
        return self.supports

    def answered_mask(self, photo: Photo) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """The mask of a query's answer, (H, W) with n for the n-th class, and the classes.

        Raises:
            UnknownPhotoError: there is no answer yet.
        """
        answer = self.answers.get(photo.id)
        path = self.workspace.root / "answers" / f"{photo.name}.mask.png"
        if answer is None or answer.error or not path.exists():
            raise UnknownPhotoError("this photo has no answer yet; wait a moment")
        with Image.open(path) as image:
            return np.array(image), answer.names

    # ------------------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._jobs or self._seen != self._changes)
                if self._stopped:
                    return
                job = self._jobs.popleft() if self._jobs else None
                self._seen = self._seen if job else self._changes
            try:
                if job:
                    job()
                else:
                    self._renew()
            except Exception as error:  # the page must learn of it, and the thread must live
                log.exception("the model's thread met an error")
                self._tell_problem(_sentence(error))

    def _renew(self) -> None:
        """Answer every photo whose answer is not of the state that is now, until the state changes."""
        queries = self.workspace.queries()
        self.answers = {query.id: self.answers[query.id] for query in queries if query.id in self.answers}
        try:
            self.state = self.workspace.state()
            if not self.workspace.shots():
                self.supports, self.examination, self._encoded_for, self.answers = None, None, "", {}
                self._tell_problem(None)
                return
            if self._encoded_for != self.workspace.support_state():
                self._show_progress(0, 0, 0.0, running=True)
            self._renewing = True
            supports = self.encoded()
        except _OvertakenError:
            self._show_progress(0, 0, 0.0, running=False)
            return
        except (ValueError, OSError) as error:
            self._tell_problem(_sentence(error))
            return
        finally:
            self._renewing = False
        self._tell_problem(None)
        waiting = [query for query in queries if self._is_due(query)]
        waiting.sort(key=lambda query: self.answers[query.id].doubt() if query.id in self.answers else 2.0)
        begun, todo = time.monotonic(), len(waiting)
        fresh = len(queries) - todo
        for done in range(todo):
            rate = done / (time.monotonic() - begun) if done else 0.0
            self._show_progress(fresh + done, len(queries), rate, running=True)
            if not self._may_go_on():
                break
            place = next((i for i, query in enumerate(waiting) if query.id == self._wanted), len(waiting) - 1)
            query = waiting.pop(place)
            self.answers[query.id] = answer = self._answer(query, supports)
            self.events.publish("answer", id=query.id, answer=asdict(answer), doubt=answer.doubt())
        answered = todo - len(waiting)
        rate = answered / max(1e-6, time.monotonic() - begun)
        self._show_progress(fresh + answered, len(queries), rate, running=False)

    def _examining(self, done: int, total: int) -> None:
        with self._wake:
            over = self._cancelled or self._seen != self._changes
            if self._stopped or (self._renewing and over):
                raise _OvertakenError
        if time.monotonic() - self._told > GLANCE:
            self._told = time.monotonic()
            self._show_progress(done, total, 0.0, running=True, examining=True)

    def _may_go_on(self) -> bool:
        """Do the other jobs, and say whether the state is still the one that is being answered."""
        while True:
            with self._wake:
                if self._stopped or self._cancelled or self._seen != self._changes:
                    return False
                if not self._jobs:
                    return True
                job = self._jobs.popleft()
            job()

    def _is_due(self, query: Photo) -> bool:
        return query.id not in self.answers or self.answers[query.id].state != self.state

    def _answer(self, query: Photo, supports: SupportSet) -> Answer:
        begun = time.monotonic()
        record = self.workspace.root / "answers" / f"{query.name}.json"
        try:
            self.check_memory(query, supports)
            prediction = self.model.predict(query.path, supports)
            record.unlink(missing_ok=True)  # while mask and maps are another answer's, there is none
            answer = self._keep(query, prediction, supports)
        except Exception as error:  # one bad photo must not end the others
            log.info("no answer for %s", query.path, exc_info=True)
            return Answer(state=self.state, error=_sentence(error))
        answer = replace(answer, seconds=round(time.monotonic() - begun, 4))
        write_atomically(record, json.dumps(asdict(answer)).encode())
        return answer

    def check_memory(self, photo: Photo, supports: SupportSet) -> None:
        """Refuse a photo whose maps would not fit.

        Raises:
            ValueError: they would take more than the model's ``max_memory``.
        """
        height, width = photo_size(photo.path)
        needed = height * width * (len(supports) + 1) * BYTES_PER_VALUE
        if needed > self.model.max_memory:
            raise ValueError(
                f"{len(supports)} maps of {width} x {height} pixels take {needed / 1e9:.1f} GB and "
                f"{self.model.max_memory / 1e9:.1f} GB are allowed; make the photo smaller, or ask for fewer classes"
            )

    def _keep(self, query: Photo, prediction: Prediction, supports: SupportSet) -> Answer:
        stem = self.workspace.root / "answers" / query.name
        prediction.save(stem.with_name(f"{query.name}.mask.png"), format="mask")
        height, width = prediction.mask.shape
        scale = min(1.0, MAP_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        maps = [*prediction.foreground, prediction.background]
        small = np.concatenate([cv2.resize(layer, size, interpolation=cv2.INTER_AREA) for layer in maps])
        buffer = BytesIO()
        Image.fromarray(np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
        write_atomically(stem.with_name(f"{query.name}.maps.png"), buffer.getvalue())
        return Answer(
            state=self.state,
            names=prediction.names,
            scores=tuple(float(prediction.scores[name]) for name in prediction.names),
            present=tuple(bool(prediction.present[name]) for name in prediction.names),
            thresholds=tuple(supports.thresholds.tolist()),
            width=width,
            height=height,
            map_size=(size[1], size[0]),
        )

    def _stored(self, query: Photo) -> Answer | None:
        try:
            text = (self.workspace.root / "answers" / f"{query.name}.json").read_text(encoding="utf-8")
            values = json.loads(text)
            lists: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
            }
            return Answer(**lists)
        except (OSError, ValueError, TypeError, AttributeError):
            return None  # damaged or of another version: it is asked again

    def _show_progress(self, done: int, total: int, rate: float, *, running: bool, examining: bool = False) -> None:
        self.progress = {
            "done": done, "total": total, "rate": round(rate, 2), "running": running, "cancelled": self._cancelled,
            "examining": examining,
        }  # fmt: skip
        self.events.publish("progress", **self.progress)

    def _tell_problem(self, problem: str | None) -> None:
        self.problem = problem
        self.events.publish("workspace", state=self.state)
        if problem:
            self._show_progress(0, 0, 0.0, running=False)


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it; make the photo smaller"
    return " ".join(str(error).split()) or type(error).__name__
