"""One run from options to report: what ``rtseg stream`` does, for programs too."""

from __future__ import annotations

import itertools
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import Any

from rtseg.app import model_pool
from rtseg.app.drawing import open_effects, open_overlay
from rtseg.app.events import event_files, open_events
from rtseg.app.existing_report import check_replaces_json
from rtseg.app.options import StreamOptions
from rtseg.backends.base import Backend
from rtseg.errors import OptionError, RtsegError, SinkError
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.report import RunReport, Status
from rtseg.pipeline.runner import Pipeline
from rtseg.preprocess import Prepare, override_steps, preprocess_facts, preprocess_notice
from rtseg.regions import parse_regions
from rtseg.regions.masks import Regions
from rtseg.sinks import is_video_file, open_sinks
from rtseg.sinks.base import Sink
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.system.atomic_files import OutputExists, check_writable, locked_output, write_json
from rtseg.system.c_exit import at_c_exit
from rtseg.system.display import display_available
from rtseg.system.output_lock import OutputInUse
from rtseg.system.redact import redact
from rtseg.version import __version__
from rtseg.weights import find_model

__all__ = ["OpenModel", "StreamRun"]

OpenModel = Callable[[StreamOptions, str], AbstractContextManager[Backend]]
"""Opens the model of a run; the text is the hint of ``BackendOptions``."""

_LIMIT_S = 60.0
"""Length of a run that nothing else would end, in seconds of video."""


