"""Events in a divided video: each segment stores what the rules measure, and the events are found in all of it.

So an event that crosses the border of segments is one event, and other thresholds or times need no new labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rtseg.batch.manifest import load_pyarrow
from rtseg.batch.tables import TableSink
from rtseg.events.event import Event
from rtseg.events.measure import measure
from rtseg.events.rule import Rule
from rtseg.events.trigger import Change, Trigger, event_of
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.regions.masks import Regions
from rtseg.system.atomic_files import sink_errors

__all__ = ["VALUES", "ValueSink", "find_events", "measured", "read_values", "write_event_table"]

VALUES = "values.parquet"

Values = tuple[Sequence[int], Sequence[float], dict[str, Sequence[float | None]]]
"""Of a segment: the number and the time of each frame, and what is measured in each, by ``measured``."""


def measured(rule: Rule) -> str:
    """What a rule measures, in words: the same for rules that differ only in their thresholds and times."""
    size = "" if rule.smallest_px is None else f" of {rule.smallest_px}px"
    region = f" in {rule.region}" if rule.region else ""
    return f"{'+'.join(rule.classes).lower()} {rule.unit}{size}{region}"


class ValueSink(TableSink):
    """Writes one row for each frame: ``source``, ``segment``, ``frame``, ``pts_s``, and a column for each thing that
    the rules measure, null in a frame without labels.

    Args:
        path: the file to write.
        rules: say what to measure.
        spec: of the model.
        regions: of the video.
        source: of the frames.
        segment: its number.
    """

    kind = "events"

    def __init__(
        self, path: Path, rules: Sequence[Rule], spec: ModelSpec, regions: Regions, source: str, segment: int
    ) -> None:
        super().__init__(path, f"values {path}")
        self._measures = {measured(rule): (rule, rule.class_ids(spec.name, spec.classes)) for rule in rules}
        self._regions, self._source, self._segment = regions, source, segment
        self._frames: list[int] = []
        self._times: list[float] = []
        self._values: dict[str, list[float | None]] = {name: [] for name in self._measures}

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """See ``Sink``."""
        masks = self._regions.named(labels.shape)
        for name, (rule, class_ids) in self._measures.items():
            part = masks[rule.region].crop(labels) if rule.region else labels
            self._values[name].append(measure(rule, class_ids, part, labels.size))
        self._frames.append(frame.index)
        self._times.append(frame.pts_s)
        self.written += 1

    def _columns(self, pa: Any) -> dict[str, Any]:
        return {
            "source": pa.array([self._source] * self.written, pa.string()).dictionary_encode(),
            "segment": pa.array([self._segment] * self.written, pa.int32()),
            "frame": pa.array(self._frames, pa.int64()),
            "pts_s": pa.array(self._times, pa.float64()),
        } | {name: pa.array(values, pa.float64()) for name, values in self._values.items()}


def read_values(path: Path) -> Values:
    """What ``ValueSink`` wrote.

    Raises:
        SinkError: it cannot be read.
    """
    _, parquet = load_pyarrow()
    with sink_errors(path):
        columns: dict[str, Any] = parquet.read_table(path).to_pydict()
    frames, times = columns.pop("frame"), columns.pop("pts_s")
    return frames, times, {name: values for name, values in columns.items() if name not in ("source", "segment")}


def find_events(rules: Sequence[Rule], source: str, segments: Iterable[Values | None]) -> Iterator[Event]:
    """The events of one video, as ``rtseg.events.watch.EventWatch`` finds them, without a time of day.

    Args:
        rules: when events begin and end.
        source: name of the video.
        segments: their values in order; None where a segment has none: active events end before it.
    """
    watched = [_Watched(rule, source) for rule in rules]
    for number, values in enumerate(segments):
        if values is None:
            yield from _interrupt_all(watched, f"segment {number} could not be labelled")
            continue
        frames, times, measures = values
        columns = [measures[measured(rule)] for rule in rules]
        for index, pts_s, *row in zip(frames, times, *columns, strict=True):
            for each, value in zip(watched, row, strict=True):
                event = each.update(value, index, pts_s)
                if event is not None:
                    yield event
    yield from _interrupt_all(watched, "the video ended")


def _interrupt_all(watched: Sequence[_Watched], reason: str) -> Iterator[Event]:
    yield from filter(None, (each.interrupt(reason) for each in watched))


class _Watched:
    """A rule through the frames of a video."""

    def __init__(self, rule: Rule, source: str) -> None:
        self._rule, self._source, self._trigger = rule, source, Trigger(rule)
        self._last = 0, 0.0
        self._id = ""

    def update(self, value: float | None, index: int, pts_s: float) -> Event | None:
        self._last = index, pts_s
        change = None if value is None else self._trigger.update(value, pts_s)
        return None if change is None else self._event(change, value, "")

    def interrupt(self, reason: str) -> Event | None:
        change = self._trigger.interrupt()
        return None if change is None else self._event(change, None, reason)

    def _event(self, change: Change, value: float | None, reason: str) -> Event:
        rule = self._rule
        if change.begins:
            names = f"{self._source}\n{rule.name}\n{change.at_s!r}"
            self._id = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:12]
        index, pts_s = self._last
        return event_of(
            rule,
            change,
            source=self._source,
            time="",
            id=self._id,
            index=index,
            pts_s=pts_s,
            value=value,
            reason=reason,
        )


def write_event_table(path: Path, events: Sequence[Event]) -> None:
    """Write one row for each event, as Parquet.

    Columns: ``source``, ``rule``, ``text`` (the rule), ``region``, ``id``, ``frame`` (in which it began, after the time
    of ``for``), ``start_s``, ``end_s``, ``duration_s``, ``peak``, ``unit``, ``reason`` (what ended it if not its rule).

    Raises:
        OSError: it cannot be written.
    """
    pa, parquet = load_pyarrow()
    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        dict.fromkeys(("source", "rule", "text", "region", "id"), text)
        | {"frame": pa.int64()}
        | dict.fromkeys(("start_s", "end_s", "duration_s", "peak"), number)
        | dict.fromkeys(("unit", "reason"), text)
    )
    starts = {(event.source, event.id): event for event in events if event.kind == "start"}
    rows = [
        {name: getattr(end, name) for name in schema.names if hasattr(end, name)}
        | {"frame": start.index, "start_s": start.at_s, "end_s": end.at_s}
        for end in events
        if end.kind == "end"
        for start in (starts[end.source, end.id],)
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)
