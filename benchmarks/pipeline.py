"""Measure how much of the machine's processing power the pipeline turns into frames.

    python benchmarks/pipeline.py CLIP [--rounds 5] [--frames 200]

Rows, measured in turn, in one run, on one clip:

- bare: only the backend, with frames in memory, all cores, several requests in flight
- null: rtseg end to end (decode, prepare, infer, labels at the size of the clip), output discarded
- encoded: rtseg end to end with overlay and H.264 file
- tutorial: as in most tutorials: one frame at a time, PIL, eager torch fp32, a numpy palette; nothing is encoded

The limit of an end-to-end row is cores / (sum of the CPU seconds per frame of each stage alone), with each stage
measured by itself in the same run. No pipeline can be faster, however it uses its threads.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from _common import RESULTS, cores, save, spread, versions
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtseg import Overlay, SourceOptions, StreamOptions, StreamRun, open_backend, open_source
from rtseg.backends.base import Backend
from rtseg.bench.environment import rate
from rtseg.frame import Frame, Labels
from rtseg.model_file.load import ModelFile
from rtseg.preprocess import Prepare, resize_labels
from rtseg.sinks.video import VideoSink

if TYPE_CHECKING:
    from torch import nn

ROWS = ("bare", "null", "encoded", "tutorial")


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="icnet-camvid")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--tutorial-frames", type=int, default=30, help="frames of the slow row `tutorial`")
    parser.add_argument("--output", type=Path, default=RESULTS / "pipeline.json", help="JSON file for the results")
    options = parser.parse_args()

    part = SourceOptions(max_frames=options.frames, loop=True)
    frames = list(open_source(options.clip, part))
    fps: dict[str, list[float]] = {row: [] for row in ROWS}
    costs: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, open_backend(options.backend, options.model) as backend:
        out = Path(folder) / "out.mp4"
        tutorial = Tutorial(options.model)
        runs: dict[str, Callable[[], float]] = {
            "bare": lambda: bare(backend, frames),
            "null": lambda: end_to_end(options, part, Path("null")),
            "encoded": lambda: end_to_end(options, part, out),
            "tutorial": lambda: tutorial(options.clip, options.tutorial_frames),
        }
        for run in runs.values():  # warm up: page cache, allocators, compiled kernels
            run()
        for round_ in range(options.rounds):
            for row, run in runs.items():
                fps[row].append(run())
            for stage, seconds in stage_costs(options.clip, part, backend, frames, out).items():
                costs.setdefault(stage, []).append(seconds)
            print(f"round {round_ + 1}: " + ", ".join(f"{row} {fps[row][-1]:.1f} fps" for row in ROWS))
        facts = summarize(fps, costs) | {
            "clip": options.clip.name,
            "frame_size": list(frames[0].image.shape[:2]),
            "frames": options.frames,
            "model": backend.spec.name,
            "model_size": list(backend.spec.size),
            "backend": backend.name,
            "precision": backend.precision,
            "method": __doc__,
            "versions": versions("torch"),
        }
    show(facts)
    print(f"wrote {save(options.output, facts)}")


def bare(backend: Backend, frames: list[Frame]) -> float:
    """Return the frames per second of the backend alone, with ``depth`` batches in flight."""
    prepare = Prepare(backend.spec)
    batches = [prepare(frame.image)[None] for frame in frames]
    return rate([time.perf_counter() for _ in infer_all(backend, batches)])


def infer_all(backend: Backend, batches: list[NDArray[np.uint8]]) -> Iterator[Labels]:
    """Yield the labels of each batch in order, with ``depth`` batches in flight."""
    in_flight = deque()  # type: ignore[var-annotated]
    for batch in batches:
        in_flight.append(backend.submit(batch))
        if len(in_flight) >= backend.depth:
            yield backend.wait(in_flight.popleft())[0]
    while in_flight:
        yield backend.wait(in_flight.popleft())[0]


def end_to_end(options: argparse.Namespace, part: SourceOptions, output: Path) -> float:
    """Return the frames per second of rtseg, as ``rtseg stream`` runs it."""
    run = StreamRun(
        StreamOptions(
            source=str(options.clip),
            overwrite=True,
            model=options.model,
            backend=options.backend,
            part=part,
            output=(str(output),),
            show=False,
        )
    )
    return run.run().fps


class Tutorial:
    """One frame at a time: cv2.VideoCapture, PIL, torchvision, eager torch fp32, numpy palette, PIL blend."""

    def __init__(self, model: str) -> None:
        from torchvision import transforms

        from rtseg.model_file.load import load_model
        from rtseg.models.label_network import MEAN, STD
        from rtseg.weights import find_model

        loaded = load_model(find_model(model))
        self.network = unfold_batch_norm(loaded)
        height, width = loaded.spec.size
        self.transform = transforms.Compose(
            [transforms.Resize((height, width)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )
        self.palette = np.array(loaded.spec.palette, dtype=np.uint8)

    def __call__(self, clip: Path, count: int) -> float:
        """Return the frames per second over ``count`` frames."""
        import torch
        from PIL import Image

        capture = cv2.VideoCapture(str(clip))
        times_s = []
        for _ in range(count):
            success, bgr = capture.read()
            if not success:
                break
            image = Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
            with torch.no_grad():
                logits = self.network(self.transform(image)[None])
                logits = torch.nn.functional.interpolate(logits, size=bgr.shape[:2], mode="bilinear")
            labels = logits.argmax(1)[0].numpy()
            np.asarray(Image.blend(image, Image.fromarray(self.palette[labels]), 0.5))
            times_s.append(time.perf_counter())
        capture.release()
        return rate(times_s)


def unfold_batch_norm(model: ModelFile) -> nn.Module:
    """Return the network with separate batch norm layers, as a tutorial would run it.

    A model file stores them folded into the convolutions. Here each layer gets the folded shift and scale 1: the same
    operations as in a checkpoint, and the same labels.
    """
    import torch
    from torch import nn

    from rtseg.backends.torch import build_network
    from rtseg.models import create_model

    folded = build_network(model).network.state_dict()
    network = create_model(model.spec.architecture, len(model.spec.classes)).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in folded:
                tensor.copy_(folded[name])
        for block in network.modules():
            layers = list(block.named_children()) if isinstance(block, nn.Sequential) else []
            for (_, convolution), (_, norm) in itertools.pairwise(layers):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    path = next(name for name, module in network.named_modules() if module is convolution)
                    norm.weight.fill_(1)
                    norm.bias.copy_(folded[f"{path}.bias"])
                    assert norm.running_var is not None
                    norm.running_var.fill_(1 - norm.eps)
    return network


def stage_costs(clip: Path, part: SourceOptions, backend: Backend, frames: list[Frame], out: Path) -> dict[str, float]:
    """Measure the CPU seconds per frame of each stage alone, over all threads of the process."""
    costs: dict[str, float] = {}
    count = len(frames)

    @contextmanager
    def measure_cpu(stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        costs[stage] = (time.process_time() - started) / count

    with measure_cpu("decode"):
        for _ in open_source(clip, part):
            pass
    prepare = Prepare(backend.spec)
    with measure_cpu("prepare"):
        batches = [prepare(frame.image)[None] for frame in frames]
    with measure_cpu("infer"):
        small = [labels.copy() for labels in infer_all(backend, batches)]
    with measure_cpu("labels"):
        labels = [resize_labels(each, frame.image.shape[:2]) for each, frame in zip(small, frames, strict=True)]
    overlay = Overlay(backend.spec)
    with measure_cpu("overlay"):
        for frame, each in zip(frames, labels, strict=True):
            overlay.draw(frame.image, each)
    images = [overlay.draw(frame.image, each) for frame, each in zip(frames[:50], labels, strict=False)]
    sink = VideoSink(out, overwrite=True)
    with measure_cpu("encode"):
        for index, frame in enumerate(frames):
            sink.write(frame, labels[index], images[index % len(images)])
        sink.close()
    return costs


def summarize(fps: dict[str, list[float]], costs: dict[str, list[float]]) -> dict[str, object]:
    """Return medians, the two limits, and the ratios to the limits and to the tutorial."""
    cost = {stage: float(np.median(values)) for stage, values in costs.items()}
    null_s = cost["decode"] + cost["prepare"] + cost["infer"] + cost["labels"]
    encoded_s = null_s + cost["overlay"] + cost["encode"]
    medians = {row: float(np.median(values)) for row, values in fps.items()}
    limits = {"null": cores() / null_s, "encoded": cores() / encoded_s}
    return {
        "fps": {row: spread(values) for row, values in fps.items()},
        "cpu_ms_per_frame": {stage: 1e3 * seconds for stage, seconds in cost.items()},
        "limit_fps": limits,
        "share_of_limit": {row: medians[row] / limits[row] for row in limits},
        "times_the_tutorial": {row: medians[row] / medians["tutorial"] for row in ("null", "encoded")},
    }


def show(facts: dict[str, object]) -> None:
    """Print the tables."""
    table = Table("row", "fps (median)", "quartiles", "limit fps", "share of limit", "x tutorial")
    for row in ROWS:
        figures = facts["fps"][row]  # type: ignore[index]
        limit = facts["limit_fps"].get(row)  # type: ignore[attr-defined]
        share = facts["share_of_limit"].get(row)  # type: ignore[attr-defined]
        times = facts["times_the_tutorial"].get(row)  # type: ignore[attr-defined]
        table.add_row(
            row,
            f"{figures['median']:.1f}",
            f"{figures['q1']:.1f} - {figures['q3']:.1f}",
            f"{limit:.1f}" if limit else "",
            f"{share:.3f}" if share else "",
            f"{times:.1f}" if times else "",
        )
    console = Console()
    console.print(table)
    costs = ", ".join(f"{stage} {ms:.2f}" for stage, ms in facts["cpu_ms_per_frame"].items())  # type: ignore[attr-defined]
    console.print(f"CPU ms per frame, each stage alone: {costs}")


if __name__ == "__main__":
    main()
