"""The page's requests: each reads what was asked, calls the workspace or the model's thread, and answers."""

import asyncio
import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fscs_sdk.app import outlining, takeaway
from fscs_sdk.app.asker import Asker, BusyError
from fscs_sdk.app.events import Events
from fscs_sdk.app.marked import take_annotations
from fscs_sdk.app.ml_backend import LabelConfig, task_photo, task_result
from fscs_sdk.app.names import class_name
from fscs_sdk.app.runlengths import decode_runs, encode_runs
from fscs_sdk.app.views import areas, decoded, photo_view
from fscs_sdk.app.workspace import (
    MOST_BYTES,
    MOST_PIXELS,
    Photo,
    UnknownPhotoError,
    Workspace,
    mask_version,
    photo_size,
)
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.formats import WRITERS, class_colors, select
from fscs_sdk.images import read_mask
from fscs_sdk.prediction import Prediction

Result = TypeVar("Result")
STATIC = Path(__file__).parent / "static"
#: Bytes of a request that is no upload.
MOST_REQUEST = 50_000_000
#: Seconds between looks whether the one who asked is still there.
GLANCE = 0.5


class Routes:
    """The application's handlers, on one workspace."""

    def __init__(
        self, workspace: Workspace, asker: Asker, events: Events, *, model: Mapping[str, str], studio: str | None
    ) -> None:
        """Handlers for a workspace.

        Args:
            model: the options with which the command line loads this model, without those that are the default.
            studio: address of the Label Studio that photos of tasks may be fetched from.
        """
        self.workspace, self.asker, self.events, self.model, self.studio = workspace, asker, events, model, studio

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        photo = "/api/photos/{id}"
        return [
            Route("/", self.page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/workspace", self.snapshot),
            Route("/api/events", self.listen),
            Route("/api/photos", self.upload, methods=["POST"]),
            Route("/api/demo", self.add_demo, methods=["POST"]),
            Route("/api/folder", self.pick, methods=["POST"]),
            Route(photo, self.remove, methods=["DELETE"]),
            Route(photo, self.describe),
            Route(f"{photo}/view", self.view),
            Route(f"{photo}/maps", self.maps),
            Route(f"{photo}/areas", self.areas),
            Route(f"{photo}/mask", self.mask),
            Route(f"{photo}/draft", self.keep_draft, methods=["PUT"]),
            Route(f"{photo}/draft", self.drop_draft, methods=["DELETE"]),
            Route(f"{photo}/shot", self.set_shot, methods=["PUT"]),
            Route(f"{photo}/shot", self.remove_shot, methods=["DELETE"]),
            Route(f"{photo}/negative", self.set_negative, methods=["PUT", "DELETE"]),
            Route(f"{photo}/confirmed", self.confirm, methods=["PUT", "DELETE"]),
            Route(f"{photo}/suggestion", self.suggest, methods=["POST"]),
            Route(f"{photo}/annotation", self.read_annotation, methods=["POST"]),
            Route("/api/annotations", self.take_annotations, methods=["POST"]),
            Route("/api/classes", self.change_class, methods=["PATCH"]),
            Route("/api/settings", self.change_settings, methods=["PATCH"]),
            Route("/api/asking", self.steer, methods=["PATCH"]),
            Route("/health", self.studio_health),
            Route("/setup", self.studio_setup, methods=["POST"]),
            Route("/predict", self.studio_predict, methods=["POST"]),
            Route("/webhook", self.studio_webhook, methods=["POST"]),
            Route("/take/supports.zip", self.take_supports),
            Route("/take/supports.safetensors", self.take_encoded),
            Route("/take/answers.zip", self.take_answers),
            Route("/take/commands", self.take_commands),
        ]

    # ----------------------------------------------------------------------------------------------- page and snapshot

    def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    def listen(self, request: Request) -> Response:
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    def snapshot(self, request: Request) -> Response:
        """Everything that a page needs to draw itself, but for pixels."""
        workspace, asker = self.workspace, self.asker
        settings, drafts = workspace.settings(), workspace.drafts()
        problem = asker.problem
        try:
            shots = workspace.shots()
        except ValueError as error:
            shots, problem = {}, str(error)
        negatives = {photo.name: photo for photo in workspace.negatives()}
        labels: dict[str, list[str]] = {}
        for name, photos in shots.items():
            for shot in photos:
                labels.setdefault(shot.name, []).append(name)
        examined, suspects = _examined(asker)
        classes = [
            {
                "examined": examined.get(name),
                "name": name,
                "color": "#{:02x}{:02x}{:02x}".format(*color),
                "threshold": settings.thresholds.get(name, asker.own_thresholds.get(name)),
                "own_threshold": asker.own_thresholds.get(name),
                "shots": [
                    {
                        "id": shot.id,
                        "name": shot.name,
                        "mask": mask_version(shot.shot),
                        "suspect": suspects.get((name, number)),
                        "drafted": name in drafts.get(shot.id, []),
                    }
                    for number, shot in enumerate(photos, start=1)
                ],
            }
            for (name, photos), color in zip(shots.items(), class_colors(list(shots)), strict=True)
        ]
        queries = [
            {
                "id": query.id,
                "name": query.name,
                "labels": labels.get(query.name, []),
                "negative": query.name in negatives,
                "drafts": drafts.get(query.id, []),
                "confirmed": settings.confirmed.get(query.name),
                "answer": _answered(asker, query),
            }
            for query in workspace.queries()
        ]
        return JSONResponse(
            {
                "name": workspace.root.name,
                "path": str(workspace.root),
                "model": self.asker.model.identity,
                "state": asker.state,
                "problem": problem,
                "progress": asker.progress,
                "calibrate": settings.calibrate,
                "remarks": [] if asker.examination is None else asker.examination.remarks,
                "classes": classes,
                "negatives": [{"id": photo.id, "name": photo.name} for photo in negatives.values()],
                "photos": queries,
                "pickable": [{"id": photo.id, "name": photo.name} for photo in workspace.pickable()],
                "formats": [{"name": name, "contents": format.contents} for name, format in WRITERS.items()],
            }
        )

    # --------------------------------------------------------------------------------------------------------- photos

    async def upload(self, request: Request) -> Response:
        data = await _body(request, MOST_BYTES)
        photo = await run_in_threadpool(self.workspace.add, request.query_params.get("name", "photo.jpg"), data)
        self._changed()
        return JSONResponse({"id": photo.id, "name": photo.name})

    def add_demo(self, request: Request) -> Response:
        """The photos that ship: two marked ones, and seven to ask."""
        for query in QUERIES:
            self.workspace.add(query, (PHOTOS / query).read_bytes())
        for name, (photo, mask) in SUPPORTS.items():
            added = self.workspace.add(photo.name, photo.read_bytes())
            self.workspace.set_shot(added, name, read_mask(mask, size=photo_size(photo)))
        self._changed()
        return JSONResponse({})

    async def pick(self, request: Request) -> Response:
        chosen = set(_list_of_texts(await _json(request), "ids"))

        def add() -> None:
            for photo in self.workspace.pickable():
                if photo.id in chosen:
                    self.workspace.add(photo.name, photo.path.read_bytes())
                    self._changed()

        await run_in_threadpool(add)
        return JSONResponse({})

    def remove(self, request: Request) -> Response:
        photo = self._photo(request)
        if photo.place != "queries":
            raise ValueError("only a photo that is asked can be removed here; take shots out of their class")
        self.workspace.remove(photo)
        self._changed()
        return JSONResponse({})

    def describe(self, request: Request) -> Response:
        """Size, and for which classes there is a mask, a draft or a tag."""
        photo = self._photo(request)
        height, width = photo_size(photo.path)
        shots = {name: self.workspace.shot(photo, name) for name in self.workspace.shots()}
        masks = {name: not shot.is_tag for name, shot in shots.items() if shot is not None}
        self.asker.want(photo.id)
        return JSONResponse(
            {"id": photo.id, "name": photo.name, "width": width, "height": height, "shots": masks,
             "drafts": self.workspace.drafts().get(photo.id, [])}
        )  # fmt: skip

    def view(self, request: Request) -> Response:
        side = request.query_params.get("side", "2048")
        if not side.isdecimal():
            raise ValueError("side must be a number of pixels")
        data = photo_view(self._photo(request), int(side), self.workspace.root / ".views")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def maps(self, request: Request) -> Response:
        photo = self._photo(request)
        return _png_file(self.workspace.root / "answers" / f"{photo.name}.maps.png")

    def areas(self, request: Request) -> Response:
        """What lies over the photo: the answer of a query, or the mask of a shot."""
        photo, side = self._photo(request), 1024 if request.query_params.get("side") == "1024" else 320
        if photo.place == "supports":
            mask = self.workspace.mask(photo)
            names = tuple(self.workspace.shots())
            label = np.zeros(photo_size(photo.path), np.uint8)
            if mask is not None and photo.class_name is not None:
                label[mask] = names.index(photo.class_name) + 1
        else:
            label, names = self._answered_mask(photo)
        data = areas(label, names, side)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    def _answered_mask(self, photo: Photo) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        answer = self.asker.answers.get(photo.id)
        path = self.workspace.root / "answers" / f"{photo.name}.mask.png"
        if answer is None or answer.error or not path.exists():
            raise UnknownPhotoError("this photo has no answer yet; wait a moment")
        with Image.open(path) as image:
            return np.array(image), answer.names

    # ---------------------------------------------------------------------------------------------------------- masks

    def mask(self, request: Request) -> Response:
        """A mask's runs: ``from=draft`` being drawn, ``shot`` saved, ``answer`` found."""
        photo, name = self._photo(request), _class(request)
        source = request.query_params.get("from")
        if source == "draft":
            draft = self.workspace.draft(photo, name)
            if draft is not None:
                return _runs(draft[0], draft[1])
        elif source == "shot":
            shot = self.workspace.shot(photo, name)
            mask = None if shot is None else self.workspace.mask(shot)
            if mask is not None:
                return _runs(encode_runs(mask))
        elif source == "answer":
            label, names = self._answered_mask(photo)
            if name in names:
                return _runs(encode_runs(label == names.index(name) + 1))
        raise UnknownPhotoError("there is no such mask; reload the page")

    async def keep_draft(self, request: Request) -> Response:
        runs = await _body(request, MOST_REQUEST)
        version = request.query_params.get("version", "")
        kept = await run_in_threadpool(self._keep_draft, request, runs, version)
        if kept is None:
            sentence = "this mask was changed in another window; yours is not saved"
            return JSONResponse({"error": sentence}, status_code=409)
        return JSONResponse({"version": kept})

    def _keep_draft(self, request: Request, runs: bytes, version: str) -> str | None:
        return self.workspace.set_draft(self._photo(request), _class(request), runs, version)

    def drop_draft(self, request: Request) -> Response:
        self.workspace.drop_draft(self._photo(request), _class(request))
        return JSONResponse({})

    async def set_shot(self, request: Request) -> Response:
        """With a mask's runs as the body a shot, with an empty body a class tag."""
        runs = await _body(request, MOST_REQUEST)

        def save() -> None:
            photo = self._photo(request)
            mask = decode_runs(runs, photo_size(photo.path)) if runs else None
            self.workspace.set_shot(photo, _class(request), mask)

        await run_in_threadpool(save)
        self._changed()
        return JSONResponse({})

    def remove_shot(self, request: Request) -> Response:
        self.workspace.remove_shot(self._photo(request), _class(request))
        self._changed()
        return JSONResponse({})

    def set_negative(self, request: Request) -> Response:
        self.workspace.set_negative(self._photo(request), request.method == "PUT")
        self._changed()
        return JSONResponse({})

    async def confirm(self, request: Request) -> Response:
        """Keep, or forget, that an answer was called right."""
        photo = await run_in_threadpool(self._photo, request)
        confirmed = {key: value for key, value in self.workspace.settings().confirmed.items() if key != photo.name}
        if request.method == "PUT":
            answer = self.asker.answers.get(photo.id)
            if answer is None or answer.error:
                raise UnknownPhotoError("this photo has no answer yet; wait a moment")
            confirmed[photo.name] = dict(zip(answer.names, answer.present, strict=True))
        self.workspace.change_settings(confirmed=confirmed)
        self.events.publish("workspace", state=self.asker.state)
        return JSONResponse({})

    async def suggest(self, request: Request) -> Response:
        asked = await _json(request)
        box = asked.get("box")
        if box is not None and not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int) for v in box)):
            raise ValueError("a box is four whole numbers: left, top, right, bottom")

        def suggest() -> bytes:
            photo = self._photo(request)
            image = decoded(photo.path, photo.path.stat().st_mtime_ns)
            strokes = {key: _strokes(asked, key, image.shape[:2]) for key in ("inside", "outside")}
            return encode_runs(outlining.suggest(image, box=None if box is None else tuple(box), **strokes))

        return _runs(await run_in_threadpool(suggest))

    async def read_annotation(self, request: Request) -> Response:
        """A mask file that someone has already -> its runs, for the editor."""
        data = await _body(request, MOST_BYTES)

        def read() -> bytes:
            photo = self._photo(request)
            name = request.query_params.get("name", "the mask")
            return encode_runs(read_mask(data, size=photo_size(photo.path), label=f"'{name}'", max_pixels=MOST_PIXELS))

        return _runs(await run_in_threadpool(read))

    async def take_annotations(self, request: Request) -> Response:
        """A file of an annotation tool: what it marks in the photos that are there becomes shots."""
        data = await _body(request, MOST_BYTES)
        name = request.query_params.get("name", "annotations.json")
        taken = await run_in_threadpool(take_annotations, self.workspace, name, data)
        self._changed()
        return JSONResponse({"shots": taken.shots, "left_out": taken.left_out})

    # ------------------------------------------------------------------------------------------- classes and the model

    async def change_class(self, request: Request) -> Response:
        """``{"name": "cat"}`` with ``threshold`` (a number, or null for the model's own), or a new name, ``rename``."""
        asked = await _json(request)
        name = str(asked.get("name", ""))
        if "rename" in asked:
            await run_in_threadpool(self.workspace.rename_class, name, str(asked["rename"]))
        if "threshold" in asked:
            thresholds = dict(self.workspace.settings().thresholds)
            value = asked["threshold"]
            if value is None:
                thresholds.pop(name, None)
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
                thresholds[name] = float(value)
            else:
                raise ValueError(f"the threshold {value!r} is no number from 0 to 1")
            self.workspace.change_settings(thresholds=thresholds)
        self._changed()
        return JSONResponse({})

    async def change_settings(self, request: Request) -> Response:
        asked = await _json(request)
        if not isinstance(asked.get("calibrate"), bool):
            raise ValueError("calibrate must be true or false")
        self.workspace.change_settings(calibrate=asked["calibrate"])
        self._changed()
        return JSONResponse({})

    async def steer(self, request: Request) -> Response:
        """``{"run": false}`` cancels what is being asked, ``{"run": true}`` goes on."""
        if (await _json(request)).get("run"):
            self.asker.changed()
        else:
            self.asker.cancel()
        return JSONResponse({})

    # ------------------------------------------------------------------------------------------------------ take along

    async def take_supports(self, request: Request) -> Response:
        with _temporary(".zip") as target:
            await run_in_threadpool(takeaway.supports_zip, self.workspace, target)
            return _download(target, "supports.zip")

    async def take_encoded(self, request: Request) -> Response:
        await self._ask(request, lambda gone: self.asker.encoded())
        return FileResponse(self.workspace.encoded, filename="supports.safetensors")

    async def take_answers(self, request: Request) -> Response:
        formats = [name for name in request.query_params.get("formats", "mask").split(",") if name]
        select(formats)
        with _temporary(".zip") as target:

            def write(gone: threading.Event) -> None:
                def report(done: int, total: int) -> None:
                    self.events.publish("export", done=done, total=total)
                    if gone.is_set():
                        raise ClientDisconnect

                takeaway.answers_zip(self.asker, formats, target, report)

            await self._ask(request, write)
            return _download(target, "answers.zip")

    async def take_commands(self, request: Request) -> Response:
        formats = [format.name for format in select(request.query_params.get("formats", "mask").split(","))]
        await self._ask(request, lambda gone: self.asker.encoded())  # which keeps them in the file that both name
        return JSONResponse(
            {
                "shell": takeaway.command_line(self.workspace, self.model, formats),
                "python": takeaway.python_script(self.workspace, self.model),
            }
        )

    # --------------------------------------------------------------------------------------------------- Label Studio

    def studio_health(self, request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "FewShotSegmenter"})

    async def studio_setup(self, request: Request) -> Response:
        asked = await _json(request)
        LabelConfig.parse(str(asked.get("schema", "")))
        return JSONResponse({"model_version": self._version()})

    async def studio_predict(self, request: Request) -> Response:
        asked = await _json(request)
        config = LabelConfig.parse(str(asked.get("label_config", "")))
        tasks = asked.get("tasks")
        if not isinstance(tasks, list):
            raise ValueError("tasks must be a list")
        results = []
        for task in tasks:
            photo = await run_in_threadpool(self._task_photo, task, config.field)
            prediction = await self._ask(request, partial(self._predict, photo))
            results.append(await run_in_threadpool(task_result, prediction, config, self._version()))
        return JSONResponse({"results": results})

    async def studio_webhook(self, request: Request) -> Response:
        """What is annotated there is exported and taken in here; nothing is learnt in between."""
        await _json(request)
        return JSONResponse({})

    def _predict(self, photo: Path | bytes, gone: threading.Event) -> Prediction:
        return self.asker.model.predict(photo, self.asker.encoded())

    def _task_photo(self, task: Any, field: str) -> Path | bytes:
        return task_photo(task, field, self.workspace, studio=self.studio, key=os.environ.get("LABEL_STUDIO_API_KEY"))

    def _version(self) -> str:
        return f"{self.asker.model.identity}-{self.workspace.state()}"

    # -------------------------------------------------------------------------------------------------------- together

    async def _ask(self, request: Request, job: Callable[[threading.Event], Result]) -> Result:
        """Run a job in the model's thread; it is called off when the one who asked goes away."""
        gone = threading.Event()
        future = self.asker.submit(lambda: job(gone))
        waiting = asyncio.ensure_future(asyncio.wrap_future(future))
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=GLANCE)
            if done:
                return waiting.result()
            if await request.is_disconnected():
                gone.set()
                future.cancel()
                await asyncio.wait({waiting})
                raise ClientDisconnect

    def _photo(self, request: Request) -> Photo:
        return self.workspace.photo(request.path_params["id"])

    def _changed(self) -> None:
        self.asker.changed()
        self.events.publish("workspace", state=self.asker.state)


