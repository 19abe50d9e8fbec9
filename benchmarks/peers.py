"""Compare ``rtseg stream`` with other ways to label a video, side by side.

    pip install 'rtseg[train,onnxruntime,peers]'
    python -m venv inference-env && inference-env/bin/pip install inference-cpu openvino
    python benchmarks/peers.py CLIP --python inference=inference-env/bin/python
    python benchmarks/peers.py CLIP --rounds 1 --add       one more round for the published results
    python benchmarks/peers.py --table                     write the page again from the results

Every row reads the same clip, runs the same network at 384x640 and writes a video with an overlay of the classes. Each
runs in a process of its own, in turn, several rounds; figures are medians. The model of the other tools is the bundled
one, exported to ONNX as tutorials do: float32, normalised RGB in, logits of the input's size out.

- fps: frames of the clip / seconds from opening the clip until the written file is closed. The model was loaded before,
  and has run once.
- CPU: seconds of CPU time per frame, over all threads and child processes, in the same period
- memory: peak resident memory of the process, with Python and its libraries, plus that of ffmpeg where that is a child
- lost: found in the file that each row writes of a clip with frames of varying duration, B-frames and audio

OpenCV's wheels cannot write H.264, so those rows write MPEG-4 part 2, which costs less time and more bytes. ``vidgear``
and ``rtseg`` write H.264. Results that are worse than hoped are published too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _common import RESULTS, ROOT, commit, machine, spread
from _peer_clips import compare, contents, write_test_clip
from _peer_rows import ROWS

Facts = dict[str, Any]
PUBLISHED = RESULTS / "peers.json"
PAGE = ROOT / "docs" / "benchmarks" / "peers.md"
MARK = "<!-- tables: made by peers.py from results/peers.json -->"
CHILD = Path(__file__).with_name("_peer_rows.py")
CHILD_TIMEOUT_S = 600.0
VARIANTS = (
    *("rtseg-propagate-2", "rtseg-propagate-3", "rtseg-propagate-4"),
    *("rtseg-int8", "rtseg-int8-propagate-3"),
)
"""``rtseg`` with ``--propagate K``, where the network runs on every K-th frame, and with ``--precision int8``."""


def main() -> None:
    """Measure, print, save, and write the page."""
    options = parse_arguments()
    if options.table:
        publish(json.loads(PUBLISHED.read_text()))
        return
    pythons = dict(each.split("=", 1) for each in options.python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = export_plain(options.model, folder)
        source = contents(options.clip)
        facts: Facts = {
            "machine": machine(),
            "commit": commit(),
            "model": options.model,
            "clip": {"name": options.clip.name, "frames": len(source["times_s"]), "size": source["size"]},
        }
        rows = options.rows or [*ROWS, *VARIANTS]
        before = earlier_results(options.output, facts) if options.add else {}
        facts["losses"] = before.get("losses") or measure_losses(rows, model, folder, pythons)
        facts["rounds"] = before.get("rounds", [])
        for _ in range(options.rounds):
            facts["rounds"].append(measure_round(rows, options.clip, model, folder, pythons))
    facts["rows"] = summarize(facts["rounds"], facts["clip"]["frames"])
    print(tables(facts))
    options.output.write_text(json.dumps({"method": __doc__, **facts}, indent=2) + "\n")
    print(f"wrote {options.output}")
    if options.output == PUBLISHED:
        publish(facts)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--model", default="icnet-camvid", help="name of a bundled model")
    parser.add_argument("--rounds", type=int, default=5)
    rows = [*ROWS, *VARIANTS]
    parser.add_argument("--rows", nargs="+", choices=rows, metavar="ROW", help=f"only these of {', '.join(rows)}")
    parser.add_argument("--python", nargs="+", default=[], metavar="ROW=PATH", help="interpreter of a row's packages")
    parser.add_argument("--add", action="store_true", help="add to the rounds of the same commit, clip and machine")
    parser.add_argument("--output", type=Path, default=PUBLISHED, help="JSON file; the page shows the default file")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the page again")
    options = parser.parse_args()
    if options.clip is None and not options.table:
        parser.error("name a clip")
    return options


def export_plain(bundled: str, folder: Path) -> Path:
    """Write a bundled model as tutorials do, and a JSON file with its facts. Return the path of the JSON file."""
    import torch
    from torch import nn

    from rtseg.backends.torch import build_network
    from rtseg.model_file.load import load_model
    from rtseg.models.label_network import MEAN, STD
    from rtseg.weights import find_model

    loaded = load_model(find_model(bundled))
    network = build_network(loaded).network
    upsample = nn.Upsample(scale_factor=network.stride, mode="bilinear")
    path = folder / "plain.onnx"
    image = torch.zeros(1, 3, *loaded.spec.size)
    torch.onnx.export(
        nn.Sequential(network, upsample).eval(), (image,), path, input_names=["image"], output_names=["logits"],
        opset_version=18, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    facts = {
        "model": str(path),
        "bundled": bundled,
        "size": loaded.spec.size,
        "palette": [colour[::-1] for colour in loaded.spec.palette],
        "mean": MEAN,
        "std": STD,
    }
    facts_path = folder / "plain.json"
    facts_path.write_text(json.dumps(facts))
    return facts_path


def run_row(row: str, clip: Path, output: Path, model: Path, pythons: dict[str, str]) -> Facts:
    """Run one row in a process of its own. Return its figures, or ``failure``."""
    command = [pythons.get(row, sys.executable), CHILD, row, clip.resolve(), output, model]
    try:
        done = subprocess.run(
            command, cwd=output.parent, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"did not end within {CHILD_TIMEOUT_S:g} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return {"failure": lines[-1]}
    figures: Facts = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measure_round(rows: list[str], clip: Path, model: Path, folder: Path, pythons: dict[str, str]) -> Facts:
    """Run all rows in turn on a clip."""
    measured: Facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0], "rows": {}}
    for row in rows:
        output = folder / f"{row}.mp4"
        figures = run_row(row, clip, output, model, pythons)
        if "failure" not in figures:
            figures["output_mb"] = output.stat().st_size / 1e6
        measured["rows"][row] = figures
        print(f"{row}: {figures.get('failure') or format(figures['seconds'], '.1f') + ' s'}", flush=True)
    return measured


def measure_losses(rows: list[str], model: Path, folder: Path, pythons: dict[str, str]) -> Facts:
    """Let every row write the test clip, and find out what is missing in the file."""
    clip = write_test_clip(folder / "varying.mp4")
    source = contents(clip)
    losses: Facts = {}
    for row in rows:
        output = folder / f"varying-{row}.mp4"
        failure = run_row(row, clip, output, model, pythons).get("failure")
        losses[row] = {"failure": failure} if failure else compare(source, contents(output))
    return losses


def earlier_results(path: Path, facts: Facts) -> Facts:
    """Return a results file that was measured under the same conditions, as ``facts`` has them; empty otherwise."""
    if not path.exists():
        return {}
    before: Facts = json.loads(path.read_text())
    same = all(before.get(key) == value for key, value in json.loads(json.dumps(facts)).items())
    return before if same else {}


def summarize(rounds: list[Facts], frames: int) -> Facts:
    """Return median and quartiles of each row, or its failure."""
    rows: Facts = {}
    for row in rounds[-1]["rows"]:
        runs = [each["rows"][row] for each in rounds if row in each["rows"]]
        failure = next((run["failure"] for run in runs if "failure" in run), None)
        if failure:
            rows[row] = {"failure": failure}
            continue
        rows[row] = {
            "fps": spread([frames / run["seconds"] for run in runs]),
            "cpu_ms_per_frame": spread([1e3 * run["cpu_s"] / frames for run in runs]),
            "memory_mb": spread([run["memory_mb"] for run in runs]),
            "output_mb": runs[-1]["output_mb"],
            "versions": runs[-1]["versions"],
        }
    return rows


def publish(facts: Facts) -> None:
    """Replace the tables of the page."""
    head = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n{tables(facts)}\n")
    print(f"wrote {PAGE}")


def tables(facts: Facts) -> str:
    """Return the results as Markdown."""
    processor, clip = facts["machine"], facts["clip"]
    height, width = clip["size"]
    dates = ", ".join(f"{each['date']} (load {each['load']:.1f} before it)" for each in facts["rounds"])
    title = (
        f"{clip['name']}: {clip['frames']} frames, {width}x{height}. {processor['processor']} "
        f"({processor['processor_model']}), {processor['cores']} cores. Commit {facts['commit']}. Rounds: {dates}."
    )
    return "\n\n".join((title, speed_table(facts["rows"]), loss_table(facts["losses"]), version_table(facts["rows"])))


def speed_table(rows: Facts) -> str:
    """Return speed, CPU time and memory of each row."""
    head = "| row | fps | quartiles | x tutorial | CPU ms per frame | memory MB | file MB |"
    lines = [head, "| --- " + "| ---: " * 6 + "|"]
    slow = rows.get("tutorial", {}).get("fps", {}).get("median")
    for row, each in rows.items():
        if "failure" in each:
            lines.append(f"| {row} | failed: {each['failure']} | | | | | |")
            continue
        fps, cpu, memory = (each[name] for name in ("fps", "cpu_ms_per_frame", "memory_mb"))
        cells = [
            row,
            f"{fps['median']:.1f}",
            f"{fps['q1']:.1f} - {fps['q3']:.1f}",
            f"{fps['median'] / slow:.1f}" if slow else "",
            f"{cpu['median']:.1f}",
            f"{memory['median']:.0f}",
            f"{each['output_mb']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def loss_table(losses: Facts) -> str:
    """Return what each row loses."""
    lines = ["| row | codec written | frames lost | largest timestamp error ms | audio lost |", "| --- " * 5 + "|"]
    for row, each in losses.items():
        if "failure" in each:
            lines.append(f"| {row} | failed: {each['failure']} | | | |")
            continue
        audio = f"{each['audio_lost_s']:.2f} s" if each["audio_lost_s"] > 0.05 else "no"
        cells = [row, each["codec"], str(each["frames_lost"]), f"{each['timestamp_error_ms']:.1f}", audio]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def version_table(rows: Facts) -> str:
    """Return the versions of the packages that each row has imported."""
    lines = ["| row | versions |", "| --- | --- |"]
    for row, each in rows.items():
        text = ", ".join(f"{name} {number}" for name, number in each.get("versions", {}).items())
        if not row.startswith("rtseg-"):
            lines.append(f"| {row} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
