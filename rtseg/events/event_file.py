"""Writes events as JSON lines, with their snapshots beside."""

from __future__ import annotations

import json
from pathlib import Path

from rtseg.errors import SinkError
from rtseg.events.event import Event
from rtseg.system.atomic_files import atomic_path, failure_reason
from rtseg.system.file_names import encode_text
from rtseg.system.part_file import PartFile

__all__ = ["EventFile"]


class EventFile:
    """A file with one line for each event, and a folder ``NAME-snapshots`` with their images.

    Each line is written immediately, so ``tail -f NAME.part.jsonl`` follows a run.

    Raises:
        OutputExists: there is such a file, and it must not be replaced.
        SinkError: it cannot be written, or another run is writing it.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.name = f"events {path}"
        self.written = 0
        self._snapshots = path.with_name(f"{path.stem}-snapshots")
        self._file = PartFile(path, self.name, overwrite=overwrite)
        self._is_over = False

    @property
    def notice(self) -> str:
        """See ``PartFile``."""
        return self._file.notice

    def write(self, event: Event) -> None:
        """Write one event.

        Raises:
            SinkError: it cannot be written; earlier lines are kept. Later calls do nothing.
        """
        if self._is_over:
            return
        try:
            values = event.to_json()
            if event.snapshot is not None:
                values["snapshot"] = self._write_snapshot(event, event.snapshot)
            self._file.write(encode_text(json.dumps(values, ensure_ascii=False) + "\n"))
            self._file.mark()
        except OSError as error:
            raise self._fail(error) from error
        self.written += 1

    def _write_snapshot(self, event: Event, data: bytes) -> str:
        self._snapshots.mkdir(parents=True, exist_ok=True)
        path = self._snapshots / f"{event.index or 0:06d}-{event.rule}-{event.id}.jpg"
        with atomic_path(path) as part:
            part.write_bytes(data)
        return f"{self._snapshots.name}/{path.name}"

    def close(self) -> None:
        """Give the file its final name. A second call does nothing.

        Raises:
            SinkError: the last bytes cannot be written.
        """
        if self._is_over:
            return
        self._is_over = True
        try:
            self._file.commit()
        except OSError as error:
            raise self._fail(error) from error

    def _fail(self, error: OSError) -> SinkError:
        self._is_over = True
        kept = f"{self.written} lines are kept in {self._file.part}" if self._file.keep() else "no line is kept"
        return SinkError(f"{self.name} ended, {failure_reason(error)}; {kept}. Free some space or choose another path")
