"""Takes over changes of the file of cameras while the page is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread

from rtseg.app.cameras import Camera
from rtseg.errors import RtsegError
from rtseg.web.sources import Sources

__all__ = ["CamerasFile"]

_LOOK_EVERY_S = 1.0
_END_S = 15.0
"""How long a change that is being taken over is waited for."""


class CamerasFile:
    """Looks at the file every second, on a thread of its own, and lets the sources be those of the file.

    A file with a fault changes nothing. Editors write files in parts: a change is taken over when the file has stayed
    the same for a second.

    Args:
        path: the file.
        load: reads it.
        sources: what runs.
        say: gets a line about every change and every fault.
    """

    def __init__(
        self, path: Path, load: Callable[[], Sequence[Camera]], sources: Sources, say: Callable[[str], None]
    ) -> None:
        self._path = path
        self._load = load
        self._sources = sources
        self._say = say
        self._stop = Event()
        self._stamp = self._look()
        self._thread = Thread(target=self._watch, name="rtseg-cameras-file", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Take over no further change; wait for one that is being taken over, but not for ever."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _watch(self) -> None:
        before = self._stamp
        while not self._stop.wait(_LOOK_EVERY_S):
            now = self._look()
            if now is not None and now == before and now != self._stamp:
                self._stamp = now
                self._take_over()
            before = now

    def _take_over(self) -> None:
        try:
            cameras = self._load()
        except RtsegError as error:
            self._say(f"{error}; the sources stay as they are")
            return
        problems = self._sources.replace(cameras)
        for problem in problems:
            self._say(problem)
        self._say(f"{self._path.name} has changed: {', '.join(run.id for run in self._sources)}")
