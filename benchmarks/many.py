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
from rtseg.pipeline.options import PropagationOptions
from rtseg.synthetic.street import Street

DEAD = "rtsp://127.0.0.1:9/live"
"""Nobody listens there."""
_WARMUP_S = 4.0


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


def measure(urls: Sequence[str], seconds: float, propagate: str) -> dict[str, Any]:
    """The rate of each source over ``seconds`` after a warm-up, the age of its images, and the time of the CPUs."""
    with ManyStreams(cameras_of(urls, propagate)) as many:
        many.wait(_WARMUP_S)
        before = {each.name: each.status.frames_written for each in many.status()}
        began_s, cpu_s = time.monotonic(), sum(os.times()[:2])
        many.wait(seconds)
        spent_s = time.monotonic() - began_s
        cpu_s = sum(os.times()[:2]) - cpu_s
        rates = {
            each.name: round((each.status.frames_written - before[each.name]) / spent_s, 2) for each in many.status()
        }
        many.stop()
        many.wait(10)
    report = many.report()
    return {
        "fps": rates,
        "latency_p95_ms": {name: each.get("latency_ms", {}).get("p95") for name, each in report["sources"].items()},
        "reconnects": {name: each.get("reconnects") for name, each in report["sources"].items()},
        "cpus": round(cpu_s / spent_s, 2),
        "model_images_per_s": round(sum(each["images"] for each in report["models"]) / report["wall_s"], 1),
    }


@contextmanager
def stalling(server: RtspProcess) -> Iterator[None]:
    """Stop ``server`` for 3 of every 6 seconds meanwhile."""
    end = Event()

    def work() -> None:
        while not end.wait(3):
            server.stop()
            end.wait(3)
            server.resume()

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def measure_isolation(clip: Path, seconds: float, rounds: int, propagate: str) -> dict[str, Any]:
    """Two good sources alone and beside a dead and a stalling one, in turns."""
    alone, beside = [], []
    with RtspProcess(clip, "--fps", "15") as good, RtspProcess(clip, "--fps", "15") as bad:
        for number in range(rounds):
            alone.append(measure([good.url] * 2, seconds, propagate))
            with stalling(bad):
                beside.append(measure([good.url, good.url, bad.url, DEAD], seconds, propagate))
            print(f"{propagate}, round {number + 1}: {alone[-1]['fps']} {beside[-1]['fps']}", flush=True)
    kept = [
        sum(two["fps"][name] for name in ("camera-0", "camera-1")) / sum(one["fps"].values())
        for one, two in zip(alone, beside, strict=True)
    ]
    return {"kept": [round(each, 3) for each in kept], "alone": alone, "beside": beside}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cameras", type=int, default=16)
    options = parser.parse_args()
    facts: dict[str, Any] = {"versions": versions()}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_street(Path(folder) / "street.h264", 150, (360, 640))
        if options.cameras:
            with RtspProcess(clip, "--fps", "5") as server:
                facts["cameras"] = measure([server.url] * options.cameras, options.seconds, "auto")
            print(facts["cameras"], flush=True)
        for propagate in ("auto", "off") if options.rounds else ():
            facts[f"isolation, propagate {propagate}"] = measure_isolation(
                clip, options.seconds, options.rounds, propagate
            )
    print(f"wrote {save(RESULTS / 'many.json', facts)}")


if __name__ == "__main__":
    main()
