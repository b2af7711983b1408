"""What leaves the page."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fscs_sdk.app import takeaway
from fscs_sdk.app.asker import Asker
from fscs_sdk.app.events import Events
from fscs_sdk.app.handling import Handlers
from fscs_sdk.app.workspace import Workspace
from fscs_sdk.formats import select


class TakeRoutes(Handlers):
    """Supports, answers and commands to take along."""

    def __init__(self, workspace: Workspace, asker: Asker, events: Events, *, model: Mapping[str, str]) -> None:
        """Handlers for a workspace.

        Args:
            model: the options with which the command line loads this model, without those that are the default.
        """
        super().__init__(workspace, asker, events)
        self.model = model

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        return [
            Route("/take/supports.zip", self.take_supports),
            Route("/take/supports.safetensors", self.take_encoded),
            Route("/take/answers.zip", self.take_answers),
            Route("/take/commands", self.take_commands),
        ]

    async def take_supports(self, request: Request) -> Response:
        with _temporary(".zip") as target:
            await run_in_threadpool(takeaway.supports_zip, self.workspace, target)
            return _download(target, "supports.zip")

    async def take_encoded(self, request: Request) -> Response:
        await self.ask(request, lambda gone: self.asker.encoded())
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

            await self.ask(request, write)
            return _download(target, "answers.zip")

    async def take_commands(self, request: Request) -> Response:
        formats = [format.name for format in select(request.query_params.get("formats", "mask").split(","))]
        await self.ask(request, lambda gone: self.asker.encoded())  # which keeps them in the file that both name
        return JSONResponse(
            {
                "shell": takeaway.command_line(self.workspace, self.model, formats),
                "python": takeaway.python_script(self.workspace, self.model),
            }
        )


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
