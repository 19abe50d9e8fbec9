"""Measure how old the images of a live stream are, and how soon they are back after its server was away.

    python benchmarks/live.py [--seconds 60] [--rounds 20]
    sudo unshare -n python benchmarks/live.py --seconds 0 --rounds 0 --network 20 --delay-ms 50 --loss 2 --clip CLIP
    python benchmarks/live.py --seconds 300 --rounds 0 --clip CLIP --model deeplabv3-mobilenet-camvid --propagate auto

Starts ``tests/helpers/rtsp_server.py`` on loopback. Its frames bear their number, and so the time at which they were
due, so that the age that rtseg reports can be compared with the true one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, ROOT, save, versions
from _slow_network import PEER, SlowNetwork

sys.path.insert(0, str(ROOT / "tests"))

from helpers.rtsp_process import FPS, RtspProcess, read_number, write_numbered_clip

from rtseg.backends import open_backend
from rtseg.frame import Frame, Image, Labels
from rtseg.pipeline.options import PropagationOptions
from rtseg.pipeline.runner import Pipeline
from rtseg.sinks.base import Sink
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.visualize.overlay import Overlay, OverlayOptions
from rtseg.weights import DEFAULT_MODEL, find_model

FRAMES = 900
MOST_S = 60.0
"""Longest wait for frames after an interruption, in seconds; a longer one fails the benchmark."""


class AgeSink(Sink):
    """Notes the true and the reported age of every frame, in seconds."""

    kind, name, needs_rendered = "age", "ages", True

    def __init__(self, server: RtspProcess) -> None:
        self.rows: list[tuple[float, float, float, int]] = []
        self._server = server

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Note the ages of ``frame``."""
        now_s = time.monotonic()
        true_s = self._server.true_age_s(frame.image, FRAMES)
        self.rows.append((now_s, true_s, now_s - frame.captured_s, read_number(frame.image)))

    def close(self) -> None:
        """Nothing is open."""


def measure_age(
    clip: Path, seconds: float, backend: str, model_name: str, propagate: str, fps: float
) -> dict[str, Any]:
    """The age of the images at the end of the pipeline, for each half of the run.

    The bound is two model times and one frame; the model time is the median, or the 95th percentile.
    """
    overlay, propagation = OverlayOptions(), PropagationOptions(propagate)
    with RtspProcess(clip, fps=fps) as server:
        source = open_source(server.url, SourceOptions(duration_s=seconds))
        sink = AgeSink(server)
        with (
            open_backend(backend, find_model(model_name), hint="latency") as model,
            Pipeline(source, model, [sink], Overlay(model.spec, overlay), propagation=propagation) as pipeline,
        ):
            report = pipeline.report(pipeline.run())
        rows = np.array(sink.rows)
        middle_s = rows[[0, -1], 0].mean()
        halves = {"first half": rows[rows[:, 0] < middle_s], "second half": rows[rows[:, 0] >= middle_s]}
        steps = np.diff(rows[:, 3])
        infer = report.stages["infer"]
        bounds_s = {name: 2e-3 * infer[f"{name}_ms"] + 1 / fps for name in ("p50", "p95")}
        return {
            "seconds": seconds,
            "model": model_name,
            "propagate": propagate,
            "source_fps": fps,
            "fps": report.fps,
            "mbit_per_s": round(8e-6 * clip.stat().st_size / (FRAMES / fps), 1),
            "frames_shown": len(rows),
            "frames_dropped": report.frames_dropped,
            "steps_backwards": int(((steps < 0) & (steps > -FRAMES / 2)).sum()),
            "stages": report.stages,
            "labels": report.propagation,
            "bound_ms": {name: round(1e3 * bound_s, 1) for name, bound_s in bounds_s.items()},
            "percent_over_bound": {
                name: round(100 * float((rows[:, 1] > bound_s).mean()), 2) for name, bound_s in bounds_s.items()
            },
            "ages": {name: _percentiles(part) for name, part in {"all": rows, **halves}.items()},
        }


def _percentiles(rows: np.ndarray) -> dict[str, float]:
    ages = {"true": rows[:, 1], "reported": rows[:, 2]}
    return {
        f"{kind}_p{percent}_ms": round(1e3 * float(np.percentile(values, percent)), 1)
        for kind, values in ages.items()
        for percent in (50, 95, 99, 100)
    }


def endless(clip: Path) -> Iterator[Image]:
    """The images of a video file, again and again."""
    while True:
        yield from (frame.image for frame in open_source(str(clip), SourceOptions()))


class Reader:
    """Reads a source on a thread and knows the last frame."""

    def __init__(self, url: str) -> None:
        self.source = open_source(url, SourceOptions())
        self.last: Frame | None = None
        self.shown_s = 0.0
        self.wrong_order = 0
        self._thread = threading.Thread(target=self._read, name="reader")
        self._thread.start()

    def _read(self) -> None:
        for frame in self.source:
            self.wrong_order += self.last is not None and frame.pts_s < self.last.pts_s
            self.shown_s, self.last = time.monotonic(), frame

    def wait_for_capture(self, after_s: float) -> float:
        """How long after ``after_s`` the first frame that was captured after it came, in seconds."""
        while self.last is None or self.last.captured_s < after_s:
            if time.monotonic() - after_s > MOST_S:
                raise SystemExit(f"no frame within {MOST_S:g} s: {self.source.state}")
            time.sleep(0.005)
        return self.shown_s - after_s

    def stop(self) -> float:
        """How long it takes to end, in seconds."""
        began_s = time.monotonic()
        self.source.stop()
        self._thread.join()
        return time.monotonic() - began_s


