"""Errors in every stage and every kind of sink: the run ends, and leaves nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from helpers.doubles import WAIT_S, FakeBackend, FakeSink, FakeSource, wide_spec
from helpers.web_receiver import receiver

from rtseg.errors import BackendError, SinkError, SourceError
from rtseg.events.event_file import EventFile
from rtseg.events.outbox import Outbox
from rtseg.events.rule import parse_rules
from rtseg.events.watch import EventWatch
from rtseg.events.webhook import Webhook
from rtseg.frame import Image
from rtseg.pipeline.options import PropagationOptions
from rtseg.pipeline.runner import Pipeline
from rtseg.preprocess import Prepare
from rtseg.regions import parse_region
from rtseg.regions.masks import Regions
from rtseg.sinks.base import Sink
from rtseg.sinks.events import EventsSink
from rtseg.sinks.masks import MasksSink
from rtseg.sinks.stats import StatsSink
from rtseg.sinks.video import VideoSink
from rtseg.system.part_file import PartFile
from rtseg.visualize.overlay import Overlay

FRAMES = 12
STAGES = ("source", "prepare", "submit", "wait", "render", "region")
SINKS = ("sink", "video", "masks", "stats", "events file", "webhook", "mqtt")
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FailingPrepare(Prepare):
    def __init__(self, error: Exception, at: int) -> None:
        super().__init__(wide_spec())
        self.error, self.left = error, at

    def __call__(self, image: Image) -> Image:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__call__(image)


class FailingOverlay(Overlay):
    def __init__(self, error: Exception, at: int) -> None:
        super().__init__(wide_spec())
        self.error, self.left = error, at

    def draw(self, image: Image, labels: np.ndarray) -> Image:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().draw(image, labels)


class FullDisk:
    """Part files refuse to be written while it is in use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        write = PartFile.write

        def write_or_fail(file: PartFile, data: bytes | memoryview) -> int:
            if self.is_full:
                file.broken = True
                raise DISK_FULL
            return write(file, data)

        monkeypatch.setattr(PartFile, "write", write_or_fail)


