"""Where frames come from: videos, URLs, cameras, image sequences and synthetic scenes.

A source is iterated once, by one thread, which opens, reads and closes it. Closing a video from another thread would
crash the process, so ``stop`` only sets a flag, and the reading thread acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from glob import has_magic
from importlib import import_module
from pathlib import Path
from urllib.request import url2pathname

from rtseg.errors import MissingExtra, OptionError, SourceError, SourceNotFound
from rtseg.image_io.find import IMAGE_SUFFIXES, is_list, is_numbered
from rtseg.image_io.timeout import call_with_timeout
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.system.file_names import check_name, existing_path
from rtseg.system.redact import redact, split_url
from rtseg.system.server_probe import server_probe

__all__ = ["Source", "SourceOptions", "open_source"]

_Factory = Callable[[str | Path, SourceOptions], Source]
_VIDEO = ("rtseg.sources.video.source", "VideoSource")
_STREAM = ("rtseg.sources.video.stream", "StreamSource")
_STDIN = ("rtseg.sources.video.stdin", "StdinSource")
_IMAGES = ("rtseg.sources.images", "ImagesSource")
_WORDS = {
    "camera": ("rtseg.sources.camera", "CameraSource"),
    "demo": ("rtseg.sources.synthetic", "StreetSource"),
    "fringes": ("rtseg.sources.synthetic", "FringesSource"),
    "screen": ("rtseg.sources.screen", "ScreenSource"),
}
_URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp", "rtp")
_INSTEAD = {
    "webrtc": "WebRTC is not read: give the RTSP or HTTP address of the same camera or server",
    "whep": "WebRTC is not read: give the RTSP or HTTP address of the same camera or server",
    "whip": "WebRTC is not read: give the RTSP or HTTP address of the same camera or server",
    "ndi": "NDI is not read: convert it to RTSP or SRT, e.g. with OBS Studio or MediaMTX",
    "onvif": "ONVIF only describes a camera: give the rtsp:// address that it lists for its stream",
    "mms": "MMS is not read: give the http:// address of the stream",
    "v4l2": "for a camera give camera:/dev/video0",
}
_HEIF_SUFFIXES = (".heic", ".heif")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def open_source(where: str | Path, options: SourceOptions | None = None) -> Source:
    """Create the source that ``where`` names. Iterating over it opens it.

    A string is first interpreted as ``demo``, ``fringes``, ``camera`` or a URL, then as a path. For a file named
    ``demo`` write ``./demo``, or pass a ``Path``.

    Args:
        where: a video file; ``-`` for standard input; an http, https, rtsp, rtmp, srt, tcp, udp or rtp URL;
            ``camera:0`` or ``camera:/dev/video0?width=1280&height=720&fps=30``; ``screen``, ``screen:2`` or
            ``screen:1280x720+100+50``; ``demo`` or ``demo:SECONDS``;
            ``fringes`` or ``fringes:SECONDS``. Images: a file; a folder; a glob; a numbered sequence like
            ``frame_%05d.png``; a list, ``paths.txt`` or ``@FILE``, with one path or URL per line; or any of the first
            four as a URL that fsspec reads, like ``s3://bucket/folder``, ``zip://*.png::file.zip``,
            ``https://host/*.png`` or ``http://camera/snapshot.jpg``.
            Live sources are opened again when they fail; see ``SupervisedSource``.
        options: which part to read; by default all of it.

    Raises:
        OptionError: ``where`` is empty, or its scheme is unknown.
        SourceNotFound: there is no such file, folder or image.
        SourceError: the file or folder cannot be looked up, or does not answer.
        MissingExtra: a required library is not installed.
    """
    options = options or SourceOptions()
    check_name(where)
    if not str(where).strip():
        raise OptionError("--source is empty: give a file, a folder, a URL, camera:0 or demo")
    if options.raw is not None and where != "-":
        raise OptionError("--raw describes frames on standard input: give - as the source")
    if isinstance(where, str):
        where = where.strip() if _URL.match(where.strip()) else where  # copied with blanks around it
        if where == "-":
            return _load(*_STDIN)(where, options)
        word = where.partition(":")[0]
        if word in _WORDS:
            source = _load(*_WORDS[word])(where, options)
            return _supervised(source, source.probe) if source.live else source
        url = _URL.match(where)
        if url and url[1].lower() == "file":
            where = url2pathname(split_url(where).path)
            check_name(where)
        elif url and url[1].lower() in _URL_SCHEMES and not _names_images(where):
            return _supervised(_load(*_STREAM)(where, options), server_probe(where))
        elif url:
            if url[1].lower() not in _URL_SCHEMES:
                _refuse_unknown_scheme(where, url[1].lower())
            return _load(*_IMAGES)(where, options)
    kind = call_with_timeout(options.reading.timeout_s, str(where)[:200], lambda: _kind_of_path(where))
    return _load(*kind)(where, options)


def _supervised(source: Source, is_back: Callable[[], bool | None]) -> Source:
    from rtseg.sources.supervisor import SupervisedSource

    return SupervisedSource(source, is_back)


def _names_images(url: str) -> bool:
    """Whether an http URL names an image or several. ``?`` starts the query, so it is no wildcard."""
    parts = split_url(url)
    is_image = parts.scheme.lower() in ("http", "https") and Path(parts.path).suffix.lower() in IMAGE_SUFFIXES
    return is_image or is_numbered(parts.path) or "*" in parts.path


def _refuse_unknown_scheme(where: str, scheme: str) -> None:
    if scheme in _INSTEAD:
        raise OptionError(f"{redact(where)}: {_INSTEAD[scheme]}")
    try:
        from fsspec import available_protocols
    except ImportError:
        hint = "with 'rtseg[remote]' also s3, gs, zip and others"
    else:
        hint = "for images also s3, gs, zip and others of fsspec"
        if scheme in available_protocols():
            return
    raise OptionError(f"{redact(where)}: unknown scheme {scheme!r}; known are {', '.join(_URL_SCHEMES)}, {hint}")


def _kind_of_path(where: str | Path) -> tuple[str, str]:
    """Module and class for the path or glob ``where``."""
    if is_list(where):
        return _IMAGES
    path = existing_path(Path(where))
    try:
        if path.is_dir():
            return _IMAGES
        if path.exists():
            if path.suffix.lower() in _HEIF_SUFFIXES:
                raise SourceError(f"{where} is an HEIF image, which cannot be read: convert it to PNG or JPEG")
            return _IMAGES if path.suffix.lower() in IMAGE_SUFFIXES else _VIDEO
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{str(where)[:200]} cannot be looked up ({error.strerror}): check the path") from error
    if has_magic(str(where)) or is_numbered(where):
        return _IMAGES
    hint = f"for a camera write camera:{where}" if str(where).isdigit() else "check the path"
    raise SourceNotFound(f"there is no file or folder {where}: {hint}")


def _load(module: str, name: str) -> _Factory:
    """Import the class ``name`` only now: the demo must not wait for libraries that read files."""
    try:
        factory: _Factory = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"this source needs the package {error.name!r}: pip install {error.name}") from error
    return factory
