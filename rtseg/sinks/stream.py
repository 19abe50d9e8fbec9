"""Sends the rendered images to a server: RTSP, RTMP, SRT or MPEG-TS over UDP."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from threading import Condition, Event, Thread
from typing import Any, Final

import av
import av.error
import numpy as np

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks._encoders import choose_encoder
from rtseg.sinks._playback import Playback
from rtseg.sinks._stream_connection import CLOSE_S, ConnectionFailed, SendingProcess, StreamImage
from rtseg.sinks._stream_process import StreamTarget
from rtseg.sinks.base import Sink
from rtseg.sinks.options import RecordingOptions
from rtseg.system.redact import find_secrets, redact, split_url
from rtseg.system.server_probe import server_probe

__all__ = ["SCHEMES", "StreamSink"]

_MPEGTS: Final = ("mpegts", {"flush_packets": "1", "mpegts_flags": "+resend_headers"}, ("h264", "hevc"))
_RTSP: Final = ("rtsp", {"rtsp_transport": "tcp"}, ("h264", "hevc"))
_RTMP: Final = ("flv", {"flvflags": "no_duration_filesize"}, ("h264", "hevc", "av1"))
SCHEMES: Final = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "srt": _MPEGTS,
    "udp": _MPEGTS,
}
"""Scheme of a URL -> name of the format, options of the muxer, codecs that it can hold."""

_WAITING: Final = 2
"""Images that wait to be encoded; the oldest is dropped for a new one."""
_OPEN_TIMEOUT_S: Final = 5.0
_SEND_TIMEOUT_S: Final = 2.0
_PATIENCE_S: Final = 0.5
"""How long a frame of a file waits while others are sent."""
_FIRST_DELAY_S, _LAST_DELAY_S = 0.25, 10.0
_LAST_BLIND_DELAY_S: Final = 1.0
_PROBE_EVERY_S: Final = 0.25
_GOOD_AFTER_S: Final = 2.0
"""A connection that has lasted so long, in seconds, makes the next wait short again."""
_MAX_CHANGES: Final = 20


class StreamSink(Sink):
    """Encodes the rendered images and sends them to ``url``, without ever waiting for the receiver.

    Encoding and sending happen in a process of its own. At most two images wait for it; a new one takes the place of
    the oldest, before it is encoded, so that the stream stays decodable. The counts are in ``facts``.

    A connection that fails, or accepts nothing for two seconds, is opened again for ever: after 0.25 s, then after
    twice as long each time, up to 10 s, with jitter; at once when a server that was away answers again. The stream
    then begins anew with a keyframe. Each change is a line of ``notice``.

    The frames of a file are sent at its own speed, and wait for the first connection. There is no audio.

    Args:
        url: where to; its scheme is one of ``SCHEMES``.
        options: codec, encoder and quality count.
        fps_hint: returns the nominal frame rate of the source.
        live: whether frames come from a camera or stream, which cannot wait.
        stop: ends every wait for the time of a frame once set.

    Raises:
        OptionError: the URL is malformed, or its receivers cannot take the codec.
        SinkError: PyAV lacks the protocol, or the encoder does not work here.
    """

    kind = "stream"

    def __init__(
        self,
        url: str,
        options: RecordingOptions | None = None,
        *,
        fps_hint: Callable[[], float | None] = lambda: None,
        live: bool = False,
        stop: Event | None = None,
    ) -> None:
        options = options or RecordingOptions()
        self.name = f"stream {redact(url)}"
        self._secrets = find_secrets(url)
        self._is_back = _probe_of(url)
        scheme = url.partition(":")[0].lower()
        form, muxer_options, codecs = SCHEMES[scheme]
        if options.codec not in codecs:
            raise OptionError(f"--codec {options.codec} cannot be sent by {scheme}: use {' or '.join(codecs)}")
        _check_protocol(scheme, self.name)
        encoder = choose_encoder(options, self.name)
        self._encoder_notice = encoder.notice
        self._fps_hint = fps_hint
        self._target = StreamTarget(
            _with_packet_size(url, scheme),
            form,
            muxer_options,
            options.codec,
            encoder.kind,
            options.quality,
            25.0,
            _OPEN_TIMEOUT_S,
            _SEND_TIMEOUT_S,
        )
        self._live = live
        self._playback = Playback(stop)
        self._changes: deque[str] = deque(maxlen=_MAX_CHANGES)
        self._state = ""
        self._items: deque[StreamImage] = deque()
        self._changed = Condition()
        self._tried = Event()
        self._stop = Event()
        self._process: SendingProcess | None = None
        self.sent = 0
        """Images that were handed to the encoder of a connection."""
        self.dropped = 0
        """Images that were not sent, because there was no connection or it was too slow."""
        self.reconnects = 0
        """Connections after the first one."""
        self._connections = 0
        self._connected = False
        self._opened_s: float | None = None
        self._failure = ""
        self._thread = Thread(target=self._run, name="rtseg-stream", daemon=True)
        self._thread.start()

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return "\n".join(filter(None, (self._encoder_notice, *self._changes)))

    def facts(self) -> dict[str, Any]:
        """See ``Sink``."""
        return {"sent": self.sent, "dropped": self.dropped, "reconnects": self.reconnects}

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Hand ``rendered`` to the sending thread; see ``Sink``."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        if not self._live:
            self._playback.wait_for(frame.pts_s)
        item = StreamImage(np.array(rendered, order="C"), frame.pts_s, frame.pixel_aspect)
        with self._changed:
            if not self._live:
                self._changed.wait_for(lambda: len(self._items) < _WAITING or not self._connected, _PATIENCE_S)
            while len(self._items) >= _WAITING:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()
        self.written += 1
        if not (self._live or self._tried.is_set()):
            self._tried.wait(_OPEN_TIMEOUT_S)
            self._playback.restart()

    def close(self) -> None:
        """Send what waits, and end the stream, within about two seconds; see ``Sink``.

        Raises:
            SinkError: the receiver was never reached.
        """
        if self._stop.is_set():
            return
        self._tried.set()
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        process = self._process
        if process is not None:
            process.end()  # wakes a thread that waits for it
        self._thread.join()
        if self.dropped and self._connections:
            self._changes.append(f"{self.name}: {self.dropped} of {self.written} images were not sent")
        if not self._connections and self._failure:
            raise SinkError(f"{self.name} was never reached ({self._failure}): check the address")

    def _run(self) -> None:
        """The body of the thread: connections, one after the other."""
        attempt = 0
        while not self._stop.is_set():
            try:
                self._connection()
                continue  # ended in good order, or images of another size come
            except ConnectionFailed as failure:
                if self._stop.is_set():
                    break
                if self._opened_s is not None and time.monotonic() - self._opened_s > _GOOD_AFTER_S:
                    attempt = 0
                self._opened_s = None
                self._failure = redact(failure, *self._secrets)
                self._enter(f"reconnecting: {self._failure}")
                self._process = SendingProcess()  # it can load its libraries meanwhile
                self._wait(attempt, denied=failure.denied)
                attempt += 1
        if self._process is not None:
            self._process.end()

    def _connection(self) -> None:
        """Send images until the run ends or their size changes.

        Raises:
            ConnectionFailed: the receiver cannot be reached, or not any more.
        """
        process = self._process = self._process or SendingProcess()
        try:
            item = self._next()
            if item is None:
                return
            form = item.form
            fps = self._fps_hint()
            target = replace(self._target, fps=fps if fps and 1 <= fps <= 1000 else 25.0)
            process.open(target, item)
            self._opened_s = time.monotonic()
            self._connections += 1
            self._connected = True
            self.reconnects = self._connections - 1
            self._enter("connected")
            self.sent += 1  # ``open`` has sent it
            while (item := self._next()) is not None and item.form == form:
                process.send(item)
                self.sent += 1
            if item is not None:
                with self._changed:
                    self._items.appendleft(item)
            process.finish()
        finally:
            self._connected = False
            process.end()
            self._process = None

    def _next(self) -> StreamImage | None:
        """The oldest image that waits; None once the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._stop.is_set())
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def _enter(self, state: str) -> None:
        self._tried.set()
        if state != self._state:
            self._state = state
            self._changes.append(f"{self.name}: {datetime.now().astimezone():%H:%M:%S} {state}")

    def _wait(self, attempt: int, *, denied: bool) -> None:
        """Wait before the next connection, as a live source does."""
        longest_s = _LAST_DELAY_S if denied else min(_LAST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(attempt, 20))
        until_s = time.monotonic() + longest_s * random.uniform(0.5, 1.0)
        was_away = False
        while not self._stop.is_set() and time.monotonic() < until_s:
            is_back = self._is_back()
            if is_back and was_away:
                break
            if is_back is None:
                until_s = min(until_s, time.monotonic() + _LAST_BLIND_DELAY_S)
            was_away = was_away or is_back is False
            self._stop.wait(max(0.0, min(_PROBE_EVERY_S, until_s - time.monotonic())))
        with self._changed:  # only the newest image is worth sending
            while len(self._items) > 1:
                self._items.popleft()
                self.dropped += 1


