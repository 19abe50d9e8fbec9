"""Several sources as seen from a terminal: a row or a line for each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rtseg.app.cameras import Camera
from rtseg.app.grid import GridView
from rtseg.app.many_streams import CameraStatus, ManyStreams
from rtseg.app.output_names import has_outputs
from rtseg.app.prometheus import StreamMetrics, serve_metrics
from rtseg.app.terminal import NOT_KEPT, StopSignals, Terminal
from rtseg.errors import SinkClosed
from rtseg.sinks import Sink, open_sinks
from rtseg.sinks.options import RecordingOptions
from rtseg.system.display import display_available

__all__ = ["ManyOptions", "run_many_to_the_end", "table"]

_LINE_EVERY_S = 5.0
_REFRESH_S = 0.25
_DRAW_S = 1 / 30
"""Shortest time between two images of a grid."""
_WIDEST_STATE = 40


@dataclass(frozen=True, slots=True)
class ManyOptions:
    """What belongs to all sources together."""

    report: Path | None = None
    overwrite: bool = False
    show: bool | None = None
    """Show a window with all sources; by default if no source has an output and a display answers."""
    grid: str | None = None
    """A video file or URL for all sources in one image."""
    recording: RecordingOptions = field(default_factory=RecordingOptions)
    quiet: bool = False
    metrics: str | None = None


def run_many_to_the_end(cameras: Sequence[Camera], options: ManyOptions) -> int:
    """Run all and print how it goes; returns the exit code.

    0; 2 if a source or an output failed; 128 plus the number of a signal: 130 after Ctrl-C.

    Raises:
        RtsegError: nothing could start.
    """
    console = Terminal(quiet=options.quiet)
    metrics = StreamMetrics()
    has_output = options.grid is not None or any(has_outputs(camera.options) for camera in cameras)
    shows_window = options.show if options.show is not None else not has_output and display_available()
    grid = GridView([camera.name for camera in cameras]) if shows_window or options.grid is not None else None
    with StopSignals(console) as signals, ExitStack() as opened:
        address = opened.enter_context(serve_metrics(options.metrics, metrics))
        many = ManyStreams(
            [replace(camera, options=replace(camera.options, show=False, report=None)) for camera in cameras],
            report=options.report,
            grid=options.grid,
            overwrite=options.overwrite,
            limit_endless=not shows_window,
            more_sinks=lambda camera: [grid.cells[camera.name]] if grid is not None else [],
        )
        opened.callback(many.close)
        if grid is not None:
            opened.callback(grid.close)
            grid.sinks = _grid_sinks(many, options, shows_window=shows_window)
        signals.call(many.stop)
        console.say_new(address.notices if address else [])
        for name, stream in many.streams.items():
            metrics.add(name, stream.run)
            run = stream.run
            console.say(f"{name}: {run.spec.name} on {run.backend.name} -> {', '.join(run.outputs)}")
        many.start()
        with _progress(console, many) as show:
            _watch(console, many, grid, show)
    console.say_new([*many.events, *(grid.failures if grid is not None else [])])
    for line in _summary(many, grid):
        console.say(line)
    if signals.received:
        return 128 + signals.received
    has_failed = any(each.error or each.failures for each in many.status())
    return 2 if has_failed or (grid is not None and grid.failures) else 0


def _grid_sinks(many: ManyStreams, options: ManyOptions, *, shows_window: bool) -> list[Sink]:
    spec = next(iter(many.streams.values())).run.spec
    return open_sinks(
        spec,
        outputs=(options.grid,) if options.grid is not None else (),
        recording=options.recording,
        window=f"rtseg - {len(many.streams)} sources" if shows_window else None,
        live=True,
        overwrite=options.overwrite,
    )


def _watch(console: Terminal, many: ManyStreams, grid: GridView | None, show: _Display) -> None:
    """Show what happens until all sources have ended, or the viewer closed the window."""
    next_s = 0.0
    while not many.wait(_REFRESH_S if grid is None else _DRAW_S):
        statuses = many.status()
        if grid is not None:
            try:
                grid.update(statuses)
            except SinkClosed:
                many.stop()
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _REFRESH_S
            console.say_new(many.events)
            show.update(statuses)


class _Display:
    """Prints a line for each source every few seconds."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def update(self, statuses: Sequence[CameraStatus]) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _LINE_EVERY_S
        for each in statuses:
            if not each.has_ended:
                status = each.status
                self._console.say(
                    f"{each.name}: {each.state}; {status.frames_written} frames, {status.fps:.1f} fps, "
                    f"latency {status.latency_ms:.0f} ms, {status.frames_dropped} dropped"
                )


