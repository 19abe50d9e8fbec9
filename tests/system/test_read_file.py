from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtseg.system.read_file import read_bytes, read_text


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_bytes(path, 100) == b"\xef\xbb\xbfa\r\nb\rc\n"
    assert read_text(path) == "a\nb\nc\n"


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(tmp_path / "pipe", 100)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(Path(path), 100)


def test_a_file_that_is_longer_than_it_says_is_read_up_to_the_limit() -> None:
    """Files in /proc have a size of 0."""
    with pytest.raises(OSError, match="larger than"):
        read_bytes(Path("/proc/self/maps"), 100)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 100)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 100)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 1 MB"):
        read_bytes(tmp_path / "sparse", 1_000_000)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_text_that_no_file_can_have_as_its_name_is_an_os_error(name: str) -> None:
    with pytest.raises(OSError, match="not the name of a file"):
        read_bytes(Path(name), 100)
