"""Passes the frames of the sources on to the viewers who watch them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from rtseg.sinks.broadcast import Listener, LiveFrame
from rtseg.web.source_run import SourceRun
from rtseg.web.viewer_queue import ViewerQueue

__all__ = ["FrameHub"]


class FrameHub:
    """Between the threads of the runs and the queues of the viewers. Use it on one event loop.

    A frame wakes the event loop once, after it is in the queues of all viewers. Each time costs the thread of the run
    a system call, and a wait for Python's lock while the event loop serves those who were woken before.

    Args:
        loop: on which the viewers are served.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[SourceRun, tuple[ViewerQueue, ...]] = {}
        """The values are replaced as a whole, as runs read them."""
        self._listeners: dict[SourceRun, Listener] = {}

    def watch(self, source: SourceRun, queue: ViewerQueue) -> None:
        """Put the frames of ``source`` into ``queue``, from a key frame on that comes soon."""
        queue.start(source.number)
        self._queues[source] = (*self._queues.get(source, ()), queue)
        if source in self._listeners:
            source.sink.want_key_frame()
        else:
            self._listeners[source] = partial(self._pass, source)
            source.sink.add_listener(self._listeners[source])

    def leave(self, source: SourceRun, queue: ViewerQueue) -> None:
        """Put no more frames of ``source`` into ``queue``."""
        others = tuple(each for each in self._queues[source] if each is not queue)
        self._queues[source] = others
        if not others:
            source.sink.remove_listener(self._listeners.pop(source))
            del self._queues[source]

    def _pass(self, source: SourceRun, frame: LiveFrame) -> None:
        """On the thread of the run."""
        woken = [queue for queue in self._queues.get(source, ()) if queue.put(source.number, frame)]
        if woken and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_wake, woken)


def _wake(queues: Sequence[ViewerQueue]) -> None:
    for queue in queues:
        queue.wake()
