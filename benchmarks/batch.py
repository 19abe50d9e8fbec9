"""Compare the processes of `rtseg batch`, and actors of Ray, with one stream that uses all cores.

    python benchmarks/batch.py CLIP [--segments 200] [--rounds 1]

One round measures, in turn: `rtseg stream` over the clip again and again, with half as many frames, one process on one
core over an eighth of the segments, one process for each core over all of them, and Ray with as many CPUs. Rates begin
when each process has done its first segment. Rounds are added to the results of the same commit, so that each can be a short run of its own.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _common import RESULTS, ROOT, commit, save, versions

from rtseg.batch.divide import Division, divide_video

RESULT = RESULTS / "batch.json"
MODEL = ["--model", "icnet-camvid", "--size", "192x320"]
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


def measure_round(folder: Path, library: Path, clip: Path, frames: int) -> dict[str, Any]:
    """One figure for each way, and whether the files are equal."""
    facts: dict[str, Any] = {}
    report = folder / "stream.json"
    part = ["--loop", "--max-frames", str(frames // 2), "--stats", str(folder / "s.csv")]
    run("stream", str(clip), *MODEL, *part, "--no-show", "--report", str(report), "--overwrite")
    facts["stream"] = {"fps": json.loads(report.read_text())["fps"]}
    cores = sorted(os.sched_getaffinity(0))
    videos = sorted(map(str, library.iterdir()))
    eighth = videos[: max(1, len(videos) // 8)]
    common = [*MODEL, "--segment", "1s", "--write", "shares", "--output"]
    ways: dict[str, tuple[list[str], list[str], str, int]] = {
        "one_core": (eighth, ["--workers", "1"], str(cores[-1]), 1),
        "processes": ([str(library)], [], "", len(cores)),
    }
    if find_spec("ray"):
        ways["ray"] = ([str(library)], ["--ray", "auto"], "", len(cores))
    digests = {}
    for name, (inputs, more, pinned, processes) in ways.items():
        output = folder / name
        wall_s = run("batch", *inputs, *common, str(output), *more, cores=pinned)
        facts[name] = rate(output, processes) | {"wall_s": round(wall_s, 1)}
        digests[name] = digest(output)
        shutil.rmtree(output)
    if "ray" in digests:
        facts["same_files"] = digests["processes"] == digests["ray"]
    return facts


def summary(rounds: list[dict[str, Any]], cores: int) -> dict[str, Any]:
    """Medians over the rounds, and what one way reaches of another."""
    names = [name for name in ("stream", "one_core", "processes", "ray") if name in rounds[0]]
    fps = {name: statistics.median(each[name]["fps"] for each in rounds) for name in names}
    ratios = {
        "processes_of_stream": fps["processes"] / fps["stream"],
        "processes_of_one_core": fps["processes"] / (cores * fps["one_core"]),
    }
    if "ray" in fps:
        ratios["ray_of_processes"] = fps["ray"] / fps["processes"]
    return {"fps": fps, **{name: round(value, 3) for name, value in ratios.items()}}


def main() -> None:
    """Measure, add to the results, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    rounds = before.get("rounds", []) if before.get("commit") == commit() else []
    video = divide_video(str(options.clip), Division(1.0))
    copies = -(-options.segments // len(video.segments))
    with tempfile.TemporaryDirectory(prefix="rtseg-batch-") as name:
        folder = Path(name)
        library = folder / "library"
        library.mkdir()
        for number in range(copies):
            shutil.copy(options.clip, library / f"{number:03d}.mp4")
        frames = sum(segment.frames or 0 for segment in video.segments)
        for _ in range(options.rounds):
            rounds.append(measure_round(folder, library, options.clip, copies * frames))
            print(rounds[-1], flush=True)
    cores = len(os.sched_getaffinity(0))
    facts = {
        "clip": options.clip.name,
        "segments": copies * len(video.segments),
        "frames": copies * frames,
        "settings": [*MODEL, "--segment", "1s", "--write", "shares"],
        "summary": summary(rounds, cores),
        "rounds": rounds,
        "versions": versions("ray", "pyarrow"),
    }
    print(facts["summary"])
    print(f"wrote {save(RESULT, facts)}")


if __name__ == "__main__":
    main()