class StreamRun:
    """A run, opened and ready: ``source``, ``spec`` and ``outputs`` can be shown before ``run`` is called.

    Everything that can be checked before the first frame is checked here, the cheapest first.

    Args:
        options: what to run.
        limit_endless: stop a drawn source that never ends after 60 s of video if there is no other limit and no window.
        open_model: opens the model; by default for this run alone.
        more_sinks: further sinks for the results. With one, no output is needed. The run closes them.
        name: of the source, in messages and events; its own by default.

    Raises:
        RtsegError: an option, the model, the backend or an output cannot be used.
    """

    def __init__(
        self,
        options: StreamOptions,
        *,
        limit_endless: bool = False,
        open_model: OpenModel | None = None,
        more_sinks: Sequence[Sink] = (),
        name: str | None = None,
    ) -> None:
        self.options = options = _with_source(options)
        self.source: Source = open_source(str(options.source), options.part)
        self._limit_notice = ""
        if limit_endless and _is_unlimited(self.source, options):
            part = replace(options.part, duration_s=_LIMIT_S, loop=False)
            self.source = open_source(str(options.source), part)
            self._limit_notice = (
                f"{self.source.name} never ends: stopping after {_LIMIT_S:g} s of video; --duration sets another length"
            )
        self.source.name = name or self.source.name
        model = find_model(options.model)
        _refuse_clashes(options, model)
        self.regions = Regions(parse_regions(options.events.roi))
        """They can be replaced while the run goes on."""
        self._stop = Event()
        hint = "latency" if self.source.live or options.drop == "always" else "throughput"
        with ExitStack() as opened:
            if options.report is not None:
                opened.enter_context(
                    locked_output(options.report, f"report {options.report}", overwrite=options.overwrite)
                )
            self.backend: Backend = opened.enter_context((open_model or model_pool.open_model)(options, hint))
            self._own = self.backend.spec
            self.spec: ModelSpec = override_steps(self._own, options.preprocess)
            overlay = open_overlay(options, self.spec)
            self.sinks = list(more_sinks)
            opening = opened.enter_context(ExitStack())
            opening.callback(self._close_sinks)  # if something after it cannot be opened
            self.sinks[:0] = _open_sinks(
                options, self.source, self.spec, self.regions, self._stop, needs_output=not more_sinks
            )
            watch = open_events(options, self.source, self.spec, self.regions, shows_events=bool(more_sinks))
            self.sinks += [watch] if watch is not None else []
            self._pipeline = Pipeline(
                self.source,
                self.backend,
                self.sinks,
                overlay,
                drop=options.drop,
                prepare=Prepare(self.spec),
                propagation=options.propagation,
                regions=self.regions,
                effects=open_effects(options, self.spec),
            )
            opening.pop_all()
            self._opened = opened.pop_all()
        self.result: RunReport | None = None

    @property
    def outputs(self) -> list[str]:
        """What the results go to, in words."""
        return [sink.name for sink in self.sinks]

    @property
    def finished_sinks(self) -> list[Sink]:
        """The sinks whose result is complete, once the run has ended."""
        failed = self._pipeline.failed_sinks
        return [sink for sink in self.sinks if sink not in failed]

    @property
    def notices(self) -> list[str]:
        """What to tell the user about the backend, preprocessing steps, the limit of the run, and lost audio."""
        known = [self.backend.notice, preprocess_notice(self._own, self.spec), self._limit_notice]
        if self.options.blur and any(not region.name for region in self.regions.all):
            known.append("outside of --roi nothing is labelled, so --blur hides nothing there: give the region a name")
        source = [] if self.source.live else self.source.notice.splitlines()
        return [notice for notice in (*known, *source, *self.events) if notice]

    @property
    def events(self) -> list[str]:
        """The part of ``notices`` that may become longer during the run, so that a user can act on it."""
        source = self.source.notice.splitlines() if self.source.live else []
        events = (*source, *(line for sink in self.sinks for line in sink.notice.splitlines()), *self._pipeline.notices)
        return [event for event in events if event]

    @property
    def failures(self) -> list[str]:
        """Why outputs ended before the run, which went on with the others: one line each."""
        return self._pipeline.failures

    def stages(self) -> dict[str, dict[str, float]]:
        """How long the stages and sinks have taken for a frame so far; see ``RunReport.stages``. For any thread."""
        return self._pipeline.stages()

    def stop(self) -> None:
        """Let the frames in flight finish, then end. Safe in a signal handler."""
        self._stop.set()
        self._pipeline.stop()

    def close(self) -> None:
        """Close everything without a run. After ``run`` it does nothing."""
        self.stop()
        with self._opened:
            self._close_sinks()

    def status(self) -> Status:
        """The current state of the run. Any thread may call it."""
        return self._pipeline.status()

    @property
    def durations(self) -> dict[str, Durations]:
        """The time that each stage and sink worked on the frames so far."""
        return self._pipeline.durations

    def run(self, on_progress: Callable[[Status], None] | None = None) -> RunReport:
        """Send every frame through, close everything, and write the report, also where an error ends the run.

        An output that fails, for example on a full disk, ends alone while others go on; see ``failures``.

        Raises:
            RtsegError: of the source, the backend, or the last sink. What came before it is written.
        """
        error: RtsegError | None = None
        with self._opened:
            try:
                with self._saved_if_the_display_ends_the_process(), self._pipeline:
                    ended = self._pipeline.run(on_progress)
            except RtsegError as raised:
                error = raised
            finally:  # whatever ended the run: what was written becomes a whole file
                closing_error = self._close_sinks()
                if self._pipeline.backend_hangs:
                    self._kept_open = self._opened.pop_all()  # closing it would hang, or free what it still uses
            error = error or closing_error
            self.result = self._pipeline.report(f"error: {error}" if error is not None else ended)
            if self.options.report is not None:
                write_json(self.options.report, self.report())
        if error is not None:
            raise error
        return self.result

    def _saved_if_the_display_ends_the_process(self) -> AbstractContextManager[None]:
        window = next((sink for sink in self.sinks if sink.kind == "window"), None)
        return nullcontext() if window is None else at_c_exit(lambda: self._save(window), code=2)

    def _save(self, window: Sink) -> None:
        """Finish every output but the window: the library behind it is about to end the process."""
        problem = f"{window.name} ended, the display does not answer any more, which ended the run"
        self.sinks.remove(window)
        self._close_sinks()
        self.result = self._pipeline.report(f"error: {problem}")
        if self.options.report is not None:
            write_json(self.options.report, self.report())
        print(f"rtseg: {problem}: what was written is complete", file=sys.stderr, flush=True)

    def _close_sinks(self) -> RtsegError | None:
        """Close all, whatever happens to one of them; the first error."""
        first: RtsegError | None = None
        for sink in self.sinks:
            try:
                sink.close()
            except SinkError as error:
                first = first or error
        return first

    def report(self) -> dict[str, Any]:
        """The run in figures, as ``--report`` writes them; call it after ``run``."""
        assert self.result is not None, "report() is for after run()"
        facts = asdict(self.result)
        return {
            "source": redact(str(self.options.source)),
            **self.backend.facts(),
            **preprocess_facts(self._own, self.spec),
            "outputs": self.outputs,
            "sinks": {sink.name: sink.facts() for sink in self.sinks if sink.facts()},
            **facts,
            "failures": self.failures,
            "damaged_names": self.source.damaged_names,
            **self.source.facts(),
            "versions": _versions() | {self.backend.name: self.backend.version},
        }


