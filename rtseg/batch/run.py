"""One batch run from options to results: what ``rtseg batch`` does, for programs too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtseg.backends import read_spec
from rtseg.batch.events import VALUES, find_events, read_values, write_event_table
from rtseg.batch.find_videos import find_videos
from rtseg.batch.manifest import VideoEntry, load_pyarrow, segment_folder
from rtseg.batch.open_store import open_store
from rtseg.batch.options import BatchOptions
from rtseg.batch.plan import Plan, division_for, identity_of, make_manifest, plan_jobs
from rtseg.batch.pool import WorkerPool, worker_setups
from rtseg.batch.ray_engine import RayPool
from rtseg.batch.segment_work import Job
from rtseg.batch.store import MAX_TRIES, Store
from rtseg.batch.summary import summarize, write_summary
from rtseg.batch.worker import Outcome
from rtseg.errors import RtsegError, SinkError, SourceError
from rtseg.events.event import Event
from rtseg.events.rule import parse_rules
from rtseg.model_file.load import load_model
from rtseg.preprocess import Prepare, override_steps
from rtseg.sinks.join import UnequalVideos, join_videos
from rtseg.system.file_names import encode_text
from rtseg.weights import find_model

__all__ = ["BatchReport", "BatchRun", "Progress"]


@dataclass(slots=True)
class BatchReport:
    """What a run did."""

    done: int = 0
    """Segments of this run."""
    skipped: int = 0
    """Segments whose results were there."""
    frames: int = 0
    """Frames of the segments of this run."""
    seconds: float = 0.0
    """Time of the processes for them, added up."""
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each video that cannot be used."""
    set_aside: list[tuple[Job, str]] = field(default_factory=list)
    """Segments that failed too often, with the last error."""


Progress = Callable[[str, int, int], None]
"""Called with what is counted (``videos`` or ``segments``), how many are done, and how many there are."""


