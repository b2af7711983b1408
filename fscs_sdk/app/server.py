"""The application put together, and served."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.types import ASGIApp

from fscs_sdk.app.asker import Asker
from fscs_sdk.app.events import Events
from fscs_sdk.app.guard import Guard
from fscs_sdk.app.handling import error_answers
from fscs_sdk.app.mask_routes import MaskRoutes
from fscs_sdk.app.page_routes import PageRoutes
from fscs_sdk.app.photo_routes import PhotoRoutes
from fscs_sdk.app.studio_routes import StudioRoutes
from fscs_sdk.app.take_routes import TakeRoutes
from fscs_sdk.app.workspace import Workspace
from fscs_sdk.segmenter import FewShotSegmenter

#: Threads for decoding, drawing and outlining, all requests together.
THREADS = 4


def make_app(
    workspace: Workspace,
    segmenter: FewShotSegmenter,
    events: Events,
    *,
    model: Mapping[str, str],
    token: str,
    port: int,
    exposed: bool = False,
    studio: str | None = None,
) -> ASGIApp:
    """The application: an ASGI app that answers for one workspace.

    Args:
        events: told to every page.
        model: the options with which the command line loads this model, without those that are the default.
        token: what a request must know; see :mod:`fscs_sdk.app.guard`.
        port: that it is served at.
        exposed: whether other machines may ask.
        studio: address of the Label Studio that photos of tasks may be fetched from.
    """
    asker = Asker(segmenter, workspace, events)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        asker.start()
        yield
        await to_thread.run_sync(asker.stop)

    shared = workspace, asker, events
    handlers = (
        PageRoutes(*shared),
        PhotoRoutes(*shared),
        MaskRoutes(*shared),
        TakeRoutes(*shared, model=model),
        StudioRoutes(*shared, studio=studio),
    )
    routes = [route for kind in handlers for route in kind.routes()]
    app = Starlette(routes=routes, exception_handlers=error_answers(), lifespan=lifespan)
    return Guard(app, token=token, port=port, exposed=exposed)


def bind(host: str, port: int, *, tries: int) -> socket.socket:
    """A socket at the first free one of ``tries`` ports from ``port`` on; port 0 is any.

    Raises:
        OSError: none is free, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, port + max(1, tries)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
        except OSError:
            listener.close()
            if number == port + max(1, tries) - 1:
                raise
            continue
        return listener
    raise AssertionError("the loop returns or raises")


class Server(uvicorn.Server):
    """Serves an application until Ctrl-C or SIGTERM."""

    def __init__(self, app: ASGIApp, events: Events, *, ready: Callable[[], None]) -> None:
        """A server that is not started yet; ``run(sockets=[...])`` starts it.

        Args:
            events: what pages listen to; their streams are ended first, they would never end by themselves.
            ready: called once requests are answered.
        """
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # it would hold the token
                timeout_graceful_shutdown=5,
                proxy_headers=False,  # whoever asks is who connects
                server_header=False,
                date_header=False,
            )
        )
        self._events, self._ready = events, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._events.close()
        await super().shutdown(sockets)


def address(host: str, port: int, token: str) -> str:
    """What to open in a browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "127.0.0.1") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/?token={token}"


def workspace_at(path: Path, *, photos: Path | None) -> Workspace:
    """A workspace to serve.

    Raises:
        ValueError: the path is a file, or holds something else.
        OSError: it cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"the workspace '{path}' is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / "queries").is_dir():
        raise ValueError(
            f"'{path}' holds other files and is no workspace; name a new folder, and give this one as --photos"
        )
    if photos is not None and not photos.is_dir():
        raise ValueError(f"'{photos}' is not a folder; give one that holds photos")
    return Workspace(path, folder=photos)