class _Panel(_Display):
    """Shows a table on a terminal."""

    def __init__(self, console: Terminal, many: ManyStreams, live: Live) -> None:
        super().__init__(console)
        self._many, self._live = many, live

    def update(self, statuses: Sequence[CameraStatus]) -> None:
        classes = {name: stream.run.spec.classes for name, stream in self._many.streams.items()}
        try:
            self._live.update(table(statuses, classes), refresh=True)
        except OSError:  # the terminal has gone
            self._console.quiet = True


@contextmanager
def _progress(console: Terminal, many: ManyStreams) -> Iterator[_Display]:
    if not console.is_terminal or console.quiet:
        yield _Display(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _Panel(console, many, live)


def table(statuses: Sequence[CameraStatus], classes: Mapping[str, Sequence[str]]) -> Panel:
    """The panel that a terminal shows: a row for each source.

    Args:
        statuses: of the sources.
        classes: the names of the classes of each source, by its name.
    """
    rows = Table(box=None, padding=(0, 1))
    rows.add_column("source")
    rows.add_column("state", max_width=_WIDEST_STATE, no_wrap=True)
    for column in ("fps", "latency", "labels", "frames", "dropped", "damaged"):
        rows.add_column(column, justify="right")
    rows.add_column("largest class")
    for each in statuses:
        status = each.status
        age = f"{status.label_age_ms:.0f} ms" if status.label_age_ms is not None else ""
        figures = (f"{status.frames_written}", f"{status.frames_dropped}", f"{status.frames_damaged}")
        row = (f"{status.fps:.1f}", f"{status.latency_ms:.0f} ms", age, *figures, _largest(each, classes[each.name]))
        rows.add_row(*map(Text, (each.name, each.state, *row)))
    return Panel(rows, title=Text(f"rtseg: {len(statuses)} sources"), subtitle="Ctrl-C ends", expand=False)


def _largest(each: CameraStatus, classes: Sequence[str]) -> str:
    shares = each.status.shares
    if not len(shares) or not shares.max() > 0:
        return ""
    largest = int(np.argmax(shares))
    return f"{classes[largest]} {100 * shares[largest]:.0f} %"


def _summary(many: ManyStreams, grid: GridView | None) -> Iterator[str]:
    for name, stream in many.streams.items():
        report = stream.result
        if report is None:
            yield f"{name}: {stream.error or 'stopped'}"
            continue
        dropped = f", {report.frames_dropped} dropped" if report.frames_dropped else ""
        damaged = f", {report.frames_damaged} damaged" if report.frames_damaged else ""
        age = report.latency_ms
        yield (
            f"{name}: {report.ended}: {report.frames_written} frames{dropped}{damaged} in {report.wall_s:.1f} s, "
            f"{report.fps:.1f} fps, latency p50 {age['p50']:.0f} ms, p95 {age['p95']:.0f} ms"
        )
        for sink in stream.run.finished_sinks:
            if sink.kind not in (*NOT_KEPT, "grid") and sink.written:
                yield f"wrote {sink.name}"
    for sink in grid.sinks if grid is not None else ():
        if sink.kind not in NOT_KEPT and sink.written:
            yield f"wrote {sink.name}"
