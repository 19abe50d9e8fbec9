"""The WebSocket of a viewer: frames and status go out, wishes come in."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from rtseg.web.frame_hub import FrameHub
from rtseg.web.page_status import PageStatus
from rtseg.web.source_run import SourceRun
from rtseg.web.sources import Sources
from rtseg.web.viewer_queue import ViewerQueue
from rtseg.web.wire import pack_frame

__all__ = ["LiveSocket"]

_MAX_MESSAGE = 4096
_BAD_MESSAGE = 1008
"""WebSocket close code: policy violation."""


class LiveSocket:
    """Serves one viewer until he leaves.

    Text messages are JSON objects with a ``type``. The viewer sends ``watch`` (``sources``: list of IDs) and ``ping``
    (``sent``: any number). He gets ``hello``, ``status`` and ``pong``; binary messages are frames, see ``wire``.

    Args:
        socket: not accepted yet.
        sources: all sources of the page.
        hub: passes their frames on.
        status: of the page and all sources.
    """

    def __init__(self, socket: WebSocket, sources: Sources, hub: FrameHub, status: PageStatus) -> None:
        self._socket = socket
        self._sources = sources
        self._hub = hub
        self._status = status
        self._queue = ViewerQueue()
        self._watched: set[SourceRun] = set()

    async def serve(self) -> None:
        """Accept the viewer, and send until he leaves."""
        await self._socket.accept()
        tasks = [asyncio.create_task(work()) for work in (self._receive, self._send_frames, self._send_status)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watch([])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        try:
            while True:
                text = await self._socket.receive_text()
                message = _parse(text)
                if message.get("type") == "watch":
                    self._watch([each for each in message.get("sources", []) if isinstance(each, str)])
                elif message.get("type") == "ping":
                    now_ms = round(1e3 * time.time(), 3)
                    await self._send({"type": "pong", "sent": message.get("sent"), "server_ms": now_ms})
        except (WebSocketDisconnect, KeyError):  # KeyError: a binary message
            return
        except ValueError:
            await self._socket.close(_BAD_MESSAGE)

    def _watch(self, ids: list[str]) -> None:
        """Send the frames of these sources, and of no other one."""
        wanted = {source for source in self._sources if source.id in ids}
        for source in self._watched - wanted:
            self._hub.leave(source, self._queue)
        for source in wanted - self._watched:
            self._hub.watch(source, self._queue)
        self._watched = wanted

    async def _send_frames(self) -> None:
        while True:
            source, frame = await self._queue.get()
            await self._socket.send_bytes(pack_frame(source, frame))

    async def _send_status(self) -> None:
        hello = ""
        while True:
            if hello != self._status.hello:  # a source has another model, or there are others
                hello = self._status.hello
                await self._socket.send_text(hello)
            await self._socket.send_text(self._status.message(skipped=self._queue.dropped))
            await self._status.wait_for_next()

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message, separators=(",", ":")))


def _parse(text: str) -> dict[str, Any]:
    """Parse a message of a viewer.

    Raises:
        ValueError: it is too long, or no JSON object.
    """
    if len(text) > _MAX_MESSAGE:
        raise ValueError("too long")
    message = json.loads(text)
    if not isinstance(message, dict) or not isinstance(message.get("sources", []), list):
        raise ValueError("no object, or sources is no list")
    return message
