"""Calls to a storage that may never answer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from rtseg.errors import SourceError
from rtseg.system.redact import redact

__all__ = ["call_with_timeout"]

T = TypeVar("T")


def call_with_timeout(timeout_s: float, name: str, function: Callable[[], T]) -> T:
    """Call ``function`` on a thread and return its result.

    If it does not return, the thread is left behind: a mount that hangs blocks it forever.

    Args:
        timeout_s: longest time to wait, in seconds.
        name: of the file or folder, for the error message.
        function: what to call.

    Raises:
        SourceError: ``function`` did not return in time.
        Exception: any error of ``function``.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def call() -> None:
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)

    thread = Thread(target=call, name="rtseg-lookup", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise SourceError(f"{redact(name)} does not answer within {timeout_s:g} s: check the mount or the network")
    return results[0]
