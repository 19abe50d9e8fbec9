from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.errors import SinkError
from rtseg.system.atomic_files import (
    atomic_path,
    check_folder_writable,
    check_writable,
    is_part,
    part_path,
    sink_errors,
    write_bytes,
    write_text,
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    path.write_text("old")
    return path


@pytest.mark.parametrize("sync", [False, True])
def test_the_file_gets_its_name_only_at_the_end(old: Path, sync: bool) -> None:
    with atomic_path(old, sync=sync) as part:
        part.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"
    assert list(old.parent.iterdir()) == [old]


def test_after_an_error_the_old_file_is_kept_and_the_part_removed(old: Path) -> None:
    def interrupted() -> None:
        with atomic_path(old) as part:
            part.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_a_part_keeps_the_suffix_and_can_be_unique() -> None:
    path = Path("folder/out.mp4")
    assert part_path(path) == Path("folder/out.part.mp4")
    parts = {part_path(path, unique=True) for _ in range(10)}
    assert len(parts) == 10
    assert all(is_part(part) and part.suffix == ".mp4" for part in parts)
    assert not is_part(path)


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ä\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa4\n"


def test_a_failed_write_is_one_sentence_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.txt"
    with pytest.raises(SinkError, match=f"^cannot write {path}: No such file or directory; choose another path$"):
        write_bytes(path, b"")
    with pytest.raises(SinkError, match=r"; give another --output$"), sink_errors(path, "give another --output"):
        path.touch()


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(SinkError, match="cannot write /dev/null: it is not a regular file"):
        write_bytes(Path("/dev/null"), b"")
    with pytest.raises(SinkError, match="report cannot be written, /dev/null is not a regular file"):
        check_writable(Path("/dev/null"), "report")


def test_the_checks_leave_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "a.json", "report")
    check_folder_writable(tmp_path / "new" / "deep", "masks")
    assert list(tmp_path.iterdir()) == []


def test_the_checks_name_what_is_wrong(old: Path) -> None:
    with pytest.raises(SinkError, match="report is a folder: give a file name in it"):
        check_writable(old.parent, "report")
    with pytest.raises(SinkError, match=r"report cannot be written, there is no folder .*none: create it"):
        check_writable(old.parent / "none" / "a.json", "report")
    with pytest.raises(SinkError, match=r"masks cannot be written, .*a\.json is a file: choose another folder"):
        check_folder_writable(old / "masks", "masks")
