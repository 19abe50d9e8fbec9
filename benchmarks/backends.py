"""Measure speed, memory and accuracy of every backend and precision on this machine, with every bundled model.

    python benchmarks/backends.py [--camvid FOLDER]                everything; about half an hour on two cores
    python benchmarks/backends.py --sizes 1024x2048 --batches 4    repeat these cases and keep the other results
    python benchmarks/backends.py --models icnet-camvid --sizes 384x640 --batches 1 --draft
    python benchmarks/backends.py --table                          write plot and page again from the results

- latency: submit and wait, one batch at a time, with a backend opened with the hint ``latency``
- throughput: frames per second with ``depth`` batches in flight, with a backend opened with the hint ``throughput``
- memory: peak resident memory of the process, including Python and its libraries, with only the throughput backend
  open; on a GPU also the growth of the GPU memory
- mIoU: on the validation split of CamVid, at the model's own size (another size gives another score)

Each row runs in a process of its own. All rows of one model, size and batch size exist at the same time and are
measured in turn, so that other work of the machine affects all of them. Each is compared with eager torch in fp32 on
the same device, round by round. On a GPU ``torch`` is the backend of rtseg, which replays CUDA graphs, and
``torch-eager`` launches one kernel after another; ``torch-compile`` is inductor on the CPU, with frozen weights. Times
end when the labels are in main memory and the GPU is idle.
Frames are noise, because their content does not change the speed. A row that fails says why.

A case (model, size, batch size, CPU or GPU) that is measured again replaces the published one as a whole. All other
cases are kept, and each names the run it comes from.
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
from _runs import EMPTY, find_run, merge, run_title
from _worker import COMPILED, EAGER, Case, Config, Worker

CONFIGS = (
    Config("torch", "fp32", "cpu"),
    Config("torch", "bf16", "cpu"),
    Config(COMPILED, "fp32", "cpu"),
    Config(COMPILED, "bf16", "cpu"),
    Config("onnxruntime", "fp32", "cpu"),
    Config("onnxruntime", "int8", "cpu"),
    Config("openvino", "fp32", "cpu"),
    Config("openvino", "bf16", "cpu"),
    Config("openvino", "int8", "cpu"),
    Config(EAGER, "fp32", "cuda"),
    Config(EAGER, "fp16", "cuda"),
    Config("torch", "fp32", "cuda"),
    Config("torch", "fp16", "cuda"),
    Config("tensorrt", "fp16", "cuda"),
    Config("tensorrt", "int8", "cuda"),
)
REFERENCE = {"cpu": "torch fp32", "cuda": f"{EAGER} fp32 cuda"}
"""Device -> the row that all other rows on it are compared with."""
PUBLISHED = RESULTS / "backends.json"
SIZES = ("384x640", "512x1024", "1024x2048")
PAGE = ROOT / "docs" / "benchmarks" / "backends.md"
PLOT = PAGE.with_suffix(".png")
MARK = "<!-- tables: made by backends.py from results/backends.json -->"


def main() -> None:
    """Measure, print, save and draw."""
    from rtseg.weights import bundled_models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 4))
    parser.add_argument("--backends", nargs="+", default=[], help="only rows whose name contains one of these words")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement of a row, per round")
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; without it, mIoU is not measured")
    parser.add_argument("--draft", action="store_true", help="only print the results")
    parser.add_argument(
        "--output",
        type=Path,
        default=PUBLISHED,
        help="JSON file for the results; the page shows the default file",
    )
    parser.add_argument("--table", action="store_true", help="measure nothing, write plot and page again")
    options = parser.parse_args()
    if options.backends and options.output.resolve() == PUBLISHED.resolve() and not (options.draft or options.table):
        parser.error(
            "--backends measures only some rows of a case, but a case is published as a whole: add --draft or --output"
        )
    if options.table:
        publish(json.loads(PUBLISHED.read_text()))
        return
    configs = available_configs(options.backends)
    if not configs:
        parser.error("no row can be measured here: its packages are not installed, or there is no NVIDIA driver")
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
    sizes = [parse_size(size) for size in options.sizes]
    # Small sizes first: their results are kept if a large one ends the run.
    for size, batch, model in itertools.product(sizes, options.batches, options.models):
        rows += compare(Case(model, size, batch), configs, options.rounds, options.seconds)
        if not options.draft:
            write(options.output, merge(before, run, rows, scores))
    if all(row["failure"] for row in rows):
        print("no row has a result")
        raise SystemExit(1)
    if options.camvid is not None:
        scored = [config for config in configs if config.backend not in (EAGER, COMPILED)]  # as torch
        scores = [measure_miou(model, config, options.camvid) for model in options.models for config in scored]
    print(tables(merge(EMPTY, run, rows, scores)))
    if not options.draft:
        facts = merge(before, run, rows, scores)
        write(options.output, facts)
        print(f"wrote {options.output}")
        if options.output == PUBLISHED:
            publish(facts)


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``HEIGHTxWIDTH``."""
    height, width = map(int, text.split("x"))
    return height, width


