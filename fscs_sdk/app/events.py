"""What happens on the server, told to every page that is open, as Server-Sent Events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

#: Events that a page may be behind; one that reads more slowly is let go, comes back and reads everything anew.
MOST_BEHIND = 1000
#: Seconds after which a silent connection gets a comment, so that both sides notice when the other is gone.
HEARTBEAT = 15.0


class Events:
    """Listeners, and :meth:`publish` from any thread."""

    def __init__(self) -> None:
        """No one listens yet; the loop is that of the first listener."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._closed = False

    def publish(self, kind: str, **values: Any) -> None:
        """Tell everyone; nothing waits for anyone."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, json.dumps({"kind": kind, **values}))

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, None)

    async def stream(self) -> AsyncIterator[str]:
        """The events from now on, in the format of ``text/event-stream``."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue(MOST_BEHIND)
        self._listeners.add(queue)
        try:
            yield "retry: 1000\n\n"
            while not self._closed:
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield ": here\n\n"
                    continue
                if event is None:
                    return
                yield f"data: {event}\n\n"
        finally:
            self._listeners.discard(queue)

    def _tell(self, event: str | None) -> None:
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)
