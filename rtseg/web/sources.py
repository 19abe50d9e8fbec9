"""The sources of a page, which change while it is served when the file of cameras does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from threading import Lock

from rtseg.app.cameras import Camera
from rtseg.errors import RtsegError
from rtseg.web.source_run import SourceRun

__all__ = ["Sources"]

_NUMBERS = 1 << 16
"""Of sources in messages to viewers."""
_END_S = 15.0
"""How long the end of all sources is waited for."""


class Sources:
    """The sources in their order. Any thread may read them.

    Args:
        cameras: what to run at first.
        open_run: opens a run, not yet started, from its number and camera. No two runs have the same number.

    Raises:
        RtsegError: a source, a model or an output cannot be used.
    """

    def __init__(self, cameras: Sequence[Camera], open_run: Callable[[int, Camera], SourceRun]) -> None:
        self._open_run = open_run
        self._numbers = count()
        self._lock = Lock()
        """Held while sources begin and end."""
        self._cameras: dict[str, Camera] = {}
        self._runs: dict[str, SourceRun] = {}
        """By ID. Replaced as a whole, so that readers need no lock."""
        self._is_stopped = False
        try:
            for camera in cameras:
                self._runs[camera.name] = self._open(camera)
                self._cameras[camera.name] = camera
        except RtsegError:
            self.stop()
            raise

    def __iter__(self) -> Iterator[SourceRun]:
        return iter(self._runs.values())

    def get(self, id: str) -> SourceRun | None:  # noqa: A002 - the name of the API
        """The source with this ID, if there is one."""
        return self._runs.get(id)

    def start(self) -> None:
        """Let all read their first frame soon."""
        for run in self:
            run.start()

    def stop(self) -> list[str]:
        """End all for good, and wait for that.

        Returns:
            Which sources have not ended in time, one line each.

        Raises:
            BaseException: an error that is none of rtseg's ended a source; it is raised after all have ended.
        """
        self._is_stopped = True
        is_alone = self._lock.acquire(timeout=_END_S)  # else a change of the sources hangs
        try:
            runs = list(self)
            late = _end(runs)
        finally:
            if is_alone:
                self._lock.release()
        for run in runs:
            if run.bug is not None:
                raise run.bug
        return late

    def replace(self, cameras: Sequence[Camera]) -> list[str]:
        """Run these sources instead: those whose options are as before go on, others end or begin.

        Returns:
            What is wrong with sources that cannot be run, and are left out, or that do not end, one line each.
        """
        problems: list[str] = []
        with self._lock:
            same = {camera.name for camera in cameras if self._cameras.get(camera.name) == camera}
            ended = [run for run in self if run.id not in same]
            kept = {run.id: run for run in self if run.id in same}
            self._runs = dict(kept)
            problems += _end(ended)
            runs: dict[str, SourceRun] = {}
            for camera in cameras:
                try:
                    runs[camera.name] = kept.get(camera.name) or self._open(camera)
                except RtsegError as error:
                    problems.append(f"{camera.name}: {error}")
            self._cameras = {camera.name: camera for camera in cameras if camera.name in runs}
            self._runs = runs
            if self._is_stopped:  # meanwhile
                return problems + _end(list(runs.values()))
            for run in runs.values():
                if run.id not in same:
                    run.start()
        return problems

    def _open(self, camera: Camera) -> SourceRun:
        return self._open_run(next(self._numbers) % _NUMBERS, camera)


def _end(runs: Sequence[SourceRun]) -> list[str]:
    """End the runs, and wait for all together; returns which have not ended in time, one line each."""
    for run in runs:
        run.stop()
    until_s = time.monotonic() + _END_S
    late = [run for run in runs if not run.join(max(0.0, until_s - time.monotonic()))]
    return [f"{run.id} did not end within {_END_S:g} s: it is left to itself" for run in late]
