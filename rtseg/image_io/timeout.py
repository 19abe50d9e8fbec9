"""Questions to a storage that may never answer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from rtseg.errors import SourceError
from rtseg.system.redact import redact

__all__ = ["answer_within"]

T = TypeVar("T")


def answer_within(timeout_s: float, what: str, call: Callable[[], T]) -> T:
    """``call()``, on a thread that is left behind where it does not come back: a mount that hangs holds it for ever.

    Raises:
        SourceError: no answer came within ``timeout_s`` seconds.
        Exception: whatever ``call`` raised.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)

    thread = Thread(target=ask, name="rtseg-lookup", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not answers:
        raise SourceError(f"{redact(what)} does not answer within {timeout_s:g} s: check the mount or the network")
    return answers[0]
