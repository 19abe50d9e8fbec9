"""Runs jobs on actors of a Ray cluster. An actor holds a model and gets one job at a time.

The connection to the cluster is in a process of its own (``rtseg.batch.ray_process``): Ray ends the process that holds
it when the head of the cluster does not come back within a minute, without an exception.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from rtseg.batch.open_store import absolute_output
from rtseg.batch.options import BatchOptions
from rtseg.batch.pool import start_child
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome
from rtseg.errors import BackendError, RtsegError
from rtseg.system.redact import redact

__all__ = ["RayPool"]

_LEAVE_S = 30.0
"""How long the process may take to end a cluster of its own."""


class RayPool:
    """The actors of a cluster, used as a ``rtseg.batch.pool.WorkerPool``: one for each of its CPUs, or with
    ``--device cuda`` for each of its GPUs.

    More actors than fit wait in the queue of Ray, which makes a cluster that grows by itself start more machines.

    Raises:
        MissingExtra: Ray is not installed.
        BackendUnavailable: the cluster does not answer.
        OptionError: it has no such resource.
    """

    def __init__(self, options: BatchOptions, jobs: int) -> None:
        self._address = redact(str(options.ray))
        self._is_done = False
        self._process, self._connection = start_child(
            "from rtseg.batch.ray_process import main; main({descriptor})", stderr=subprocess.DEVNULL
        )
        try:
            self._send(replace(options, output=absolute_output(options.output)), jobs)
            self._receive()
        except BaseException:
            self._end()
            raise

    def run(self, jobs: Sequence[Job], retry: Callable[[Job, Outcome], bool]) -> Iterator[tuple[Job | None, Outcome]]:
        """See ``WorkerPool.run``.

        Raises:
            BackendError: the connection to the cluster is lost.
        """
        self._send(list(jobs))
        while (message := self._receive()) is not None:
            kind, job, outcome = message
            if kind == "retry":
                self._send(retry(job, outcome))
            else:
                yield job, outcome
        self._is_done = True

    def _send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # the next ``_receive`` tells
            self._connection.send(message)

    def _receive(self) -> Any:
        try:
            message = self._connection.recv()
        except (EOFError, OSError) as error:
            raise BackendError(
                f"the connection to the Ray cluster --ray {self._address} is lost, its head may have died: start the "
                "cluster again, then run the same command again; complete segments are kept"
            ) from error
        if isinstance(message, RtsegError):
            raise message
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Let the process end the actors and leave the cluster; at once, unless all jobs are done."""
        if not self._is_done:
            self._connection.close()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()
