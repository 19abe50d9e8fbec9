"""The output of a batch run on an object store, such as S3.

Results of a segment are uploaded file by file, and ``done.json`` last: without it they do not count. There are no
locks: two runs on one output may do a segment twice, but never mix its files, because the contents are the same.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.batch.remote_files import open_system
from rtseg.batch.store import DONE, Store, write_done
from rtseg.errors import SinkError
from rtseg.system.redact import redact
from rtseg.system.remote import remote_reason

__all__ = ["RemoteStore"]


@dataclass(frozen=True)
class RemoteStore(Store):
    """See ``Store``. ``folder`` is a local one for files on their way."""

    url: str = ""
    _system: Any = field(default=None, compare=False)
    _root: str = ""

    @classmethod
    def open(cls, url: str) -> RemoteStore:
        """Connect to the store.

        Raises:
            MissingExtra: a package is not installed.
            OptionError: the scheme is unknown.
        """
        system, root = open_system(url)
        folder = Path(tempfile.mkdtemp(prefix="rtseg-batch-"))
        store = cls(folder, url, system, root)
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    @property
    def name(self) -> str:
        """For messages."""
        return redact(self.url)

    def create(self) -> None:
        """Check that the store can be written."""
        try:
            with self._errors():
                self._system.pipe_file(f"{self._root}/.writable", b"")
                self._system.rm_file(f"{self._root}/.writable")
        except FileNotFoundError as error:
            raise SinkError(f"{self.name} cannot be used: there is no such bucket; check the address") from error

    def local(self, name: str) -> Path:
        """Fetch the file ``name``."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), self._errors():
            self._system.get_file(f"{self._root}/{name}", str(path))
        return path

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path; what is written there is uploaded at the end of the block."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / Path(name).name
            yield path
            with self._errors():
                self._system.put_file(str(path), f"{self._root}/{name}")

    def _read(self, name: str) -> bytes:
        with self._errors():
            return bytes(self._system.cat_file(f"{self._root}/{name}"))

    @contextlib.contextmanager
    def planning(self) -> Iterator[None]:
        """There are no locks."""
        yield

    working = planning

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """There are no locks."""
        yield True

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[Path]:
        """Yield a local folder for the results of a segment."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def remove_parts(self, name: str) -> None:
        """Nothing of a failed segment is uploaded."""

    def clean(self) -> None:
        """What was not finished has no name yet."""

    def commit(self, part: Path, name: str, facts: dict[str, Any]) -> None:
        """Upload all files of ``part``, ``done.json`` last; see ``Store``."""
        target = f"{self._root}/{name}"
        sizes = write_done(part, facts)
        with self._errors():
            if self._system.exists(f"{target}/{DONE}"):
                self._system.rm_file(f"{target}/{DONE}")  # of other options: incomplete from now on
            for file in sizes:
                self._system.put_file(str(part / file), f"{target}/{file}")
            with contextlib.suppress(FileExistsError):  # another process has finished the same
                self._system.pipe_file(f"{target}/{DONE}", (part / DONE).read_bytes(), mode="create")

    def _has_files(self, name: str, sizes: dict[str, int]) -> bool:
        prefix = f"{self._root}/{name}"
        with self._errors():
            found = self._system.find(prefix, detail=True)
        return all((found.get(f"{prefix}/{file}") or {}).get("size") == size for file, size in sizes.items())

    def forget_failure(self, name: str) -> None:
        """See ``Store``."""
        path = f"{self._root}/failed/{name.removeprefix('segments/').replace('/', '.')}.json"
        with self._errors():
            if self._system.exists(path):
                self._system.rm_file(path)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Every file system raises its own errors; a missing file stays ``FileNotFoundError``."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            reason = remote_reason(error)
            raise SinkError(f"{self.name} cannot be used: {reason}; check the address and the rights") from error
