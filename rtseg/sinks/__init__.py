"""Where results go: a window, video files, streams, a virtual camera, masks, polygons, statistics, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from rtseg.errors import OptionError
from rtseg.sinks.base import Sink
from rtseg.sinks.options import RecordingOptions
from rtseg.system.redact import redact

if TYPE_CHECKING:  # they would load numpy, which ``rtseg stream --help`` does not need
    from rtseg.model_file.spec import ModelSpec
    from rtseg.regions.masks import Regions
    from rtseg.sinks._audio_copy import AudioPackets

__all__ = ["NOTHING", "Sink", "is_video_file", "open_sinks"]

NOTHING = "null"
"""As an output: the results are counted and discarded."""

_NOT_A_FILE = re.compile(r"[a-z][a-z0-9+.\-]+://|v4l2:", re.IGNORECASE)


def is_video_file(output: str) -> bool:
    """Whether an output is the name of a file."""
    return output != NOTHING and _NOT_A_FILE.match(output) is None


def open_sinks(
    spec: ModelSpec,
    *,
    outputs: Sequence[str] = (),
    recording: RecordingOptions | None = None,
    fps_hint: Callable[[], float | None] = lambda: None,
    audio: AudioPackets | None = None,
    masks: Path | None = None,
    stats: Path | None = None,
    regions: Regions | None = None,
    polygons: Path | None = None,
    tolerance: float = 1.0,
    window: str | None = None,
    live: bool = False,
    may_drop: bool = True,
    stop: Event | None = None,
    overwrite: bool = False,
) -> list[Sink]:
    """Create the requested sinks, in the order of the arguments. Their files get their names at ``close``.

    Args:
        spec: of the model that makes the labels.
        outputs: video files, URLs, virtual cameras, or ``NOTHING``.
        recording: how videos are encoded and divided into files.
        fps_hint: returns the nominal frame rate of the source, once the first frame has been read.
        audio: to be copied into the first video file, e.g. from ``Source.open_audio``.
        masks: a folder for PNGs of class IDs, a ``.json`` file for COCO run-length codes, or a ``.mkv`` file for a
            lossless video of class IDs.
        stats: a file of class shares: ``.csv``, ``.parquet``, or JSON lines.
        regions: of the run, for the shares.
        polygons: a file of polygons: ``.geojson``, or ``.json`` for COCO.
        tolerance: largest distance of a polygon from the pixels of its class, in pixels.
        window: title of a window.
        live: whether frames come from a camera or stream, which cannot wait.
        may_drop: whether a video of a live source may lack frames where the disk or the encoder is too slow; if not,
            the source waits.
        stop: ends every wait of a sink once set.
        overwrite: whether existing files and masks may be replaced.

    Raises:
        OptionError: a suffix does not name a format.
        MissingExtra: Parquet without the package that writes it.
        OutputExists: a result exists, and must not be replaced.
        SinkError: an output cannot be written or is being written by another run, or no display answers.
    """
    recording = recording or RecordingOptions()
    sinks: list[Sink] = []
    with ExitStack() as opened:
        opened.callback(lambda: [sink.close() for sink in sinks])  # if a later one cannot be created
        # Imported only when needed: PyAV and OpenCV take time to load.
        for output in outputs:
            if output == NOTHING:
                from rtseg.sinks.null import NullSink

                sinks.append(NullSink())
            elif scheme := _NOT_A_FILE.match(output):
                sinks.append(_open_stream(output, scheme[0], recording, fps_hint, live=live, stop=stop))
            else:
                path = Path(output)
                sinks.append(
                    _open_video(path, recording, fps_hint, audio, live=live, may_drop=may_drop, overwrite=overwrite)
                )
                audio = None
        if masks is not None:
            from rtseg.sinks.masks import open_masks

            sinks.append(open_masks(masks, spec, fps_hint=fps_hint, overwrite=overwrite))
        if stats is not None:
            from rtseg.sinks.stats import open_stats

            sinks.append(open_stats(stats, spec, regions=regions, overwrite=overwrite))
        if polygons is not None:
            from rtseg.sinks.annotations import open_polygons

            sinks.append(open_polygons(polygons, spec, tolerance=tolerance, overwrite=overwrite))
        if window is not None:
            from rtseg.sinks.window import WindowSink

            sinks.append(WindowSink(window, live=live, stop=stop))
        opened.pop_all()
    return sinks


def _open_stream(
    output: str,
    scheme: str,
    recording: RecordingOptions,
    fps_hint: Callable[[], float | None],
    *,
    live: bool,
    stop: Event | None,
) -> Sink:
    if scheme.lower() == "v4l2:":
        from rtseg.sinks.virtual_camera import VirtualCameraSink

        return VirtualCameraSink(output[len(scheme) :], fps_hint=fps_hint, live=live, stop=stop)
    from rtseg.sinks.stream import SCHEMES, StreamSink

    if scheme.lower().removesuffix("://") not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise OptionError(f"--output {redact(output)}: unknown scheme {scheme}; known are {known} and v4l2:")
    return StreamSink(output, recording, fps_hint=fps_hint, live=live, stop=stop)


def _open_video(
    path: Path,
    recording: RecordingOptions,
    fps_hint: Callable[[], float | None],
    audio: AudioPackets | None,
    *,
    live: bool,
    may_drop: bool,
    overwrite: bool,
) -> Sink:
    """One file, or several where a live source may change its size. Frames of a live source that may be dropped wait
    for no disk."""
    if live or recording.segment_s is not None:
        from rtseg.sinks.segments import SegmentsSink

        sink = SegmentsSink(path, recording, fps_hint=fps_hint, audio=audio, live=live, overwrite=overwrite)
        if not (live and may_drop):
            return sink
        from rtseg.sinks._background import BackgroundSink

        return BackgroundSink(sink)
    from rtseg.sinks.video import VideoSink

    return VideoSink(
        path,
        fps_hint=fps_hint,
        crf=recording.crf,
        codec=recording.codec,
        encoder=recording.encoder,
        audio=audio,
        overwrite=overwrite,
    )
