from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import pytest

from rtseg.image_io.jobs import Job, ReadTimeout, Slot, StorageTimeout
from rtseg.image_io.prefetch import Prefetch
from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.storage_kind import REMOTE, Storage

pytestmark = pytest.mark.usefixtures("no_thread_left")

WAIT_S = 20.0
KINDS = ["ssd", "hdd", "network", "memory", "unknown", REMOTE]


def profile(kind: str = "ssd", threads: int = 4) -> ReadProfile:
    return ReadProfile(Storage(kind, "a test"), threads)


class Steps:
    """Counts how many jobs are in each step at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: dict[str, int] = {"read": 0, "decode": 0}
        self.most: dict[str, int] = {"read": 0, "decode": 0}
        self.announced: list[int] = []
        self.discarded: list[int] = []

    def change(self, step: str, by: int) -> None:
        with self.lock:
            self.now[step] += by
            self.most[step] = max(self.most[step], self.now[step])


class Number(Job[int]):
    """Returns its number.

    Args:
        number: the number.
        steps: records the steps.
        on_read, on_decode: called with the number.
        raw: bytes held after reading.
        size: bytes of the result.
        knows: whether ``decode_bytes`` is known after reading.
    """

    def __init__(
        self,
        number: int,
        steps: Steps | None = None,
        *,
        on_read: Callable[[int], None] = lambda number: None,
        on_decode: Callable[[int], None] = lambda number: None,
        raw: int = 10,
        size: int = 100,
        knows: bool = True,
    ) -> None:
        self.name = str(number)
        self.number = number
        self._steps = steps or Steps()
        self._on_read, self._on_decode = on_read, on_decode
        self._raw, self._size, self._knows = raw, size, knows

    def announce(self) -> None:
        self._steps.announced.append(self.number)

    def read(self, slot: Slot) -> int:
        self._steps.change("read", 1)
        try:
            self._on_read(self.number)
        finally:
            self._steps.change("read", -1)
        if self._knows:
            self.decode_bytes = self._size
        return self._raw

    def decode(self) -> tuple[int, int]:
        self._steps.change("decode", 1)
        try:
            self._on_decode(self.number)
        finally:
            self._steps.change("decode", -1)
        return self.number, self._size

    def discard(self) -> None:
        self._steps.discarded.append(self.number)


def prefetch(jobs: Iterator[Job[int]] | list[Number], kind: str = "ssd", **options: object) -> Prefetch[int]:
    given: dict[str, object] = {"profile": profile(kind), "budget": 1_000_000, "timeout_s": WAIT_S} | options
    return Prefetch(jobs, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("knows", [True, False])
def test_results_come_in_order_whichever_is_finished_first(kind: str, knows: bool) -> None:
    gates = [threading.Event() for _ in range(3)]

    def slow_first(number: int) -> None:
        if 1 <= number <= 3:
            assert gates[number - 1].wait(WAIT_S)

    def open_gates(number: int) -> None:
        if number == 8:  # jobs 1 to 3 wait until a later one has been read
            for gate in gates:
                gate.set()

    jobs = [Number(n, on_decode=slow_first, on_read=open_gates, knows=knows) for n in range(60)]
    with prefetch(jobs, kind) as ahead:
        assert [outcome.value for outcome in ahead] == list(range(60))


@pytest.mark.parametrize("kind", ["hdd", "network"])
def test_slow_storage_is_read_one_file_at_a_time_while_others_are_decoded(kind: str) -> None:
    steps = Steps()
    both = threading.Barrier(2, timeout=WAIT_S)

    def meet(number: int) -> None:
        if number < 2:
            both.wait()  # two are decoded at once, or the test fails

    jobs = [Number(n, steps, on_decode=meet) for n in range(40)]
    with prefetch(jobs, kind) as ahead:
        assert len(list(ahead)) == 40
    assert steps.most["read"] == 1
    assert steps.announced == list(range(40))


def test_an_ssd_is_read_by_several_threads() -> None:
    steps = Steps()
    both = threading.Barrier(3, timeout=WAIT_S)
    jobs = [Number(n, steps, on_read=lambda n: both.wait() if 1 <= n <= 3 else None) for n in range(20)]
    with prefetch(jobs) as ahead:
        assert len(list(ahead)) == 20
    assert steps.most["read"] >= 3


@pytest.mark.parametrize("kind", ["ssd", "hdd"])
@pytest.mark.parametrize("knows", [True, False])
def test_memory_stays_within_the_budget(kind: str, knows: bool) -> None:
    jobs = [Number(n, raw=20, size=100 + 30 * (n % 3), knows=knows) for n in range(200)]
    largest = 180
    with prefetch(jobs, kind, budget=1000) as ahead, closing(iter(ahead)) as outcomes:
        for number, outcome in enumerate(outcomes):
            assert outcome.value == number
    assert 500 < ahead.peak_bytes <= 1000 + 4 * (largest - 100)


def test_a_single_job_larger_than_the_budget_is_done_alone() -> None:
    with prefetch([Number(n, size=5000) for n in range(5)], budget=100) as ahead:
        assert [outcome.value for outcome in ahead] == list(range(5))
    assert ahead.peak_bytes <= 5010


def test_max_ahead_limits_the_jobs() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Number]:
        for number in range(50):
            taken.append(number)
            yield Number(number)

    with prefetch(jobs(), max_ahead=6) as ahead:
        for number, _ in enumerate(ahead):
            assert len(taken) <= number + 1 + 6


def test_the_next_job_is_read_even_if_later_jobs_use_up_the_budget() -> None:
    full = threading.Event()

    class Late(Number):
        def announce(self) -> None:
            if self.number == 2:  # the others overtake it until the budget is used up
                assert full.wait(WAIT_S)

    jobs = [Late(n, on_decode=lambda n: full.set() if n == 4 else None) for n in range(20)]
    with prefetch(jobs, budget=300) as ahead:
        assert [outcome.value for outcome in ahead] == list(range(20))


def test_no_more_are_decoded_at_once_than_the_profile_allows() -> None:
    steps = Steps()
    both = threading.Barrier(2, timeout=WAIT_S)
    jobs = [Number(n, steps, on_decode=lambda n: both.wait()) for n in range(40)]
    with prefetch(jobs, profile=profile(REMOTE, threads=2)) as ahead:
        assert len(list(ahead)) == 40
    assert 2 <= steps.most["decode"] <= 3


def test_an_error_of_the_iterator_is_raised_after_the_jobs_before_it() -> None:
    def jobs() -> Iterator[Number]:
        yield from (Number(n) for n in range(5))
        raise KeyError("no sixth")

    got: list[int | None] = []
    with prefetch(jobs()) as ahead, pytest.raises(KeyError, match="no sixth"):
        got.extend(outcome.value for outcome in ahead)
    assert got == list(range(5))


@pytest.mark.parametrize("step", ["on_read", "on_decode"])
def test_system_exit_in_a_job_is_its_outcome(step: str) -> None:
    def leave(number: int) -> None:
        raise SystemExit(number)

    with prefetch([Number(0, **{step: leave})]) as ahead:  # type: ignore[arg-type]
        (outcome,) = ahead
    assert isinstance(outcome.error, SystemExit)


def test_ctrl_c_while_waiting_ends_the_threads() -> None:
    gate = threading.Event()
    looks: list[int] = []

    def interrupt() -> bool:
        looks.append(1)
        if len(looks) == 2:
            gate.set()
            raise KeyboardInterrupt
        return False

    jobs = [Number(0, on_decode=partial(_hold, gate, {0}))]
    with pytest.raises(KeyboardInterrupt), prefetch(jobs, should_stop=interrupt) as ahead:
        list(ahead)
    assert ahead.abandoned_threads == 0


@pytest.mark.parametrize("step", ["on_read", "on_decode"])
def test_an_error_only_affects_its_own_job(step: str) -> None:
    def fail(number: int) -> None:
        if number == 7:
            raise ValueError("broken")

    jobs = [Number(n, **{step: fail}) for n in range(20)]  # type: ignore[arg-type]
    with prefetch(jobs) as ahead:
        outcomes = list(ahead)
    assert [outcome.value for outcome in outcomes] == [*range(7), None, *range(8, 20)]
    assert isinstance(outcomes[7].error, ValueError)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_early_ends_the_threads_and_discards_the_remaining_jobs(kind: str) -> None:
    steps = Steps()
    with prefetch((Number(n, steps) for n in range(100_000)), kind, budget=5000) as ahead:
        for outcome in ahead:
            if outcome.value == 10:
                break
    assert ahead.abandoned_threads == 0
    assert set(range(11)).isdisjoint(steps.discarded)


def test_should_stop_ends_the_iteration_while_waiting() -> None:
    gate, stop = threading.Event(), threading.Event()
    ahead = prefetch([Number(0, on_decode=partial(_hold, gate, {0}))], should_stop=stop.is_set)
    threading.Timer(0.05, stop.set).start()
    assert list(ahead) == []
    gate.set()
    ahead.close()


class TestStalls:
    def test_a_read_that_hangs_is_abandoned_and_the_other_jobs_finish(self) -> None:
        gate = threading.Event()
        jobs = [Number(n, on_read=partial(_hold, gate, {3})) for n in range(10)]
        for kind in ("hdd", "ssd"):
            gate.clear()
            with prefetch(jobs, kind, timeout_s=0.2) as ahead:
                outcomes = list(ahead)
            assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, *range(4, 10)]
            assert isinstance(outcomes[3].error, ReadTimeout)
            assert ahead.abandoned_threads == 1
            gate.set()
            _await_threads()

    def test_several_hanging_reads_in_a_row_raise(self) -> None:
        gate = threading.Event()
        steps = Steps()
        jobs = [Number(n, steps, on_read=partial(_hold, gate, range(2, 1000))) for n in range(1000)]
        got: list[int | None] = []
        message = r"3 files in a row were not read within 0\.15 s"
        with prefetch(jobs, "hdd", timeout_s=0.15) as ahead, pytest.raises(StorageTimeout, match=message):
            got.extend(outcome.value for outcome in ahead)
        assert got[:2] == [0, 1]
        assert set(got[2:]) <= {None}
        assert ahead.abandoned_threads >= 3
        gate.set()
        _await_threads()
        assert {2, 3, 4} <= set(steps.discarded)  # late results are discarded

    def test_a_hanging_announcement_is_abandoned_and_discarded_later(self) -> None:
        gate, began = threading.Event(), threading.Event()
        steps = Steps()

        class Hanging(Number):
            def announce(self) -> None:
                if self.number == 1:
                    began.set()
                    assert gate.wait(WAIT_S)

        with prefetch([Hanging(n, steps) for n in range(9)]) as ahead, closing(iter(ahead)) as outcomes:
            assert next(outcomes).value == 0
            assert began.wait(WAIT_S)
        assert ahead.abandoned_threads == 1
        assert 1 not in steps.discarded
        gate.set()
        _await_threads()
        assert 1 in steps.discarded

    def test_a_read_that_keeps_receiving_data_may_take_long(self) -> None:
        class Slow(Number):
            def read(self, slot: Slot) -> int:
                for _ in range(8):
                    threading.Event().wait(0.1)
                    slot.keep_alive()
                return super().read(slot)

        with prefetch([Slow(0)], timeout_s=0.4) as ahead:
            assert [outcome.value for outcome in ahead] == [0]

    def test_releasing_the_slot_lets_the_next_read_start(self) -> None:
        began = threading.Event()

        class Cached(Number):
            def read(self, slot: Slot) -> int:
                if self.number == 1:
                    slot.release()
                    assert began.wait(WAIT_S)
                elif self.number == 2:
                    began.set()
                return super().read(slot)

        with prefetch([Cached(number) for number in range(3)], "hdd") as ahead:
            assert [outcome.value for outcome in ahead] == [0, 1, 2]


def _hold(gate: threading.Event, numbers: Container[int], number: int) -> None:
    if number in numbers:
        gate.wait(WAIT_S)


def _await_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("rtseg"):
            thread.join(WAIT_S)


def test_a_suspended_process_does_not_cause_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + slept_s[0])
    monkeypatch.setattr("rtseg.image_io.jobs.time", clock)
    monkeypatch.setattr("rtseg.image_io.prefetch.time", clock)

    def read(number: int) -> None:
        if number == 3:
            slept_s[0] = 100.0  # as if the machine had been suspended during a read
            threading.Event().wait(0.3)  # the caller checks several times

    with Prefetch(
        [Number(n, on_read=read) for n in range(6)], profile=profile("hdd"), budget=10_000, timeout_s=WAIT_S
    ) as ahead:
        outcomes = list(ahead)
    assert [outcome.value for outcome in outcomes] == list(range(6))
    assert ahead.abandoned_threads == 0
