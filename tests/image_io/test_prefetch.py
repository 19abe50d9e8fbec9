from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from functools import partial

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
    """Counts who is where at once."""

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
    """Gives its number back.

    Args:
        number: which.
        steps: where it tells what it does.
        on_read, on_decode: called with the number.
        raw: bytes that it holds once read.
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
def test_all_come_in_order_whichever_is_done_first(kind: str, knows: bool) -> None:
    gates = [threading.Event() for _ in range(3)]

    def slow_first(number: int) -> None:
        if 1 <= number <= 3:
            assert gates[number - 1].wait(WAIT_S)

    def open_gates(number: int) -> None:
        if number == 8:  # three of the first wait until a later one has been read
            for gate in gates:
                gate.set()

    jobs = [Number(n, on_decode=slow_first, on_read=open_gates, knows=knows) for n in range(60)]
    with prefetch(jobs, kind) as ahead:
        assert [outcome.value for outcome in ahead] == list(range(60))


@pytest.mark.parametrize("kind", ["hdd", "network"])
def test_of_slow_storage_one_file_is_read_at_a_time_while_others_are_decoded(kind: str) -> None:
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


def test_of_an_ssd_several_files_are_read_at_once() -> None:
    steps = Steps()
    both = threading.Barrier(3, timeout=WAIT_S)
    jobs = [Number(n, steps, on_read=lambda n: both.wait() if 1 <= n <= 3 else None) for n in range(20)]
    with prefetch(jobs) as ahead:
        assert len(list(ahead)) == 20
    assert steps.most["read"] >= 3


@pytest.mark.parametrize("kind", ["ssd", "hdd"])
@pytest.mark.parametrize("knows", [True, False])
def test_what_is_held_ahead_stays_within_the_budget(kind: str, knows: bool) -> None:
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


def test_no_more_jobs_are_taken_than_may_be_ahead() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Number]:
        for number in range(50):
            taken.append(number)
            yield Number(number)

    with prefetch(jobs(), max_ahead=6) as ahead:
        for number, _ in enumerate(ahead):
            assert len(taken) <= number + 1 + 6


def test_the_next_one_is_read_though_what_comes_after_it_fills_the_room() -> None:
    full = threading.Event()

    class Late(Number):
        def announce(self) -> None:
            if self.number == 2:  # the others overtake it, until no more of them fit
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


def test_an_error_of_the_jobs_comes_after_those_before_it() -> None:
    def jobs() -> Iterator[Number]:
        yield from (Number(n) for n in range(5))
        raise KeyError("no sixth")

    got: list[int | None] = []
    with prefetch(jobs()) as ahead, pytest.raises(KeyError, match="no sixth"):
        got.extend(outcome.value for outcome in ahead)
    assert got == list(range(5))


@pytest.mark.parametrize("step", ["on_read", "on_decode"])
def test_what_is_no_exception_ends_no_thread_unheard(step: str) -> None:
    def leave(number: int) -> None:
        raise SystemExit(number)

    with prefetch([Number(0, **{step: leave})]) as ahead:  # type: ignore[arg-type]
        (outcome,) = ahead
    assert isinstance(outcome.error, SystemExit)


def test_ctrl_c_while_nothing_comes_ends_the_threads() -> None:
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
def test_an_error_is_the_outcome_of_its_job_alone(step: str) -> None:
    def fail(number: int) -> None:
        if number == 7:
            raise ValueError("broken")

    jobs = [Number(n, **{step: fail}) for n in range(20)]  # type: ignore[arg-type]
    with prefetch(jobs) as ahead:
        outcomes = list(ahead)
    assert [outcome.value for outcome in outcomes] == [*range(7), None, *range(8, 20)]
    assert isinstance(outcomes[7].error, ValueError)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_in_the_middle_ends_the_threads_and_lets_go_of_what_is_left(kind: str) -> None:
    steps = Steps()
    with prefetch((Number(n, steps) for n in range(100_000)), kind, budget=5000) as ahead:
        for outcome in ahead:
            if outcome.value == 10:
                break
    assert ahead.abandoned_threads == 0
    assert set(range(11)).isdisjoint(steps.discarded)


def test_being_asked_to_stop_ends_the_iteration_while_nothing_comes() -> None:
    gate, stop = threading.Event(), threading.Event()
    ahead = prefetch([Number(0, on_decode=partial(_hold, gate, {0}))], should_stop=stop.is_set)
    threading.Timer(0.05, stop.set).start()
    assert list(ahead) == []
    gate.set()
    ahead.close()


class TestStalls:
    def test_a_read_that_does_not_come_back_is_given_up_and_the_others_come(self) -> None:
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

    def test_several_in_a_row_are_an_error_and_the_end(self) -> None:
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
        assert {2, 3, 4} <= set(steps.discarded)  # what came late is let go of

    def test_an_announcement_that_hangs_is_left_behind_and_let_go_of_later(self) -> None:
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

    def test_a_read_that_goes_on_giving_data_may_take_long(self) -> None:
        class Slow(Number):
            def read(self, slot: Slot) -> int:
                for _ in range(8):
                    threading.Event().wait(0.1)
                    slot.keep_alive()
                return super().read(slot)

        with prefetch([Slow(0)], timeout_s=0.4) as ahead:
            assert [outcome.value for outcome in ahead] == [0]

    def test_giving_the_slot_back_lets_the_next_read_begin(self) -> None:
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


class TestReadProfile:
    @pytest.mark.parametrize(
        ("kind", "serial"), [("ssd", False), ("memory", False), (REMOTE, False), ("hdd", True), ("network", True)]
    )
    def test_what_seeks_or_is_far_is_read_one_file_at_a_time(self, kind: str, serial: bool) -> None:
        assert profile(kind).serial is serial
        assert profile(kind).readers == (1 if serial else 16 if kind == REMOTE else 4)

    @pytest.mark.parametrize(("first_byte_s", "kind"), [(0.009, "hdd"), (0.0002, "ssd")])
    def test_an_unknown_one_is_measured_on_files_that_are_not_in_memory(self, first_byte_s: float, kind: str) -> None:
        unknown = profile("unknown")
        assert unknown.serial
        for _ in range(100):
            unknown.record_first_byte(1e-5, from_memory=True)
        assert unknown.is_measuring
        assert not unknown.serial
        for _ in range(8):
            unknown.record_first_byte(first_byte_s, from_memory=False)
        assert (unknown.storage.kind, unknown.is_measuring) == (kind, False)
        assert unknown.serial is (kind == "hdd")
        assert "measured" in unknown.storage.why

    def test_what_was_measured_holds_for_the_device_and_for_no_other(self) -> None:
        place = Storage("unknown", "vda is a virtual disk", "test:1")
        first, at_once = ReadProfile(place, 4), ReadProfile(place, 4)
        for _ in range(8):
            first.record_first_byte(0.0002, from_memory=False)
        second = ReadProfile(place, 4)
        assert (second.storage.kind, second.is_measuring, second.announces) == ("ssd", False, True)
        assert second.storage.why == first.storage.why
        assert at_once.is_measuring  # it began before that was known
        assert ReadProfile(Storage("unknown", "another", "test:2"), 4).is_measuring
        assert ReadProfile(Storage("unknown", "of no known mount"), 4).is_measuring
        assert ReadProfile(Storage("hdd", "--storage hdd", "test:1"), 4).serial

    def test_threads_that_measure_one_device_at_once_agree_in_the_end(self) -> None:
        place = Storage("unknown", "a test", "test:3")

        def measure() -> None:
            mine = ReadProfile(place, 4)
            for _ in range(8):
                mine.record_first_byte(0.009, from_memory=False)
            assert mine.storage.kind == "hdd"

        threads = [threading.Thread(target=measure) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert ReadProfile(place, 4).storage.kind == "hdd"


def test_a_process_that_was_stopped_for_long_blames_no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtseg.image_io import _queued_job as queued_job

    slept_s = [0.0]
    real = queued_job.time.monotonic
    monkeypatch.setattr(queued_job.time, "monotonic", lambda: real() + slept_s[0])

    def read(number: int) -> None:
        if number == 3:
            slept_s[0] = 100.0  # as if the machine had slept in the middle of a read
            threading.Event().wait(0.3)  # the caller looks several times

    with Prefetch(
        [Number(n, on_read=read) for n in range(6)], profile=profile("hdd"), budget=10_000, timeout_s=WAIT_S
    ) as ahead:
        outcomes = list(ahead)
    assert [outcome.value for outcome in outcomes] == list(range(6))
    assert ahead.abandoned_threads == 0
