"""Compare the processes of `rtseg batch`, and actors of Ray, with one stream that uses all cores.

    python benchmarks/batch.py CLIP [--segments 200] [--rounds 1]

One round measures, in turn: `rtseg stream` over the clip again and again, with half as many frames, one process on one
core over an eighth of the segments, one process for each core over all of them, and Ray with as many CPUs. Rates begin
when each process has done its first segment. Rounds are added to the results of the same commit, so that each can be a
short run of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import RESULTS, ROOT, commit, save, versions

from rtseg.batch.divide import Division, divide_video

RESULT = RESULTS / "batch.json"
MODEL = ["--model", "icnet-camvid", "--size", "192x320"]
WAYS = ("stream", "one_core", "processes", "ray")
VARIABLES = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def run(*arguments: str, cores: str = "") -> float:
    """Run rtseg, on ``cores`` if given; return its wall time in seconds."""
    pinned = ["taskset", "-c", cores] if cores else []
    started_s = time.monotonic()
    subprocess.run(
        [*pinned, sys.executable, "-m", "rtseg", *arguments, "--quiet"], check=True, env={**os.environ, **VARIABLES}
    )
    return time.monotonic() - started_s


def rate(output: Path, processes: int) -> dict[str, Any]:
    """Frames per second from the first segment of each process on."""
    done = [(path.stat().st_mtime, json.loads(path.read_text())["frames"]) for path in output.rglob("done.json")]
    done.sort()
    start_s = done[processes - 1][0]
    frames = sum(count for _, count in done[processes:])
    return {"segments": len(done), "fps": round(frames / (done[-1][0] - start_s), 2)}


def digest(output: Path) -> str:
    """Of all results but ``done.json``, which holds times."""
    files = sorted(path for path in (output / "segments").rglob("*") if path.is_file() and path.name != "done.json")
    every = hashlib.sha256()
    for path in files:
        every.update(path.relative_to(output).as_posix().encode() + b"\0" + path.read_bytes())
    return every.hexdigest()


def measure_stream(folder: Path, clip: Path, frames: int) -> dict[str, Any]:
    """One stream that uses all cores."""
    report = folder / "stream.json"
    part = ["--loop", "--max-frames", str(frames), "--stats", str(folder / "s.csv")]
    wall_s = run("stream", str(clip), *MODEL, *part, "--no-show", "--report", str(report), "--overwrite")
    return {"fps": json.loads(report.read_text())["fps"], "wall_s": round(wall_s, 1)}


def measure_batch(folder: Path, library: Path, way: str) -> dict[str, Any]:
    """A run of ``rtseg batch``."""
    cores = sorted(os.sched_getaffinity(0))
    videos = sorted(map(str, library.iterdir()))
    if way == "one_core":
        videos = videos[: max(1, len(videos) // 8)]
    more = {"one_core": ["--workers", "1"], "processes": [], "ray": ["--ray", "auto"]}[way]
    output = folder / way
    wall_s = run(
        "batch", *videos, *MODEL, "--segment", "1s", "--write", "shares", "--output", str(output), *more,
        cores=str(cores[-1]) if way == "one_core" else "",
    )  # fmt: skip
    facts = rate(output, 1 if way == "one_core" else len(cores))
    return facts | {"wall_s": round(wall_s, 1), "files": digest(output)}


def summary(rounds: list[dict[str, Any]], cores: int) -> dict[str, Any]:
    """Medians over the rounds, what one way reaches of another, and whether the files of two ways are equal."""
    found = {way: [each[way] for each in rounds if way in each] for way in WAYS}
    fps = {way: statistics.median(each["fps"] for each in runs) for way, runs in found.items() if runs}
    pairs = [("processes", "stream", 1), ("processes", "one_core", cores), ("ray", "processes", 1)]
    ratios = {f"{way}_of_{of}": fps[way] / (count * fps[of]) for way, of, count in pairs if way in fps and of in fps}
    files = {each["files"] for way in ("processes", "ray") for each in found[way]}
    same = {"same_files": len(files) == 1} if "ray" in fps and "processes" in fps else {}
    return {"fps": fps, **{name: round(value, 3) for name, value in ratios.items()}, **same}


def main() -> None:
    """Measure, add to the results, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default=",".join(WAYS), help="which of them this run measures")
    options = parser.parse_args()
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    rounds: list[dict[str, Any]] = before.get("rounds", []) if before.get("commit") == commit() else []
    video = divide_video(str(options.clip), Division(1.0))
    copies = -(-options.segments // len(video.segments))
    frames = copies * sum(segment.frames or 0 for segment in video.segments)
    facts = {"clip": options.clip.name, "segments": copies * len(video.segments), "frames": frames}
    with tempfile.TemporaryDirectory(prefix="rtseg-batch-") as name:
        folder = Path(name)
        library = folder / "library"
        library.mkdir()
        for number in range(copies):
            shutil.copy(options.clip, library / f"{number:03d}.mp4")
        for _ in range(options.rounds):
            rounds.append({})
            for way in options.ways.split(","):
                if way == "stream":
                    rounds[-1][way] = measure_stream(folder, options.clip, frames // 2)
                else:
                    rounds[-1][way] = measure_batch(folder, library, way)
                    shutil.rmtree(folder / way)
                print(way, rounds[-1][way], flush=True)
                write(facts, rounds)


def write(facts: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    """Save what is known so far, as a run may be cut off."""
    facts = facts | {
        "settings": [*MODEL, "--segment", "1s", "--write", "shares"],
        "summary": summary(rounds, len(os.sched_getaffinity(0))),
        "rounds": rounds,
        "versions": versions("ray", "pyarrow"),
    }
    print(f"{facts['summary']}, wrote {save(RESULT, facts)}", flush=True)


if __name__ == "__main__":
    main()
