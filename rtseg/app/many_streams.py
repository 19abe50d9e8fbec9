"""Several sources at once: a run for each, with one model for all that name the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from rtseg.app.cameras import Camera
from rtseg.app.existing_report import check_replaces_json
from rtseg.app.model_pool import ModelPool
from rtseg.app.output_names import make_folders, refuse_shared_outputs
from rtseg.app.stream import StreamRun
from rtseg.errors import OptionError, RtsegError
from rtseg.pipeline.report import RunReport, Status
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import locked_output, write_json
from rtseg.system.redact import redact
from rtseg.version import __version__

__all__ = ["CameraStatus", "CameraStream", "ManyStreams"]

_FOR_EVER_S = 1e9
"""As ``--max-downtime``: with other sources there, one that is away at the start is waited for."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """The current state of one source."""

    name: str
    state: str
    """What a live source does, with the reason; ``running`` for a file, or why the run has ended."""
    status: Status
    has_ended: bool
    error: str = ""
    """Why the run failed; empty if it did not."""
    failures: tuple[str, ...] = ()
    """Why outputs ended before the run."""


class CameraStream:
    """The run of one source on a thread of its own. An error ends it, and no other one.

    Args:
        camera: what to run.
        pool: opens its model.
        more_sinks: further sinks for its results.
        limit_endless: see ``StreamRun``.

    Raises:
        RtsegError: see ``StreamRun``.
    """

    def __init__(
        self, camera: Camera, pool: ModelPool, more_sinks: Sequence[Sink] = (), *, limit_endless: bool = False
    ) -> None:
        self.name = camera.name
        self.camera = camera
        self.run = StreamRun(
            camera.options,
            limit_endless=limit_endless,
            open_model=pool.open,
            more_sinks=more_sinks,
            name=camera.name,
        )
        self.error: RtsegError | None = None
        self.bug: BaseException | None = None
        """An error that is none of rtseg's; ``ManyStreams.join`` raises it."""
        self._ended = Event()
        self._thread = Thread(target=self._run, name=f"rtseg-{camera.name}", daemon=True)
        self._began = False

    def start(self) -> None:
        """Begin, and return at once."""
        self._began = True
        self._thread.start()

    def _run(self) -> None:
        try:
            self.run.run()
        except RtsegError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 - not swallowed: ``join`` raises it
            self.bug = error
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Let the frames in flight finish, then end."""
        self.run.stop()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; returns whether it has come."""
        if not self._began:
            self._began = True
            self.run.close()
            self._ended.set()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether all its frames are written and everything is closed."""
        return self._ended.is_set()

    @property
    def result(self) -> RunReport | None:
        """What the run did, once it has ended."""
        return self.run.result

    def status(self) -> CameraStatus:
        """The current state. Any thread may call it."""
        run, has_ended = self.run, self.has_ended
        state = run.source.state or "running"
        error = str(self.error or (f"{type(self.bug).__name__}: {self.bug}" if self.bug is not None else ""))
        if has_ended:
            state = f"ended: {error or (run.result.ended if run.result else 'stopped')}"
        return CameraStatus(self.name, state, run.status(), has_ended, error, tuple(run.failures))

    def facts(self) -> dict[str, Any]:
        """The run in figures, for a report, once it has ended."""
        if self.run.result is None:
            return {"source": redact(str(self.camera.options.source)), "ended": f"error: {self.error or self.bug}"}
        return self.run.report()


class ManyStreams:
    """Several sources, each with a run of its own, and one model for all that name the same one.

    Everything that can be checked is checked here, before anything starts. Then no source can slow or end another:
    each has its own threads and its own outputs, and takes turns with the others at the model. A live source that is
    away at the start is waited for, unless its options say how long.

    Args:
        cameras: what to run; see ``rtseg.app.cameras``.
        report: a JSON file with a part for each source.
        grid: a further output of the caller, which no source may write.
        overwrite: replace ``report`` if it exists.
        limit_endless: see ``StreamRun``.
        more_sinks: further sinks for the results of a camera.

    Raises:
        RtsegError: an option, a model, a backend or an output of one of them cannot be used; the text names it.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        *,
        report: Path | None = None,
        grid: str | None = None,
        overwrite: bool = False,
        limit_endless: bool = False,
        more_sinks: Callable[[Camera], Sequence[Sink]] = lambda camera: (),
    ) -> None:
        if not cameras:
            raise OptionError("no source is given: name at least one")
        refuse_shared_outputs(
            {camera.name: camera.options for camera in cameras},
            {"--report": report, "--grid": Path(grid) if grid else None},
        )
        check_replaces_json(report)
        self._report_path = report
        self._pool = ModelPool("throughput" if len(cameras) > 1 else None)
        self._limit_endless, self._more_sinks = limit_endless, more_sinks
        self.streams: dict[str, CameraStream] = {}
        self._is_reported = False
        self._lock = Lock()
        self._started_s = time.monotonic()
        with ExitStack() as opened:
            if report is not None:
                opened.enter_context(locked_output(report, f"report {report}", overwrite=overwrite))
            try:
                for camera in cameras:
                    self._open(camera)
            except BaseException:
                self._close_all()
                raise
            self._opened = opened.pop_all()

    def _open(self, camera: Camera) -> CameraStream:
        part = camera.options.part
        if part.max_downtime_s is None:
            options = replace(camera.options, part=replace(part, max_downtime_s=_FOR_EVER_S))
            camera = replace(camera, options=options)
        make_folders(camera.options)
        try:
            stream = CameraStream(camera, self._pool, self._more_sinks(camera), limit_endless=self._limit_endless)
        except RtsegError as error:
            raise type(error)(f"{camera.name}: {error}") from error
        self.streams[camera.name] = stream
        return stream

    def start(self) -> None:
        """Begin with all sources, and return at once."""
        self._started_s = time.monotonic()
        for stream in self.streams.values():
            stream.start()

    def add(self, camera: Camera) -> CameraStream:
        """Begin with one more source while the others run.

        Raises:
            OptionError: there is one of this name, or it writes what another one writes or reads.
            RtsegError: it cannot be opened.
        """
        with self._lock:
            if camera.name in self.streams and not self.streams[camera.name].has_ended:
                raise OptionError(f"there is a source {camera.name} already: give another name")
            running = [each.camera for each in self.streams.values() if not each.has_ended]
            refuse_shared_outputs({each.name: each.options for each in (*running, camera)}, {})
            stream = self._open(camera)
            stream.start()
            return stream

    def remove(self, name: str, timeout_s: float | None = None) -> None:
        """End one source and forget it; the others go on."""
        with self._lock:
            stream = self.streams[name]
            stream.stop()
            stream.join(timeout_s)
            del self.streams[name]

    def stop(self) -> None:
        """Let the frames in flight finish, then end all. Any thread may call it, any number of times."""
        for stream in list(self.streams.values()):
            stream.stop()

    @property
    def has_ended(self) -> bool:
        """Whether all sources have ended."""
        return all(stream.has_ended for stream in list(self.streams.values()))

    def wait(self, timeout_s: float) -> bool:
        """Wait until all sources have ended, at most ``timeout_s`` seconds; returns whether they have."""
        deadline_s = time.monotonic() + timeout_s
        for stream in list(self.streams.values()):
            stream.join(max(0.0, deadline_s - time.monotonic()))
        return self.has_ended

    def status(self) -> list[CameraStatus]:
        """The current state of each source."""
        return [stream.status() for stream in list(self.streams.values())]

    @property
    def events(self) -> list[str]:
        """What has happened so far: lines, each with the name of its source; they may become more."""
        streams = list(self.streams.values())
        models = dict.fromkeys(stream.run.backend.notice for stream in streams)
        lines = [line for stream in streams for line in _lines(stream)]
        return [line for line in (*models, *lines) if line]

    def close(self) -> None:
        """End all sources, wait for them, and write the report. A second call does nothing.

        Raises:
            BaseException: an error that is none of rtseg's ended a source; it is raised after all have ended.
        """
        self._close_all()
        with self._opened:
            if self._report_path is not None and not self._is_reported:
                self._is_reported = True
                write_json(self._report_path, self.report())
        for stream in self.streams.values():
            if stream.bug is not None:
                raise stream.bug

    def _close_all(self) -> None:
        self.stop()
        for stream in list(self.streams.values()):
            stream.join()

    def report(self) -> dict[str, Any]:
        """The runs in figures, as ``report`` is written: a part for each source. Call it after ``close``."""
        return {
            "sources": {name: stream.facts() for name, stream in self.streams.items()},
            "models": self._pool.facts(),
            "wall_s": round(time.monotonic() - self._started_s, 3),
            "rtseg": __version__,
            "python": sys.version.split()[0],
        }

    def __enter__(self) -> ManyStreams:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _lines(stream: CameraStream) -> list[str]:
    own = [line for line in stream.run.notices if line != stream.run.backend.notice]
    lines = [*own, *([f"ended: {stream.error}"] if stream.error else [])]
    return [line if line.startswith(f"{stream.name}:") else f"{stream.name}: {line}" for line in lines]
