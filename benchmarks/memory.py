"""Check that memory does not grow in a long run: loop a clip and watch the resident memory of the process.

    python benchmarks/memory.py CLIP [--minutes 10]

Prints and saves the memory after the first minute, at the end, and the maximum after the first minute.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import psutil
from _common import RESULTS, save, versions

from rtseg import SourceOptions, StreamOptions, StreamRun
from rtseg.pipeline.report import Status


def main() -> None:
    """Run, watch the memory, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", default="null", help="null, or a video file to include overlay and encoder")
    options = parser.parse_args()

    process = psutil.Process()
    sizes: list[tuple[float, float]] = []
    run = StreamRun(
        StreamOptions(
            source=str(options.clip),
            part=SourceOptions(loop=True),
            output=(str(options.output),),
            show=False,
            overwrite=True,
        )
    )
    timer = threading.Timer(60 * options.minutes, run.stop)

    def on_progress(status: Status) -> None:
        sizes.append((status.wall_s, process.memory_info().rss / 1e6))

    timer.start()
    started = time.monotonic()
    try:
        report = run.run(on_progress)
    finally:
        timer.cancel()
    settled = [(time_s, size) for time_s, size in sizes if time_s >= min(60.0, 30 * options.minutes)]
    facts = {
        "clip": options.clip.name,
        "output": options.output,
        "minutes": (time.monotonic() - started) / 60,
        "frames": report.frames_written,
        "fps": report.fps,
        "mb_after_first_minute": settled[0][1],
        "mb_at_end": settled[-1][1],
        "mb_largest": max(size for _, size in settled),
        "mb_grown": settled[-1][1] - settled[0][1],
        "versions": versions(),
    }
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"wrote {save(RESULTS / 'memory.json', facts)}")


if __name__ == "__main__":
    main()
