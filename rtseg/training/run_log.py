"""The log of a training run: ``metrics.jsonl``, TensorBoard, and a progress bar with the remaining time."""

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
from rtseg.datasets.loader import DatasetReader, LoadedItem
from rtseg.errors import SinkError
from rtseg.image_io.decode import to_bgr
from rtseg.metrics.confusion import Scores
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import resize, resize_labels
from rtseg.training.validation import NetworkPredictor
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["RunLog"]

T = TypeVar("T")

_EXAMPLES = 4
"""Validation images shown in TensorBoard."""


class RunLog:
    """The log in an existing run folder. Use it as a context manager.

    Args:
        folder: of the run; ``metrics.jsonl`` and ``tensorboard`` are written here.
        console: prints a line for each epoch.
        epochs: of the whole run.
        done: epochs completed before; 0 starts a new log.

    Raises:
        SinkError: the log cannot be written.
    """

    def __init__(self, folder: Path, console: Console, epochs: int, done: int) -> None:
        self._folder = folder
        self._metrics = folder / "metrics.jsonl"
        self._epochs = epochs
        try:
            if not done:
                self._metrics.write_text("")
            # TensorBoard discards the steps from ``purge_step`` on: they are of an epoch that was interrupted.
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
        self._epochs_task = self._progress.add_task("epochs", total=epochs, completed=done)

    def track(self, description: str, steps: Iterable[T], count: int) -> Iterator[T]:
        """Iterate over ``steps`` and show the progress."""
        task = self._progress.add_task(description, total=count)
        try:
            yield from self._progress.track(steps, task_id=task)
        finally:
            self._progress.remove_task(task)

    def log_epoch(self, metrics: dict[str, Any], classes: tuple[str, ...], scores: Scores | None) -> None:
        """Log the metrics of an epoch.

        Args:
            metrics: ``epoch``, ``loss``, ``lr`` and ``seconds`` at least; written as a line of ``metrics.jsonl``.
            classes: names of the classes.
            scores: of the validation; None if the epoch was not validated.

        Raises:
            SinkError: the log cannot be written.
        """
        try:
            with self._metrics.open("a") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise SinkError(f"cannot write {self._metrics}: {error.strerror}; make room and --resume") from error
        with self._board_errors():
            self._plot(metrics, classes, scores)
        left_s = metrics["seconds"] * (self._epochs - metrics["epoch"])
        text = f"epoch {metrics['epoch']}/{self._epochs}  loss {metrics['loss']:.4f}  {metrics['seconds']:.0f} s"
        if scores is not None:
            text += f"  val mIoU {100 * scores.miou:.2f} %"
        self._progress.console.print(f"{text}  ETA {left_s / 60:.0f} min", highlight=False)
        self._progress.update(self._epochs_task, completed=metrics["epoch"])

    def log_examples(
        self, epoch: int, predictor: NetworkPredictor, dataset: Dataset, spec: ModelSpec, reader: DatasetReader
    ) -> None:
        """Add example images to TensorBoard: ground truth on the left, prediction on the right.

        Raises:
            DatasetError: an image cannot be loaded.
            SinkError: the log cannot be written.
        """
        indices: list[int] = np.linspace(0, len(dataset) - 1, min(_EXAMPLES, len(dataset)), dtype=int).tolist()
        with self._board_errors():
            self._add_images(epoch, predictor, reader.load(dataset, indices), spec)

    def _plot(self, metrics: dict[str, Any], classes: tuple[str, ...], scores: Scores | None) -> None:
        epoch = metrics["epoch"]
        for name in ("loss", "lr", "seconds"):
            self._board.add_scalar(f"train/{name}", metrics[name], epoch)
        if scores is not None:
            self._board.add_scalar("val/miou", scores.miou, epoch)
            self._board.add_scalar("val/pixel_accuracy", scores.pixel_accuracy, epoch)
            for name, iou in zip(classes, scores.iou, strict=True):
                if iou is not None:
                    self._board.add_scalar(f"val/iou/{name}", iou, epoch)
        self._board.flush()

    def _add_images(
        self, epoch: int, predictor: NetworkPredictor, items: Generator[LoadedItem, None, None], spec: ModelSpec
    ) -> None:
        overlay = Overlay(spec, OverlayOptions())
        with closing(items):
            for index, image, truth in items:
                resized = resize(np.ascontiguousarray(to_bgr(image)), spec.size)
                predictor.reset()
                both_labels = (resize_labels(truth, spec.size), resize_labels(predictor(image), spec.size))
                overlays = [overlay.draw(resized, labels).copy() for labels in both_labels]
                rgb = np.ascontiguousarray(np.concatenate(overlays, axis=1)[..., ::-1])
                self._board.add_image(f"val/{index}", torch.from_numpy(rgb), epoch, dataformats="HWC")
        self._board.flush()

    @contextmanager
    def _board_errors(self) -> Iterator[None]:
        """Raise write errors of TensorBoard as ``SinkError``."""
        try:
            yield
        except OSError as error:
            if isinstance(error, SinkError):
                raise
            raise SinkError(f"cannot write {self._folder}/tensorboard ({error}): make room and --resume") from error

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        with suppress(OSError) if error is not None else self._board_errors():
            self._board.close()
