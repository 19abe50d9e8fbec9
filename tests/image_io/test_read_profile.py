from __future__ import annotations

import threading

import pytest

from rtseg.image_io.read_profile import ReadProfile
from rtseg.image_io.storage_kind import REMOTE, Storage

WAIT_S = 20.0


def profile(kind: str) -> ReadProfile:
    return ReadProfile(Storage(kind, "a test"), 4)


@pytest.mark.parametrize(
    ("kind", "serial"), [("ssd", False), ("memory", False), (REMOTE, False), ("hdd", True), ("network", True)]
)
def test_hard_disks_and_network_mounts_are_read_one_file_at_a_time(kind: str, serial: bool) -> None:
    assert profile(kind).serial is serial
    assert profile(kind).readers == (1 if serial else 16 if kind == REMOTE else 4)


@pytest.mark.parametrize(("first_byte_s", "kind"), [(0.009, "hdd"), (0.0002, "ssd")])
def test_an_unknown_storage_is_measured_with_files_that_are_not_in_memory(first_byte_s: float, kind: str) -> None:
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


def test_a_measured_kind_is_only_used_for_its_own_device() -> None:
    storage = Storage("unknown", "vda is a virtual disk", "test:1")
    first, concurrent = ReadProfile(storage, 4), ReadProfile(storage, 4)
    for _ in range(8):
        first.record_first_byte(0.0002, from_memory=False)
    second = ReadProfile(storage, 4)
    assert (second.storage.kind, second.is_measuring, second.announces) == ("ssd", False, True)
    assert second.storage.why == first.storage.why
    assert concurrent.is_measuring  # it started before the kind was known
    assert ReadProfile(Storage("unknown", "another", "test:2"), 4).is_measuring
    assert ReadProfile(Storage("unknown", "of no known mount"), 4).is_measuring
    assert ReadProfile(Storage("hdd", "--storage hdd", "test:1"), 4).serial


def test_threads_may_measure_one_device_at_the_same_time() -> None:
    storage = Storage("unknown", "a test", "test:3")

    def measure() -> None:
        own = ReadProfile(storage, 4)
        for _ in range(8):
            own.record_first_byte(0.009, from_memory=False)
        assert own.storage.kind == "hdd"

    threads = [threading.Thread(target=measure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert ReadProfile(storage, 4).storage.kind == "hdd"
