"""Count parameters and operations of each network, and measure its speed on this machine.

    python benchmarks/networks.py [NAME ...] [--size 384x640 --size 512x1024] [--rounds 5] [--seconds 3] [--models DIR]
    python benchmarks/networks.py [NAME ...] --models DIR --export-only
    python benchmarks/networks.py --table

Every network is exported with random weights for the number of classes of ``rtseg.models.figures``, and runs in
OpenVINO (default precision, several images in flight). Each round measures all networks at all sizes, so that a slow
phase of the machine affects all of them. Results are added to ``results/networks.json``, where a run replaces the
networks and sizes that it measured. From there come the table of ``docs/benchmarks/networks.md``, and
``rtseg/models/figures.json``, which `rtseg models` prints. Model files in ``--models`` are used again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _common import RESULTS, ROOT, commit, machine, spread, versions

from rtseg import open_backend
from rtseg.app.option_values import parse_size
from rtseg.bench.network_speed import export_fresh, frames_per_second
from rtseg.errors import OptionError
from rtseg.model_file.input_size import resize_input
from rtseg.model_file.load import load_model
from rtseg.models import MODELS
from rtseg.models.cost import compute_cost
from rtseg.models.figures import CLASSES, FIGURES_FILE, SIZE

RESULTS_FILE = RESULTS / "networks.json"
PAGE = ROOT / "docs" / "benchmarks" / "networks.md"
MARK = "<!-- table: made by networks.py from results/networks.json -->"

Facts = dict[str, Any]
Case = tuple[str, tuple[int, int]]
"""Name of a network, and (H, W) of the images."""


def text_of(size: tuple[int, int]) -> str:
    """E.g. ``384x640``."""
    return f"{size[0]}x{size[1]}"


def export_all(names: list[str], sizes: list[tuple[int, int]], folder: Path) -> dict[Case, Path]:
    """Export the networks that have no file in ``folder`` yet; one file serves all sizes if its size can be changed."""
    paths: dict[Case, Path] = {}
    for name in names:
        for size in sizes:
            first = paths.get((name, sizes[0]))
            paths[name, size] = path = folder / f"{name}-{text_of(size)}.onnx"
            if first is not None and is_resizable(first, size):
                paths[name, size] = first
            elif not path.exists():
                export_fresh(name, path, size)
                print(f"exported {path.name}", flush=True)
    return paths


def is_resizable(path: Path, size: tuple[int, int]) -> bool:
    """Return whether a model file can run at another size."""
    try:
        resize_input(load_model(path), size)
    except OptionError:
        return False
    return True


def measure(paths: dict[Case, Path], rounds: int, seconds: float) -> Facts:
    """Return a run: how it was measured, and for each network and size the operations and the speed."""
    fps: dict[Case, list[float]] = {case: [] for case in paths}
    precision = ""
    for round_ in range(rounds):
        for (name, size), path in paths.items():
            with open_backend("openvino", path, size=size) as backend:
                precision = backend.precision
                fps[name, size].append(frames_per_second(backend, seconds))
            print(f"round {round_ + 1}: {name} {text_of(size)} {fps[name, size][-1]:.2f} fps", flush=True)
    run = {
        "machine": machine(),
        "versions": versions("torch", "torchvision"),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "precision": precision,
        "classes": CLASSES,
    }
    rows = []
    for (name, size), rates in fps.items():
        cost = compute_cost(name, CLASSES, size)
        facts = {"parameters": cost.parameters, "flops": cost.flops, "fps": spread(rates)}
        rows.append({"network": name, "size": text_of(size), **facts, "date": run["date"], "commit": run["commit"]})
    return {"run": run, "rows": rows}


def merge(before: Facts, after: Facts) -> Facts:
    """Replace the rows of ``before`` that ``after`` measured again, in the order of ``MODELS``."""
    rows = {(row["network"], row["size"]): row for row in (*before.get("rows", ()), *after["rows"])}
    order = {name: number for number, name in enumerate(MODELS)}
    known = [row for row in rows.values() if row["network"] in order]
    return {"run": after["run"], "rows": sorted(known, key=lambda row: (order[row["network"]], row["size"]))}


def write_figures(results: Facts) -> None:
    """Write ``figures.json``: all networks at ``SIZE``."""
    networks = {
        row["network"]: {key: row[key] for key in ("parameters", "flops", "fps", "date")}
        for row in results["rows"]
        if row["size"] == text_of(SIZE)
    }
    missing = set(MODELS) - set(networks)
    if missing:
        print(f"{FIGURES_FILE.name} was not written: not measured are {', '.join(sorted(missing))}")
        return
    facts = {**results["run"], "size": list(SIZE), "networks": networks}
    FIGURES_FILE.write_text(json.dumps(facts, indent=2) + "\n")


def table(results: Facts) -> str:
    """Return the networks that were measured at more than one size as Markdown."""
    sizes = sorted({row["size"] for row in results["rows"]})
    rows: dict[str, dict[str, Facts]] = {}
    for row in results["rows"]:
        rows.setdefault(row["network"], {})[row["size"]] = row
    head = ["network", "parameters, M", *(f"{what} at {size}" for size in sizes for what in ("GFLOPs", "fps"))]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    complete = [name for name, by_size in rows.items() if len(by_size) == len(sizes)]
    for name in sorted(complete, key=lambda name: -rows[name][sizes[0]]["fps"]["median"]):
        cells = [name, f"{rows[name][sizes[0]]['parameters'] / 1e6:.1f}"]
        for size in sizes:
            row = rows[name][size]
            spread_ = f"{row['fps']['q1']:.1f} to {row['fps']['q3']:.1f}"
            cells += [f"{row['flops'] / 1e9:.1f}", f"{row['fps']['median']:.1f} ({spread_})"]
        lines.append(f"| {' | '.join(cells)} |")
    run = results["run"]
    where = f"{run['machine']['processor']}, {run['machine']['cores']} cores, OpenVINO {run['versions']['openvino']}"
    return "\n".join([*lines, "", f"{where}, {run['precision']}, {run['classes']} classes, {run['date']}."])


def write_page(results: Facts) -> None:
    """Replace the table of the page."""
    head, _, rest = PAGE.read_text().partition(MARK)
    tail = rest.partition("\n## ")
    PAGE.write_text(f"{head}{MARK}\n\n{table(results)}\n" + (f"\n## {tail[2]}" if tail[1] else ""))


def main() -> None:
    """Export, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; all of them by default")
    parser.add_argument("--size", type=parse_size, action="append", metavar="HxW", help="default: that of figures.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per network and round")
    parser.add_argument("--models", type=Path, help="folder to keep the exported model files in")
    parser.add_argument("--export-only", action="store_true", help="only export into --models")
    parser.add_argument("--table", action="store_true", help="only write the table and the figures again")
    options = parser.parse_args()
    results: Facts = json.loads(RESULTS_FILE.read_text()) if RESULTS_FILE.exists() else {}
    if not options.table:
        with nullcontext(options.models) if options.models else tempfile.TemporaryDirectory() as folder:
            paths = export_all(options.names or list(MODELS), options.size or [SIZE], Path(folder))
            if options.export_only:
                return
            results = merge(results, measure(paths, options.rounds, options.seconds))
        RESULTS_FILE.write_text(json.dumps(results, indent=1) + "\n")
    write_figures(results)
    write_page(results)


if __name__ == "__main__":
    main()
