"""Runs jobs on actors of a Ray cluster. An actor holds a model and gets one job at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rtseg.batch.open_store import absolute_output
from rtseg.batch.options import BatchOptions
from rtseg.batch.pool import WorkerPool
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome, Setup, do_job, open_worker
from rtseg.errors import BackendUnavailable, MissingExtra, OptionError
from rtseg.system.redact import redact

__all__ = ["open_ray_pool"]


def open_ray_pool(options: BatchOptions, jobs: int) -> WorkerPool:
    """Connect to the cluster; one actor for each of its CPUs, or with ``--device cuda`` for each of its GPUs.

    More actors than fit wait in the queue of Ray, which makes a cluster that grows by itself start more machines.

    Raises:
        MissingExtra: Ray is not installed.
        BackendUnavailable: the cluster does not answer.
        OptionError: the output is not an absolute path, as it has to be on the other machines.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra.for_feature("--ray", "ray", "ray") from error
    if not ray.is_initialized():
        _connect(ray, str(options.ray))
    options = replace(options, output=absolute_output(options.output))
    resource = "GPU" if options.device == "cuda" else "CPU"
    count = int(options.workers or ray.cluster_resources().get(resource, 0))
    if count < 1:
        raise OptionError(f"the Ray cluster has no {resource}: give --workers, or another --device")
    setups = [Setup(options, (), None if resource == "GPU" else 1)] * max(1, min(count, jobs))
    return WorkerPool(setups, lambda setup: _Actor(ray, setup, resource))


def _connect(ray: Any, address: str) -> None:
    common = {"log_to_driver": False, "include_dashboard": False}
    try:
        try:
            ray.init(address=address, **{"log_to_driver": False})
        except ConnectionError:
            if address != "auto":
                raise
            ray.init(address="local", **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = redact(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise BackendUnavailable(f"--ray {redact(address)} does not answer ({reason}): check the address") from error


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