def _examined(asker: Asker) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, int], str]]:
    """What the examples say of each other: by class, and why an example, by class and number, is a suspect."""
    if asker.examination is None:
        return {}, {}
    classes = {one.name: asdict(one) for one in asker.examination.classes}
    suspects: dict[tuple[str, int], str] = {}
    for suspect in asker.examination.suspects:  # the surest first
        told = f"{suspect.reason} (sure to {suspect.sureness:.0%})"
        suspects.setdefault((suspect.name, suspect.shot), told)
    return classes, suspects


def error_answers() -> Mapping[Any, Any]:
    """Exception -> the handler that makes one sentence of it."""

    def handler(status: int) -> Callable[[Request, Exception], Response]:
        def answer(request: Request, error: Exception) -> Response:
            return JSONResponse({"error": " ".join(str(error).split()) or type(error).__name__}, status_code=status)

        return answer

    return {
        UnknownPhotoError: handler(404),
        BusyError: handler(503),
        ImportError: handler(400),
        OSError: handler(507),
        ValueError: handler(400),
        TooLargeError: handler(413),
        ClientDisconnect: handler(499),
    }


class TooLargeError(ValueError):
    """A request has more bytes than are taken."""


async def _body(request: Request, most: int) -> bytes:
    """The request's body.

    Raises:
        TooLargeError: it is longer; no more than that is ever held.
    """
    sentence = f"this has more than {most // 1_000_000} MB, which is the most; make it smaller"
    if (
        request.headers.get("content-length", "0").isdecimal()
        and int(request.headers.get("content-length", "0")) > most
    ):
        raise TooLargeError(sentence)
    chunks, held = [], 0
    async for chunk in request.stream():
        held += len(chunk)
        if held > most:
            raise TooLargeError(sentence)
        chunks.append(chunk)
    return b"".join(chunks)


