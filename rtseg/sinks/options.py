"""How videos are encoded and divided into files. Importing this loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["CODECS", "ENCODERS", "PRESETS", "RecordingOptions"]

CODECS = {"h264": (23, 51), "hevc": (28, 51), "av1": (35, 63)}
"""Name of a codec -> the default and the largest value of ``crf``."""
ENCODERS = ("auto", "software", "nvenc", "qsv", "amf")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""Speed presets of x264 and x265, the fastest first. SVT-AV1 gets its presets 12 to 4."""

_PANEL = "Recording"
_MIN_SEGMENT_S = 1.0


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How videos are encoded and divided into files.

    Raises:
        OptionError: a value is unknown or out of range, or an option is given without the one that it belongs to.
    """

    codec: Annotated[str, Option(_PANEL, choices=tuple(CODECS))] = "h264"
    """Codec of videos and streams."""
    crf: Annotated[int | None, Option(_PANEL, default="23 for h264, 28 for hevc, 35 for av1")] = None
    """Quality: 0 is the best; 6 more halve the size. At most 51, for av1 63."""
    encoder: Annotated[str, Option(_PANEL, choices=ENCODERS)] = "software"
    """What encodes. auto: the first hardware encoder that passes a test, else software."""
    segment_s: Annotated[float | None, Option(_PANEL, ("--segment",), parse="duration")] = None
    """Begin a new file after this time, e.g. 30s, 10m or 1h. A name may contain the time (cam-%Y%m%d-%H%M%S.mp4) or
    the number (cam-%05d.mp4) of the file; otherwise a live source adds the time, and a file the number."""
    keep_bytes: Annotated[int | None, Option(_PANEL, ("--keep",), parse="bytes")] = None
    """With --segment: delete the oldest files of this recording when all of them take more than this, e.g. 20GB."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise OptionError(f"--codec must be one of {', '.join(CODECS)}, got {self.codec!r}")
        if self.encoder not in ENCODERS:
            raise OptionError(f"--encoder must be one of {', '.join(ENCODERS)}, got {self.encoder!r}")
        largest = CODECS[self.codec][1]
        if self.crf is not None and not 0 <= self.crf <= largest:
            raise OptionError(f"--crf must be in 0..{largest} for {self.codec}, got {self.crf}")
        if self.segment_s is not None and self.segment_s < _MIN_SEGMENT_S:
            raise OptionError(f"--segment must be at least {_MIN_SEGMENT_S:g}s, got {self.segment_s:g}s")
        if self.keep_bytes is not None and self.segment_s is None:
            raise OptionError("--keep deletes old segments: give --segment too, e.g. --segment 10m")
        if self.keep_bytes is not None and self.keep_bytes < 1:
            raise OptionError(f"--keep must be at least 1 byte, got {self.keep_bytes}")

    @property
    def quality(self) -> int:
        """``crf``, or the default of the codec."""
        return CODECS[self.codec][0] if self.crf is None else self.crf