def write(path: Path, facts: dict[str, Any]) -> None:
    """Write the results with a description of the method."""
    path.write_text(json.dumps({"method": __doc__, **facts}, indent=2) + "\n")


def available_configs(words: list[str]) -> list[Config]:
    """Return the configurations whose packages and GPU are available, and whose title contains one of ``words``."""
    from rtseg.system.nvidia import driver_version

    packages = dict.fromkeys(("torch", EAGER, COMPILED), ("torch",))
    packages |= {"onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
    has_gpu = driver_version() is not None
    runtimes = [name for name in ("tensorrt", "tensorrt-rtx") if is_installed(name)]
    configs = []
    for config in CONFIGS:
        required = packages.get(config.backend, ("pycuda",))
        installed = all(map(is_installed, required)) and (config.backend != "tensorrt" or runtimes)
        chosen = not words or any(word in config.title for word in words)
        if chosen and installed and (config.device == "cpu" or has_gpu):
            configs.append(config)
    return configs


def is_installed(package: str) -> bool:
    """Whether a distribution is installed."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def compare(case: Case, configs: list[Config], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure all rows of a case in turn."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(case, config)) for config in configs]
        for _, worker in itertools.product(range(rounds), workers):
            worker.measure(seconds)
    measured = {worker.config.title: worker for worker in workers if not worker.failure}
    rows = []
    for worker in workers:
        facts = {
            "model": case.model,
            "size": list(case.size),
            "batch": case.batch,
            "row": worker.config.title,
            "failure": worker.failure.replace(f"{ROOT}/", "") or None,
            **worker.facts,
        }
        if not worker.failure:
            facts |= summarize(worker, measured.get(REFERENCE[worker.config.device]))
        rows.append(facts)
        rate = worker.failure or f"{facts['fps']['median']:.2f} fps"
        print(f"{case.title}, {worker.config.title}: {rate}", flush=True)
    return rows


def summarize(worker: Worker, reference: Worker | None) -> dict[str, Any]:
    """Return medians with quartiles, and latency percentiles over all rounds."""
    latencies_s = np.concatenate(worker.latencies_s)
    percentiles = np.percentile(1e3 * latencies_s, [50, 95, 99]).tolist()
    ratios = [rate / base for rate, base in zip(worker.rates, reference.rates, strict=True)] if reference else None
    return {
        "latency_ms": {**dict(zip(("p50", "p95", "p99"), percentiles, strict=True)), "batches": len(latencies_s)},
        "latency_p50_ms": spread([1e3 * float(np.median(each)) for each in worker.latencies_s]),
        "fps": spread(worker.rates),
        "times_torch": spread(ratios) if ratios else None,
    }


def measure_miou(model: str, config: Config, camvid: Path) -> dict[str, Any]:
    """Measure the mIoU of a configuration on CamVid val, at the model's own size."""
    from rtseg.app.evaluate import Evaluation
    from rtseg.app.options import EvaluationOptions
    from rtseg.errors import RtsegError

    score: dict[str, Any] = {"model": model, "row": config.title, "miou": None, "failure": None}
    options = EvaluationOptions(
        f"camvid:{camvid}", model, "val", backend=config.backend, precision=config.precision, device=config.device
    )
    try:
        with Evaluation(options) as evaluation:
            score["miou"] = evaluation.run()["miou"]
    except RtsegError as error:
        score["failure"] = str(error).replace(f"{ROOT}/", "")
    print(f"{model}, {config.title}: mIoU {score['miou']}", flush=True)
    return score


def publish(facts: dict[str, Any]) -> None:
    """Replace the tables of the page, and draw the plot."""
    head = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n{tables(facts)}\n")
    draw(facts)
    print(f"wrote {PAGE} and {PLOT}")


def tables(facts: dict[str, Any]) -> str:
    """Return all rows as Markdown, one table for each model, size and batch size."""
    parts = ["\n".join(run_line(run) for run in facts["runs"])]
    if facts["accuracy"]:
        parts.append(score_table(facts["accuracy"]))
        parts.append(f"From the {run_titles(facts, facts['accuracy'])}.")
    for (model, size, batch), rows in group_rows(facts["rows"]).items():
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
        parts.append(f"From the {run_titles(facts, rows)}.")
        failures = [f"- {row['row']}: {row['failure']}" for row in rows if row["failure"]]
        if failures:
            parts.append("\n".join(("Without a result:", "", *failures)))
    return "\n\n".join(parts)


def run_line(run: dict[str, Any]) -> str:
    """Describe a run with its machine and versions in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return f"- Run of {run_title(run)}: {machine_text(run)}. {packages}."


def run_titles(facts: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Name the runs of rows or scores: ``run of 2026-11-20T19:39:09+00:00, commit dedac4c, load 0.1 before it``."""
    return " and the ".join(dict.fromkeys(f"run of {run_title(find_run(facts, entry))}" for entry in entries))


def machine_text(run: dict[str, Any]) -> str:
    """Describe the machine of a run."""
    machine = run["machine"]
    model = f" ({machine['processor_model']})" if machine.get("processor_model") else ""
    features = machine.get("processor_features")
    int8 = "" if features is None else ", with VNNI" if {"vnni", "amx"} & {*features} else ", without VNNI"
    return f"{machine['processor']}{model}{int8}, {machine['cores']} cores"


def score_table(scores: list[dict[str, Any]]) -> str:
    """Return the mIoU by backend and model as a Markdown table."""
    models = sorted({score["model"] for score in scores})
    cells = {(each["row"], each["model"]): f"{100 * each['miou']:.2f}" for each in scores if each["miou"] is not None}
    lines = [f"| mIoU on CamVid val, % | {' | '.join(models)} |", "| --- " + "| ---: " * len(models) + "|"]
    for row in dict.fromkeys(score["row"] for score in scores):
        lines.append(f"| {row} | {' | '.join(cells.get((row, model), '') for model in models)} |")
    return "\n".join(lines)


def group_rows(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Group rows by model, size and batch size, in the order of ``CONFIGS``."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    titles = [config.title for config in CONFIGS]
    for row in sorted(rows, key=lambda row: (row["model"], row["size"], row["batch"], titles.index(row["row"]))):
        height, width = row["size"]
        groups.setdefault((row["model"], f"{height}x{width}", row["batch"]), []).append(row)
    return groups


def draw(facts: dict[str, Any]) -> None:
    """Draw frames per second at the smallest batch size: a panel for each model, bars by size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    batch = min(row["batch"] for row in facts["rows"])
    rows = [row for row in facts["rows"] if not row["failure"] and row["batch"] == batch]
    models = sorted({row["model"] for row in rows})
    titles = [config.title for config in CONFIGS if any(row["row"] == config.title for row in rows)]
    sizes = sorted({tuple(row["size"]) for row in rows})
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.95, len(titles)))
    figure, panels = plt.subplots(
        1, len(models), figsize=(6.2 * len(models), 4.2), sharey=True, squeeze=False, layout="constrained"
    )
    width = 0.84 / len(titles)
    for panel, model in zip(panels[0], models, strict=True):
        for bar, title in enumerate(titles):
            fps = {tuple(row["size"]): row["fps"] for row in rows if row["model"] == model and row["row"] == title}
            x = [index + (bar - (len(titles) - 1) / 2) * width for index, size in enumerate(sizes) if size in fps]
            medians = [fps[size]["median"] for size in sizes if size in fps]
            error = [[abs(fps[size][q] - fps[size]["median"]) for size in sizes if size in fps] for q in ("q1", "q3")]
            bars = panel.bar(x, medians, width * 0.92, yerr=error, color=colours[bar], label=title, ecolor="0.5")
            panel.bar_label(bars, fmt=short_number, fontsize=6, padding=2, rotation=90)
        panel.set_title(model)
        panel.set_xticks(range(len(sizes)), [f"{height}x{width}" for height, width in sizes])
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.margins(y=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("frames per second (log)")
    machines = " and ".join(dict.fromkeys(machine_text(find_run(facts, row)) for row in rows))
    figure.suptitle(f"batches of {batch} on {machines}", fontsize=10)
    patches = [Patch(color=colour, label=title) for colour, title in zip(colours, titles, strict=True)]
    figure.legend(handles=patches, fontsize=8, frameon=False, loc="outside right center")
    figure.savefig(PLOT, dpi=130)


def short_number(value: float) -> str:
    """Format a rate with about three digits."""
    return re.sub(r"\.0$", "", f"{value:.0f}" if value >= 100 else f"{value:.1f}")


if __name__ == "__main__":
    main()
