"""Measure what carrying labels between key frames gains in speed and costs in accuracy.

    python benchmarks/propagation.py --clip CLIP --camvid CamVid [--rounds 5] [--only quality|speed]

- quality: mIoU, boundary F and flicker on CamVid val (15 frames per second) and on the drawn street (30 frames per
  second, whose labels are exact), with the network on every K-th frame, held, carried, and carried and smoothed
- speed: ``rtseg stream`` of the clip into an H.264 file with its overlay, for each K in turn, in one run

The page docs/propagation.md quotes the results.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, save, spread, versions
from rich.console import Console
from rich.table import Table

from rtseg import PropagationOptions, Propagator, SourceOptions, StreamOptions, StreamRun, open_backend
from rtseg.backends.base import Backend
from rtseg.camvid_classes import CLASSES
from rtseg.datasets import open_dataset
from rtseg.frame import Image, Labels
from rtseg.metrics.boundary import BoundaryFScore
from rtseg.metrics.confusion import ConfusionMatrix, compute_scores
from rtseg.metrics.temporal import Flicker, MotionFlicker
from rtseg.pipeline.optical_flow import MotionEstimator, MotionPath
from rtseg.preprocess import Prepare, resize_labels
from rtseg.synthetic.street import Street

INTERVALS = (1, 2, 3, 4, 6)
STREET_FRAMES, STREET_FPS, STREET_SIZE = 150, 30.0, (540, 960)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--model", default="icnet-camvid")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("quality", "speed"))
    options = parser.parse_args()
    path = RESULTS / "propagation.json"
    facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if options.only != "speed":
        with open_backend(options.backend, options.model, precision="auto") as backend:
            facts["quality"] = [
                row
                for name, frames in (("camvid val, 15 Hz", camvid(options.camvid)), ("drawn street, 30 Hz", street()))
                for row in measure_quality(name, frames, backend)
            ]
    if options.only != "quality":
        facts["speed"] = measure_speed(options)
    show(facts)
    facts |= {"model": options.model, "method": __doc__, "versions": versions()}
    print(f"wrote {save(path, facts)}")


def camvid(folder: Path) -> Iterator[tuple[Image, Labels]]:
    """The frames of the labelled video."""
    dataset = open_dataset(f"camvid:{folder}", "val")
    return (dataset.load(index) for index in range(len(dataset)))


def street() -> Iterator[tuple[Image, Labels]]:
    """A drive along the drawn street."""
    drawn = Street(STREET_SIZE)
    return (drawn.render(3 + number / STREET_FPS) for number in range(STREET_FRAMES))


def measure_quality(name: str, frames: Iterator[tuple[Image, Labels]], backend: Backend) -> list[dict[str, Any]]:
    """One row for each K and way. Every way gets the same labels of the network."""
    prepare = Prepare(backend.spec)
    images, truths, network = [], [], []
    for image, truth in frames:
        images.append(prepare(image))
        truths.append(truth)
        network.append(backend.infer(images[-1][None])[0].copy())
    rows = []
    for interval in INTERVALS:
        ways = {"carried": carry(images, network, interval)}
        if interval > 1:
            ways["held"] = [network[number - number % interval] for number in range(len(network))]
        ways["smoothed"] = carry(images, network, interval, smooth=True)
        rows += [{"data": name, "every": interval, "way": way} | scores(images, ways[way], truths) for way in ways]
    return rows


def carry(images: list[Image], network: list[Labels], interval: int, *, smooth: bool = False) -> list[Labels]:
    """The labels of all images, with those of the network for the key frames."""
    propagator = Propagator(interval, smooth=smooth)
    shown = []
    for image, labels in zip(images, network, strict=True):
        if propagator.advance(image):
            propagator.set_labels(labels)
        carried = propagator.labels()
        assert carried is not None
        shown.append(carried)
    return shown


def scores(images: list[Image], labels: list[Labels], truths: list[Labels]) -> dict[str, float | None]:
    """All metrics, in percent."""
    confusion, boundary = ConfusionMatrix(len(CLASSES)), BoundaryFScore(len(CLASSES))
    flicker, motion_flicker, estimate = Flicker(), MotionFlicker(), MotionEstimator()
    for number, (image, shown, truth) in enumerate(zip(images, labels, truths, strict=True)):
        resized = resize_labels(shown, truth.shape)  # type: ignore[arg-type]
        confusion.add(resized, truth)
        boundary.add(resized, truth)
        flicker.add(resized, truth, is_next_frame=number > 0)
        step = estimate(image, 0.0)
        if number > 0 and step.flow is not None:
            path = MotionPath(step.previous, step.previous).extend(step)
            motion_flicker.add(shown, path.carry(labels[number - 1]), ~path.untrusted_at(shown.shape))
    figures = {
        "miou": compute_scores(confusion.matrix()).miou,
        "boundary_f": boundary.scores().mean,
        "flicker": flicker.share(),
        "motion_flicker": motion_flicker.share(),
    }
    return {key: round(100 * value, 3) if value is not None else None for key, value in figures.items()}


def measure_speed(options: argparse.Namespace) -> dict[str, Any]:
    """Frames per second and CPU milliseconds per frame for each K, all in turn."""
    fps: dict[int, list[float]] = {interval: [] for interval in INTERVALS}
    cpu_ms: dict[int, list[float]] = {interval: [] for interval in INTERVALS}
    for round_ in range(options.rounds + 1):
        for interval in INTERVALS:
            frames_per_s, milliseconds = stream(options, interval)
            if round_:  # the first round warms up
                fps[interval].append(frames_per_s)
                cpu_ms[interval].append(milliseconds)
    base = float(np.median(fps[1]))
    return {
        "clip": options.clip.name,
        "rows": [
            {
                "every": interval,
                "fps": spread(fps[interval]),
                "cpu_ms_per_frame": spread(cpu_ms[interval]),
                "times_off": float(np.median(fps[interval])) / base,
            }
            for interval in INTERVALS
        ],
    }


def stream(options: argparse.Namespace, interval: int) -> tuple[float, float]:
    """Frames per second and CPU milliseconds per frame of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = StreamRun(
            StreamOptions(
                source=str(options.clip),
                model=options.model,
                backend=options.backend,
                part=SourceOptions(),
                audio=False,
                output=(str(Path(folder) / "out.mp4"),),
                show=False,
                propagation=PropagationOptions("off" if interval == 1 else str(interval)),
            )
        )
        before = resource.getrusage(resource.RUSAGE_SELF)
        report = run.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return report.fps, 1e3 * cpu_s / report.frames_written


def show(facts: dict[str, Any]) -> None:
    """Print the tables."""
    quality = Table("data", "every", "way", "mIoU %", "boundary F %", "flicker %", "along the motion %")
    for row in facts.get("quality", []):
        figures = [f"{row[key]:.2f}" for key in ("miou", "boundary_f", "flicker", "motion_flicker")]
        quality.add_row(row["data"], str(row["every"]), row["way"], *figures)
    speed = Table("every", "fps (median)", "CPU ms per frame", "times off")
    for row in facts.get("speed", {}).get("rows", []):
        speed.add_row(
            str(row["every"]),
            f"{row['fps']['median']:.1f}",
            f"{row['cpu_ms_per_frame']['median']:.1f}",
            f"{row['times_off']:.2f}",
        )
    Console().print(quality, speed)


if __name__ == "__main__":
    main()
