from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.doubles import wide_spec
from helpers.web_receiver import WAIT_S, receiver

from rtseg.errors import SinkError
from rtseg.events.event_file import EventFile
from rtseg.events.outbox import Outbox
from rtseg.events.rule import parse_rules
from rtseg.events.watch import EventWatch
from rtseg.events.webhook import Webhook
from rtseg.frame import Frame
from rtseg.regions.masks import Regions
from rtseg.sinks.events import EventsSink


def watch() -> EventWatch:
    rules = parse_rules(["x: class 1 > 10%"])
    return EventWatch(rules, wide_spec(), Regions(), source="cam", snapshot=lambda frame, labels, region: b"jpeg")


def write(sink: EventsSink, *classes: int) -> None:
    for number, class_id in enumerate(classes):
        frame = Frame(np.zeros((10, 20, 3), np.uint8), number, number / 10, time.monotonic())
        sink.write(frame, np.full((10, 20), class_id, np.uint8), None)


def test_events_become_lines_with_a_snapshot_beside_the_file(tmp_path: Path) -> None:
    sink = EventsSink(watch(), [EventFile(tmp_path / "ev.jsonl")])
    write(sink, 1, 1, *[0] * 8)
    sink.close()
    sink.close()
    begin, end = map(json.loads, (tmp_path / "ev.jsonl").read_text().splitlines())
    assert (begin["kind"], end["kind"], begin["id"]) == ("start", "end", end["id"])
    assert (tmp_path / begin["snapshot"]).read_bytes() == b"jpeg"
    assert "snapshot" not in end
    assert sink.fired == {"x": 1}
    assert sink.facts() == {"events": {"x": 1}}
    assert sink.notice.splitlines()[0] == f"wrote events {tmp_path / 'ev.jsonl'}, 2 lines"
    assert [line.split(" ", 2)[::2] for line in sink.notice.splitlines()[1:]] == [
        ["cam:", "x: start (100 %)"],
        ["cam:", "x: end after 0.2 s"],
    ]


def test_the_last_events_keep_their_numbers() -> None:
    sink = EventsSink(watch())
    write(sink, *12 * [1, 1, *[0] * 8])
    numbers = [number for number, _ in sink.recent]
    assert numbers == list(range(4, 24))
    assert [event.kind for _, event in sink.recent] == 10 * ["start", "end"]


def test_a_run_without_an_event_leaves_an_empty_file(tmp_path: Path) -> None:
    sink = EventsSink(watch(), [EventFile(tmp_path / "ev.jsonl")])
    write(sink, 0)
    sink.close()
    assert (tmp_path / "ev.jsonl").read_bytes() == b""


def test_a_file_that_fails_does_not_end_a_webhook(tmp_path: Path) -> None:
    with receiver() as server:
        file = EventFile(tmp_path / "ev.jsonl")
        sink = EventsSink(watch(), [file], [Outbox(Webhook(f"{server.url}hook"))])
        (tmp_path / "ev-snapshots").write_text("a file where the folder should be")
        write(sink, 1)
        server.await_requests(1)
        with pytest.raises(SinkError, match="ended"):
            sink.close()
        server.await_requests(2)


def test_a_file_that_fails_alone_ends_the_sink(tmp_path: Path) -> None:
    sink = EventsSink(watch(), [EventFile(tmp_path / "ev.jsonl")])
    (tmp_path / "ev-snapshots").write_text("a file where the folder should be")
    with pytest.raises(SinkError, match="ended"):
        write(sink, 1)
    sink.close()


def test_closing_sends_what_is_left_to_a_webhook() -> None:
    with receiver() as server:
        sink = EventsSink(watch(), (), [Outbox(Webhook(server.url))])
        write(sink, 1)
        sink.close()
        server.await_requests(2)
    assert [body["kind"] for _, _, body in server.requests] == ["start", "end"]
    assert sink.facts()["events_sent"] == {sink.name.removeprefix("events to "): {"sent": 2, "dropped": 0}}


def test_a_webhook_that_does_not_answer_delays_neither_frames_nor_the_end() -> None:
    from threading import Event as Flag

    gate = Flag()
    with receiver() as server:
        server.before_answer = lambda: gate.wait(WAIT_S)
        sink = EventsSink(watch(), (), [Outbox(Webhook(server.url))])
        write(sink, 1, *[0] * 50)
        server.await_requests(1)
        assert sink.written == 51
        sink.close()
        gate.set()
    assert "2 events were not sent before the end" in sink.notice