@dataclass
class Round:
    """One run with an error in one place, or in two."""

    number: int
    folder: Path
    disk: FullDisk
    url: str
    dead_port: int
    chance: random.Random = field(init=False)
    outcome: BaseException | str = "hangs"

    def __post_init__(self) -> None:
        self.chance = random.Random(self.number)
        self.place = (*STAGES, *SINKS)[self.number % len(STAGES + SINKS)]
        self.at = self.chance.randrange(1, FRAMES - 1)
        self.live = self.chance.random() < 0.3
        self.error = self._make_error(self.place)
        self.later = SinkError("a later error") if self.place in ("source", "prepare", "submit", "wait") else None
        self.folder.mkdir()

    def _make_error(self, place: str) -> Exception:
        if place == "source":
            return SourceError("injected")
        if place in ("submit", "wait"):
            return BackendError("injected")
        return SinkError("injected") if place in SINKS else ZeroDivisionError("injected")

    def sinks(self) -> list[Sink]:
        """The sink that fails, which then is the only one, or one that works."""
        spec, path = wide_spec(), self.folder / "out"
        if self.place == "sink":
            return [FakeSink(fails_at=0 if self.live else self.at, error=self.error)]  # type: ignore[arg-type]
        if self.place == "video":
            return [VideoSink(path.with_suffix(".mp4"))]
        if self.place == "masks":
            return [MasksSink(path, spec)]
        if self.place == "stats":
            return [StatsSink(path.with_suffix(".jsonl"), spec)]
        if self.place in ("events file", "webhook", "mqtt"):
            return [self._events(path)]
        if self.place == "render":
            return [FakeSink(needs_rendered=True)]
        if self.later is not None and not self.live:
            return [FakeSink(fails_at=FRAMES - 1, error=self.later)]
        return [FakeSink()]

    def _events(self, path: Path) -> EventsSink:
        rules = parse_rules(["class 0 >= 0% cooldown 0s"])
        watch = EventWatch(rules, wide_spec(), Regions(), source="fake", snapshot=lambda *_: b"jpeg")
        files = [EventFile(path.with_suffix(".jsonl"))] if self.place == "events file" else []
        boxes = []
        if self.place == "webhook":
            boxes = [Outbox(Webhook(f"{self.url}{self.chance.choice(['ok', 'refused'])}"))]
        if self.place == "mqtt":
            from rtseg.events.mqtt import MqttBroker

            boxes = [Outbox(MqttBroker(f"mqtt://127.0.0.1:{self.dead_port}", "fake", rules))]
        return EventsSink(watch, files, boxes)

    def before_frame(self, number: int) -> None:
        """Break what the sink writes to; the frames themselves go on."""
        if number == (0 if self.place == "events file" else self.at):
            self.disk.is_full = self.place in ("video", "stats", "events file")
            if self.place == "masks":
                (self.folder / "out").rename(self.folder / "elsewhere")

    def run(self) -> None:
        error, place = self.error, self.place
        source = FakeSource(
            self.at if place == "source" else FRAMES,
            live=self.live,
            error=error if place == "source" else None,
            before=self.before_frame,
        )
        propagate = self.chance.choice(["off", "2"])
        batch = 0 if self.live else self.at if propagate == "off" else self.at // 2
        fails_at = (place, batch) if place in ("submit", "wait") else None
        backend = FakeBackend(depth=self.chance.choice([1, 2, 4]), fails_at=fails_at, error=error)
        at = 0 if self.live else self.at
        regions = Regions([parse_region("0,0,999,999")] if place == "region" else [])
        sinks = self.sinks()
        try:
            with Pipeline(
                source,
                backend,
                sinks,
                FailingOverlay(error, at) if place == "render" else Overlay(wide_spec()),
                prepare=FailingPrepare(error, at) if place == "prepare" else None,
                propagation=PropagationOptions(propagate),
                regions=regions,
            ) as running:
                self.outcome = running.run()
        except BaseException as raised:  # noqa: BLE001 - it is what the test looks at
            self.outcome = raised
        finally:
            for sink in sinks:
                self._close(sink)
            self.disk.is_full = False

    def _close(self, sink: Sink) -> None:
        """As a run does: an error of closing counts if there was no other one."""
        try:
            sink.close()
        except SinkError as error:
            if isinstance(self.outcome, str):
                self.outcome = error

    def check(self) -> None:
        """The first error is the one that is reported; a server that is away ends nothing."""
        if self.place in ("webhook", "mqtt"):
            assert self.outcome == "end of source", f"{self.place}: {self.outcome!r}"
        elif self.place == "region":
            assert "reaches to 999,999" in str(self.outcome)
        elif self.place in ("video", "masks", "stats", "events file"):
            assert isinstance(self.outcome, SinkError), f"{self.place}: {self.outcome!r}"
        else:
            assert self.outcome is self.error, f"{self.place} at {self.at}, live {self.live}: {self.outcome!r}"


def own_threads(before: Collection[Thread] = ()) -> list[Thread]:
    """Threads of a run, without those ``before`` it: other tests leave a backend that never answers."""
    threads = (thread for thread in threading.enumerate() if thread.name.startswith(("rtseg", "paho")))
    return [thread for thread in threads if thread not in before]


def count_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def run_rounds(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]) -> None:
    """Run them one after the other, and check each."""
    threads_before = own_threads()
    disk, longest = FullDisk(monkeypatch), Counter[str]()
    # A port that nobody listens on: taken, and not listening.
    with receiver() as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        Round(1, folder / "warm-up", disk, server.url, taken.getsockname()[1]).run()
        before = count_descriptors()
        for number in range(count):
            each = Round(number, folder / str(number), disk, server.url, taken.getsockname()[1])
            if number % 2:
                server.answers = [500]
            thread, began_s = Thread(target=each.run, daemon=True), time.monotonic()
            thread.start()
            thread.join(WAIT_S)
            assert not thread.is_alive(), f"round {number}, an error in {each.place}, does not end"
            longest[each.place] = max(longest[each.place], round(1e3 * (time.monotonic() - began_s)))
            each.check()
            deadline_s = time.monotonic() + WAIT_S
            while own_threads(threads_before) and time.monotonic() < deadline_s:
                time.sleep(0.002)  # threads that nobody joins end soon after
            assert own_threads(threads_before) == [], f"round {number}, an error in {each.place}, leaves threads"
        deadline_s = time.monotonic() + WAIT_S
        while (after := count_descriptors()) > before and time.monotonic() < deadline_s:
            time.sleep(0.05)  # the server closes its side of the last connections
    say(f"{count} rounds, longest in ms: {dict(longest)}; descriptors {before} before, {after} after")
    assert after <= before


def test_an_error_in_any_place_ends_the_run_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_rounds(2 * len(STAGES + SINKS), tmp_path, monkeypatch, lambda line: None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_errors_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_rounds(1000, tmp_path, monkeypatch, print)
