from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from rtseg.bench.storage.page_cache import drop, load, share_in_memory
from rtseg.errors import SourceError
from rtseg.image_io.storage_kind import find_storage

PAGES = 8


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A new file of some pages."""
    if find_storage(tmp_path).kind in ("memory", "network"):
        pytest.skip("the folder for temporary files is not on a disk")
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE - 5))
    return path


def is_there(path: Path, page: int) -> bool:
    """Whether a page can be read without waiting for the disk. Does not use mincore."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], page * mmap.PAGESIZE, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def test_a_new_file_is_in_memory_until_it_is_dropped(file: Path) -> None:
    assert share_in_memory([file]) == 1.0
    assert drop([file]) == 0.0
    assert not is_there(file, 0)  # asking makes the kernel read ahead, so the other pages cannot be checked


def test_a_loaded_file_is_in_memory(file: Path) -> None:
    drop([file])
    assert load([file]) == 1.0
    assert all(is_there(file, page) for page in range(PAGES))


def test_the_share_counts_the_pages_of_all_files(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(3 * PAGES * mmap.PAGESIZE))
    empty = file.with_name("empty")
    empty.touch()
    drop([file, other])
    load([other])
    assert share_in_memory([file, other, empty]) == 0.75


def test_mapped_pages_stay_and_are_counted(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[0] is not None
        assert drop([file]) > 0


def test_no_files_are_not_in_memory() -> None:
    assert share_in_memory([]) == 0.0


@pytest.mark.parametrize("call", [drop, load])
def test_a_missing_file_is_named(call: object, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.png cannot be opened"):
        call([tmp_path / "gone.png"])  # type: ignore[operator]