def _with_source(options: StreamOptions) -> StreamOptions:
    """The same options with the first camera as their source if they name none.

    Raises:
        OptionError: there is no camera.
    """
    if options.source is not None:
        return options
    from rtseg.sources.camera import find_cameras

    cameras = find_cameras()
    if not cameras:
        raise OptionError(
            "no source is given and no camera was found: try `rtseg stream dashcam.mp4`, `rtseg stream images/` or "
            "`rtseg stream demo`"
        )
    return replace(options, source=f"camera:{cameras[0]}")


def _is_unlimited(source: Source, options: StreamOptions) -> bool:
    """Whether nothing would end the run: a source without an end, no limit, and no window to close."""
    limits = (options.part.duration_s, options.part.max_frames)
    return source.is_endless and not any(limits) and not _shows_window(options)


def _has_output(options: StreamOptions) -> bool:
    files = (options.masks, options.stats, options.polygons)
    return bool(options.output or options.events.destinations) or any(path is not None for path in files)


def _shows_window(options: StreamOptions) -> bool:
    return options.show if options.show is not None else not _has_output(options) and display_available()


def _open_sinks(
    options: StreamOptions, source: Source, spec: ModelSpec, regions: Regions, stop: Event, *, needs_output: bool
) -> list[Sink]:
    """The sinks that the options ask for, or the one that a user would want without asking."""
    show = _shows_window(options)
    outputs = options.output
    if needs_output and not _has_output(options) and not show:
        outputs = (_default_output(source.name, overwrite=options.overwrite),)
    return open_sinks(
        spec,
        outputs=outputs,
        recording=options.recording,
        fps_hint=lambda: source.fps and source.fps / options.part.stride,
        audio=source.open_audio() if options.audio and any(map(is_video_file, outputs)) else None,
        masks=options.masks,
        stats=options.stats,
        regions=regions,
        polygons=options.polygons,
        tolerance=options.tolerance,
        window=f"rtseg - {source.name}" if show else None,
        live=source.live,
        may_drop=options.drop != "never",
        stop=stop,
        overwrite=options.overwrite,
    )


def _default_output(name: str, *, overwrite: bool) -> str:
    """SOURCE-rtseg.mp4, with a number if there is one already or another run is writing it."""
    for number in itertools.count(1):
        path = Path(f"{name}-rtseg-{number}.mp4" if number > 1 else f"{name}-rtseg.mp4")
        try:
            check_writable(path, f"video {path}", overwrite=overwrite)
        except (OutputExists, OutputInUse):
            continue
        break
    return str(path)


def _refuse_clashes(options: StreamOptions, model: Path) -> None:
    """No result may take the place of the source, of the model, of another result or of a file that is not one.

    Raises:
        OptionError: one would.
    """
    taken: list[tuple[str, str | Path]] = [("the source", str(options.source)), ("the model", model)]
    if options.replace_background is not None:
        taken.append(("the background", options.replace_background))
    outputs = [("--output", Path(output)) for output in options.output if is_video_file(output)]
    others = ((f"--{name}", getattr(options, name)) for name in ("masks", "stats", "polygons", "report"))
    events = (("--events-to", path) for path in event_files(options.events))
    for option, path in (*outputs, *others, *events):
        if path is None or path.is_dir():
            continue
        for what, other in taken:
            if _same_file(path, other):
                raise OptionError(f"{option} {path} is {what} itself: give another name")
        taken.append((option, path))
    check_replaces_json(options.stats, "--stats")
    check_replaces_json(options.report)


def _same_file(one: str | Path, other: str | Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)  # noqa: PTH110, PTH121


def _versions() -> dict[str, str]:
    found = {"rtseg": __version__, "python": platform.python_version()}
    for package in ("numpy", "opencv-python", "opencv-python-headless", "av", "onnx"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