async def _json(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await _body(request, MOST_REQUEST))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError):
        raise ValueError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the request must be a JSON object")
    return value


def _list_of_texts(asked: Mapping[str, Any], key: str) -> list[str]:
    value = asked.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} must be a list of texts")
    return value


def _strokes(asked: Mapping[str, Any], key: str, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    runs = asked.get(key)
    if runs is None:
        return None
    if not isinstance(runs, list) or not all(isinstance(run, int) and 0 <= run < 2**32 for run in runs):
        raise ValueError(f"{key} must be a list of run lengths")
    return decode_runs(np.array(runs, dtype="<u4").tobytes(), (size[0], size[1]))


def _class(request: Request) -> str:
    return class_name(request.query_params.get("class", ""))


def _runs(data: bytes, version: str = "") -> Response:
    return Response(data, media_type="application/octet-stream", headers={"X-Version": version})


def _png_file(path: Path) -> Response:
    try:
        return Response(path.read_bytes(), media_type="image/png")
    except FileNotFoundError:
        raise UnknownPhotoError("this photo has no answer yet; wait a moment") from None


def _answered(asker: Asker, query: Photo) -> dict[str, Any] | None:
    answer = asker.answers.get(query.id)
    return None if answer is None else {**asdict(answer), "doubt": answer.doubt()}


@contextlib.contextmanager
def _temporary(ending: str) -> Iterator[Path]:
    """A file to make; it stays unless something goes wrong."""
    with tempfile.NamedTemporaryFile(prefix="fscs-", suffix=ending, delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _download(path: Path, name: str) -> Response:
    return FileResponse(path, filename=name, background=BackgroundTask(path.unlink, missing_ok=True))
