"""What a run tells while it runs: lines of metrics, TensorBoard, a progress bar with the time that is left."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from rtseg.datasets import Dataset
from rtseg.datasets.loader import Loaded, Reader
from rtseg.errors import SinkError
from rtseg.image_io.decode import to_bgr
from rtseg.metrics.confusion import Scores
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import resize, resize_labels
from rtseg.training.validation import NetworkLabels
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["Journal"]

T = TypeVar("T")

_EXAMPLES = 4
"""Validation images that TensorBoard shows."""
_METRICS = "metrics.jsonl"


class Journal:
    """The records of one run folder; open it once the folder is there.

    Args:
        folder: of the run; gets ``metrics.jsonl`` and ``tensorboard``.
        console: where epochs are told.
        epochs: of the whole run.
        done: epochs done before; 0 begins the records anew.
    """

    def __init__(self, folder: Path, console: Console, epochs: int, done: int) -> None:
        self._folder = folder
        self._metrics = folder / _METRICS
        self._epochs = epochs
        try:
            if not done:
                self._metrics.write_text("")
            # Steps after ``purge_step`` are those of a run that was stopped within an epoch: TensorBoard forgets them.
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1 if done else None)
        except OSError as error:
            raise SinkError(f"cannot write into {folder}: {error.strerror}; give another --output") from error
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._whole = self._progress.add_task("epochs", total=epochs, completed=done)

    def counted(self, what: str, steps: Iterable[T], count: int) -> Iterator[T]:
        """``steps``, counted on the bar while they are taken."""
        task = self._progress.add_task(what, total=count)
        try:
            yield from self._progress.track(steps, task_id=task)
        finally:
            self._progress.remove_task(task)

    def tell(self, line: dict[str, Any], classes: tuple[str, ...], result: Scores | None) -> None:
        """Record an epoch.

        Args:
            line: ``epoch``, ``loss``, ``lr`` and ``seconds`` at least; a line of ``metrics.jsonl``.
            classes: their names.
            result: of the validation, where there was one.

        Raises:
            SinkError: the line cannot be written.
        """
        try:
            with self._metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise SinkError(f"cannot write {self._metrics}: {error.strerror}; make room and --resume") from error
        with self._plotting():
            self._plot(line, classes, result)
        left_s = line["seconds"] * (self._epochs - line["epoch"])
        text = f"epoch {line['epoch']}/{self._epochs}  loss {line['loss']:.4f}  {line['seconds']:.0f} s"
        if result is not None:
            text += f"  val mIoU {100 * result.miou:.2f} %"
        self._progress.console.print(f"{text}  ETA {left_s / 60:.0f} min", highlight=False)
        self._progress.update(self._whole, completed=line["epoch"])

    def _plot(self, line: dict[str, Any], classes: tuple[str, ...], result: Scores | None) -> None:
        epoch = line["epoch"]
        for what in ("loss", "lr", "seconds"):
            self._board.add_scalar(f"train/{what}", line[what], epoch)
        if result is not None:
            self._board.add_scalar("val/miou", result.miou, epoch)
            self._board.add_scalar("val/pixel_accuracy", result.pixel_accuracy, epoch)
            for name, iou in zip(classes, result.iou, strict=True):
                if iou is not None:
                    self._board.add_scalar(f"val/iou/{name}", iou, epoch)
        self._board.flush()

    @contextmanager
    def _plotting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise SinkError(f"cannot write {self._folder}/tensorboard ({error}): make room and --resume") from error

    def show(self, epoch: int, label: NetworkLabels, dataset: Dataset, spec: ModelSpec, reader: Reader) -> None:
        """Put example images on the board: the truth on the left, the labels of the network on the right."""
        overlay = Overlay(spec, OverlayOptions())
        with self._plotting():
            self._show(epoch, label, reader.load(dataset, _places(dataset)), spec, overlay)

    def _show(
        self, epoch: int, label: NetworkLabels, loaded: Generator[Loaded, None, None], spec: ModelSpec, overlay: Overlay
    ) -> None:
        with closing(loaded):
            for place, image, truth in loaded:
                small = resize(np.ascontiguousarray(to_bgr(image)), spec.size)
                label.reset()
                pairs = (resize_labels(truth, spec.size), resize_labels(label(image), spec.size))
                painted = [overlay.draw(small, labels).copy() for labels in pairs]
                rgb = np.ascontiguousarray(np.concatenate(painted, axis=1)[..., ::-1])
                self._board.add_image(f"val/{place}", torch.from_numpy(rgb), epoch, dataformats="HWC")
        self._board.flush()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        with suppress(OSError) if error is not None else self._plotting():
            self._board.close()


def _places(dataset: Dataset) -> list[int]:
    """Of the examples: spread over all."""
    places: list[int] = np.linspace(0, len(dataset) - 1, min(_EXAMPLES, len(dataset)), dtype=int).tolist()
    return places
