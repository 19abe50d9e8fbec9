"""Load batches of training views: files are read ahead as for image sequences, views are made by worker processes."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from rtseg.datasets.loader import DatasetReader
from rtseg.errors import RtsegError, TrainingError
from rtseg.training.augment import RandomViews

__all__ = ["load_batches"]

_NO_SHARED_MEMORY = ("shared memory", "Bus error", "</torch_")
"""Parts of the errors of torch when /dev/shm, through which workers send batches, is full."""
_MAX_REASON = 150
"""Longest reason in a message, in characters."""


def load_batches(
    views: RandomViews,
    batches: list[list[int]],
    *,
    workers: int,
    reader: DatasetReader | None = None,
    pin_memory: bool = False,
) -> Iterator[list[Tensor]]:
    """Yield the stacked views of each batch: images uint8 (N, C, h, w) and labels int64 (N, h, w), or those of clips.

    Each worker process makes every ``workers``-th batch: its threads read and decode ahead, its main thread augments.
    The views do not depend on the number of workers.

    Args:
        views: in its current epoch.
        batches: the indices of the views of each batch, in order.
        workers: number of processes; with 0, this process reads ahead and makes the views when they are requested.
        reader: reads the files, for all workers together; default: a reader with default options.
        pin_memory: whether batches are in pinned memory, which a GPU can copy from asynchronously.

    Raises:
        DatasetError: a file cannot be used, or the storage does not answer.
        TrainingError: a worker died.
    """
    reader = reader or DatasetReader()
    if workers > 1:  # reading from a hard disk by several processes at once would make it seek
        reader = reader.share_between(workers, multiprocessing.Lock())
    loader: Iterable[list[Tensor] | RtsegError] = DataLoader(
        _BatchDataset(views, batches, reader),
        batch_size=None,
        num_workers=workers,
        collate_fn=_identity,
        worker_init_fn=_init_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )
    with _delay_interrupt():
        iterator = iter(loader)
    try:
        for batch in iterator:
            if isinstance(batch, RtsegError):
                raise batch
            yield batch
    except Exception as error:
        if isinstance(error, RtsegError) or "DataLoader worker" not in str(error):
            raise
        raise TrainingError(_worker_failure(str(error))) from error
    finally:
        with _delay_interrupt():
            del iterator  # ends the workers


def _worker_failure(text: str) -> str:
    """What to tell the user about the error of a worker. ``text`` may contain a whole traceback."""
    if any(sign in text for sign in _NO_SHARED_MEMORY):
        size_mb = shutil.disk_usage("/dev/shm").total / 2**20 if Path("/dev/shm").exists() else 0
        return f"/dev/shm is too small ({size_mb:.0f} MB): use --workers 0, or docker run --shm-size 2g"
    reason = text.strip().splitlines()[-1].strip()[:_MAX_REASON]
    return f"a process that loads images died: give fewer --workers, or free memory ({reason})"


@contextmanager
def _delay_interrupt() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block: Python would swallow it around a fork and in a destructor."""
    if current_thread() is not main_thread():  # only the main thread receives signals
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous if previous is not None else signal.SIG_DFL)
    if received:
        signal.raise_signal(signal.SIGINT)


@dataclass(eq=False)
class _BatchDataset(IterableDataset[list[Tensor] | RtsegError]):
    """The batches of one worker. An error is yielded as a value: raised, it would include the worker's traceback."""

    views: RandomViews
    batches: list[list[int]]
    reader: DatasetReader

    def __iter__(self) -> Iterator[list[Tensor] | RtsegError]:
        worker = get_worker_info()
        # The loader takes a batch from each worker in turn.
        batches = self.batches if worker is None else self.batches[worker.id :: worker.num_workers]
        views = self.views
        tasks = (views.load_task(index) for indices in batches for index in indices)
        try:
            with closing(self.reader.run(tasks, views.sample_files(), "the training data")) as frames:
                for indices in batches:
                    batch: list[Tensor] = default_collate([views.view(index, next(frames)) for index in indices])
                    yield batch
        except RtsegError as error:
            yield error


def _identity(batch: Any) -> Any:
    return batch


def _init_worker(_: int) -> None:
    from rtseg.system.opencv import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops the workers
    cv2.setNumThreads(0)
