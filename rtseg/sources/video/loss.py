"""Which frames of a live stream may show damage after data was lost on the way."""

from __future__ import annotations

import time
from typing import Any, Final

from av.packet import Packet
from av.video.frame import VideoFrame

__all__ = ["LossGuard"]

_LONGEST_S: Final = 10.0
"""After this time without a key frame, in seconds, frames are trusted again: the stream may use intra refresh."""


class LossGuard:
    """Distrusts the frames from a loss until the next key frame: each is predicted from the damaged ones before it.

    Decoders hide missing data, so most damaged frames have no mark of their own. Use it on the thread that decodes.
    """

    def __init__(self) -> None:
        self.losses = 0
        """Losses so far."""
        self._distrusts = False
        self._keyless_since_s = 0.0
        self._key_pts: int | None = None
        """Of the first sound key frame since the loss."""
        self._after_corrupt = False

    def lose(self) -> None:
        """Note that data was lost, or that a packet or frame is damaged."""
        self.losses += 1
        self._key_pts = None
        if not self._distrusts:
            self._distrusts, self._keyless_since_s = True, time.monotonic()

    def add(self, packet: Packet[Any]) -> None:
        """Look at the next packet, before it is decoded."""
        if packet.is_keyframe:
            self._keyless_since_s = time.monotonic()
        if packet.is_corrupt:  # in MPEG-TS: the counter of its parts has a gap
            self.lose()
        # What was lost may be the end of a packet and the start of the next one, and only the first is marked.
        elif self._distrusts and packet.is_keyframe and self._key_pts is None and not self._after_corrupt:
            self._key_pts = packet.pts
        self._after_corrupt = packet.is_corrupt

    def trusts(self, frame: VideoFrame) -> bool:
        """Whether ``frame``, the next one in presentation order, is not affected by a loss."""
        if not self._distrusts:
            return True
        if frame.pts is None:
            is_sound = bool(frame.key_frame)
        else:
            # Earlier ones may refer to damaged frames. Not any key frame: an older one may still be in the decoder.
            is_sound = self._key_pts is not None and frame.pts >= self._key_pts
        if is_sound or time.monotonic() - self._keyless_since_s > _LONGEST_S:
            self._distrusts, self._key_pts = False, None
        return not self._distrusts
