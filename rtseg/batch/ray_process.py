"""The process that is connected to a Ray cluster, started by ``rtseg.batch.ray_engine``.

It gets options and jobs, and returns outcomes, over a socket. When the process at the other end has gone, it leaves the
cluster, which then ends the actors.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Final

from rtseg.batch.options import BatchOptions
from rtseg.batch.pool import WorkerPool
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome, Setup, do_job, open_worker
from rtseg.errors import BackendUnavailable, MissingExtra, OptionError, RtsegError
from rtseg.system.redact import redact

__all__ = ["main"]

_LOOK_S: Final = 2.0
"""Time between two looks at whether the cluster is still there."""


def main(descriptor: int) -> None:
    """Do the jobs of one run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what Ctrl-C means
    connection = Connection(descriptor)
    messages: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(connection, messages), name="rtseg-ray-messages", daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        try:
            _work(connection, messages)
        except RtsegError as error:
            connection.send(error)
        except Exception as error:  # noqa: BLE001 - a bug: reported by the other process
            connection.send(
                RtsegError(f"--ray ended with {type(error).__name__}: {' '.join(str(error).split())[:500]}")
            )


def _receive(connection: Connection, messages: SimpleQueue[Any]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(connection.recv())
    # A thread may wait for an actor. A cluster that this process has started ends itself when it is gone.
    os._exit(0)


def _work(connection: Connection, messages: SimpleQueue[Any]) -> None:
    options, jobs = messages.get()
    ray = _connect(options)
    resource = "GPU" if options.device == "cuda" else "CPU"
    count = int(options.workers or ray.cluster_resources().get(resource, 0))
    if count < 1:
        raise OptionError(f"the Ray cluster has no {resource}: give --workers, or another --device")
    setups = [Setup(options, (), None if resource == "GPU" else 1)] * max(1, min(count, jobs))
    connection.send(True)

    def retry(job: Job, outcome: Outcome) -> bool:
        connection.send(("retry", job, outcome))
        return bool(messages.get()[0])

    (found,) = messages.get()
    with _watching(ray), WorkerPool(setups, lambda setup: _Actor(ray, setup, resource)) as pool:
        for job, outcome in pool.run(found, retry):
            connection.send(("outcome", job, outcome))
    connection.send(None)
    ray.shutdown()


@contextlib.contextmanager
def _watching(ray: Any) -> Iterator[None]:
    """End this process when its node has died: nothing raises an error, and actors would be waited for without end.

    When the head has died, Ray ends the process itself, by default after a minute.
    """
    own, is_over = ray.get_runtime_context().get_node_id(), Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_S):
            with contextlib.suppress(Exception):  # the head does not answer
                if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == own):
                    os._exit(1)

    thread = Thread(target=watch, name="rtseg-ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_LOOK_S)


def _connect(options: BatchOptions) -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra.for_feature("--ray", "ray", "ray") from error
    address = str(options.ray)
    try:
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError:
            if address != "auto":
                raise
            # Else its workers run at nice 15, and other programs get the cores.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(address="local", log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = redact(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise BackendUnavailable(
            f"--ray {redact(address)} does not answer ({reason}): check the address; a cluster with a token needs "
            "RAY_AUTH_MODE=token"
        ) from error
    return ray


class _Work:
    """What runs on the cluster."""

    def __init__(self, setup: Setup) -> None:
        self._worker, self._ready = open_worker(setup)

    def ready(self) -> Outcome:
        """Whether the model is loaded."""
        return self._ready

    def run(self, job: Job) -> Outcome:
        """Do a job."""
        return do_job(self._worker, job)


class _Actor:
    """See ``rtseg.batch.pool.WorkerProcess``."""

    def __init__(self, ray: Any, setup: Setup, resource: str) -> None:
        self._ray = ray
        amount = {"num_gpus": 1, "num_cpus": 1} if resource == "GPU" else {"num_cpus": 1}
        self._actor = ray.remote(_Work).options(max_restarts=0, **amount).remote(setup)
        self._reason = "it was killed"

    def ready(self) -> Outcome:
        return self._get(self._actor.ready.remote())

    def run(self, job: Job) -> Outcome:
        return self._get(self._actor.run.remote(job))

    def _get(self, reference: Any) -> Outcome:
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._reason = type(error).__name__
            raise EOFError from error
        assert isinstance(outcome, Outcome)
        return outcome

    def reason(self) -> str:
        return self._reason

    def close(self) -> None:
        self.kill()

    def kill(self) -> None:
        self._ray.kill(self._actor)
