from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from rtseg.errors import OptionError
from rtseg.image_io.ssd_cache import SsdCache

HEADER_BYTES = 20
"""Bytes of an entry without its content."""


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*.entry"))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in entries(folder))


def test_an_entry_can_be_read_by_another_cache_of_the_folder(tmp_path: Path) -> None:
    SsdCache(tmp_path / "new" / "c", 1000).put("key", b"content")
    again = SsdCache(tmp_path / "new" / "c", 1000)
    found: list[bool] = []
    assert again.get("key", on_hit=lambda: found.append(True)) == b"content"
    assert again.get("other", on_hit=lambda: found.append(False)) is None
    assert (again.hits, again.misses, again.damaged, found) == (1, 1, 0, [True])
    assert again.has("key")
    assert not again.has("other")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "other file"])
def test_a_damaged_entry_is_a_miss_and_can_be_replaced(tmp_path: Path, damage: str) -> None:
    cache = SsdCache(tmp_path, 1000)
    cache.put("key", b"content")
    (path,) = entries(tmp_path)
    stored = path.read_bytes()
    wrong = {
        "flip": stored[:-1] + b"T",
        "cut": stored[:-1],
        "empty": b"",
        "longer": stored + b"x",
        "other file": b"x" * len(stored),
    }
    path.write_bytes(wrong[damage])
    assert cache.get("key") is None
    assert cache.damaged == 1
    cache.put("key", b"content")
    assert cache.get("key") == b"content"
    assert len(entries(tmp_path)) == 1


def test_the_least_recently_used_entries_are_removed_first(tmp_path: Path) -> None:
    cache = SsdCache(tmp_path, 10 * (HEADER_BYTES + 80))
    for number in range(10):
        cache.put(str(number), bytes([number]) * 80)
        path = max(entries(tmp_path), key=lambda entry: entry.stat().st_ctime_ns)
        os.utime(path, (number, number))
    assert cache.get("0") is not None  # used now, so "1" is the oldest
    cache.put("10", bytes(80))
    assert size_of(tmp_path) <= 10 * (HEADER_BYTES + 80)
    kept = [number for number in range(11) if cache.has(str(number))]
    assert 0 in kept
    assert 10 in kept
    assert kept[1:] == list(range(kept[1], 11))
    assert kept[1] > 1


def test_an_entry_larger_than_the_limit_is_not_stored(tmp_path: Path) -> None:
    cache = SsdCache(tmp_path, 100)
    cache.put("small", bytes(10))
    cache.put("large", bytes(200))
    assert (cache.has("small"), cache.has("large"), cache.fault) == (True, False, None)


def test_replacing_an_entry_does_not_count_it_twice(tmp_path: Path) -> None:
    cache = SsdCache(tmp_path, 3 * (HEADER_BYTES + 10))
    cache.put("a", bytes(10))
    for _ in range(20):
        cache.put("b", bytes(10))
    assert cache.has("a")


def test_a_folder_that_cannot_be_created_is_an_option_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"--ssd-cache .*file.*give another folder"):
        SsdCache(tmp_path / "file", 100)


def test_a_folder_that_became_read_only_is_still_read_and_reported(tmp_path: Path) -> None:
    cache = SsdCache(tmp_path, 1000)
    cache.put("key", b"content")
    # Like a read-only folder, but also for root: the folder of an entry cannot be created where a file has its name.
    for number in range(256):
        folder = tmp_path / f"{number:02x}"
        if not folder.exists():
            folder.write_text("")
    other = next(str(number) for number in range(1000) if not cache._path(str(number)).parent.is_dir())
    cache.put(other, b"more")
    assert cache.fault is not None
    assert str(tmp_path) in cache.fault
    assert cache.get("key") == b"content"


def test_only_old_half_written_entries_are_removed(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    old, new = tmp_path / "ab" / "x.1.1.part", tmp_path / "ab" / "y.2.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    SsdCache(tmp_path, 1000)
    assert (old.exists(), new.exists()) == (False, True)


def _fill(folder: str, limit: int, first: int, wrong: object) -> None:
    cache = SsdCache(Path(folder), limit)
    for number in range(first, first + 40):
        key = str(number % 30)
        data = cache.get(key)
        if data is not None and data != key.encode() * 50:
            wrong.set()  # type: ignore[attr-defined]
        cache.put(key, key.encode() * 50)
    if cache.fault is not None or cache.damaged:
        wrong.set()  # type: ignore[attr-defined]


def test_threads_and_processes_may_share_the_cache(tmp_path: Path) -> None:
    limit = 10 * (HEADER_BYTES + 100)
    context = multiprocessing.get_context("spawn")
    wrong = context.Event()
    process = context.Process(target=_fill, args=(str(tmp_path), limit, 5, wrong))
    process.start()
    mine = threading.Event()
    threads = [threading.Thread(target=_fill, args=(str(tmp_path), limit, first, mine)) for first in (0, 11, 22)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.join(120)
    assert process.exitcode == 0
    assert not wrong.is_set()
    assert not mine.is_set()
    assert 0 < size_of(tmp_path) <= limit
