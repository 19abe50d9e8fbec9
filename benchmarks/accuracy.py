"""How accurate every network gets: trains each with a stated recipe and writes the tables of ``accuracy.md``.

    python benchmarks/accuracy.py --camvid CamVid --dubai aerial_dubai          all runs that have no result yet
    python benchmarks/accuracy.py --camvid CamVid --only deeplabv3-resnet50     this one
    python benchmarks/accuracy.py --table                                       the tables again, of the results

A run is one ``rtseg train`` command, which the results keep word by word. Results are added one by one, so that an
interrupted round goes on where it stopped.
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
FILE = RESULTS / "accuracy.json"
PAGE = Path(__file__).parent / "accuracy.md"
MARK = "<!-- tables: made by accuracy.py from results/accuracy.json -->"

_SHORT = "--size 192x320 --crop 160x256 --epochs 2 --eval-every 2 --ema 0.95 --lr 1e-3"
_SHORTEST = "--size 192x320 --crop 128x192 --epochs 1 --ema 0.95"
"""For networks of more than ``_HEAVY`` operations an image."""
_HEAVY = 50e9
_AERIAL = "--size 512x640 --crop 256x256 --ema 0.95 --flips both --rotation 180"
_DUBAI = f"{_AERIAL} --epochs 24 --batch 2 --eval-every 6 --lr 2e-4"
_AFTER = f"{_AERIAL} --epochs 4 --batch 2 --eval-every 2 --lr 1e-4"
"""What follows a run of ``_DUBAI``, from its weights on."""
_LARGE = f"{_AERIAL} --epochs 8 --batch 2 --eval-every 4"
_FRINGES = "--size 512x512 --crop 256x256 --epochs 8 --eval-every 4 --ema 0.95 --flips both"
_ROUND = "--size 1024x1024 --crop 512x512 --epochs 8 --batch 4 --eval-every 4 --ema 0.95 --flips both"


@dataclass(frozen=True)
class Task:
    """One row of a table."""

    table: str
    name: str
    """What was trained, as the table says it."""
    model: str
    recipe: str
    """Options of ``rtseg train``."""
    begins_with: str = ""
    """Name of the run whose best checkpoint it begins with."""
    mean_of: tuple[str, ...] = ()
    """Names of the runs whose checkpoints are averaged, instead of a training."""

    @property
    def key(self) -> str:
        """The key in the results."""
        return f"{self.table}/{self.name}"


def tasks() -> list[Task]:
    """All rows of all tables, in order."""
    from rtseg.models import MODELS
    from rtseg.models.figures import load_figures

    figures = load_figures().networks
    camvid = []
    for name in MODELS:
        recipe = f"{_SHORTEST} --lr 1e-3" if figures[name].flops > _HEAVY else _SHORT
        if "vgg" in name:  # without pretrained weights it learns only with batch norm, and slowly
            camvid.append(Task("camvid", name, f"{name}:norm=true", f"{_SHORTEST} --lr 2e-4"))
        else:
            camvid.append(Task("camvid", name, name, recipe))
    vgg = "fcn32s-vgg16:norm=true"
    first = Task("dubai", "fcn32s-vgg16, CE", vgg, _DUBAI)
    parts = [
        Task("dubai", f"fcn32s-vgg16, CE, from there on, seed {seed}", vgg, f"{_AFTER} --seed {seed}", first.name)
        for seed in (1, 2, 3)
    ]
    return [
        first,
        *parts,
        Task("dubai", "fcn32s-vgg16, mean of the three", vgg, "", mean_of=tuple(part.name for part in parts)),
        Task("dubai", "deeplabv3-resnet101", "deeplabv3-resnet101", _LARGE),
        Task("fringes", "fcn-resnet18, CE", "fcn-resnet18:step=8", f"{_FRINGES} --class-weights none"),
        Task(
            "fringes",
            "fcn-resnet18, asymmetric loss",
            "fcn-resnet18:step=8",
            f"{_FRINGES} --class-weights none --loss asymmetric",
        ),
        Task("fringes", "icnet at 1024x1024, CE", "icnet", f"{_ROUND} --class-weights none"),
        *camvid,
    ]


def data_of(task: Task, places: argparse.Namespace) -> str:
    """``KIND:PATH`` of a table's data."""
    if task.table == "camvid":
        return f"camvid:{places.camvid}"
    if task.table == "dubai":
        root = places.dubai
        return (
            f"pairs:{root}/*/images,{root}/*/masks,classes={root}/mask_colours.json,"
            "val=Tile 3/*,void=#000000,tolerance=1"
        )
    side = 1024 if "1024" in task.name else 512
    return f"synthetic:fringes,frames=24,size={side}x{side}"


def run(task: Task, places: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Train, or average, and return the row."""
    folder = _folder(runs, task.table, task.name)
    checkpoint = folder / "best.safetensors"
    started = time.monotonic()
    if task.mean_of:
        parts = [_folder(runs, task.table, name) for name in task.mean_of]
        folder.mkdir(parents=True, exist_ok=True)
        words = ["average", *(str(part / "best.safetensors") for part in parts), "--output", str(checkpoint)]
        words += ["--data", data_of(task, places)]
    else:
        words = ["train", "--data", data_of(task, places), "--model", task.model, *task.recipe.split()]
        if task.begins_with:
            words += ["--init", str(_folder(runs, task.table, task.begins_with) / "best.safetensors")]
        words += ["--output", str(folder), *(["--resume"] if (folder / "last.safetensors").exists() else [])]
    subprocess.run([sys.executable, "-m", "rtseg", *words], check=True)
    from rtseg.training.checkpoint import load_checkpoint

    state = load_checkpoint(checkpoint)
    return {
        "command": "rtseg " + " ".join(without_places(words, places, runs)),
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
    """The run folder of a row."""
    return runs / f"{table}/{name}".replace(" ", "-").replace(",", "")


def without_places(words: list[str], places: argparse.Namespace, runs: Path) -> list[str]:
    """A command as it reads on any machine."""
    names = {str(places.camvid): "CamVid", str(places.dubai): "aerial_dubai", str(runs): "runs"}
    shown = []
    for word in words:
        for place, name in names.items():
            word = word.replace(place, name)
        shown.append(f"'{word}'" if " " in word or "*" in word else word)
    return shown


def tables(results: dict[str, Any]) -> str:
    """All tables, in Markdown."""
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
    """Put the tables in place of those that the page has."""
    head = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n\n{tables(results)}\n")


def main() -> None:
    """Train what has no result, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--camvid", type=Path, help="folder of CamVid; its table is left out without it")
    parser.add_argument("--dubai", type=Path, help="folder of the Dubai tiles; their table is left out without it")
    parser.add_argument("--only", nargs="+", help="words of which one must be in TABLE/NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--table", action="store_true", help="only write the page again")
    places = parser.parse_args()
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for task in tasks():
        missing = task.table != "fringes" and getattr(places, task.table) is None
        unwanted = places.only and not any(word in task.key for word in places.only)
        if places.table or missing or unwanted or task.key in results:
            continue
        print(f"== {task.key}", flush=True)
        results[task.key] = run(task, places, places.runs)
        FILE.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)


if __name__ == "__main__":
    main()
