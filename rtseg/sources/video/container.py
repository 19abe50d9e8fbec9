"""Opens a video file or stream with PyAV: bounded in time, in formats and in what it may call.

Whatever goes wrong here becomes one sentence. The texts of the library are not passed on: they hold the
whole URL, with its password.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from rtseg.errors import SourceError, SourceNotFound
from rtseg.sources.base import SourceOptions
from rtseg.system.redact import find_secrets, redact

__all__ = ["LIVE_SCHEMES", "PLAYLIST_HINT", "find_video_stream", "open_file", "open_url", "reason"]

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp", "rtp"})

PLAYLIST_HINT = (
    "a playlist, which may name any file or host to be read: "
    "give the stream itself, or allow it with --playlists (SourceOptions.allow_playlists)"
)

# Demuxers that read what they are given and nothing else. Not among them: hls, dash, concat, sdp, image2.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,flv,live_flv,asf,ogg,mxf,"
    "mjpeg,mpjpeg,gif,apng,yuv4mpegpipe,nut,rm,dv,vc1,wtv,gxf,swf,rtsp,rtp"
)
_FILE_PROTOCOLS = "file"
_STREAM_PROTOCOLS = "http,https,httpproxy,rtmp,rtmps,rtmpt,rtmpts,srt,tcp,tls,udp,rtp,srtp,crypto,data"
_LIVE_PROBING = {
    # One second of the stream at most to learn what is in it, not the five of the default.
    "analyzeduration": "1000000",
    "probesize": "1000000",
}
_SCHEME_OPTIONS = {
    "rtsp": {"rtsp_flags": "prefer_tcp"},
    "rtsps": {"rtsp_flags": "prefer_tcp"},
    # Bytes for the kernel's buffer and, in packets of 188 bytes, for the library's own.
    "udp": {"buffer_size": "4194304", "fifo_size": "50000", "overrun_nonfatal": "1"},
    "rtp": {"buffer_size": "4194304"},
}
_MP4_BOXES = (b"ftyp", b"mdat", b"wide", b"free", b"skip")


def open_file(path: Path, options: SourceOptions) -> InputContainer:
    """Open a video file on disk. Only that file is read: what it names is not followed.

    Raises:
        SourceNotFound: there is no such file.
        SourceError: it is no video, not readable, or was never finished.
    """
    head = _first_bytes(path)
    settings = {"protocol_whitelist": _FILE_PROTOCOLS, "format_whitelist": _FORMATS}
    if options.allow_playlists:
        settings = {"protocol_whitelist": f"{_FILE_PROTOCOLS},{_STREAM_PROTOCOLS}"}
    elif head.startswith(b"#EXTM3U") or b"<MPD" in head or head.startswith(b"ffconcat"):
        raise SourceError(f"{path} is {PLAYLIST_HINT}")
    try:
        # "file:" and the whole path: else "take:2.mp4" would be read as a protocol. No time-out: a disk has
        # none, and asking the clock would take the interpreter's lock for every block.
        return av.open(f"file:{path.absolute()}", container_options=settings, metadata_errors="replace")
    except av.FFmpegError as error:
        if head[4:8] in _MP4_BOXES:
            raise SourceError(
                f"{path} is cut off or damaged: its index (moov) is missing. "
                "The recording was not closed: make it anew, or repair it with a tool such as untrunc"
            ) from error
        raise SourceError(f"{path} is no video that can be read ({reason(error)}): give a video file") from error


def _first_bytes(path: Path) -> bytes:
    """The first 256 bytes of a regular, readable, filled file."""
    try:
        # Opening a pipe without a writer would wait for ever.
        if not path.is_file() and path.exists():
            hint = f": for a camera write camera:{path}" if path.is_char_device() else ""
            raise SourceError(f"{path} is no regular file{hint}")
        with path.open("rb") as file:
            head = file.read(256)
    except FileNotFoundError as error:
        raise SourceNotFound(f"there is no file {path}: check the path") from error
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not head:
        raise SourceError(f"{path} is empty (0 bytes): record or download it anew")
    return head


def open_url(url: str, options: SourceOptions) -> InputContainer:
    """Open a stream or a file on a server: ``options.open_timeout_s`` to connect, and again to probe it.

    Raises:
        SourceNotFound: the server has nothing under that name.
        SourceError: no answer in time, refused, or no video; the password of ``url`` is not in the text.
    """
    scheme = urlsplit(url).scheme.lower()
    shown = redact(url, *find_secrets(url))
    _resolve(url, shown, options.open_timeout_s)
    settings = {"protocol_whitelist": _STREAM_PROTOCOLS, **_SCHEME_OPTIONS.get(scheme, {})}
    if not options.allow_playlists:
        settings["format_whitelist"] = _FORMATS
    if scheme in LIVE_SCHEMES:
        settings |= _LIVE_PROBING
    asked_s = time.monotonic()
    try:
        return av.open(
            url,
            container_options=settings,
            metadata_errors="replace",
            timeout=(options.open_timeout_s, options.read_timeout_s),
        )
    except av.FFmpegError as error:
        late = time.monotonic() - asked_s >= 0.95 * options.open_timeout_s
        failure = _failure(error, shown, options.open_timeout_s if late else None)
    # Outside of the handler: the library's error would come along as the context, with the password.
    raise failure


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that can be decoded, if any. The cover image of a song is not one."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _failure(error: av.FFmpegError, shown: str, timeout_s: float | None) -> SourceError:
    """The sentence for an ``error`` of opening ``shown``; ``timeout_s`` where the time was up."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return SourceError(f"{shown} refuses access ({reason(error)}): check user name and password")
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(f"{shown} is not there ({reason(error)}): check the path")
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = shown.partition("://")[0]
        return SourceError(f"{shown}: the installed PyAV cannot read {scheme} URLs: use a build with it")
    if timeout_s is not None:
        return SourceError(
            f"{shown} gives no video within {timeout_s:g} s: check the address and that the stream is running"
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceError(f"{shown} refuses the connection: check the port and that the server is running")
    if isinstance(error, av.error.ArgumentError):
        return SourceError(f"{shown} cannot be used: its options are wrong, or it is {PLAYLIST_HINT}")
    return SourceError(f"{shown} cannot be opened ({reason(error)}): check the address and the server")


def reason(error: av.FFmpegError) -> str:
    """What the library says of ``error``, without the URL that its ``str`` holds."""
    return (error.strerror or type(error).__name__).lower()


def _resolve(url: str, shown: str, timeout_s: float) -> None:
    """Look the host up within ``timeout_s``: the library would wait for a silent name server for long."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if not host or scheme in getproxies_environment():
        return  # with a proxy the name is the proxy's business
    found: list[object] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, None))
        except (OSError, UnicodeError) as error:
            found.append(error)

    # A daemon, as a look-up cannot be broken off: it ends with its own time-out, or with the process.
    thread = Thread(target=look_up, name="rtseg-resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found:
        raise SourceError(f"{shown}: the name server is silent for {timeout_s:g} s: check the network")
    if isinstance(found[0], Exception):
        raise SourceError(f"{shown}: there is no host {host}: check the name and the network") from found[0]
