"""What a person says about a photo: masks and drafts, shots and tags, right and not there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fscs_sdk.app import outlining
from fscs_sdk.app.handling import MOST_REQUEST, Handlers, class_of, read_body, read_json
from fscs_sdk.app.marked import take_annotations
from fscs_sdk.app.runlengths import decode_runs, encode_runs
from fscs_sdk.app.views import decoded
from fscs_sdk.app.workspace import MOST_BYTES, MOST_PIXELS, UnknownPhotoError, photo_size
from fscs_sdk.images import read_mask


class MaskRoutes(Handlers):
    """Masks, drawn, suggested and read; and what else is said of a photo."""

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        photo = "/api/photos/{id}"
        return [
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
        ]

    def mask(self, request: Request) -> Response:
        """A mask's runs: ``from=draft`` being drawn, ``shot`` saved, ``answer`` found."""
        photo, name = self.photo(request), class_of(request)
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
            label, names = self.asker.answered_mask(photo)
            if name in names:
                return _runs(encode_runs(label == names.index(name) + 1))
        raise UnknownPhotoError("there is no such mask; reload the page")

    async def keep_draft(self, request: Request) -> Response:
        runs = await read_body(request, MOST_REQUEST)
        version = request.query_params.get("version", "")
        kept = await run_in_threadpool(self._keep_draft, request, runs, version)
        if kept is None:
            sentence = "this mask was changed in another window; yours is not saved"
            return JSONResponse({"error": sentence}, status_code=409)
        return JSONResponse({"version": kept})

    def _keep_draft(self, request: Request, runs: bytes, version: str) -> str | None:
        return self.workspace.set_draft(self.photo(request), class_of(request), runs, version)

    def drop_draft(self, request: Request) -> Response:
        self.workspace.drop_draft(self.photo(request), class_of(request))
        return JSONResponse({})

    async def set_shot(self, request: Request) -> Response:
        """With a mask's runs as the body a shot, with an empty body a class tag."""
        runs = await read_body(request, MOST_REQUEST)

        def save() -> None:
            photo = self.photo(request)
            mask = decode_runs(runs, photo_size(photo.path)) if runs else None
            self.workspace.set_shot(photo, class_of(request), mask)

        await run_in_threadpool(save)
        self.changed()
        return JSONResponse({})

    def remove_shot(self, request: Request) -> Response:
        self.workspace.remove_shot(self.photo(request), class_of(request))
        self.changed()
        return JSONResponse({})

    def set_negative(self, request: Request) -> Response:
        self.workspace.set_negative(self.photo(request), request.method == "PUT")
        self.changed()
        return JSONResponse({})

    async def confirm(self, request: Request) -> Response:
        """Keep, or forget, that an answer was called right."""
        photo = await run_in_threadpool(self.photo, request)
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
        asked = await read_json(request)
        box = asked.get("box")
        if box is not None and not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int) for v in box)):
            raise ValueError("a box is four whole numbers: left, top, right, bottom")

        def suggest() -> bytes:
            photo = self.photo(request)
            image = decoded(photo.path, photo.path.stat().st_mtime_ns)
            strokes = {key: _strokes(asked, key, image.shape[:2]) for key in ("inside", "outside")}
            return encode_runs(outlining.suggest(image, box=None if box is None else tuple(box), **strokes))

        return _runs(await run_in_threadpool(suggest))

    async def read_annotation(self, request: Request) -> Response:
        """A mask file that someone has already -> its runs, for the editor."""
        data = await read_body(request, MOST_BYTES)

        def read() -> bytes:
            photo = self.photo(request)
            name = request.query_params.get("name", "the mask")
            return encode_runs(read_mask(data, size=photo_size(photo.path), label=f"'{name}'", max_pixels=MOST_PIXELS))

        return _runs(await run_in_threadpool(read))

    async def take_annotations(self, request: Request) -> Response:
        """A file of an annotation tool: what it marks in the photos that are there becomes shots."""
        data = await read_body(request, MOST_BYTES)
        name = request.query_params.get("name", "annotations.json")
        taken = await run_in_threadpool(take_annotations, self.workspace, name, data)
        self.changed()
        return JSONResponse({"shots": taken.shots, "left_out": taken.left_out})


def _strokes(asked: dict[str, Any], key: str, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    runs = asked.get(key)
    if runs is None:
        return None
    if not isinstance(runs, list) or not all(isinstance(run, int) and 0 <= run < 2**32 for run in runs):
        raise ValueError(f"{key} must be a list of run lengths")
    return decode_runs(np.array(runs, dtype="<u4").tobytes(), (size[0], size[1]))


def _runs(data: bytes, version: str = "") -> Response:
    return Response(data, media_type="application/octet-stream", headers={"X-Version": version})
