"""Train every network with a documented recipe, and write the tables of ``accuracy.md``.

    python benchmarks/accuracy.py --camvid CamVid --dubai aerial_dubai          all runs without a result
    python benchmarks/accuracy.py --camvid CamVid --only deeplabv3-resnet50     only this one
    python benchmarks/accuracy.py --table                                       write the tables again from the results

Each run is one ``rtseg train`` command, which the results contain. Results are saved after every run, so that an
interrupted series can be continued.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _common import RESULTS, commit, machine, versions

TABLES = {
    "camvid": "CamVid, 11 classes, validation split",
    "dubai": "Dubai from the air, 6 classes: trained on tiles 1 and 2, measured on tile 3",
    "fringes": "Drawn interferograms with defects, 6 classes",
}
RESULTS_FILE = RESULTS / "accuracy.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "accuracy.md"
MARK = "<!-- tables: made by accuracy.py from results/accuracy.json -->"

_SHORT = "--size 192x320 --crop 160x256 --epochs 2 --eval-every 2 --ema 0.95 --lr 1e-3"
_SHORTEST = "--size 192x320 --crop 128x192 --epochs 1 --ema 0.95"
"""For networks with more than ``_HEAVY_FLOPS`` operations per image."""
_HEAVY_FLOPS = 50e9
_AERIAL = "--size 512x640 --crop 256x256 --ema 0.95 --flips both --rotation 180"
_DUBAI = f"{_AERIAL} --epochs 24 --batch 2 --eval-every 6 --lr 2e-4"
_DUBAI_CONTINUED = f"{_AERIAL} --epochs 4 --batch 2 --eval-every 2 --lr 1e-4"
"""Starts from the weights of a run with ``_DUBAI``."""
_DUBAI_LARGE = f"{_AERIAL} --epochs 8 --batch 2 --eval-every 4"
_FRINGES = "--size 512x512 --crop 256x256 --epochs 8 --eval-every 4 --ema 0.95 --flips both"
_FRINGES_LARGE = "--size 1024x1024 --crop 512x512 --epochs 8 --batch 4 --eval-every 4 --ema 0.95 --flips both"


@dataclass(frozen=True)
class Task:
    """One row of a table."""

    table: str
    name: str
    """What is trained, as in the table."""
    model: str
    recipe: str
    """Options of ``rtseg train``."""
    init_from: str = ""
    """Name of the run whose best checkpoint is the starting point."""
    mean_of: tuple[str, ...] = ()
    """Names of the runs whose checkpoints are averaged instead of training."""

    @property
    def key(self) -> str:
        """The key in the results."""
        return f"{self.table}/{self.name}"


def tasks() -> list[Task]:
    """Return all rows of all tables, in order."""
    from rtseg.models import MODELS
    from rtseg.models.figures import load_figures

    heavy = {name for name, figures in load_figures().networks.items() if figures.flops > _HEAVY_FLOPS}
    camvid = []
    for name in MODELS:
        recipe = f"{_SHORTEST} --lr 1e-3" if name in heavy else _SHORT
        if "vgg" in name:  # without pretrained weights it only learns with batch norm and a low learning rate
            camvid.append(Task("camvid", name, f"{name}:norm=true", f"{_SHORTEST} --lr 2e-4"))
        elif "sctnet" in name:  # the paper's transformer would take most of the time
            camvid.append(Task("camvid", f"{name}, transformer B0", f"{name}:transformer=0", recipe))
        else:
            camvid.append(Task("camvid", name, name, recipe))
    vgg = "fcn32s-vgg16:norm=true"
    first = Task("dubai", "fcn32s-vgg16, CE", vgg, _DUBAI)
    parts = [
        Task(
            "dubai",
            f"fcn32s-vgg16, CE, from there on, seed {seed}",
            vgg,
            f"{_DUBAI_CONTINUED} --seed {seed}",
            first.name,
        )
        for seed in (1, 2, 3)
    ]
    return [
        first,
        *parts,
        Task("dubai", "fcn32s-vgg16, mean of the three", vgg, "", mean_of=tuple(part.name for part in parts)),
        Task("dubai", "deeplabv3-resnet101", "deeplabv3-resnet101", _DUBAI_LARGE),
        Task("fringes", "fcn-resnet18, CE", "fcn-resnet18:step=8", f"{_FRINGES} --class-weights none"),
        Task(
            "fringes",
            "fcn-resnet18, asymmetric loss",
            "fcn-resnet18:step=8",
            f"{_FRINGES} --class-weights none --loss asymmetric",
        ),
        Task("fringes", "icnet at 1024x1024, CE", "icnet", f"{_FRINGES_LARGE} --class-weights none"),
        *camvid,
    ]


def data_argument(task: Task, folders: argparse.Namespace) -> str:
    """Return the value of ``--data`` for a task."""
    if task.table == "camvid":
        return f"camvid:{folders.camvid}"
    if task.table == "dubai":
        root = folders.dubai
        return (
            f"pairs:{root}/*/images,{root}/*/masks,classes={root}/mask_colours.json,"
            "val=Tile 3/*,void=#000000,tolerance=1"
        )
    side = 1024 if "1024" in task.name else 512
    return f"synthetic:fringes,frames=24,size={side}x{side}"


def run(task: Task, folders: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Train or average, and return the row."""
    folder = _folder(runs, task.table, task.name)
    checkpoint = folder / "best.safetensors"
    started = time.monotonic()
    if task.mean_of:
        parts = [_folder(runs, task.table, name) for name in task.mean_of]
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["average", *(str(part / "best.safetensors") for part in parts), "--output", str(checkpoint)]
        arguments += ["--data", data_argument(task, folders)]
    else:
        arguments = ["train", "--data", data_argument(task, folders), "--model", task.model, *task.recipe.split()]
        if task.init_from:
            arguments += ["--init", str(_folder(runs, task.table, task.init_from) / "best.safetensors")]
        arguments += ["--output", str(folder), *(["--resume"] if (folder / "last.safetensors").exists() else [])]
    subprocess.run([sys.executable, "-m", "rtseg", *arguments], check=True)
    from rtseg.training.checkpoint import load_checkpoint

    state = load_checkpoint(checkpoint)
    return {
        "command": "rtseg " + " ".join(portable_command(arguments, folders, runs)),
        "epochs": state["epoch"],
        "images": state["trained_on"],
        "minutes": round(60 * state["hours"] if not task.mean_of else (time.monotonic() - started) / 60, 2),
        "miou": state["scores"]["miou"],
        "pixel_accuracy": state["scores"]["pixel_accuracy"],
        "iou": state["scores"]["iou"],
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions("torch", "torchvision"),
        "commit": commit(),
    }


