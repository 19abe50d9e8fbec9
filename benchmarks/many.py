"""Measure whether sources with one model disturb each other, and how many cameras one process holds.

    python benchmarks/many.py [--seconds 20] [--rounds 2] [--cameras 16]

Starts ``tests/helpers/rtsp_server.py`` on loopback, with a drawn street.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from _common import RESULTS, ROOT, save, versions

sys.path.insert(0, str(ROOT / "tests"))

from helpers.rtsp_process import RtspProcess, write_numbered_clip

from rtseg.app.cameras import Camera
from rtseg.app.many_streams import ManyStreams
from rtseg.app.options import StreamOptions
from rtseg.frame import Frame, Image, Labels
from rtseg.pipeline.options import PropagationOptions
from rtseg.sinks.base import Sink
from rtseg.synthetic.street import Street

DEAD = "rtsp://127.0.0.1:9/live"
"""Nobody listens there."""
_WARMUP_S = 4.0
_SETTLE_S = 1.0
"""After a change, until frames that were on their way have come out, and a source that is back delivers."""

Interval = tuple[float, float]
"""Two times of ``time.monotonic()``."""


class TimesSink(Sink):
    """Notes when each frame of a source came out."""

    kind, name, needs_rendered = "times", "times", False

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Note the time."""
        self.times.append(time.monotonic())

    def close(self) -> None:
        """Nothing is open."""

    def fps(self, intervals: Sequence[Interval]) -> float:
        """Frames per second in ``intervals``."""
        frames = sum(first <= each < last for each in self.times for first, last in intervals)
        spent_s = sum(last - first for first, last in intervals)
        return round(frames / spent_s, 2) if spent_s else 0.0


def write_street(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Write a clip of a drawn street for ``rtsp_server.py``."""
    street = Street((size[0], size[1]))

    def images() -> Iterator[Any]:
        number = 0
        while True:
            yield street.render(number / 30)[0]
            number += 1

    return write_numbered_clip(path, frames, size, images=images())


def cameras_of(urls: Sequence[str], propagate: str) -> list[Camera]:
    """A camera for each URL, whose results are counted only."""
    options = StreamOptions(output=("null",), show=False, propagation=PropagationOptions(propagate))
    return [
        Camera(
            f"camera-{number}", StreamOptions(url, output=options.output, show=False, propagation=options.propagation)
        )
        for number, url in enumerate(urls)
    ]


def measure(urls: Sequence[str], seconds: float, propagate: str, away: Sequence[Interval] = ()) -> dict[str, Any]:
    """The rate of each source over ``seconds`` after a warm-up, the age of its images, and the time of the CPUs.

    Args:
        urls: of the sources.
        seconds: to measure.
        propagate: see ``PropagationOptions``.
        away: when one of the sources was stopped; read at the end. The rates are also told apart by it.
    """
    sinks: dict[str, TimesSink] = {}

    def add_sink(camera: Camera) -> list[Sink]:
        return [sinks.setdefault(camera.name, TimesSink())]

    with ManyStreams(cameras_of(urls, propagate), more_sinks=add_sink) as many:
        many.wait(_WARMUP_S)
        began_s, cpu_s = time.monotonic(), sum(os.times()[:2])
        many.wait(seconds)
        ended_s = time.monotonic()
        cpu_s = sum(os.times()[:2]) - cpu_s
        many.stop()
        many.wait(10)
    report = many.report()
    facts = {
        "fps": {name: sink.fps([(began_s, ended_s)]) for name, sink in sinks.items()},
        "latency_p95_ms": {name: each.get("latency_ms", {}).get("p95") for name, each in report["sources"].items()},
        "reconnects": {name: each.get("reconnects") for name, each in report["sources"].items()},
        "cpus": round(cpu_s / (ended_s - began_s), 2),
        "model_images_per_s": round(sum(each["images"] for each in report["models"]) / report["wall_s"], 1),
    }
    if away:
        gone, there = _phases(away, began_s, ended_s)
        facts["fps_while_away"] = {name: sink.fps(gone) for name, sink in sinks.items()}
        facts["fps_while_there"] = {name: sink.fps(there) for name, sink in sinks.items()}
    return facts


def _phases(away: Sequence[Interval], began_s: float, ended_s: float) -> tuple[list[Interval], list[Interval]]:
    """The times between ``began_s`` and ``ended_s`` at which a source was away and there, without the changes."""
    gone = [*away, (float("inf"), float("inf"))]
    there = [(before[1], after[0]) for before, after in zip([(0.0, 0.0), *away], gone, strict=True)]
    clipped = (
        [(max(first + _SETTLE_S, began_s), min(last, ended_s)) for first, last in intervals]
        for intervals in (away, there)
    )
    first, second = ([each for each in intervals if each[0] < each[1]] for intervals in clipped)
    return first, second


@contextmanager
def stalling(server: RtspProcess) -> Iterator[list[Interval]]:
    """Stop ``server`` for 3 of every 6 seconds meanwhile; the list has the times at which it was stopped."""
    end = Event()
    away: list[Interval] = []

    def work() -> None:
        while not end.wait(3):
            server.stop()
            away.append((time.monotonic(), float("inf")))
            end.wait(3)
            server.resume()
            away[-1] = away[-1][0], time.monotonic()

    thread = Thread(target=work)
    thread.start()
    try:
        yield away
    finally:
        end.set()
        thread.join()


def measure_isolation(clip: Path, seconds: float, rounds: int, propagate: str, fps: float) -> dict[str, Any]:
    """Two good sources alone and beside a dead and a stalling one, in turns."""
    alone, beside = [], []
    with RtspProcess(clip, fps=fps) as good, RtspProcess(clip, fps=fps) as bad:
        for number in range(rounds):
            alone.append(measure([good.url] * 2, seconds, propagate))
            bad.resume()
            with stalling(bad) as away:
                beside.append(measure([good.url, good.url, bad.url, DEAD], seconds, propagate, away))
            print(f"{propagate}, round {number + 1}: {alone[-1]} {beside[-1]}", flush=True)

    def kept(key: str, names: Sequence[str]) -> list[float]:
        return [
            round(sum(two[key][name] for name in names) / sum(one["fps"].values()), 3)
            for one, two in zip(alone, beside, strict=True)
        ]

    good_ones, all_of_them = ("camera-0", "camera-1"), ("camera-0", "camera-1", "camera-2")
    return {
        "fps": fps,
        "kept": kept("fps", good_ones),
        "kept_while_away": kept("fps_while_away", good_ones),
        "kept_while_there": kept("fps_while_there", good_ones),
        "all_of_them": kept("fps", all_of_them),
        "alone": alone,
        "beside": beside,
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--fps", type=float, default=15.0, help="of the good and the stalling source")
    parser.add_argument("--propagate", nargs="*", default=["auto", "off"], help="for those")
    parser.add_argument("--output", type=Path, default=RESULTS / "many.json")
    options = parser.parse_args()
    facts: dict[str, Any] = {"versions": versions()}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_street(Path(folder) / "street.h264", 150, (360, 640))
        if options.cameras:
            with RtspProcess(clip, fps=5) as server:
                facts["cameras"] = measure([server.url] * options.cameras, options.seconds, "auto")
            print(facts["cameras"], flush=True)
        for propagate in options.propagate if options.rounds else ():
            facts[f"isolation, propagate {propagate}"] = measure_isolation(
                clip, options.seconds, options.rounds, propagate, options.fps
            )
    print(f"wrote {save(options.output, facts)}")


if __name__ == "__main__":
    main()
