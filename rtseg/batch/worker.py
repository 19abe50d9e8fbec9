"""A process that labels segments for a run, started by ``rtseg.batch.pool``.

It gets options and jobs, and returns outcomes, over a socket. When the process at the other end has gone, for whatever
reason, it ends at once; what it was writing is removed by the next run.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from rtseg.batch.options import BatchOptions
from rtseg.errors import RtsegError, SinkError
from rtseg.system.output_lock import OutputInUse

if TYPE_CHECKING:  # they load libraries that count the cores
    from rtseg.batch.segment_work import Job, SegmentWorker

__all__ = ["Outcome", "Setup", "do_job", "main", "open_worker"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs before its first job."""

    options: BatchOptions
    cores: tuple[int, ...]
    """The cores to run on; empty for all."""
    threads: int | None
    """CPU threads of the model."""
    gpu: str | None = None
    """The only GPU that the process sees, as in ``CUDA_VISIBLE_DEVICES``; None for those that this one sees."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    status: str
    """``ready`` once the model is loaded; ``done``; ``busy``: another process works on it; ``failed``; ``died``: its
    process ended; or ``fatal``: no other segment can be done either."""
    facts: dict[str, Any]
    """Of a done segment; for ``ready``, of the backend."""
    error: str = ""
    """Why it failed, on one line."""


def main(descriptor: int) -> None:
    """Work until None comes instead of a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what Ctrl-C means
    connection = Connection(descriptor)
    jobs: SimpleQueue[Any] = SimpleQueue()

    def receive() -> None:
        while True:
            try:
                jobs.put(connection.recv())
            except (EOFError, OSError):
                os._exit(0)

    Thread(target=receive, name="rtseg-jobs", daemon=True).start()
    try:
        _work(connection, jobs)
    except BrokenPipeError:
        os._exit(0)


def _work(connection: Connection, jobs: SimpleQueue[Any]) -> None:
    worker, ready = open_worker(jobs.get())
    connection.send(ready)
    if worker is None:
        return
    with worker:
        while (job := jobs.get()) is not None:
            connection.send(do_job(worker, job))


def open_worker(setup: Setup) -> tuple[SegmentWorker | None, Outcome]:
    """Load the model in this process, which then is one for such work only: its threads are limited.

    Returns:
        The worker, or None; and the outcome that says which.
    """
    if setup.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setup.cores)  # before libraries count the cores
    from rtseg.batch.segment_work import SegmentWorker
    from rtseg.system.opencv import cv2

    # On one thread also where a machine has more cores: the optical flow depends on the number of threads.
    cv2.setNumThreads(1)
    try:
        worker = SegmentWorker(setup.options, setup.threads)
    except RtsegError as error:
        return None, Outcome("fatal", {}, str(error))
    return worker, Outcome("ready", worker.facts())


def do_job(worker: SegmentWorker | None, job: Job) -> Outcome:
    """Do a job; every error becomes an outcome."""
    assert worker is not None
    try:
        return Outcome("done", worker.run(job))
    except OutputInUse:
        return Outcome("busy", {})
    except SinkError as error:
        return Outcome("fatal", {}, str(error))
    except Exception as error:  # noqa: BLE001 - reported with the segment; the others go on
        text = str(error) if isinstance(error, RtsegError) else f"{type(error).__name__}: {error}"
        return Outcome("failed", {}, " ".join(text.split())[:500])
