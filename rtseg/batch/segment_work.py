"""Labels one segment of a video and writes its results."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.batch.events import VALUES, ValueSink
from rtseg.batch.keyframes import KeyframeSink
from rtseg.batch.local_copy import LocalCopy
from rtseg.batch.manifest import Segment, VideoEntry, segment_folder
from rtseg.batch.open_store import open_store
from rtseg.batch.options import BatchOptions
from rtseg.batch.tables import MaskTableSink, ShareTableSink
from rtseg.errors import SourceError
from rtseg.events.rule import parse_rules
from rtseg.frame import Frame, Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.pipeline.runner import Pipeline
from rtseg.preprocess import Prepare, override_steps
from rtseg.regions.masks import Regions
from rtseg.regions.region import parse_regions
from rtseg.sinks import open_sinks
from rtseg.sinks.base import Sink
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["Job", "SegmentWorker"]

_SAME_S = 1e-6
_MASK_FILES = {"png": "masks", "ffv1": "masks.mkv"}


@dataclass(frozen=True, slots=True)
class Job:
    """One segment to be done."""

    video: VideoEntry
    """With this segment alone, or with all."""
    segment: Segment
    key: dict[str, str]
    """What the results depend on; see ``rtseg.batch.plan.plan_jobs``."""

    @property
    def name(self) -> str:
        """Of its folder of results, below the output folder."""
        return segment_folder(self.video, self.segment)

    @property
    def key_digest(self) -> str:
        """The key as 16 hex digits."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]


