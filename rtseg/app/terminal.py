"""A run as seen from a terminal: a panel or lines while it goes on, signals, and a summary."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType

from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rtseg.app.options import StreamOptions
from rtseg.app.prometheus import StreamMetrics, serve_metrics
from rtseg.app.stream import StreamRun
from rtseg.image_io.notes import name_some
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.report import RunReport, Status
from rtseg.system.suspension import watch_suspension

__all__ = ["NOT_KEPT", "StopSignals", "Terminal", "panel", "run_to_the_end"]

_LINE_EVERY_S = 5.0
_BAR_WIDTH = 24
_MAX_CLASSES = 14
"""Rows for classes: the panel must fit into a terminal of 24 lines."""
NOT_KEPT = ("null", "window", "grid", "stream", "camera", "events")
"""Kinds of sinks that leave no file."""
_GREY = (128, 128, 128)
_PATIENCE_S = 3.0
"""After this time, a run that was told to end and has not ended is commented on."""


def run_to_the_end(options: StreamOptions, *, quiet: bool = False) -> int:
    """Run and print how it goes; returns the exit code.

    0; 2 if an output failed while the others went on; 128 plus the number of a signal: 130 after Ctrl-C.

    Raises:
        RtsegError: the run could not start, or an error ended it.
    """
    console = Terminal(quiet=quiet)
    metrics = StreamMetrics()
    with StopSignals(console) as signals, serve_metrics(options.metrics, metrics) as address:
        run = StreamRun(options, limit_endless=True)
        metrics.add(run.source.name, run)
        signals.call(run.stop)
        backend = run.backend
        console.say(
            f"{run.source.name}: {run.spec.name} at {run.spec.size[0]}x{run.spec.size[1]} on {backend.name} "
            f"({backend.precision}, {backend.device}) -> {', '.join(run.outputs)}"
        )
        console.say_new([*run.notices, *(address.notices if address else [])])
        with _progress(console, run) as on_progress:

            def progress(status: Status) -> None:
                console.say_new(run.events)
                on_progress(status)

            report = run.run(progress)
    console.say(_summary(report, run))
    console.say_new(run.notices)
    if quiet:
        for failure in run.failures:
            print(f"rtseg: {failure}", file=sys.stderr)
    if signals.received:
        return 128 + signals.received
    return 2 if run.failures else 0


class Terminal(Console):
    """A console that cannot end the run: when its output is closed or the disk is full, it stops printing."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._said: set[str] = set()

    def say_new(self, lines: Iterable[str]) -> None:
        """Print the ``lines`` that have not been printed by this method."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self.say(line)

    def say(self, text: str) -> None:
        """Print ``text`` as it is: names of files and classes may contain what rich would read as markup."""
        try:
            self.print(text, markup=False, highlight=False, soft_wrap=True)
        except OSError:  # the disk behind a redirected stdout is full
            self.quiet = True

    def on_broken_pipe(self) -> None:
        """Stop printing when the reader has gone (``| head``); rich itself would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StopSignals:
    """End the run at SIGINT, SIGTERM or SIGHUP (the terminal has gone); end the process at a second SIGINT or SIGTERM.

    A signal handler interrupts the main thread anywhere, also while it holds the lock of the event that ``stop`` sets.
    So the handler only puts an item into a ``SimpleQueue``, which is safe there, and a thread calls ``stop``.
    """

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self.received = 0
        self._stop: Callable[[], None] | None = None
        self._before: dict[int, object] = {}
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._stopper = Thread(target=self._stop_on_request, name="rtseg-signals", daemon=True)

    def _stop_on_request(self) -> None:
        while self._requests.get():
            if self._stop is not None:
                self._stop()
            try:
                if not self._requests.get(timeout=_PATIENCE_S):
                    return
            except Empty:
                self._console.say(
                    "the run has not ended yet: wait, or press Ctrl-C again to leave at once; "
                    "unfinished files then keep the name NAME.part"
                )

    def call(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` at the first signal, or now if there was one already."""
        self._stop = stop
        if self.received:
            stop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            for descriptor in self._terminals:  # writing to it would fail from now on
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if self.received:
            if number == signal.SIGHUP:  # the shell and the system both send one
                return
            os._exit(128 + number)
        self.received = number
        self._requests.put(True)

    def __enter__(self) -> StopSignals:
        self._stopper.start()
        watch_suspension()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._requests.put(False)
        self._stopper.join()


@contextmanager
def _progress(console: Terminal, run: StreamRun) -> Iterator[Callable[[Status], None]]:
    """Show a panel on a terminal, else a line every few seconds."""
    if not console.is_terminal or console.quiet:
        yield _Lines(console, run.spec)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(status: Status) -> None:
            try:
                live.update(panel(status, run.spec, run.source.frame_count, run.source.state), refresh=True)
            except OSError:  # the terminal has gone
                console.quiet = True

        yield show


class _Lines:
    def __init__(self, console: Terminal, spec: ModelSpec) -> None:
        self._console = console
        self._spec = spec
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def __call__(self, status: Status) -> None:
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _LINE_EVERY_S
        largest = sorted(zip(status.shares, self._spec.classes, strict=True), reverse=True)[:3]
        shares = ", ".join(f"{name} {100 * share:.0f} %" for share, name in largest if share > 0)
        self._console.say(
            f"{status.wall_s:.0f} s: {status.frames_written} frames, {status.fps:.1f} fps, "
            f"latency {status.latency_ms:.0f} ms, {status.frames_dropped} dropped; {shares}"
        )


def panel(status: Status, spec: ModelSpec, frame_count: int | None = None, state: str = "") -> Panel:
    """The panel that a terminal shows during a run."""
    figures = Table.grid(padding=(0, 2))
    total = f" of about {frame_count}" if frame_count else ""
    queues = "  ".join(f"{name} {waiting}" for name, waiting in status.queues.items())
    for name, value in (
        ("speed", f"{status.fps:.1f} fps"),
        ("latency", f"{status.latency_ms:.0f} ms"),
        *([("labels", f"{status.label_age_ms:.0f} ms old")] if status.label_age_ms is not None else []),
        ("frames", f"{status.frames_written}{total}, at {status.pts_s:.1f} s"),
        ("queues", queues),
        ("dropped", f"{status.frames_dropped}"),
        ("damaged", f"{status.frames_damaged}"),
    ):
        figures.add_row(Text(name, style="dim"), value)
    if state:
        figures.add_row(Text("source", style="dim"), Text(state))
    classes = Table.grid(padding=(0, 1))
    for name, (red, green, blue), share in _rows(status.shares, spec):
        bar = Bar(1.0, 0.0, float(share), width=_BAR_WIDTH, color=f"rgb({red},{green},{blue})")
        classes.add_row(Text(name), bar, f"{100 * share:5.1f} %")
    return Panel(
        Group(figures, Text(), classes), title=Text(f"rtseg {spec.name}"), subtitle="Ctrl-C ends", expand=False
    )


def _rows(shares: Iterable[float], spec: ModelSpec) -> list[tuple[str, tuple[int, int, int], float]]:
    """Return name, colour and share of each row: all classes by ID, or the largest of too many and the rest."""
    rows = [*zip(spec.classes, spec.palette, map(float, shares), strict=True)]
    if len(rows) <= _MAX_CLASSES:
        return rows
    rows.sort(key=lambda row: -row[2])
    rest = rows[_MAX_CLASSES - 1 :]
    return [*rows[: _MAX_CLASSES - 1], (f"{len(rest)} others", _GREY, sum(share for _, _, share in rest))]


def _in_brackets(names: list[str]) -> str:
    return f" ({name_some(names)})" if names else ""


def _skipped(run: StreamRun) -> str:
    return "" if run.options.part.show_damaged else " and skipped"


def _summary(report: RunReport, run: StreamRun) -> str:
    lost = "".join(
        f", {count} {what}"
        for count, what in (
            (report.frames_dropped, "dropped"),
            (report.frames_damaged, f"damaged{_skipped(run)}{_in_brackets(run.source.damaged_names)}"),
        )
        if count
    )
    first = (
        f"{report.ended}: {report.frames_written} frames{lost} in {report.wall_s:.1f} s, {report.fps:.1f} fps, "
        f"latency p50 {report.latency_ms['p50']:.0f} ms, p95 {report.latency_ms['p95']:.0f} ms"
    )
    kept = [sink.name for sink in run.finished_sinks if sink.kind not in NOT_KEPT and sink.written]
    return "\n".join([first, *(f"wrote {name}" for name in kept)])
