"""Video from standard input, read with PyAV on a thread of its own."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import av
from av.container import InputContainer

from rtseg.errors import OptionError, SourceError
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.container import open_pipe
from rtseg.sources.video.stream import StreamSource

__all__ = ["StdinSource"]

_RAW = re.compile(r"(?P<format>[a-z0-9_]+):(?P<size>\d+x\d+)@(?P<fps>\d+(?:\.\d+)?)")


class StdinSource(StreamSource):
    """``-``: a video container from standard input, or with ``options.raw`` frames without a header.

    It is read like a file: nothing is dropped, and the program that writes waits while rtseg is busy. It may pause.
    """

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Create the source. Iterating reads standard input.

        Args:
            where: ``-``.
            options: which part to read, and ``raw``.

        Raises:
            OptionError: ``options.raw`` is malformed, or ``options.loop`` is set.
            SourceError: standard input is a terminal.
        """
        if options.loop:
            raise OptionError("--loop: standard input can be read only once: give a file")
        self._raw = _parse_raw(options.raw) if options.raw is not None else {}
        if self._raw:
            options = replace(options, fps=float(self._raw["framerate"]))
        super().__init__("pipe:0", options, name="stdin", shown="standard input")
        self._may_pause = True
        if sys.stdin is not None and sys.stdin.isatty():
            raise SourceError(
                "standard input is a terminal: pipe a video into rtseg, as in `ffmpeg .. | rtseg stream -`"
            )

    def _is_live(self, container: InputContainer) -> bool:
        return False

    def _open(self) -> InputContainer:
        return open_pipe(self._raw)


def _parse_raw(text: str) -> dict[str, str]:
    """The settings of the demuxer for ``bgr24:1280x720@30``.

    Raises:
        OptionError: it is malformed, or the pixel format is unknown.
    """
    match = _RAW.fullmatch(text)
    if match is None:
        raise OptionError(f"--raw must be FORMAT:WIDTHxHEIGHT@FPS, for example bgr24:1280x720@30, got {text!r}")
    try:
        av.VideoFormat(match["format"], 16, 16)
    except ValueError as error:
        raise OptionError(
            f"--raw: unknown pixel format {match['format']!r}: use bgr24, rgb24, gray, nv12 or yuv420p"
        ) from error
    return {"pixel_format": match["format"], "video_size": match["size"], "framerate": match["fps"]}