class SegmentWorker:
    """Holds a model, and labels one segment after the other. Use it as a context manager.

    Args:
        options: of the run.
        threads: CPU threads of the model; as many as the backend wants by default.

    Raises:
        RtsegError: the model, the backend or an option cannot be used.
    """

    def __init__(self, options: BatchOptions, threads: int | None = None) -> None:
        self._options = options
        self._store = open_store(options.output)
        self._files = LocalCopy()
        self._opened = ExitStack()
        self._opened.enter_context(self._store.working())
        self._opened.callback(self._files.close)
        self._backend: Backend = open_backend(
            options.backend,
            options.model,
            size=options.size,
            precision=options.precision,
            device=options.device,
            threads=threads,
        )
        self._spec = override_steps(self._backend.spec, options.preprocess)
        self._prepare = Prepare(self._spec)
        propagation = options.propagation
        # Files are never live, for which auto would wait and see.
        self._propagation = replace(propagation, propagate="off") if propagation.interval is None else propagation
        self._overlay = Overlay(self._spec, OverlayOptions(alpha=options.alpha))

    def __enter__(self) -> SegmentWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.callback(self._backend.close)
        self._opened.close()

    def facts(self) -> dict[str, Any]:
        """Of the model and the backend."""
        return self._backend.facts()

    def run(self, job: Job) -> dict[str, Any]:
        """Label the segment and write its results; return the facts in ``done.json``.

        Raises:
            OutputInUse: another process works on this segment.
            RtsegError: it cannot be read, labelled or written. Nothing is left of it.
        """
        with self._store.claim(job.name) as part:
            done = self._store.facts(job.name)
            if done is not None and done.get("key") == job.key:
                return done  # another process has just finished it
            facts = self._label(job, part)
            self._store.commit(part, job.name, facts)
        self._store.forget_failure(job.name)
        return facts

    def _label(self, job: Job, folder: Path) -> dict[str, Any]:
        segment, started_s = job.segment, time.monotonic()
        length_s = None if segment.end_s is None else segment.end_s - segment.lead_start_s
        part = SourceOptions(start_s=segment.lead_start_s, duration_s=length_s)
        local = self._files.get(job.video.path)
        source = open_source(local, part)
        regions = Regions(parse_regions(self._options.roi))
        sinks = self._open_tables(job, folder, regions) + self._open_files(folder, lambda: source.fps)
        sink = _SegmentSink(sinks, segment, len(self._spec.classes))
        self._backend.reset()
        try:
            pipeline = Pipeline(
                source,
                self._backend,
                [sink],
                self._overlay,
                prepare=self._prepare,
                propagation=self._propagation,
                regions=regions,
                first_frame=segment.first_frame - segment.lead_frames,
            )
            with pipeline:
                pipeline.run()
        except SourceError as error:
            raise SourceError(str(error).replace(str(local), job.video.path)) from error
        finally:
            sink.close()
        if not sink.written:
            raise SourceError("no frame of the segment can be decoded: the video is damaged here")
        shares = dict(zip(self._spec.classes, sink.mean_shares, strict=True))
        return {
            "key": job.key,
            "video": job.video.path,
            "segment": segment.number,
            "start_s": segment.start_s,
            "first_frame": segment.first_frame,
            "frames": sink.written,
            "damaged": source.damaged,
            "seconds": round(time.monotonic() - started_s, 3),
            "mean_shares": {name: round(share, 6) for name, share in shares.items()},
            "notices": sink.notice.splitlines(),
            "machine": socket.gethostname(),
            **self._backend.facts(),
        }

    def _open_tables(self, job: Job, folder: Path, regions: Regions) -> list[Sink]:
        options, number, path = self._options, job.segment.number, job.video.path
        sinks: list[Sink] = []
        if "shares" in options.write:
            sinks.append(ShareTableSink(folder / "shares.parquet", self._spec, path, number))
        if "masks" in options.write and options.mask_format == "rle":
            sinks.append(MaskTableSink(folder / "masks.parquet", self._spec, path, number))
        if "events" in options.write:
            rules = parse_rules(options.events)
            sinks.append(ValueSink(folder / VALUES, rules, self._spec, regions, path, number))
        if "keyframes" in options.write:
            sinks.append(KeyframeSink(folder, job.name, self._spec, options.alpha, path, number))
        return sinks

    def _open_files(self, folder: Path, fps_hint: Callable[[], float | None]) -> list[Sink]:
        options = self._options
        masks = _MASK_FILES.get(options.mask_format) if "masks" in options.write else None
        return open_sinks(
            self._spec,
            outputs=[str(folder / "overlay.mp4")] if "overlay" in options.write else [],
            fps_hint=fps_hint,
            masks=folder / masks if masks else None,
            polygons=folder / "polygons.geojson" if "polygons" in options.write else None,
        )


class _SegmentSink(Sink):
    """Passes on the frames that belong to the segment, with their position in the video, and drops those before it."""

    kind = "segment"

    def __init__(self, sinks: Sequence[Sink], segment: Segment, classes: int) -> None:
        self._sinks, self._start_s = sinks, segment.start_s
        self._shift = segment.first_frame - segment.lead_frames
        self._table = next((sink for sink in sinks if isinstance(sink, ShareTableSink)), None)
        self._shares = np.zeros(classes)
        """Their sum, unless the table has it: they are 1 % of the work."""
        self.name = f"segment {segment.number}"
        self.needs_rendered = any(sink.needs_rendered for sink in sinks)

    @property
    def mean_shares(self) -> list[float]:
        """The mean share of each class over all frames."""
        totals = self._shares if self._table is None else self._table.total
        return [float(total) / max(1, self.written) for total in totals]

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return "\n".join(filter(None, (sink.notice for sink in self._sinks)))

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """See ``Sink``."""
        if frame.pts_s < self._start_s - _SAME_S:
            return
        own = replace(frame, index=frame.index + self._shift)
        for sink in self._sinks:
            sink.write(own, labels, rendered)
        if self._table is None:
            self._shares += class_shares(labels, len(self._shares))
        self.written += 1

    def close(self) -> None:
        """See ``Sink``."""
        with ExitStack() as stack:  # every callback runs, even if one of them fails
            for sink in self._sinks:
                stack.callback(sink.close)
