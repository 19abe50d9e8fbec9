"""The simulated disk, with a clock that only moves when a thread sleeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rtseg.bench.storage.simulated_disk import DiskModel, SimulatedDisk

MODEL = DiskModel(seek_ms=6.0, turn_ms=8.0, mb_per_s=100.0, readahead_kb=128)
ACCESS_S = 0.010
"""6 ms and half of 8 ms."""
CHUNK = 128 * 1024
ONE, TWO = Path("one"), Path("two")


class Clock:
    def __init__(self) -> None:
        self.now_s = 5.0
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.meanwhile()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(clock: Clock) -> SimulatedDisk:
    return SimulatedDisk(MODEL, clock=clock, sleep=clock.sleep)


def test_a_file_costs_one_access_and_its_transfer(disk: SimulatedDisk, clock: Clock) -> None:
    disk.read(ONE, 10 * CHUNK, clock())
    assert clock() - 5.0 == pytest.approx(ACCESS_S + 10 * CHUNK / 100e6)
    assert disk.seeks == 1


def test_every_file_costs_its_own_access(disk: SimulatedDisk, clock: Clock) -> None:
    for path in (ONE, TWO):
        disk.read(path, 1000, clock())
    assert clock() - 5.0 == pytest.approx(2 * (ACCESS_S + 1000 / 100e6))


def test_a_file_comes_from_memory_until_it_is_forgotten(disk: SimulatedDisk, clock: Clock) -> None:
    disk.read(ONE, 1000, clock())
    before_s = clock()
    disk.read(ONE, 1000, clock())
    assert clock() == before_s
    disk.forget()
    disk.read(ONE, 1000, clock())
    assert clock() - before_s == pytest.approx(ACCESS_S + 1000 / 100e6)


def test_a_file_in_memory_costs_nothing(disk: SimulatedDisk, clock: Clock) -> None:
    disk.keep([ONE])
    disk.read(ONE, 1000, clock())
    assert (clock(), disk.seeks) == (5.0, 0)


def test_another_reader_between_the_parts_of_a_file_causes_seeks(disk: SimulatedDisk, clock: Clock) -> None:
    others = iter(range(100))
    clock.meanwhile = lambda: disk.announce(Path(f"other {next(others)}"), 4096)
    disk.read(ONE, 10 * CHUNK, clock())
    # After the last part there is one more announcement, whose end is not waited for.
    assert disk.seeks == 20
    assert clock() - 5.0 == pytest.approx(19 * ACCESS_S + (10 * CHUNK + 9 * 4096) / 100e6)


def test_an_announced_file_is_transferred_without_interruption(disk: SimulatedDisk, clock: Clock) -> None:
    disk.announce(ONE, 10 * CHUNK)
    disk.announce(TWO, 10 * CHUNK)
    assert clock() == 5.0
    disk.read(TWO, 10 * CHUNK, clock())
    disk.read(ONE, 10 * CHUNK, clock())
    assert clock() - 5.0 == pytest.approx(2 * (ACCESS_S + 10 * CHUNK / 100e6))
    assert disk.seeks == 2


def test_a_request_waits_for_the_previous_one(disk: SimulatedDisk, clock: Clock) -> None:
    disk.announce(ONE, 1_000_000)
    disk.read(TWO, 1000, clock())
    assert clock() - 5.0 == pytest.approx(2 * ACCESS_S + 1_001_000 / 100e6)


def test_the_time_of_the_real_read_counts(disk: SimulatedDisk, clock: Clock) -> None:
    request_s = clock()
    clock.now_s += 0.004
    disk.read(ONE, 1000, request_s)
    assert clock() - request_s == pytest.approx(ACCESS_S + 1000 / 100e6)


def test_a_reader_that_wakes_up_late_does_not_stop_the_disk(clock: Clock) -> None:
    def oversleep(seconds: float) -> None:
        clock.sleep(seconds + 0.0005)

    disk = SimulatedDisk(MODEL, clock=clock, sleep=oversleep)
    disk.read(ONE, 10 * CHUNK, clock())
    assert clock() - 5.0 == pytest.approx(ACCESS_S + 10 * CHUNK / 100e6, abs=0.0011)


def test_every_part_is_reported(disk: SimulatedDisk, clock: Clock) -> None:
    parts = []
    disk.read(ONE, 3 * CHUNK + 1, clock(), lambda: parts.append(clock()))
    assert len(parts) == 4
    assert parts == sorted(parts)


def test_the_default_disk_has_about_115_random_reads_per_second() -> None:
    model = DiskModel()
    assert 1 / (model.access_s + model.transfer_s(4096)) == pytest.approx(115, abs=1)
    assert {"seek_ms", "turn_ms", "mb_per_s", "queue", "stated"} <= set(model.facts())
