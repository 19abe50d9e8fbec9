from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.errors import SinkError
from rtseg.system.atomic_files import (
    atomic_path,
    check_folder_writable,
    check_writable,
    locked_output,
    write_text,
)
from rtseg.system.output_lock import OutputInUse, locked_folder
from rtseg.system.part_file import PartFile


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class TestPartFiles:
    def test_a_second_writer_is_refused_and_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "out.mp4"
        first = PartFile(path, f"video {path}")
        first.write(b"frames")
        first.mark()
        message = f"^{tmp_path}/out.part.mp4 is being written by another run: choose another --output$"
        for _ in range(2):
            with pytest.raises(OutputInUse, match=message):
                PartFile(path, f"video {path}")
        with pytest.raises(OutputInUse, match="another --report"):
            check_writable(path, f"--report {path}")
        first.commit()
        assert (names(tmp_path), path.read_bytes()) == (["out.mp4"], b"frames")
        check_writable(path, "video")

    def test_what_a_killed_run_left_is_kept_and_no_longer_locked(self, tmp_path: Path) -> None:
        code = """
import os, signal, sys
from pathlib import Path
from rtseg.system.part_file import PartFile
PartFile(Path(sys.argv[1]), "video").write(sys.argv[2].encode())
file = PartFile(Path(sys.argv[1]), "video")
file.write(sys.argv[2].encode())
os.kill(os.getpid(), signal.SIGKILL)
"""
        path = tmp_path / "out.mp4"
        for text in ("first", "second"):
            command = [sys.executable, "-c", code, str(path), text]
            assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
        last = PartFile(path, "video")
        assert last.notice == f"{last.part} of a run that did not end properly is kept as out.part-2.mp4"
        last.write(b"third")
        last.commit()
        assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {
            "out.mp4": "third",
            "out.part-1.mp4": "first",
            "out.part-2.mp4": "second",
        }

    def test_a_run_that_never_began_leaves_nothing(self, tmp_path: Path) -> None:
        file = PartFile(tmp_path / "out.mp4", "video")
        assert names(tmp_path) == ["out.part.mp4"]
        del file
        assert names(tmp_path) == []

    def test_a_link_or_a_fifo_of_that_name_is_refused(self, tmp_path: Path) -> None:
        part, other = tmp_path / "a.part.jsonl", tmp_path / "other"
        other.write_text("mine")
        part.symlink_to(other)
        with pytest.raises(SinkError, match=r"a\.part\.jsonl is a symbolic link: remove it, or choose another --stats"):
            PartFile(tmp_path / "a.jsonl", "statistics a.jsonl")
        part.unlink()
        os.mkfifo(part)
        with pytest.raises(SinkError, match=r"a\.part\.jsonl is not a regular file: remove it"):
            PartFile(tmp_path / "a.jsonl", "statistics a.jsonl")
        part.unlink()
        part.mkdir()
        with pytest.raises(SinkError, match="statistics cannot be written, Is a directory"):
            PartFile(tmp_path / "a.jsonl", "statistics")
        assert other.read_text() == "mine"

    def test_a_part_that_another_program_replaced_does_not_get_the_name(self, tmp_path: Path) -> None:
        file = PartFile(tmp_path / "out.mp4", "video")
        file.write(b"mine")
        file.part.unlink()
        file.part.write_bytes(b"another")
        with pytest.raises(OSError, match="has replaced out"):
            file.commit()
        assert names(tmp_path) == ["out.part.mp4"]

    def test_a_file_system_without_locks_is_used_without_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        file = PartFile(tmp_path / "out.mp4", "video")
        file.write(b"frames")
        with locked_folder(tmp_path / "masks"), locked_output(tmp_path / "a.json", "report"):
            file.commit()
        assert names(tmp_path) == ["out.mp4"]


class TestAtomicFiles:
    def test_only_a_new_file_is_written(self, tmp_path: Path) -> None:
        other, path = tmp_path / "other", tmp_path / "a.json"
        other.write_text("mine")
        (tmp_path / "a.part.json").symlink_to(other)
        write_text(path, "{}")
        assert (other.read_text(), path.read_text()) == ("mine", "{}")

    def test_two_writers_leave_one_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        with atomic_path(path) as first, atomic_path(path) as second:
            first.write_text("first")
            second.write_text("second")
        assert (names(tmp_path), path.read_text()) == (["a.json"], "first")

    def test_a_locked_output_can_be_written_and_leaves_no_part(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        with locked_output(path, "report"):
            with pytest.raises(OutputInUse), locked_output(path, "report"):
                pass
            write_text(path, "{}")
        assert names(tmp_path) == ["a.json"]

    def test_a_check_does_not_touch_the_part_of_a_crashed_run(self, tmp_path: Path) -> None:
        (tmp_path / "a.part.json").write_text("left")
        check_writable(tmp_path / "a.json", "report")
        assert (tmp_path / "a.part.json").read_text() == "left"


class TestFolders:
    def test_a_second_run_is_refused_until_the_first_has_ended(self, tmp_path: Path) -> None:
        folder = tmp_path / "runs" / "a"
        with locked_folder(folder):
            message = f"^{folder} is being written by another run: choose another --output$"
            with pytest.raises(OutputInUse, match=message), locked_folder(folder):
                pass
            (folder / "last").touch()
        with locked_folder(folder):
            assert names(folder) == ["last"]

    def test_a_folder_that_stays_empty_is_removed(self, tmp_path: Path) -> None:
        with locked_folder(tmp_path / "runs" / "a"):
            assert names(tmp_path) == ["runs"]
        assert names(tmp_path) == []
        with locked_folder(tmp_path):
            pass
        assert tmp_path.exists()

    def test_a_folder_that_cannot_be_created_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(SinkError, match=r"cannot write into .*a: File exists"), locked_folder(tmp_path / "a"):
            pass


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\x7f", "\x85", "\u2028"])
def test_names_with_control_characters_are_refused(tmp_path: Path, sign: str) -> None:
    path = tmp_path / f"a{sign}b.mp4"
    with pytest.raises(SinkError, match="contains a line break or a control character: choose another name") as caught:
        PartFile(path, f"video {path}")
    assert sign not in str(caught.value)
    with pytest.raises(SinkError, match="control character"):
        check_folder_writable(path, "masks")
    with pytest.raises(SinkError, match="control character"), locked_folder(path):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["ä b.mp4", "a\xa0b.mp4", "a\udcff.mp4", "🚗.mp4"])
def test_other_names_can_be_written(tmp_path: Path, name: str) -> None:
    PartFile(tmp_path / name, name).commit()
    assert (tmp_path / name).exists()
