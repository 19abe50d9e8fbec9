"""Runs jobs on processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import Protocol, Self

from rtseg.batch.options import BatchOptions
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome, Setup
from rtseg.system.nvidia import visible_gpus

__all__ = ["LocalProcess", "WorkerPool", "WorkerProcess", "start_child", "worker_setups"]

_BUSY_S = 1.0
"""How long a segment that another run works on is left alone before it is looked at again."""
_LEAVE_S = 10.0
"""How long a process may take to end."""


def worker_setups(options: BatchOptions, jobs: int) -> list[Setup]:
    """Which cores and threads, or which GPU, each process gets: together all of them, if there are enough jobs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    available = len(cores) or os.cpu_count() or 1
    uses_gpu = options.device != "cpu" and options.backend in ("auto", "tensorrt", "torch")
    gpus = visible_gpus() if uses_gpu else []
    count = max(1, min(options.workers or len(gpus) or available, jobs))
    if gpus:
        return [Setup(options, (), None, gpus[number % len(gpus)]) for number in range(count)]
    if count > available:
        return [Setup(options, (), 1)] * count
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
        """Wait until the model is loaded; raise EOFError or OSError if it died."""

    def run(self, job: Job) -> Outcome:
        """Let it do a job; raise EOFError or OSError if it died."""

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
        self._changed = Condition()
        """Guards the jobs, their number and the processes; whoever changes them notifies the threads."""
        self._open = 0
        """Jobs without an outcome."""
        self._outcomes: SimpleQueue[tuple[Job | None, Outcome] | Exception] = SimpleQueue()
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
        self._threads = [
            Thread(target=self._serve, args=(setup,), name=f"rtseg-batch-{number}", daemon=True)
            for number, setup in enumerate(self._setups)
        ]
        for thread in self._threads:
            thread.start()
        while self._open:
            received = self._outcomes.get()  # every thread puts one for each job that it takes, whatever happens
            if isinstance(received, Exception):
                raise received
            job, outcome = received
            if job is not None and outcome.status in ("failed", "died") and retry(job, outcome):
                self._put_back(job, 0.0)
                continue
            if job is not None:
                with self._changed:
                    self._open -= 1
                    self._changed.notify_all()
            yield job, outcome
            if outcome.status == "fatal":
                return

    def _serve(self, setup: Setup) -> None:
        """Feed one process until no job is left; an error that nobody expects is raised in ``run``."""
        try:
            self._feed(setup)
        except Exception as error:  # noqa: BLE001 - raised in run
            self._outcomes.put(error)

    def _feed(self, setup: Setup) -> None:
        process: WorkerProcess | None = None
        while (job := self._next()) is not None:
            try:
                if process is None:
                    process = self._start_process(setup)
                    self._make_ready(process)
                outcome = process.run(job)
            except (EOFError, OSError) as error:
                reason = f"the process died ({process.reason()})" if process else f"cannot start a process ({error})"
                outcome, process = Outcome("died", {}, reason), None
            if outcome.status == "busy":
                self._put_back(job, time.monotonic() + _BUSY_S)
            else:
                self._outcomes.put((job, outcome))
        if process is not None:
            process.close()

    def _next(self) -> Job | None:
        """Wait for a job that is due, as a failed one may come back, or another run release one; None at the end."""
        with self._changed:
            while self._open and not self._stopped:
                now_s = time.monotonic()
                for number, (job, not_before_s) in enumerate(self._jobs):
                    if not_before_s <= now_s:
                        del self._jobs[number]
                        return job
                due_s = min((not_before_s for _, not_before_s in self._jobs), default=now_s + _BUSY_S)
                self._changed.wait(due_s - now_s)
        return None

    def _put_back(self, job: Job, not_before_s: float) -> None:
        with self._changed:
            self._jobs.append((job, not_before_s))
            self._changed.notify_all()

    def _make_ready(self, process: WorkerProcess) -> None:
        with self._changed:
            self._processes.append(process)
            is_late = self._stopped
        if is_late:
            process.kill()
        ready = process.ready()
        self._outcomes.put((None, ready))
        if ready.status == "fatal":
            raise EOFError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped, self._open = True, 0
            self._changed.notify_all()
            processes = list(self._processes)
        for process in processes:
            process.kill()
        for thread in self._threads:
            thread.join(_LEAVE_S)


def start_child(
    code: str, variables: Mapping[str, str] = {}, *, stderr: int | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start Python on this machine.

    Args:
        code: what it runs, with ``{descriptor}`` for the file descriptor of its end of a socket.
        variables: of its environment, beside those of this process.
        stderr: see ``subprocess.Popen``; that of this process by default.

    Returns:
        The process, and this end of the socket.
    """
    ours, theirs = multiprocessing.Pipe()
    # The modules of this process must be found, wherever they came from.
    paths = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(descriptor=theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={**os.environ, **paths, **variables},
    )
    theirs.close()
    return process, ours


class LocalProcess:
    """A process of this machine, and the socket to it."""

    def __init__(self, setup: Setup) -> None:
        threads = {} if setup.threads is None else {"OMP_NUM_THREADS": str(setup.threads)}
        gpu = {} if setup.gpu is None else {"CUDA_VISIBLE_DEVICES": setup.gpu}
        code = "from rtseg.batch.worker import main; main({descriptor})"
        self._process, self._connection = start_child(code, threads | gpu)
        self._setup = setup

    def ready(self) -> Outcome:
        """Wait until the model is loaded.

        Raises:
            EOFError, OSError: it died.
        """
        self._connection.send(self._setup)
        return self._receive()

    def run(self, job: Job) -> Outcome:
        """Let it do a job.

        Raises:
            EOFError, OSError: it died.
        """
        self._connection.send(job)
        return self._receive()

    def _receive(self) -> Outcome:
        outcome = self._connection.recv()
        assert isinstance(outcome, Outcome)
        return outcome

    def reason(self) -> str:
        """Why it ended."""
        try:
            code = self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:  # it has closed its socket, but is still there
            self.kill()
            return f"it did not answer and did not end within {_LEAVE_S:g} s"
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
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, e.g. on a network mount
            self._process.wait(_LEAVE_S)