def _folder(runs: Path, table: str, name: str) -> Path:
    """Return the run folder of a row."""
    return runs / f"{table}/{name}".replace(" ", "-").replace(",", "")


def portable_command(arguments: list[str], folders: argparse.Namespace, runs: Path) -> list[str]:
    """Replace the folders of this machine by their names, and quote arguments where necessary."""
    names = {str(folders.camvid): "CamVid", str(folders.dubai): "aerial_dubai", str(runs): "runs"}
    portable = []
    for argument in arguments:
        for folder, name in names.items():
            argument = argument.replace(folder, name)
        portable.append(f"'{argument}'" if " " in argument or "*" in argument else argument)
    return portable


def tables(results: dict[str, Any]) -> str:
    """Return all tables as Markdown."""
    parts = []
    for table, title in TABLES.items():
        rows = [(task, results[task.key]) for task in tasks() if task.key in results]
        rows = [(task, row) for task, row in rows if task.table == table]
        if not rows:
            continue
        head = "| run | epoch kept | minutes | mIoU % | pixel accuracy % | date |"
        lines = [f"### {title}", "", head, "| --- " * 6 + "|"]
        lines += [
            f"| {task.name} | {row['epochs']} | {row['minutes']:.1f} | {100 * row['miou']:.1f} "
            f"| {100 * row['pixel_accuracy']:.1f} | {row['date']} |"
            for task, row in rows
        ]
        commands = [f"    {row['command']}" for _, row in rows]
        processors = {f"{row['machine']['processor']}, {row['machine']['cores']} cores" for _, row in rows}
        lines += ["", f"Machine: {'; '.join(sorted(processors))}. Commands:", "", *dict.fromkeys(commands)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_page(results: dict[str, Any]) -> None:
    """Replace the tables of the page."""
    head = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n{tables(results)}\n")


def main() -> None:
    """Run all tasks without a result, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; without it, its runs are skipped")
    parser.add_argument("--dubai", type=Path, help="folder of the Dubai tiles; without it, their runs are skipped")
    parser.add_argument("--only", nargs="+", help="only runs whose TABLE/NAME contains one of these words")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--table", action="store_true", help="only write the tables again")
    folders = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS_FILE.read_text()) if RESULTS_FILE.exists() else {}
    for task in tasks():
        missing = task.table != "fringes" and getattr(folders, task.table) is None
        excluded = folders.only and not any(word in task.key for word in folders.only)
        if folders.table or missing or excluded or task.key in results:
            continue
        print(f"== {task.key}", flush=True)
        results[task.key] = run(task, folders, folders.runs)
        RESULTS_FILE.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)


if __name__ == "__main__":
    main()
