"""Batches of training views: files read ahead by the reader of image sequences, views made of them by processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from rtseg.datasets.loader import Reader
from rtseg.errors import RtsegError, TrainingError
from rtseg.training.augment import RandomViews

__all__ = ["load_batches"]


def load_batches(
    views: RandomViews,
    batches: list[list[int]],
    *,
    workers: int,
    reader: Reader | None = None,
    pin_memory: bool = False,
) -> Iterator[list[Tensor]]:
    """The views of each batch, stacked: images uint8 (N, C, h, w) and labels int64 (N, h, w), or those of clips.

    Every worker is a process that makes each so-many-th batch: threads of its own read and decode ahead, its main
    thread augments. What a view looks like does not hang on how many there are.

    Args:
        views: what is to be seen; of its present epoch.
        batches: the places of the views of each batch, in order.
        workers: processes; with 0 the threads are this process's, and the views are made when they are asked for.
        reader: how files are read, by all workers together; as usual unless given.
        pin_memory: whether batches come in memory that a GPU can copy from while the CPU goes on.

    Raises:
        DatasetError: a file cannot be used, or the storage does not answer.
        TrainingError: a worker died.
    """
    reader = reader or Reader()
    if workers > 1:  # that all read from a disk which turns would have it seek between them
        reader = reader.split(workers, multiprocessing.Lock())
    loader: Iterable[list[Tensor] | RtsegError] = DataLoader(
        _Batches(views, batches, reader),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )
    with _uninterrupted():
        iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, RtsegError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that loads images died: give fewer --workers, or free memory ({error})"
        ) from error
    finally:
        with _uninterrupted():
            del iterator  # ends the workers


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end: in what runs around a fork, and where an object dies, Python would drop it."""
    if current_thread() is not main_thread():  # only the main thread is told of signals
        yield
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
    if noted:
        signal.raise_signal(signal.SIGINT)


@dataclass(eq=False)
class _Batches(IterableDataset[list[Tensor] | RtsegError]):
    """The batches of a worker, or the error that one meets, as a value: raised it would come with the worker's
    traceback.
    """

    views: RandomViews
    batches: list[list[int]]
    reader: Reader

    def __iter__(self) -> Iterator[list[Tensor] | RtsegError]:
        worker = get_worker_info()
        # The loader takes a batch of each worker in turn.
        mine = self.batches if worker is None else self.batches[worker.id :: worker.num_workers]
        views = self.views
        examples = (views.example(place) for places in mine for place in places)
        try:
            with closing(self.reader.make(examples, views.origins(), "the training data")) as loaded:
                for places in mine:
                    batch: list[Tensor] = default_collate([views.view(place, next(loaded)) for place in places])
                    yield batch
        except RtsegError as error:
            yield error


def _as_it_is(batch: Any) -> Any:
    return batch


def _quiet_worker(_: int) -> None:
    from rtseg.system.opencv import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began it ends it
    cv2.setNumThreads(0)
