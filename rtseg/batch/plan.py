"""Makes or updates the manifest of a run, and tells which segments are still to be done and why."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtseg.batch.divide import Division, divide_video, is_unchanged
from rtseg.batch.events import measured
from rtseg.batch.manifest import VideoEntry, read_manifest, video_from_json, write_manifest
from rtseg.batch.options import BatchOptions
from rtseg.batch.segment_work import Job
from rtseg.batch.store import MAX_TRIES, Store
from rtseg.events.rule import parse_rules
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import file_sha256
from rtseg.system.atomic_files import sink_errors
from rtseg.system.output_lock import OutputInUse

__all__ = ["Plan", "division_for", "identity_of", "make_manifest", "plan_jobs"]

MANIFEST, IDENTITY = "manifest.parquet", "batch.json"
_READERS = 8
"""Threads that demux videos: reading and hashing release the lock of the interpreter."""
_KEY_VERSION = "1"
"""Changes when the same options give other results."""


@dataclass(slots=True)
class Plan:
    """What a run has to do."""

    jobs: list[Job] = field(default_factory=list)
    """Segments to be done, in the order of the manifest."""
    done: list[Job] = field(default_factory=list)
    """Segments whose results are there and match."""
    set_aside: list[tuple[Job, str]] = field(default_factory=list)
    """Segments that failed too often, with the last error."""
    changed: Counter[str] = field(default_factory=Counter)
    """Number of ``jobs`` whose results are there but do not match, by the reason."""


def division_for(options: BatchOptions, model: ModelFile | None) -> Division:
    """How videos are divided, and how much before a segment is decoded so that its labels continue."""
    keeps_state = options.propagation.smooth or (model is not None and model.state_shape is not None)
    return Division(options.segment_s, options.propagation.interval or 1, options.warm_up if keeps_state else 0)


def identity_of(options: BatchOptions, model: Path) -> dict[str, str]:
    """What all results of a run depend on, beside the videos: the model, and the options as one text."""
    values: dict[str, Any] = {
        "backend": options.backend,
        "precision": options.precision,
        "device": options.device,
        "size": options.size,
        "preprocess": options.preprocess,
        "write": sorted(options.write),
        "mask_format": options.mask_format,
        "alpha": options.alpha,
        "propagate": options.propagation.interval,
        "smooth": options.propagation.smooth,
        "mark": options.propagation.mark,
        "segment_s": options.segment_s,
        "warm_up": options.warm_up,
        "version": _KEY_VERSION,
    }
    # Only what is measured: the events are found anew at the end of every run.
    measures = sorted({measured(rule) for rule in parse_rules(options.events)})
    values |= {name: value for name, value in (("roi", options.roi), ("measures", measures)) if value}
    return {"model": file_sha256(model), "options": json.dumps(values)}


def make_manifest(
    store: Store,
    paths: Sequence[str],
    division: Division,
    identity: dict[str, str],
    on_progress: Callable[[int, int], None],
) -> list[VideoEntry]:
    """Return the segments of the videos at ``paths``; write the manifest if it has changed.

    What an earlier manifest says about unchanged videos is kept. An interrupted call goes on where it was.

    Raises:
        OutputInUse: it has to be changed while another run uses it.
        SinkError: it cannot be written.
    """
    known, plan = read_manifest(store.local(MANIFEST))
    if plan != division.plan():
        known = []
    by_path = {video.path: video for video in known}
    journal = _Journal(store.folder / "manifest.part.jsonl", division)
    with sink_errors(store.folder, "choose another --output"):
        by_path |= {video.path: video for video in journal.read()}

    def describe(path: str) -> tuple[VideoEntry, bool]:
        """The entry of a video, and whether it is new."""
        video = by_path.get(path)
        if video is not None and is_unchanged(video):
            return video, False
        return divide_video(path, division), True

    videos = []
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="rtseg-divide")
    try:
        for video, is_new in readers.map(describe, paths):
            if is_new:
                journal.add(video)
            videos.append(video)
            on_progress(len(videos), len(paths))
    finally:
        readers.shutdown(cancel_futures=True)
    if videos != known or store.read_json(IDENTITY) != identity:
        with store.alone() as is_alone:
            if not is_alone:
                raise OutputInUse(
                    f"{store.name} is used by a run with other videos or options: wait for it, "
                    "or choose another --output"
                )
            with store.writing(MANIFEST) as part:
                write_manifest(part, videos, division.plan())
            store.write_json(IDENTITY, identity)
    journal.remove()
    return videos


def plan_jobs(store: Store, options: BatchOptions, videos: Sequence[VideoEntry], identity: dict[str, str]) -> Plan:
    """Compare the segments of this shard with the results that are there."""
    plan = Plan()
    shard, shards = options.shard_of
    pairs = [(video, segment) for video in videos for segment in video.segments]
    for video, segment in pairs[shard::shards]:
        own = VideoEntry(video.path, video.bytes, video.version, video.sha256)
        bounds = json.dumps([segment.start_s, segment.end_s, segment.lead_frames])
        job = Job(own, segment, {"video": video.sha256, "bounds": bounds, **identity})
        facts, failure = store.facts(job.name), store.failure(job.name)
        if facts is not None and facts.get("key") == job.key:
            plan.done.append(job)
        elif failure and failure.get("key") == job.key_digest and failure["tries"] >= MAX_TRIES and not options.retry:
            plan.set_aside.append((job, str(failure["error"])))
        else:
            plan.jobs.append(job)
            if facts is not None:
                plan.changed[_difference(facts.get("key"), job.key)] += 1
            if options.retry:
                store.forget_failure(job.name)
    return plan


def _difference(before: Any, key: dict[str, str]) -> str:
    """The first reason why results do not match, in words."""
    words = {"video": "the video has changed", "model": "the model has changed", "options": "the options have changed"}
    known = before if isinstance(before, dict) else {}
    return next((words[part] for part in words if known.get(part) != key[part]), "the segments have changed")


class _Journal:
    """Keeps the videos of an unfinished manifest: a JSON line each."""

    def __init__(self, path: Path, division: Division) -> None:
        self._path, self._head = path, json.dumps(division.plan())

    def read(self) -> list[VideoEntry]:
        """The videos so far; nothing if they were divided in another way.

        Raises:
            OSError: they cannot be read.
        """
        try:
            head, *lines = self._path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            head, lines = "", []
        if head != self._head or not lines:
            self.remove()
            return []
        *complete, cut_off = lines
        if cut_off:  # else the next video would be written behind it, on the same line
            os.truncate(self._path, self._path.stat().st_size - len(cut_off.encode()))
        return [video_from_json(json.loads(line)) for line in complete]

    def add(self, video: VideoEntry) -> None:
        """Add a video."""
        is_new = not self._path.exists()
        with sink_errors(self._path, "choose another --output"), self._path.open("a", encoding="utf-8") as file:
            file.write((self._head + "\n" if is_new else "") + json.dumps(asdict(video)) + "\n")

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
