"""A server of the page that runs beside a test, and a client for it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from fscs_sdk import FewShotSegmenter
from fscs_sdk.app.server import bind, make_app
from fscs_sdk.app.workspace import Workspace

TOKEN = "a-token-for-the-tests-of-the-page"


@dataclass(frozen=True)
class Running:
    """A server at a port of this machine."""

    port: int
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """Someone who knows the token."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)

    def settled(self, client: httpx.Client, *, seconds: float = 60) -> Any:
        """The workspace once every photo has its answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = client.get("/api/workspace").raise_for_status().json()
            answers = [photo["answer"] for photo in found["photos"]]
            done = not found["progress"]["running"] and all(a and a["state"] == found["state"] for a in answers)
            if found["problem"] or (done and answers):
                return found
            time.sleep(0.05)
        raise TimeoutError("the photos were not answered in time")


@contextlib.contextmanager
def running(root: Path, model: FewShotSegmenter, *, folder: Path | None = None) -> Iterator[Running]:
    """Serve a workspace at any free port."""
    listener = bind("127.0.0.1", 0, tries=1)
    port = listener.getsockname()[1]
    app = make_app(Workspace(root, folder=folder), model, model="asnet-mini", token=TOKEN, port=port)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Running(port, root)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
