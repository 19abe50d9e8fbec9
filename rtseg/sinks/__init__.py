"""Where results go: a window, a video file, palette masks, statistics, or nowhere."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.base import Sink

if TYPE_CHECKING:
    from rtseg.sinks._audio_copy import AudioPackets

__all__ = ["NOTHING", "Sink", "open_sinks"]

NOTHING = Path("null")
"""As ``output``: the results are counted and discarded."""


def open_sinks(
    spec: ModelSpec,
    *,
    output: Path | None = None,
    fps_hint: float | None = None,
    audio: AudioPackets | None = None,
    masks: Path | None = None,
    stats: Path | None = None,
    window: str | None = None,
    live: bool = False,
    stop: Event | None = None,
    overwrite: bool = False,
) -> list[Sink]:
    """Create the requested sinks, in the order of the arguments. Their files get their names at ``close``.

    Args:
        spec: of the model that makes the labels.
        output: a video file, or ``NOTHING``.
        fps_hint: nominal frame rate of the source, for the header of the video file.
        audio: to be copied into the video file, e.g. from ``Source.open_audio``.
        masks: a folder for PNGs of class IDs.
        stats: a JSON-lines file of class shares.
        window: title of a window.
        live: whether frames come from a camera or stream, which a window cannot pause.
        stop: ends every wait of the window once set.
        overwrite: whether existing files and masks may be replaced.

    Raises:
        OutputExists: a result exists, and must not be replaced.
        SinkError: an output cannot be written or is being written by another run, or no display answers.
    """
    sinks: list[Sink] = []
    with ExitStack() as opened:
        opened.callback(lambda: [sink.close() for sink in sinks])  # if a later one cannot be created
        # Imported only when needed: PyAV and OpenCV take time to load.
        if output == NOTHING:
            from rtseg.sinks.null import NullSink

            sinks.append(NullSink())
        elif output is not None:
            from rtseg.sinks.video import VideoSink

            sinks.append(VideoSink(output, fps_hint=fps_hint, audio=audio, overwrite=overwrite))
        if masks is not None:
            from rtseg.sinks.masks import MasksSink

            sinks.append(MasksSink(masks, spec, overwrite=overwrite))
        if stats is not None:
            from rtseg.sinks.stats import StatsSink

            sinks.append(StatsSink(stats, spec, overwrite=overwrite))
        if window is not None:
            from rtseg.sinks.window import WindowSink

            sinks.append(WindowSink(window, live=live, stop=stop))
        opened.pop_all()
    return sinks
