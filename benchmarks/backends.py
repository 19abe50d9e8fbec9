"""Every backend and precision that this machine has, on every bundled model: how fast, how large, how right.

    python benchmarks/backends.py [--camvid FOLDER]                all of it, about half an hour on two cores
    python benchmarks/backends.py --sizes 1024x2048 --batches 4    these cases anew, what else is published stays
    python benchmarks/backends.py --models icnet-camvid --sizes 384x640 --batches 1 --draft
    python benchmarks/backends.py --table                          plot and page again, of the results

- latency: submit and wait, one batch at a time, the backend opened with the hint ``latency``
- throughput: frames per second with ``depth`` batches in flight, the backend opened with the hint ``throughput``
- memory: the largest resident size of the process, Python and its libraries included, with the backend for throughput
  alone in it; for a GPU also what its memory grew by
- mIoU: on the validation split of CamVid, at the model's own size (another size is another score)

Each row has a process of its own. All rows of one model, size and batch are alive at once and measured in turn, so that
what the machine does meanwhile meets them all; each is compared with eager torch in fp32 on the same device, round by
round. On a GPU ``torch`` is the backend of rtseg, which replays CUDA graphs, and ``torch-eager`` launches one kernel
after another; all times there end when the labels are in the machine's own memory, and the GPU has nothing left to do
for them. Frames are noise: what they show takes no other time. A row that fails says why.

A case (model, size, batch, CPU or GPU) that is measured again replaces the published one as a whole; all others stay,
and each says which run it comes from.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, ROOT, commit, machine, spread, versions
from _rows import EAGER, Case, Row, Side
from _runs import EMPTY, merged, run_of, run_title

SIDES = (
    Side("torch", "fp32", "cpu"),
    Side("torch", "bf16", "cpu"),
    Side("onnxruntime", "fp32", "cpu"),
    Side("onnxruntime", "int8", "cpu"),
    Side("openvino", "fp32", "cpu"),
    Side("openvino", "bf16", "cpu"),
    Side("openvino", "int8", "cpu"),
    Side(EAGER, "fp32", "cuda"),
    Side(EAGER, "fp16", "cuda"),
    Side("torch", "fp32", "cuda"),
    Side("torch", "fp16", "cuda"),
    Side("tensorrt", "fp16", "cuda"),
    Side("tensorrt", "int8", "cuda"),
)
REFERENCE = {"cpu": "torch fp32", "cuda": f"{EAGER} fp32 cuda"}
"""The row that all others on a device are compared with."""
PUBLISHED = RESULTS / "backends.json"
SIZES = ("384x640", "512x1024", "1024x2048")
PAGE = Path(__file__).parent / "backends.md"
PLOT = ROOT / "docs" / "backends.png"
MARK = "<!-- tables: made by backends.py from results/backends.json -->"


def main() -> None:
    """Measure, print, save, draw."""
    from rtseg.weights import bundled_models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 4))
    parser.add_argument("--backends", nargs="+", default=[], help="words of which one must be in a row's name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of a row in a round, for latency and throughput each"
    )
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; the mIoU is left out without it")
    parser.add_argument("--draft", action="store_true", help="print only, write nothing")
    parser.add_argument(
        "--output", type=Path, default=PUBLISHED, help="JSON that the cases go into; only the published one has a page"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing, draw the results again")
    options = parser.parse_args()
    if options.backends and options.output.resolve() == PUBLISHED.resolve() and not (options.draft or options.table):
        parser.error(
            "--backends leaves rows out of a case, which would replace the published one: add --draft or --output"
        )
    if options.table:
        publish(json.loads(PUBLISHED.read_text()))
        return
    sides = [side for side in present() if not options.backends or any(w in side.title for w in options.backends)]
    before = json.loads(options.output.read_text()) if options.output.exists() and not options.draft else EMPTY
    run: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "load": os.getloadavg()[0],
        "machine": machine(),
        "versions": versions("torch", "onnxruntime", "tensorrt-rtx", "tensorrt", "pycuda"),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    sizes = [tuple(int(side) for side in size.split("x")) for size in options.sizes]
    # The small ones first: what was found is kept where the large ones end the run.
    for size, batch, model in itertools.product(sizes, options.batches, options.models):
        rows += compare(Case(model, size, batch), sides, options.rounds, options.seconds)
        if not options.draft:
            write(options.output, merged(before, run, rows, scores))
    if options.camvid is not None:
        judged = [side for side in sides if side.backend != EAGER]  # its labels are those of torch
        scores = [judge(model, side, options.camvid) for model in options.models for side in judged]
    print(tables(merged(EMPTY, run, rows, scores)))
    if not options.draft:
        facts = merged(before, run, rows, scores)
        write(options.output, facts)
        print(f"wrote {options.output}")
        if options.output == PUBLISHED:
            publish(facts)


def write(path: Path, facts: dict[str, Any]) -> None:
    """Write the results, with what they mean."""
    path.write_text(json.dumps({"method": __doc__, **facts}, indent=2) + "\n")


def present() -> list[Side]:
    """The sides whose packages, and GPU, are here."""
    from rtseg.system.nvidia import driver_version

    packages = {"torch": ("torch",), EAGER: ("torch",), "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
    has_gpu = driver_version() is not None
    runtimes = [name for name in ("tensorrt", "tensorrt-rtx") if is_installed(name)]
    found = []
    for side in SIDES:
        needed = packages.get(side.backend, ("pycuda",))
        runs = all(map(is_installed, needed)) and (side.backend != "tensorrt" or runtimes)
        if runs and (side.device == "cpu" or has_gpu):
            found.append(side)
    return found


def is_installed(package: str) -> bool:
    """Whether a distribution is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def compare(case: Case, sides: list[Side], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """All rows of a case, measured in turn."""
    with ExitStack() as alive:
        rows = [alive.enter_context(Row(case, side)) for side in sides]
        for _, row in itertools.product(range(rounds), rows):
            row.measure(seconds)
    measured = {row.side.title: row for row in rows if not row.failure}
    found = []
    for row in rows:
        facts = {
            "model": case.model,
            "size": list(case.size),
            "batch": case.batch,
            "row": row.side.title,
            "failure": row.failure.replace(f"{ROOT}/", "") or None,
            **row.facts,
        }
        if not row.failure:
            facts |= figures(row, measured.get(REFERENCE[row.side.device]))
        found.append(facts)
        rate = f"{facts['fps']['median']:.2f} fps" if not row.failure else row.failure
        print(f"{case.title}, {row.side.title}: {rate}", flush=True)
    return found


def figures(row: Row, reference: Row | None) -> dict[str, Any]:
    """What is said of a row: medians with quartiles, percentiles over all rounds."""
    every = np.concatenate(row.latencies_s)
    percentiles = np.percentile(1e3 * every, [50, 95, 99])
    against = [mine / other for mine, other in zip(row.rates, reference.rates, strict=True)] if reference else None
    return {
        "latency_ms": dict(zip(("p50", "p95", "p99"), percentiles.tolist(), strict=True)) | {"batches": len(every)},
        "latency_p50_ms": spread([1e3 * float(np.median(one)) for one in row.latencies_s]),
        "fps": spread(row.rates),
        "times_torch": spread(against) if against else None,
    }


def judge(model: str, side: Side, camvid: Path) -> dict[str, Any]:
    """mIoU of a side on CamVid val, at the model's own size."""
    from rtseg.app.evaluate import Evaluation
    from rtseg.app.options import EvaluationOptions
    from rtseg.errors import RtsegError

    found: dict[str, Any] = {"model": model, "row": side.title, "miou": None, "failure": None}
    options = {"backend": side.backend, "precision": side.precision, "device": side.device}
    try:
        with Evaluation(EvaluationOptions(model, f"camvid:{camvid}", "val", **options)) as evaluation:
            found["miou"] = evaluation.run()["miou"]
    except RtsegError as error:
        found["failure"] = str(error).replace(f"{ROOT}/", "")
    print(f"{model}, {side.title}: mIoU {found['miou']}", flush=True)
    return found


def publish(facts: dict[str, Any]) -> None:
    """Put the tables in place of those that the page has, and draw the plot."""
    head = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n{tables(facts)}\n")
    draw(facts)
    print(f"wrote {PAGE} and {PLOT}")


def tables(facts: dict[str, Any]) -> str:
    """All rows, a table for each model and size, in Markdown."""
    parts = ["\n".join(f"- Run of {run_title(run)}: {where(run)}. {listed(run['versions'])}." for run in facts["runs"])]
    if facts["accuracy"]:
        parts.append(accuracy_table(facts["accuracy"]))
        parts.append(f"From the {runs_of(facts, facts['accuracy'])}.")
    for (model, size, batch), rows in grouped(facts["rows"]).items():
        parts.append(f"### {model} at {size}, batches of {batch}")
        head = "| backend | latency p50 ms | p95 | p99 | fps | quartiles | x torch | memory MB | GPU MB |"
        lines = [head, "| --- " + "| ---: " * 8 + "|"]
        for row in rows:
            if row["failure"]:
                continue
            latency, fps, times = row["latency_ms"], row["fps"], row["times_torch"]
            cells = [
                row["row"],
                *(f"{latency[key]:.1f}" for key in ("p50", "p95", "p99")),
                f"{fps['median']:.1f}",
                f"{fps['q1']:.1f} - {fps['q3']:.1f}",
                f"{times['median']:.2f}" if times else "",
                f"{row['memory_mb']:.0f}",
                f"{row['gpu_memory_mb']:.0f}" if row["gpu_memory_mb"] is not None else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
        parts.append(f"From the {runs_of(facts, rows)}.")
        failures = [f"- {row['row']}: {row['failure']}" for row in rows if row["failure"]]
        if failures:
            parts.append("\n".join(("Without a result:", "", *failures)))
    return "\n\n".join(parts)


def runs_of(facts: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Where rows or scores come from, e.g. ``run of 2026-11-20T19:39:09+00:00, commit dedac4c, load 0.1 before it``."""
    return " and the ".join(dict.fromkeys(f"run of {run_title(run_of(facts, entry))}" for entry in entries))


def where(run: dict[str, Any]) -> str:
    """The machine of a run in words."""
    machine = run["machine"]
    model = f" ({machine['processor_model']})" if machine.get("processor_model") else ""
    return f"{machine['processor']}{model}, {machine['cores']} cores"


def accuracy_table(found: list[dict[str, Any]]) -> str:
    """mIoU by backend and model, in Markdown."""
    models = sorted({one["model"] for one in found})
    scores = {(one["row"], one["model"]): f"{100 * one['miou']:.2f}" for one in found if one["miou"] is not None}
    lines = [f"| mIoU on CamVid val, % | {' | '.join(models)} |", "| --- " + "| ---: " * len(models) + "|"]
    for row in dict.fromkeys(one["row"] for one in found):
        lines.append(f"| {row} | {' | '.join(scores.get((row, model), '') for model in models)} |")
    return "\n".join(lines)


def grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Rows by model, size and batch, the models together, in the order of ``SIDES``."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    titles = [side.title for side in SIDES]
    for row in sorted(rows, key=lambda row: (row["model"], row["size"], row["batch"], titles.index(row["row"]))):
        height, width = row["size"]
        found.setdefault((row["model"], f"{height}x{width}", row["batch"]), []).append(row)
    return found


def listed(found: dict[str, str]) -> str:
    """Packages and versions in one line."""
    return ", ".join(f"{name} {number}" for name, number in found.items())


def draw(facts: dict[str, Any]) -> None:
    """Frames per second of batch 1, a panel for each model, bars by size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    least = min(row["batch"] for row in facts["rows"])
    rows = [row for row in facts["rows"] if not row["failure"] and row["batch"] == least]
    models = sorted({row["model"] for row in rows})
    titles = [side.title for side in SIDES if any(row["row"] == side.title for row in rows)]
    sizes = sorted({tuple(row["size"]) for row in rows})
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.95, len(titles)))
    figure, panels = plt.subplots(
        1, len(models), figsize=(6.2 * len(models), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    width = 0.84 / len(titles)
    for panel, model in zip(panels[0], models, strict=True):
        for place, title in enumerate(titles):
            fps = {tuple(row["size"]): row["fps"] for row in rows if row["model"] == model and row["row"] == title}
            at = [index + (place - (len(titles) - 1) / 2) * width for index, size in enumerate(sizes) if size in fps]
            middle = [fps[size]["median"] for size in sizes if size in fps]
            error = [[abs(fps[size][q] - fps[size]["median"]) for size in sizes if size in fps] for q in ("q1", "q3")]
            bars = panel.bar(at, middle, width * 0.92, yerr=error, color=colours[place], label=title, ecolor="0.5")
            panel.bar_label(bars, fmt=short, fontsize=6, padding=2, rotation=90)
        panel.set_title(model)
        panel.set_xticks(range(len(sizes)), [f"{height}x{width}" for height, width in sizes])
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.margins(y=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("frames per second (log)")
    places = " and ".join(dict.fromkeys(where(run_of(facts, row)) for row in rows))
    figure.suptitle(f"batches of {least} on {places}", fontsize=10)
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside right center")
    figure.savefig(PLOT, dpi=130)


def short(value: float) -> str:
    """A rate in three figures."""
    return re.sub(r"\.0$", "", f"{value:.0f}" if value >= 100 else f"{value:.1f}")


if __name__ == "__main__":
    main()
