"""Runs Python code when a C library ends the process, as Qt does when its display has gone."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["at_c_exit"]


@contextmanager
def at_c_exit(save: Callable[[], object], code: int) -> Iterator[None]:
    """Call ``save`` if C code calls ``exit`` within the block, then end the process with ``code``.

    ``save`` runs on the thread that called the C code. Does nothing on systems other than Linux, and where Python ends
    the process by itself.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    is_armed = True

    def end(_: int | None) -> None:
        if is_armed:
            try:
                save()
            finally:
                os._exit(code)

    libc = ctypes.CDLL(None)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(end)
    # Any address of our own tells our handler from those of libraries.
    owner = ctypes.create_string_buffer(1)
    libc.__cxa_atexit(handler, None, owner)
    try:
        yield
    finally:
        # Removes the handler, which it calls for the last time: it must not run after the interpreter has ended.
        is_armed = False
        libc.__cxa_finalize(owner)
