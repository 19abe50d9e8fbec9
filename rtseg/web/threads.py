"""Work that takes a while, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Any, TypeVar

__all__ = ["WorkThreads"]

T = TypeVar("T")

_MOST = 40


class WorkThreads:
    """Calls functions on threads that cannot keep the server, or Python, from ending. Use it on one event loop.

    Those of asyncio and anyio are waited for without a limit when the loop ends; a model or a file may hang.

    Args:
        most: calls at a time; further ones wait.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call ``function``, and return or raise what it does. If this is cancelled, the call is left to itself."""
        async with self._free:
            done: Future[T] = Future()
            call = partial(function, *arguments, **named)
            Thread(target=_call, args=(call, done), name="rtseg-page", daemon=True).start()
            return await asyncio.wrap_future(done)


def _call(call: Callable[[], T], done: Future[T]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - not swallowed: ``run`` raises it
        done.set_exception(error)
    else:
        done.set_result(result)
