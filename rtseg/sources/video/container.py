"""Opens a video file or stream with PyAV, with limits on time, formats and protocols.

Every error becomes one sentence. Error messages of the library are not passed on, because they contain the whole URL
with its password.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from threading import Thread
from urllib.request import getproxies_environment

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from rtseg.errors import SourceDenied, SourceError, SourceNotFound, SourceStalled
from rtseg.sources.options import SourceOptions
from rtseg.system.redact import find_secrets, redact, split_url

__all__ = [
    "LIVE_SCHEMES",
    "PLAYLISTS",
    "PLAYLIST_HINT",
    "ffmpeg_reason",
    "find_video_stream",
    "has_clock",
    "is_encrypted",
    "no_video_reason",
    "open_file",
    "open_pipe",
    "open_url",
]

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp", "rtp"})

PLAYLIST_HINT = (
    "a playlist, which may name other files and hosts to read: "
    "give the stream itself, or allow it with --playlists (SourceOptions.allow_playlists)"
)

# Demuxers that read only the given file. This excludes hls, dash, concat, sdp, image2 and mlv.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,flv,live_flv,asf,asf_o,ogg,mxf,"
    "mjpeg,mpjpeg,gif,apng,yuv4mpegpipe,nut,rm,dv,vc1,vc1test,wtv,gxf,swf,rtsp,rtp,"
    # Broadcast, cameras, recorders, production.
    "pva,cavsvideo,dirac,dnxhd,evc,dhav,ifv,lmlm4,mxg,nsv,nuv,ty,lxf,cine,cdxl,ser,smjpeg,mjpeg_2000,kux,pmp,mtv,vivo,"
    # Games, animations.
    "4xm,dfa,dxa,mv,roq,smk,bink,flic,film_cpk,ea,vmd,mm,xmv,ipmovie,wsvqa,wc3movie,tiertexseq,thp,rpl,siff,psxstr,rl2,"
    "bfi,c93,bethsoftvid,jv,yop,vividas,idcin,filmstrip,moflex,gdv,hnm,txd,smush,bmv,ipu,avs,paf,anm,usm"
)
_NO_TIMESTAMPS = 0x80
"""Flag of the formats without timestamps: raw streams of one codec, and JPEGs in a row."""
_UNFLAGGED = frozenset({"ingenient", "ipu"})
PLAYLISTS = frozenset({"hls", "dash", "concat", "sdp", "imf", "webm_dash_manifest"})
_ENCRYPTED_TAGS = frozenset({"encv", "drmi", "drmv"})
_FILE_PROTOCOLS = "file"
_STREAM_PROTOCOLS = "http,https,httpproxy,rtmp,rtmps,rtmpt,rtmpts,srt,tcp,tls,udp,rtp,srtp,crypto,data"
_LIVE_PROBING = {
    # Probe at most one second of the stream, not the default of five.
    "analyzeduration": "1000000",
    "probesize": "1000000",
    # By default it also waits for 20 frames to estimate their rate, which is measured anyway: at 5 fps that takes 4 s.
    "fpsprobesize": "0",
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
        refused = _refused_format(f"file:{path.absolute()}", settings) if _is_refused(error) else ""
        if refused:
            raise SourceError(f"{path} {_refusal(refused)}") from error
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
    scheme = split_url(url).scheme.lower()
    shown = redact(url, *find_secrets(url))
    _resolve(url, shown, options.open_timeout_s)
    timeout_us = str(round(1e6 * options.read_timeout_s))
    settings = {"protocol_whitelist": _STREAM_PROTOCOLS, **_SCHEME_OPTIONS.get(scheme, {}), "rw_timeout": timeout_us}
    if scheme in ("rtsp", "rtsps", "tcp", "udp"):  # for others it means something else
        settings["timeout"] = timeout_us
    if not options.allow_playlists:
        settings["format_whitelist"] = _FORMATS
    if scheme in LIVE_SCHEMES:
        settings |= _LIVE_PROBING
    if scheme in ("rtsp", "rtsps") and options.rtsp_transport == "udp":
        settings |= {"rtsp_flags": "0", "rtsp_transport": "udp", "buffer_size": "4194304"}
    started_s = time.monotonic()
    try:
        return av.open(
            url,
            container_options=settings,
            metadata_errors="replace",
            # No time-out of PyAV for reads: it would take the lock of the interpreter several times for every packet of
            # the network, which on a busy machine makes reading slower than the stream. The library has its own.
            timeout=(options.open_timeout_s, None),
        )
    except av.FFmpegError as error:
        timed_out = time.monotonic() - started_s >= 0.95 * options.open_timeout_s
        failure = _failure(error, shown, options.open_timeout_s if timed_out else None)
        refused = _refused_format(url, settings, options.open_timeout_s) if _is_refused(error) else ""
        if refused:
            failure = SourceError(f"{shown} {_refusal(refused)}")
    # Outside the handler, because the error of the library would be the context, with the password.
    raise failure


def open_pipe(raw: dict[str, str]) -> InputContainer:
    """Open standard input, which is waited for as long as it takes.

    Args:
        raw: settings of the demuxer of raw frames; empty for a container.

    Raises:
        SourceError: it is no video.
    """
    settings = {"protocol_whitelist": "pipe", **(raw or {"format_whitelist": _FORMATS})}
    try:
        return av.open(
            "pipe:0", format="rawvideo" if raw else None, container_options=settings, metadata_errors="replace"
        )
    except av.FFmpegError as error:
        raise SourceError(
            f"standard input is not a readable video ({ffmpeg_reason(error)}): pipe a container that needs no seeking, "
            "such as .ts or .mkv, or raw frames with --raw bgr24:1280x720@30"
        ) from error


def find_video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first decodable video stream, if any. A cover image does not count."""
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def has_clock(container: InputContainer) -> bool:
    """Whether the format of ``container`` stores timestamps. For others FFmpeg assumes 25 frames per second."""
    return not int(container.format.flags) & _NO_TIMESTAMPS and container.format.name not in _UNFLAGGED


