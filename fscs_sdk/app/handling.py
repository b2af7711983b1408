"""What all routes share: the workspace and the model's thread behind them, requests read, errors as one sentence."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from fscs_sdk.app.asker import Asker, BusyError
from fscs_sdk.app.events import Events
from fscs_sdk.app.names import class_name
from fscs_sdk.app.workspace import Photo, UnknownPhotoError, Workspace

Result = TypeVar("Result")
#: Bytes of a request that is no upload.
MOST_REQUEST = 50_000_000
#: Seconds between looks whether the one who asked is still there.
GLANCE = 0.5


class TooLargeError(ValueError):
    """A request has more bytes than are taken."""


class Handlers:
    """Handlers of requests on one workspace; each kind is a class of its own, with its ``routes``."""

    def __init__(self, workspace: Workspace, asker: Asker, events: Events) -> None:
        """Handlers for a workspace."""
        self.workspace, self.asker, self.events = workspace, asker, events

    async def ask(self, request: Request, job: Callable[[threading.Event], Result]) -> Result:
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

    def photo(self, request: Request) -> Photo:
        """The photo that a request's path names."""
        return self.workspace.photo(request.path_params["id"])

    def changed(self) -> None:
        """Something changed that answers may depend on."""
        self.asker.changed()
        self.events.publish("workspace", state=self.asker.state)


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


async def read_body(request: Request, most: int) -> bytes:
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


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(await read_body(request, MOST_REQUEST))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError):
        raise ValueError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("the request must be a JSON object")
    return value


def class_of(request: Request) -> str:
    """The class that a request names."""
    return class_name(request.query_params.get("class", ""))
