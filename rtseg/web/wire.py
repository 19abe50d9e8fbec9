"""The binary message that carries a frame to a browser. ``static/js/message.js`` reads it."""

from __future__ import annotations

import struct
import time
from functools import lru_cache

from rtseg.sinks.broadcast import LiveFrame

__all__ = ["pack_frame"]

_HEADER = struct.Struct("<BBHIddHHHHII")
"""Kind (1), flags, number of the source, index, time in the source (s), capture (ms since 1970), width and height of
the image, width and height of the labels, bytes of the labels, bytes of the chunk."""
_KIND = 1
_KEY = 1
"""Flag of a key frame."""
_KEPT = 32
"""Messages that are kept for further viewers."""


@lru_cache(_KEPT)
def pack_frame(source: int, frame: LiveFrame) -> bytes:
    """Return the message for ``frame`` of the source number ``source``: a header, the labels, the chunk.

    It is made once for all viewers.
    """
    captured_ms = 1e3 * (time.time() - time.monotonic() + frame.captured_s)
    head = _HEADER.pack(
        _KIND,
        _KEY if frame.is_key else 0,
        source,
        frame.index & 0xFFFFFFFF,
        frame.pts_s,
        captured_ms,
        *frame.size[::-1],
        *frame.labels_size[::-1],
        len(frame.labels),
        len(frame.chunk),
    )
    return b"".join((head, frame.labels, frame.chunk))