def _probe_of(url: str) -> Callable[[], bool | None]:
    """Return what tells whether the server answers; see ``server_probe``.

    Raises:
        OptionError: the URL has no host, or no port where there is no usual one.
    """
    parts = split_url(url)
    needs_port = parts.scheme.lower() in ("udp", "srt")
    if not parts.hostname or (needs_port and not parts.port):
        example = f"{parts.scheme}://192.168.1.2:5004" if needs_port else f"{parts.scheme}://192.168.1.2/live"
        raise OptionError(f"--output {redact(url)} names no host{' and port' * needs_port}: write e.g. {example}")
    return server_probe(url)


def _with_packet_size(url: str, scheme: str) -> str:
    """For UDP, packets of 7 x 188 bytes, unless the URL names a size: larger ones would be split on the way."""
    if scheme != "udp" or "pkt_size=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}pkt_size=1316"


def _check_protocol(scheme: str, label: str) -> None:
    if scheme not in ("srt", "rtmps", "rtsps"):
        return
    probe = "tls" if scheme == "rtsps" else scheme
    try:
        av.open(f"{probe}://127.0.0.1:1", timeout=0.1).close()
    except av.error.ProtocolNotFoundError as error:
        raise SinkError(
            f"{label} cannot be sent, this PyAV was built without {scheme.upper()}: send rtsp://, rtmp:// or udp:// "
            f"to a server that converts it, such as MediaMTX"
        ) from error
    except (av.error.FFmpegError, OSError):
        return  # it is known; nobody answers at that address
