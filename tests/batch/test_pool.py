"""How jobs are divided among processes, with processes that only pretend."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread
from threading import enumerate as all_threads

import pytest

from rtseg.batch.manifest import Segment, VideoEntry
from rtseg.batch.options import BatchOptions
from rtseg.batch.pool import LocalProcess, WorkerPool, worker_setups
from rtseg.batch.segment_work import Job
from rtseg.batch.worker import Outcome, Setup

JOBS = [Job(VideoEntry("a.mp4", 1, "", ""), Segment(number, 0.0, None, 0, 1, 0.0, 0), {}) for number in range(4)]
SETUPS = [Setup(BatchOptions(("a.mp4",), "out"), (), 1)] * 2


class Pretended:
    """A process that does what ``work`` says."""

    def __init__(self, work: Callable[[Job], Outcome]) -> None:
        self._work, self.killed, self.closed = work, Event(), Event()

    def ready(self) -> Outcome:
        return Outcome("ready", {})

    def run(self, job: Job) -> Outcome:
        return self._work(job)

    def reason(self) -> str:
        return "signal 9"

    def close(self) -> None:
        self.closed.set()

    def kill(self) -> None:
        self.killed.set()


def run(work: Callable[[Job], Outcome], tries: int = 1) -> list[tuple[int, Outcome]]:
    """Do ``JOBS`` on two processes; return number and outcome of each."""
    failures: list[Job] = []

    def is_tried_again(job: Job, outcome: Outcome) -> bool:
        failures.append(job)
        return failures.count(job) < tries

    with WorkerPool(SETUPS, lambda setup: Pretended(work)) as pool:
        return [(job.segment.number, outcome) for job, outcome in pool.run(JOBS, is_tried_again) if job is not None]


def threads_of_pools() -> list[Thread]:
    return [thread for thread in all_threads() if thread.name.startswith("rtseg-batch-")]


def test_every_job_is_done_once() -> None:
    assert sorted(number for number, _ in run(lambda job: Outcome("done", {}))) == [0, 1, 2, 3]
    assert not threads_of_pools()


def test_a_process_that_dies_is_replaced_and_its_job_tried_again() -> None:
    died: list[int] = []

    def work(job: Job) -> Outcome:
        if job.segment.number == 1 and len(died) < 2:
            died.append(1)
            raise EOFError
        return Outcome("done", {})

    assert sorted((number, outcome.status) for number, outcome in run(work, tries=3)) == [
        (number, "done") for number in range(4)
    ]
    assert len(died) == 2


def test_a_job_that_dies_too_often_is_given_with_the_reason() -> None:
    def work(job: Job) -> Outcome:
        raise EOFError

    assert {outcome.error for _, outcome in run(work)} == {"the process died (signal 9)"}


def test_a_job_of_another_run_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.batch.pool._BUSY_S", 0.05)
    asked: list[int] = []

    def work(job: Job) -> Outcome:
        asked.append(job.segment.number)
        return Outcome("busy" if job.segment.number == 2 and asked.count(2) < 3 else "done", {})

    assert len(run(work)) == 4
    assert asked.count(2) == 3


def test_an_unexpected_error_of_a_thread_ends_the_run() -> None:
    def work(job: Job) -> Outcome:
        raise TypeError("cannot pickle a lock")

    with pytest.raises(TypeError, match="cannot pickle a lock"):
        run(work)
    assert not threads_of_pools()


def test_leaving_wakes_a_thread_that_waits_for_a_job() -> None:
    """One thread works until it is killed, so that the other has nothing to do but to wait."""
    made: list[Pretended] = []
    begun = Event()

    def start(setup: Setup) -> Pretended:
        process = Pretended(lambda job: work(process, job))
        made.append(process)
        return process

    def work(process: Pretended, job: Job) -> Outcome:
        begun.set()
        if process.killed.wait(30):
            raise EOFError
        return Outcome("done", {})

    with WorkerPool(SETUPS, start) as pool:
        outcomes = pool.run(JOBS[:1], lambda job, outcome: False)
        assert next(outcomes) == (None, Outcome("ready", {}))
        assert begun.wait(30)
    assert all(process.killed.is_set() for process in made)
    assert not threads_of_pools()


def test_a_process_that_cannot_load_names_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.batch.pool.sys.executable", "/bin/false")
    process = LocalProcess(SETUPS[0])
    with pytest.raises((EOFError, OSError)):
        process.ready()
    assert process.reason() == "exit code 1"
    process.close()


def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.batch.pool._LEAVE_S", 0.1)
    process = LocalProcess(SETUPS[0])
    process._process.kill()
    process._process.wait(30)
    process._process = subprocess.Popen(["sleep", "60"])
    assert process.reason() == "it did not answer and did not end within 0.1 s"
    assert process._process.poll() == -9
    process.close()


def test_every_process_gets_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.batch.pool.visible_gpus", lambda: ["2", "5"])
    settings = BatchOptions(("a.mp4",), "out")
    assert [setup.gpu for setup in worker_setups(settings, 100)] == ["2", "5"]
    assert [setup.gpu for setup in worker_setups(settings, 1)] == ["2"]
    assert [setup.gpu for setup in worker_setups(replace(settings, workers=5), 100)] == ["2", "5", "2", "5", "2"]
    assert {setup.gpu for setup in worker_setups(replace(settings, device="cpu"), 100)} == {None}
    assert all(setup.threads is None and not setup.cores for setup in worker_setups(settings, 100))


@pytest.mark.parametrize(("gpu", "seen"), [(None, "7,8"), ("5", "5")])
def test_a_process_sees_only_its_gpu(gpu: str | None, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,8")
    started: list[dict[str, str]] = []

    def start(*arguments: object, env: dict[str, str], **more: object) -> None:
        started.append(env)
        raise OSError("not started")

    monkeypatch.setattr("rtseg.batch.pool.subprocess.Popen", start)
    with pytest.raises(OSError, match="not started"):
        LocalProcess(replace(SETUPS[0], gpu=gpu))
    assert started[0]["CUDA_VISIBLE_DEVICES"] == seen


def test_without_a_gpu_the_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.batch.pool.visible_gpus", list)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    settings = BatchOptions(("a.mp4",), "out", workers=2)
    assert [(setup.cores, setup.threads) for setup in worker_setups(settings, 100)] == [((0, 1, 2), 3), ((3, 4), 2)]
