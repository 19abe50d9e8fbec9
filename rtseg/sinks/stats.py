"""Statistics of every frame, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import failure_reason
from rtseg.system.file_names import encode_text
from rtseg.system.part_file import PartFile

__all__ = ["StatsSink"]


class StatsSink(Sink):
    """Writes one line per frame: ``{"index": 7, "pts_s": 0.28, "classes": {"Road": 0.31, ...}}``.

    The line of an image from a folder also has its ``name``. The shares, in [0, 1], are relative to the pixels that
    have a class. Each line is written immediately, so ``tail -f NAME.part.SUFFIX`` follows a run.
    """

    kind = "stats"
    needs_rendered = False

    def __init__(self, path: Path, spec: ModelSpec, *, overwrite: bool = False) -> None:
        """Create the file, under its part name.

        Args:
            path: the file to write.
            spec: of the model that makes the labels.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputExists: there is such a file, and it must not be replaced.
            SinkError: it cannot be written, or another run is writing it.
        """
        self.path = path
        self.name = f"statistics {path}"
        self._classes = spec.classes
        self._failure: str | None = None
        self._closed = False
        self._file = PartFile(path, self.name, overwrite=overwrite)

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        return self._file.notice

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write one line; see ``Sink``."""
        if self._failure is not None:
            raise SinkError(self._failure)
        line = json.dumps(self._line(frame, labels), ensure_ascii=False) + "\n"
        try:
            self._file.write(encode_text(line))
            self._file.mark()
        except OSError as error:
            raise self._fail(error) from error
        self.written += 1

    def close(self) -> None:
        """Give the file its final name; see ``Sink``."""
        if self._closed:
            return
        self._closed = True
        if self._failure is not None:
            return
        if not self.written:
            self._file.keep()
            return
        try:
            self._file.commit()
        except OSError as error:
            raise self._fail(error) from error

    def _line(self, frame: Frame, labels: Labels) -> dict[str, Any]:
        shares = class_shares(labels, len(self._classes)).tolist()
        line: dict[str, Any] = {"index": frame.index, "pts_s": round(frame.pts_s, 6)}
        if frame.name is not None:
            line["name"] = frame.name
        line["classes"] = {name: round(share, 5) for name, share in zip(self._classes, shares, strict=True)}
        return line

    def _fail(self, error: OSError) -> SinkError:
        kept = "no line is kept"
        if self._file.keep():
            kept = f"{self.written} lines are kept in {self._file.part}"
        self._failure = f"{self.name} ended, {failure_reason(error)}; {kept}. Free some space or choose another path"
        return SinkError(self._failure)
