"""The output folder of a batch run: which results exist, who works on what, and how results get their names.

    manifest.parquet             the segments of all videos
    batch.json                   the options that the results depend on
    segments/VIDEO/00003/        the results of a segment; done.json is written last
    segments/VIDEO/00003.part-*  results that are being written
    failed/VIDEO.00003.json      why a segment failed, and how often
    locks/                       held by the processes that work; they end with the process, whatever ends it

Results get their names by renaming their folder, so a folder with a final name is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.errors import SinkError
from rtseg.system.atomic_files import atomic_path, sink_errors
from rtseg.system.output_lock import open_locked

__all__ = ["DONE", "MAX_TRIES", "Store", "write_done"]

_ADVICE = "choose another --output"
DONE = "done.json"
MAX_TRIES = 3
"""A segment that failed so often is set aside."""


@dataclass(frozen=True)
class Store:
    """One output folder. Any number of processes may use it at once, also on different machines."""

    folder: Path

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.folder)

    def create(self) -> None:
        """Make the folders.

        Raises:
            SinkError: they cannot be made.
        """
        with sink_errors(self.folder, _ADVICE):
            for name in ("segments", "failed", "locks"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)

    def local(self, name: str) -> Path:
        """Where to read the file ``name``, which may not exist."""
        return self.folder / name

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield where to write a new file; it gets ``name`` at the end of the block.

        Raises:
            SinkError: it cannot be written.
        """
        target = self.folder / name
        with sink_errors(target, _ADVICE):
            target.parent.mkdir(exist_ok=True)
            with atomic_path(target, sync=True) as part:
                yield part

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file; None if there is none, or it is damaged.

        Raises:
            SinkError: it cannot be read.
        """
        try:
            found = json.loads(self._read(name))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write_json(self, name: str, facts: dict[str, Any]) -> None:
        """Write a JSON file, atomically.

        Raises:
            SinkError: it cannot be written.
        """
        with self.writing(name) as path:
            path.write_text(json.dumps(facts, indent=2), encoding="utf-8")

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise SinkError(f"cannot read {self.folder / name}: {error.strerror}; {_ADVICE}") from error

    @contextlib.contextmanager
    def planning(self) -> Iterator[None]:
        """Wait until no other run makes the manifest or joins results, and keep others from it."""
        with self._open_lock("plan") as descriptor:
            _lock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield whether no run works in this folder, and keep others from beginning."""
        with self._open_lock("run") as descriptor:
            yield _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count as a run that works in this folder."""
        with self._open_lock("run") as descriptor:
            _lock(descriptor, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def _open_lock(self, name: str) -> Iterator[int]:
        with sink_errors(self.folder, _ADVICE):
            descriptor = os.open(self.folder / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[Path]:
        """Hold the segment ``name`` and yield a new folder for its results; see ``commit``.

        What an interrupted process has left is removed first, and the new folder at the end, if it is still there.

        Raises:
            OutputInUse: another process works on it.
            SinkError: the folder cannot be made.
        """
        lock = self.folder / "locks" / f"{name.removeprefix('segments/').replace('/', '.')}"
        target = self.folder / name
        with sink_errors(target, _ADVICE):
            descriptor = open_locked(lock, "--output")
        try:
            with sink_errors(target, _ADVICE):
                target.parent.mkdir(parents=True, exist_ok=True)
                self.remove_parts(name)
                part = target.with_name(f"{target.name}.part-{secrets.token_hex(4)}")
                part.mkdir()
            try:
                yield part
            finally:
                shutil.rmtree(part, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()  # while it is locked: who opens it now will find that it has no name any more
            os.close(descriptor)

    def remove_parts(self, name: str) -> None:
        """Remove what interrupted processes have left of a segment."""
        target = self.folder / name
        for each in target.parent.glob(f"{target.name}.part-*"):
            shutil.rmtree(each, ignore_errors=True)

    def clean(self) -> None:
        """Remove what interrupted processes have left, unless a run works here."""
        with self.alone() as is_alone:
            for each in self.folder.glob("segments/*/*.part-*") if is_alone else ():
                shutil.rmtree(each, ignore_errors=True)

    def commit(self, part: Path, name: str, facts: dict[str, Any]) -> None:
        """Write ``facts`` as the last file of ``part``, and give it the name ``name``.

        Raises:
            SinkError: it cannot be written.
        """
        target = self.folder / name
        with sink_errors(target, _ADVICE):
            write_done(part, facts)
            _sync(part)
            if target.exists():  # of other options, or of another process where this file system has no locks
                old = target.with_name(f"{target.name}.part-{secrets.token_hex(4)}")
                target.rename(old)
                part.rename(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                part.rename(target)

    def facts(self, name: str) -> dict[str, Any] | None:
        """What was written about the complete results of a segment; None if they are missing or have changed."""
        facts = self.read_json(f"{name}/{DONE}")
        if facts is None or not isinstance(facts.get("files"), dict):
            return None
        return facts if self._has_files(name, facts["files"]) else None

    def _has_files(self, name: str, sizes: dict[str, int]) -> bool:
        try:
            return all((self.folder / name / file).stat().st_size == size for file, size in sizes.items())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def failure(self, name: str) -> dict[str, Any] | None:
        """How often a segment has failed, and why; None if it has not."""
        return self.read_json(_failure_name(name))

    def add_failure(self, name: str, key: str, error: str) -> int:
        """Count a failure of a segment; return how often it has failed with these options.

        Args:
            name: of the segment.
            key: of what it was to become: a failure with other options does not count.
            error: why, on one line.
        """
        before = self.failure(name)
        tries = 1 + (int(before["tries"]) if before and before.get("key") == key else 0)
        self.write_json(_failure_name(name), {"segment": name, "key": key, "tries": tries, "error": error})
        return tries

    def forget_failure(self, name: str) -> None:
        """Forget the failures of a segment."""
        with contextlib.suppress(OSError):
            (self.folder / _failure_name(name)).unlink(missing_ok=True)


def _failure_name(name: str) -> str:
    return f"failed/{name.removeprefix('segments/').replace('/', '.')}.json"


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        return True
    return True


def write_done(folder: Path, facts: dict[str, Any]) -> dict[str, int]:
    """Write ``facts`` as the last file of ``folder``, with the names and bytes of the others, which are returned."""
    sizes = _sizes(folder)
    (folder / DONE).write_text(json.dumps(facts | {"files": sizes}, indent=2), encoding="utf-8")
    return sizes


def _sizes(folder: Path) -> dict[str, int]:
    """Name and bytes of all files below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _sync(folder: Path) -> None:
    """Write the last file and the folder to the disk; what a power cut takes of the others, their sizes tell."""
    for path, flags in ((folder / DONE, os.O_RDONLY), (folder, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
