"""Opens a video file or stream with PyAV, with limits on time, formats and protocols.

Every error becomes one sentence. Error messages of the library are not passed on, because they contain the whole URL
with its password.
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

__all__ = ["LIVE_SCHEMES", "PLAYLIST_HINT", "ffmpeg_reason", "find_video_stream", "open_file", "open_url"]

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp", "rtp"})

PLAYLIST_HINT = (
    "a playlist, which may name other files and hosts to read: "
    "give the stream itself, or allow it with --playlists (SourceOptions.allow_playlists)"
)

# Demuxers that read only the given file. This excludes hls, dash, concat, sdp and image2.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,flv,live_flv,asf,ogg,mxf,"
    "mjpeg,mpjpeg,gif,apng,yuv4mpegpipe,nut,rm,dv,vc1,wtv,gxf,swf,rtsp,rtp"
)
_FILE_PROTOCOLS = "file"
_STREAM_PROTOCOLS = "http,https,httpproxy,rtmp,rtmps,rtmpt,rtmpts,srt,tcp,tls,udp,rtp,srtp,crypto,data"
_LIVE_PROBING = {
    # Probe at most one second of the stream, not the default of five.
    "analyzeduration": "1000000",
    "probesize": "1000000",
}
_SCHEME_OPTIONS = {
    "rtsp": {"rtsp_flags": "prefer_tcp"},
    "rtsps": {"rtsp_flags": "prefer_tcp"},
    # Buffer of the kernel in bytes, and of the library in packets of 188 bytes.
    "udp": {"buffer_size": "4194304", "fifo_size": "50000", "overrun_nonfatal": "1"},
    "rtp": {"buffer_size": "4194304"},
}
_MP4_BOXES = (b"ftyp", b"mdat", b"wide", b"free", b"skip")


def open_file(path: Path, options: SourceOptions) -> InputContainer:
    """Open a video file on disk. Files and URLs that it refers to are not read.

    Raises:
        SourceNotFound: there is no such file.
        SourceError: it is not a video, cannot be read, or was never finished.
    """
    head = _read_head(path)
    settings = {"protocol_whitelist": _FILE_PROTOCOLS, "format_whitelist": _FORMATS}
    if options.allow_playlists:
        settings = {"protocol_whitelist": f"{_FILE_PROTOCOLS},{_STREAM_PROTOCOLS}"}
    elif head.startswith(b"#EXTM3U") or b"<MPD" in head or head.startswith(b"ffconcat"):
        raise SourceError(f"{path} is {PLAYLIST_HINT}")
    try:
        # "file:" and the absolute path, because "take:2.mp4" would look like a protocol. No timeout: a disk needs none,
        # and checking it would take the lock of the interpreter for every block.
        return av.open(f"file:{path.absolute()}", container_options=settings, metadata_errors="replace")
    except av.FFmpegError as error:
        if head[4:8] in _MP4_BOXES:
            raise SourceError(
                f"{path} is cut off or damaged: its index (moov) is missing. "
                "The recording was not closed: record it again, or repair it with a tool like untrunc"
            ) from error
        raise SourceError(f"{path} is not a readable video ({ffmpeg_reason(error)}): give a video file") from error


def _read_head(path: Path) -> bytes:
    """The first 256 bytes of a file, which must be regular, readable and not empty."""
    try:
        # Opening a pipe that has no writer would block forever.
        if not path.is_file() and path.exists():
            hint = f": for a camera write camera:{path}" if path.is_char_device() else ""
            raise SourceError(f"{path} is not a regular file{hint}")
        with path.open("rb") as file:
            head = file.read(256)
    except FileNotFoundError as error:
        raise SourceNotFound(f"there is no file {path}: check the path") from error
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not head:
        raise SourceError(f"{path} is empty (0 bytes): record or download it again")
    return head


def open_url(url: str, options: SourceOptions) -> InputContainer:
    """Open a stream or a file on a server, within ``options.open_timeout_s`` to connect and the same again to probe it.

    Raises:
        SourceNotFound: the server has no such file or stream.
        SourceError: no answer in time, access refused, or not a video. The message does not contain the password.
    """
    scheme = urlsplit(url).scheme.lower()
    shown = redact(url, *find_secrets(url))
    _resolve(url, shown, options.open_timeout_s)
    settings = {"protocol_whitelist": _STREAM_PROTOCOLS, **_SCHEME_OPTIONS.get(scheme, {})}
    if not options.allow_playlists:
        settings["format_whitelist"] = _FORMATS
    if scheme in LIVE_SCHEMES:
        settings |= _LIVE_PROBING
    started_s = time.monotonic()
    try:
        return av.open(
            url,
            container_options=settings,
            metadata_errors="replace",
            timeout=(options.open_timeout_s, options.read_timeout_s),
        )
    except av.FFmpegError as error:
        timed_out = time.monotonic() - started_s >= 0.95 * options.open_timeout_s
        failure = _failure(error, shown, options.open_timeout_s if timed_out else None)
    # Outside the handler, because the error of the library would be the context, with the password.
    raise failure


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first decodable video stream, if any. A cover image does not count."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _failure(error: av.FFmpegError, shown: str, timeout_s: float | None) -> SourceError:
    """The error to raise if opening ``shown`` fails; ``timeout_s`` if the time was up."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return SourceError(f"{shown} refuses access ({ffmpeg_reason(error)}): check user name and password")
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(f"{shown} does not exist ({ffmpeg_reason(error)}): check the path")
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = shown.partition("://")[0]
        return SourceError(f"{shown}: the installed PyAV cannot read {scheme} URLs: use a build that supports them")
    if timeout_s is not None:
        return SourceError(
            f"{shown} sends no video within {timeout_s:g} s: check the address and that the stream is running"
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceError(f"{shown} refuses the connection: check the port and that the server is running")
    if isinstance(error, av.error.ArgumentError):
        return SourceError(f"{shown} cannot be opened: its options are wrong, or it is {PLAYLIST_HINT}")
    return SourceError(f"{shown} cannot be opened ({ffmpeg_reason(error)}): check the address and the server")


def ffmpeg_reason(error: av.FFmpegError) -> str:
    """The message of the library, without the URL that ``str(error)`` contains."""
    return (error.strerror or type(error).__name__).lower()


def _resolve(url: str, shown: str, timeout_s: float) -> None:
    """Resolve the host within ``timeout_s``: the library would wait much longer for an unresponsive name server."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if not host or scheme in getproxies_environment():
        return  # the proxy resolves the name
    results: list[object] = []

    def look_up() -> None:
        try:
            results.extend(socket.getaddrinfo(host, None))
        except (OSError, UnicodeError) as error:
            results.append(error)

    # A daemon thread, because a lookup cannot be cancelled: it ends with its own timeout or with the process.
    thread = Thread(target=look_up, name="rtseg-resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not results:
        raise SourceError(f"{shown}: the name server does not answer within {timeout_s:g} s: check the network")
    if isinstance(results[0], Exception):
        raise SourceError(f"{shown}: there is no host {host}: check the name and the network") from results[0]
