"""``rtseg batch``: label a library of videos."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from rtseg.batch.options import BatchOptions
from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.batch.run import BatchRun

__all__ = ["batch"]

EXAMPLES = (
    "rtseg batch 'videos/**/*.mp4' --output results",
    "rtseg batch videos/ --output results --write shares,masks,overlay --segment 5m",
    "rtseg batch videos/ --output results --write events,keyframes --events 'Pedestrian > 2% for 1s'",
    "rtseg batch @clips.txt --output /shared/results --shard 3/8",
)
_NAMED = 10


def batch(options: BatchOptions, messages: MessageOptions) -> None:
    """Label a library of videos on all cores: class shares, masks and overlays of each.

    Videos are divided into segments. Run the same command again after an interruption: complete segments are kept, and
    at most those in hand are lost. A segment that fails three times is set aside, and so is a video that cannot be
    read; the exit code is then 2, after all others are done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from rtseg.batch.run import BatchRun

    console = open_console(quiet=messages.quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started_s = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bars = {what: progress.add_task(what, total=None, visible=False) for what in ("videos", "segments")}

        def on_progress(what: str, done: int, total: int) -> None:
            progress.update(bars[what], completed=done, total=total, visible=True)

        with BatchRun(options, on_progress) as run:
            _print_plan(console, run)
            try:
                run.run()
            except KeyboardInterrupt:
                progress.stop()
                left = len(run.plan.jobs) - run.report.done - len(run.report.set_aside)
                console.print(f"stopped: {left} segments are left; run the same command again to go on")
                raise typer.Exit(130) from None
            if not run.finish():
                console.print("other shards are not complete yet: the last one writes summary.html")
    _print_results(console, run, time.monotonic() - started_s)
    for path, reason in run.report.unusable[:_NAMED]:
        print(f"{path}: {reason}", file=sys.stderr)
    for job, error in run.report.set_aside[:_NAMED]:
        print(
            f"{job.video.path}, segment {job.segment.number}: {error}; set aside, --retry tries again", file=sys.stderr
        )
    run.check()


def _print_plan(console: Console, run: BatchRun) -> None:
    plan = run.plan
    segments = sum(len(video.segments) for video in run.videos)
    shard = f", shard {run.options.shard}" if run.options.shard else ""
    console.print(
        f"{len(run.videos)} videos, {segments} segments{shard}: {len(plan.jobs)} to do, {len(plan.done)} done"
    )
    for reason, count in plan.changed.items():
        console.print(f"{count} segments are done again: {reason}")
    for video in [video for video in run.videos if video.note][:_NAMED]:
        console.print(f"{video.path}: {video.note}")


def _print_results(console: Console, run: BatchRun, wall_s: float) -> None:
    report = run.report
    rate = f", {report.frames / wall_s:.1f} frames per second" if report.frames else ""
    console.print(
        f"{report.done} segments with {report.frames} frames done in {wall_s:.0f} s{rate}; "
        f"{report.skipped} were done before; results in {run.options.output}"
    )