class BatchRun:
    """Finds the videos and makes the manifest; ``run`` then does what is left. Use it as a context manager.

    Raises:
        RtsegError: an option, the model, an input or the output cannot be used.
    """

    def __init__(self, options: BatchOptions, on_progress: Progress = lambda what, done, total: None) -> None:
        load_pyarrow()
        self.options = options
        self.store: Store = open_store(options.output)
        paths = find_videos(options.videos)
        model = find_model(options.model)
        if model.suffix == ".engine":
            self.spec, loaded = read_spec(model), None
        else:
            loaded = load_model(model)
            self.spec = loaded.spec
        Prepare(override_steps(self.spec, options.preprocess))
        for rule in parse_rules(options.events):
            rule.class_ids(self.spec.name, self.spec.classes)
        identity = identity_of(options, model)
        self.store.create()
        self._working = self.store.working()
        with self.store.planning():
            self.videos: list[VideoEntry] = make_manifest(
                self.store,
                paths,
                division_for(options, loaded),
                identity,
                lambda n, total: on_progress("videos", n, total),
            )
            self._working.__enter__()
        self.plan: Plan = plan_jobs(self.store, options, self.videos, identity)
        self._on_progress = on_progress
        self._deaths: Counter[str] = Counter()
        self.backend_facts: dict[str, Any] = {}
        """Of the first process whose model is loaded."""
        self.report = BatchReport(
            skipped=len(self.plan.done),
            unusable=[(video.path, video.error) for video in self.videos if video.error],
            set_aside=list(self.plan.set_aside),
        )

    def __enter__(self) -> BatchRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._working.__exit__(None, None, None)
        with self.store.planning():
            self.store.clean()

    def run(self) -> BatchReport:
        """Do all segments that are left.

        Raises:
            RtsegError: the model cannot be opened, or results cannot be written. What is done stays.
        """
        jobs = self.plan.jobs
        total = len(jobs)
        if not jobs:
            return self.report
        with self._open_pool(total) as pool:
            for job, outcome in pool.run(jobs, self._is_tried_again):
                if outcome.status == "fatal":
                    raise SinkError(outcome.error) if job is not None else RtsegError(outcome.error)
                if job is None:
                    self.backend_facts = self.backend_facts or outcome.facts
                elif outcome.status == "done":
                    self.report.done += 1
                    self.report.frames += int(outcome.facts["frames"])
                    self.report.seconds += float(outcome.facts["seconds"])
                self._on_progress("segments", self.report.done + len(self.report.set_aside), total)
        return self.report

    def _open_pool(self, jobs: int) -> WorkerPool | RayPool:
        if self.options.ray is None:
            return WorkerPool(worker_setups(self.options, jobs))
        return RayPool(self.options, jobs)

    def _is_tried_again(self, job: Job, outcome: Outcome) -> bool:
        """Count a failure, and tell whether the segment is to be tried again.

        The end of a process counts in this run only: somebody may have killed it.
        """
        if outcome.status == "died":
            self._deaths[job.name] += 1
            if self._deaths[job.name] < MAX_TRIES:
                return True
        while self.store.add_failure(job.name, job.key_digest, outcome.error) < MAX_TRIES:
            if outcome.status == "failed":
                return True
        self.store.remove_parts(job.name)
        self.report.set_aside.append((job, outcome.error))
        return False

    def finish(self) -> bool:
        """Join overlays and write ``summary.html`` once all segments of all shards are complete or set aside.

        Returns:
            Whether they are.

        Raises:
            SinkError: a file cannot be written.
        """
        with self.store.planning():
            found = summarize(self.store, self.videos)
            if any(video.done < video.segments and not video.problems for video in found):
                return False
            if "overlay" in self.options.write:
                for video, summary in zip(self.videos, found, strict=True):
                    if video.segments and summary.done == summary.segments:
                        summary.problems += filter(None, [self._join(video)])
            events = list(self._find_events()) if self.options.events else []
            if self.options.events:
                self._write_events(events)
            with self.store.writing("summary.html") as path:
                write_summary(path, found, self.spec, events)
        return True

    def _find_events(self) -> Iterator[Event]:
        rules = parse_rules(self.options.events)
        for video in self.videos:
            names = (segment_folder(video, segment) for segment in video.segments)
            values = (
                read_values(self.store.local(f"{name}/{VALUES}")) if self.store.facts(name) else None for name in names
            )
            yield from find_events(rules, video.path, values)

    def _write_events(self, events: Sequence[Event]) -> None:
        with self.store.writing("events.jsonl") as path:
            lines = (json.dumps(event.to_json(), ensure_ascii=False) + "\n" for event in events)
            path.write_bytes(encode_text("".join(lines)))
        with self.store.writing("events.parquet") as path:
            write_event_table(path, events)

    def _join(self, video: VideoEntry) -> str:
        """Join the overlays of a video, unless that has been done; return why that cannot be."""
        names = [segment_folder(video, segment) for segment in video.segments]
        key = json.dumps([(self.store.facts(name) or {}).get("key") for name in names])
        mark = f"overlays/{video.id}.json"
        if (self.store.read_json(mark) or {}).get("key") == key:
            return ""
        first_s = video.segments[0].start_s
        parts = [
            (self.store.local(f"{name}/overlay.mp4"), segment.start_s - first_s)
            for name, segment in zip(names, video.segments, strict=True)
        ]
        try:
            with self.store.writing(f"overlays/{video.id}.mp4") as path:
                join_videos(parts, path)
        except UnequalVideos as error:
            return str(error)
        self.store.write_json(mark, {"key": key})
        return ""

    def check(self) -> None:
        """Raise an error for videos and segments that could not be done, after all others.

        Raises:
            SourceError: there are some.
        """
        bad = len(self.report.unusable) + len(self.report.set_aside)
        if bad:
            raise SourceError(f"{bad} videos or segments could not be done: the others are complete")