def is_encrypted(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the header says that ``stream`` is encrypted. Packets may say it, too."""
    return stream.codec_context.codec_tag in _ENCRYPTED_TAGS or any(
        key.startswith(("ASF_Protection_Type", "ASF_Key_ID", "ASF_License_URL")) for key in container.metadata
    )


def no_video_reason(container: InputContainer) -> str:
    """Why ``find_video_stream`` finds nothing, as the rest of a sentence that begins with the name of the source."""
    kinds = {stream.type for stream in container.streams}
    if any(stream.codec_context is None for stream in container.streams.video):
        return "contains video in a codec that this PyAV cannot decode: convert it to H.264"
    if "video" in kinds:
        return "contains only a cover image and no video: give a video file"
    known = ", ".join(sorted(kinds)) or "nothing"
    return f"contains no video that can be decoded, only {known}: give a video file"


def _is_refused(error: av.FFmpegError) -> bool:
    return isinstance(error, av.error.ArgumentError)


def _refused_format(where: str, settings: dict[str, str], timeout_s: float | None = None) -> str:
    """Open ``where`` once more to learn which format is not in the list; empty if that is not the reason.

    The formats outside the list are not opened: only the log of the library names the one that it recognised.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            av.open(where, container_options=settings, metadata_errors="replace", timeout=timeout_s).close()
    except av.FFmpegError:
        pass
    finally:
        av.logging.set_level(level)
    return next((name for _, name, text in logs if text.startswith("Format not on whitelist")), "")


def _refusal(format_name: str) -> str:
    """Why a format is not read, as the rest of a sentence that begins with the name of the source."""
    if format_name in PLAYLISTS:
        return f"is {PLAYLIST_HINT}"
    if format_name.endswith("_pipe"):
        kind = format_name.removesuffix("_pipe").upper()
        return f"is an image ({kind}), not a video: save it with the suffix of an image, or give a video or stream"
    return (
        f"has the format {format_name}, which is not allowed, because only videos that cannot name other files are: "
        "convert it to .mp4"
    )


def _failure(error: av.FFmpegError, shown: str, timeout_s: float | None) -> SourceError:
    """The error to raise if opening ``shown`` fails; ``timeout_s`` if the time was up."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return SourceDenied(f"{shown} refuses access ({ffmpeg_reason(error)}): check user name and password")
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceNotFound(f"{shown} does not exist ({ffmpeg_reason(error)}): check the path")
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = shown.partition("://")[0]
        return SourceError(
            f"{shown}: the installed PyAV cannot read {scheme} URLs: use a build that can, or pipe: "
            "ffmpeg -i URL -c copy -f mpegts - | rtseg stream -"
        )
    if timeout_s is not None:
        return SourceStalled(
            f"{shown} sends no video within {timeout_s:g} s: check the address and that the stream is running"
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceError(f"{shown} refuses the connection: check the port and that the server is running")
    if isinstance(error, av.error.ArgumentError):
        return SourceError(f"{shown} cannot be opened (invalid argument): check the address and its options")
    return SourceError(f"{shown} cannot be opened ({ffmpeg_reason(error)}): check the address and the server")


def ffmpeg_reason(error: av.FFmpegError) -> str:
    """The message of the library, without the URL that ``str(error)`` contains."""
    return (error.strerror or type(error).__name__).lower()


def _resolve(url: str, shown: str, timeout_s: float) -> None:
    """Resolve the host within ``timeout_s``: the library would wait much longer for an unresponsive name server."""
    parts = split_url(url)
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
