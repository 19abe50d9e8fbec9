"""Many jobs with random pauses, sizes and failures finish in order, within the limits, and leave no thread."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from rtseg.image_io.jobs import Job, Slot
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.storage_kind import REMOTE, Storage

pytestmark = pytest.mark.usefixtures("no_thread_left")

COUNT = 2000
LARGEST = 2 * 1000
"""Most bytes of one job: file and result."""
WAIT_S = 20.0


class RandomJob(Job[int]):
    """Pauses for microseconds, fails, releases its slot early and knows its size, all at random."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.name = str(number)
        self.number = number
        self.fails = rng.choice(["announce", "read", "decode", *37 * [""]])
        self._raw, self._size = rng.randint(0, 1000), rng.randint(1, 1000)
        self._knows = rng.random() < 0.5
        self._releases_early = rng.random() < 0.2
        self._pauses = {step: rng.choice([0, 0, 1e-6, 2e-4]) for step in ("announce", "read", "decode")}

    def _do(self, step: str) -> None:
        time.sleep(self._pauses[step])
        if self.fails == step:
            raise OSError(0, step)

    def announce(self) -> None:
        self._do("announce")

    def read(self, slot: Slot) -> int:
        if self._releases_early:
            slot.release()
        self._do("read")
        if self._knows:
            self.decode_bytes = self._size
        return self._raw

    def decode(self) -> tuple[int, int]:
        self._do("decode")
        return self.number, self._size


def run(
    seed: int, kind: str, budget: int, threads: int, most: int | None = None, take: int = COUNT
) -> tuple[Prefetch[int], list[RandomJob]]:
    """Check the first ``take`` outcomes of ``COUNT`` jobs."""
    rng = random.Random(seed)
    jobs = [RandomJob(number, rng) for number in range(COUNT)]
    profile = ReadProfile(Storage(kind, "a test"), threads)
    with Prefetch(jobs, profile=profile, budget=budget, timeout_s=WAIT_S, max_ahead=most) as ahead:
        seen = 0
        for job, outcome in zip(jobs[:take], ahead, strict=False):
            assert outcome.job is job
            if profile.announces or job.fails != "announce":
                assert (outcome.error is not None) == bool(job.fails)
            assert outcome.value == (None if outcome.error else job.number)
            seen += 1
            time.sleep(rng.choice([0, 0, 0, 1e-6, 1e-4]))
        assert seen == take
    assert ahead.abandoned_threads == 0
    return ahead, jobs


@pytest.mark.parametrize("kind", ["ssd", "hdd", "memory", "unknown", REMOTE])
@pytest.mark.parametrize("seed", [1, 2])
def test_all_jobs_come_in_order_within_the_limits(seed: int, kind: str) -> None:
    rng = random.Random(f"{seed} {kind}")
    budget = rng.choice([1, 500, 5_000, 50_000])
    threads = rng.choice([1, 2, 9])
    most = rng.choice([None, 1, 7])
    ahead, _ = run(seed, kind, budget, threads, most)
    readers = ReadProfile(Storage(kind, "a test"), threads).readers
    # The memory reserved for running reads is an estimate, and the first job in the queue may always continue.
    assert ahead.peak_bytes <= budget + (readers + 1) * LARGEST


@pytest.mark.parametrize("kind", ["ssd", "hdd"])
def test_nine_threads_work_with_a_budget_for_less_than_one_job(kind: str) -> None:
    ahead, _ = run(3, kind, 1, 9)
    assert ahead.peak_bytes <= 2 * LARGEST


@pytest.mark.parametrize("take", [1, 2, 50, 1000])
def test_leaving_at_any_time_leaves_no_thread(take: int) -> None:
    run(4, "ssd", 20_000, 4, take=take)


def test_another_thread_may_close_while_the_caller_waits() -> None:
    def endless() -> Iterator[RandomJob]:
        rng = random.Random(5)
        number = 0
        while True:
            yield RandomJob(number, rng)
            number += 1

    profile = ReadProfile(Storage("ssd", "a test"), 4)
    ahead = Prefetch(endless(), profile=profile, budget=20_000, timeout_s=WAIT_S)
    closing = threading.Timer(0.05, ahead.close)
    closing.start()
    assert [outcome.job.name for number, outcome in enumerate(ahead) if outcome.job.name != str(number)] == []
    closing.join()