def measure_returns(clip: Path, other: Path, rounds: int) -> dict[str, Any]:
    """Kill and restart, or stop and resume, a server in turns; how long until new frames come."""
    returns: dict[str, list[float]] = {"killed and restarted": [], "stopped and resumed": []}
    server = RtspProcess(clip)
    reader = Reader(server.url)
    reader.wait_for_capture(time.monotonic())
    before = _resources()
    random = np.random.default_rng(1)
    for number in range(rounds):
        away_s = float(random.uniform(0.5, 6))
        if number % 2:
            server.stop()
            time.sleep(away_s)
            server.resume()
            back_s, kind = time.monotonic(), "stopped and resumed"
        else:
            with server:
                server.kill()
            time.sleep(away_s)
            server = RtspProcess(other if number % 4 else clip, port=server.port)
            back_s, kind = time.monotonic(), "killed and restarted"
        returns[kind].append(reader.wait_for_capture(back_s))
        print(f"{number + 1}: away {away_s:.1f} s, {kind}: frames after {returns[kind][-1]:.2f} s", flush=True)
        time.sleep(1)
    after = _resources()
    server.stop()
    time.sleep(1)
    exit_s = reader.stop()
    with server:
        server.kill()
    return {
        "rounds": rounds,
        "seconds_until_frames": {
            kind: {
                "median": round(float(np.median(times)), 2),
                "p95": round(float(np.percentile(times, 95)), 2),
                "max": round(max(times), 2),
            }
            for kind, times in returns.items()
            if times
        },
        "frames_out_of_order": reader.wrong_order,
        "stop_in_a_blocked_read_s": round(exit_s, 3),
        "before": before,
        "after": after,
    }


def measure_network(clip: Path, rounds: int, delay_ms: float, loss_percent: float) -> dict[str, Any]:
    """Cut a network off for 1 to 5 s, with delay and loss otherwise; how long until new frames come.

    Run it as root in a network namespace of its own: see ``main``.
    """
    times: list[float] = []
    random = np.random.default_rng(1)
    with (
        SlowNetwork(delay_ms, delay_ms / 5, loss_percent) as network,
        RtspProcess(clip, "--host", "0.0.0.0") as server,
    ):
        reader = Reader(f"rtsp://{PEER}:{server.port}/live")
        reader.wait_for_capture(time.monotonic())
        time.sleep(2)  # the first cut comes to a stream that flows
        for number in range(rounds):
            away_s = float(random.uniform(1, 5))
            network.tell("cut")
            time.sleep(away_s)
            network.tell("join")
            times.append(reader.wait_for_capture(time.monotonic()))
            print(f"{number + 1}: cut off {away_s:.1f} s: frames after {times[-1]:.2f} s", flush=True)
            time.sleep(1)
        reader.stop()
    return {
        "rounds": rounds,
        "mbit_per_s": round(8e-6 * clip.stat().st_size / (FRAMES / FPS), 2),
        "round_trip_ms": 2 * delay_ms,
        "loss_percent": loss_percent,
        "median": round(float(np.median(times)), 2),
        "p95": round(float(np.percentile(times, 95)), 2),
        "max": round(max(times), 2),
        "all": [round(each, 2) for each in times],
        "frames_out_of_order": reader.wrong_order,
        "source": reader.source.facts(),
    }


def _resources() -> dict[str, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fps", type=float, default=FPS, help="of the source, for the age of its images")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--network", type=int, default=0, help="rounds of a network that is cut off; see above")
    parser.add_argument("--loss", type=float, default=0, help="percent of the packets that this network loses")
    parser.add_argument("--delay-ms", type=float, default=0, help="of a packet in this network, varying by a fifth")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--propagate", default="off")
    parser.add_argument("--clip", type=Path, help="a video of at least one second, instead of noise")
    parser.add_argument("--output", type=Path, default=RESULTS / "live.json")
    options = parser.parse_args()
    facts: dict[str, Any] = {"versions": versions()}
    with tempfile.TemporaryDirectory() as folder:
        images = endless(options.clip) if options.clip else None
        clip = write_numbered_clip(Path(folder) / "a.h264", FRAMES, (360, 640), images=images)
        other = write_numbered_clip(Path(folder) / "b.h264", 150, (240, 320))
        if options.seconds:
            age = (options.seconds, options.backend, options.model, options.propagate, options.fps)
            facts["age"] = measure_age(clip, *age)
            print(facts["age"], flush=True)
        if options.rounds:
            facts["returns"] = measure_returns(clip, other, options.rounds)
            print(facts["returns"])
        if options.network:
            # Small: with so much loss and delay, TCP gets through less than 1 Mbit/s.
            small = write_numbered_clip(Path(folder) / "c.h264", FRAMES, (180, 320), images=images)
            facts["network"] = measure_network(small, options.network, options.delay_ms, options.loss)
            print(facts["network"])
    print(f"wrote {save(options.output, facts)}")


if __name__ == "__main__":
    main()
