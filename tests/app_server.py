"""A server of the page that runs beside a test, and a client for it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from fscs_sdk import FewShotSegmenter
from fscs_sdk.app.events import Events
from fscs_sdk.app.server import Server, bind, make_app
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
def running(root: Path, model: FewShotSegmenter, *, folder: Path | None = None, port: int = 0) -> Iterator[Running]:
    """Serve a workspace; port 0 is any free one."""
    listener = bind("127.0.0.1", port, tries=1)
    port = listener.getsockname()[1]
    events, started = Events(), threading.Event()
    app = make_app(Workspace(root, folder=folder), model, events, model={}, token=TOKEN, port=port)
    server = Server(app, events, ready=started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(30)
        yield Running(port, root)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
