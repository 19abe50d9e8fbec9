"""Runs jobs on processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Protocol, Self

from rtseg.batch.options import BatchOptions
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome, Setup
from rtseg.system.nvidia import find_gpu

__all__ = ["LocalProcess", "WorkerPool", "WorkerProcess", "worker_setups"]

_BUSY_S = 1.0
"""How long a segment that another run works on is left alone before it is looked at again."""
_LEAVE_S = 10.0


def worker_setups(options: BatchOptions, jobs: int) -> list[Setup]:
    """Which cores and threads each process gets: together all cores, if there are enough jobs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    available = len(cores) or os.cpu_count() or 1
    on_gpu = options.device != "cpu" and options.backend in ("auto", "tensorrt", "torch") and find_gpu() is not None
    count = max(1, min(options.workers or (1 if on_gpu else available), jobs))
    if on_gpu or count > available:
        return [Setup(options, (), None if on_gpu else 1)] * count
    share, rest = divmod(available, count)
    setups, first = [], 0
    for number in range(count):
        length = share + (number < rest)
        setups.append(Setup(options, tuple(cores[first : first + length]), length))
        first += length
    return setups


class WorkerProcess(Protocol):
    """A process with a model, which does one job at a time."""

    def ready(self) -> Outcome:
        """Wait until the model is loaded; raise EOFError if it died."""

    def run(self, job: Job) -> Outcome:
        """Let it do a job; raise EOFError if it died."""

    def reason(self) -> str:
        """Why it died."""

    def close(self) -> None:
        """Let it end, and wait for it."""

    def kill(self) -> None:
        """End it at once."""


class WorkerPool:
    """Processes that take one job after the other. Use it as a context manager; leaving ends the processes at once.

    Args:
        setups: one for each process.
        start: starts a process; by default on this machine.
    """

    def __init__(self, setups: Sequence[Setup], start: Callable[[Setup], WorkerProcess] | None = None) -> None:
        self._setups = setups
        self._start_process = start or LocalProcess
        self._jobs: deque[tuple[Job, float]] = deque()
        self._lock = Lock()
        self._open = 0
        """Jobs without an outcome."""
        self._outcomes: SimpleQueue[tuple[Job | None, Outcome]] = SimpleQueue()
        self._processes: list[WorkerProcess] = []
        self._threads: list[Thread] = []
        self._stopped = False

    def run(self, jobs: Sequence[Job], retry: Callable[[Job, Outcome], bool]) -> Iterator[tuple[Job | None, Outcome]]:
        """Yield the outcomes of ``jobs``, and ``ready`` for each process without a job, as they come.

        A process that dies is replaced.

        Args:
            jobs: what to do, in this order.
            retry: called for a job that failed, or whose process died: whether to try it again.
                It is called on this thread.
        """
        self._jobs = deque((job, 0.0) for job in jobs)
        self._open = len(jobs)
        self._threads = [Thread(target=self._serve, args=(setup,), daemon=True) for setup in self._setups]
        for thread in self._threads:
            thread.start()
        while self._open:
            try:
                job, outcome = self._outcomes.get(timeout=0.5)
            except Empty:
                continue
            if job is not None and outcome.status in ("failed", "died") and retry(job, outcome):
                with self._lock:
                    self._jobs.append((job, 0.0))
                continue
            self._open -= job is not None
            yield job, outcome
            if outcome.status == "fatal":
                return

    def _serve(self, setup: Setup) -> None:
        """Feed one process until no job is left."""
        process: WorkerProcess | None = None
        while self._open and not self._stopped:
            job = self._next()
            if job is None:
                time.sleep(0.05)  # a failed job may come back, or another run may release one
                continue
            try:
                if process is None:
                    process = self._start(setup)
                outcome = process.run(job)
            except (EOFError, OSError):
                outcome = Outcome("died", {}, f"the process died ({process.reason()})" if process else "cannot start")
                process = None
            if outcome.status == "busy":
                with self._lock:
                    self._jobs.append((job, time.monotonic() + _BUSY_S))
                continue
            if not self._stopped:
                self._outcomes.put((job, outcome))
        if process is not None:
            process.close()

    def _next(self) -> Job | None:
        with self._lock:
            for _ in range(len(self._jobs)):
                job, not_before_s = self._jobs.popleft()
                if not_before_s <= time.monotonic():
                    return job
                self._jobs.append((job, not_before_s))
        return None

    def _start(self, setup: Setup) -> WorkerProcess:
        process = self._start_process(setup)
        self._processes.append(process)
        ready = process.ready()
        if ready.status == "fatal":
            self._outcomes.put((None, ready))
            raise EOFError
        self._outcomes.put((None, ready))
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped, self._open = True, 0
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join(_LEAVE_S)


class LocalProcess:
    """A process of this machine, and the socket to it."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = multiprocessing.Pipe()
        # The modules of this process must be found, wherever they came from.
        paths = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        threads = {} if setup.threads is None else {"OMP_NUM_THREADS": str(setup.threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from rtseg.batch.worker import main; main({theirs.fileno()})"],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | paths | threads,
        )
        theirs.close()
        self._connection: Connection = ours
        self._connection.send(setup)

    def ready(self) -> Outcome:
        """Wait until the model is loaded."""
        return self._receive()

    def run(self, job: Job) -> Outcome:
        """Let it do a job.

        Raises:
            EOFError: it died.
        """
        self._connection.send(job)
        return self._receive()

    def _receive(self) -> Outcome:
        outcome = self._connection.recv()
        assert isinstance(outcome, Outcome)
        return outcome

    def reason(self) -> str:
        """Why it ended."""
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Let it end, and wait for it."""
        try:
            self._connection.send(None)
            self._process.wait(_LEAVE_S)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()
        self._connection.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
