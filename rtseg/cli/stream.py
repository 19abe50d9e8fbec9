"""``rtseg stream``: segment a source and show or write the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtseg.app.options import StreamOptions
from rtseg.cli.many_sources import ConfigFile, SourceNames, name_sources
from rtseg.cli.messages import MessageOptions
from rtseg.cli.option_groups import GivenFields
from rtseg.errors import OptionError
from rtseg.option import Group

if TYPE_CHECKING:
    from rtseg.app.cameras import Camera

__all__ = ["stream"]

EXAMPLES = (
    "rtseg stream camera:0 --view side --legend",
    "rtseg stream 'images/*.png' --fps 10 --masks masks --report run.json",
    "rtseg stream --config cameras.toml --output recordings --grid all.mp4",
    'rtseg stream camera:0 --roi gate=10%,40%,30%,50% --events "Pedestrian > 2% for 1s in gate" --events-to ev.jsonl',
)


def stream(
    options: Annotated[StreamOptions, Group(without=("source",))],
    messages: MessageOptions,
    given: GivenFields,
    sources: list[str] | None = typer.Argument(
        None,
        metavar="SOURCE",
        show_default="the first camera",
        help="What to segment: a video file or URL, camera:0, screen, or images: a folder, a glob, frame_%05d.png, a "
        "list paths.txt, or a URL of images (s3://, zip://, https://host/*.png). demo:SECONDS and fringes:SECONDS are "
        "drawn by rtseg. Several sources share one model.",
    ),
    source: SourceNames = None,
    config: ConfigFile = None,
    grid: str | None = typer.Option(
        None,
        metavar="FILE|URL",
        rich_help_panel="Output",
        help="Write all sources as one video, side by side. With --show they share one window.",
    ),
    preset: str = typer.Option(
        "",
        help="Settings for one purpose. fringes: interferograms of 3072x3072, at 1024x1024, with their background "
        "subtracted and CLAHE. The background is averaged into SOURCE-background.png, if that does not exist. Without "
        "a source, fringes:2 is used.",
        rich_help_panel="Input",
    ),
) -> None:
    """Segment a video, a camera or images, and show or write the result.

    If there is no display and no output is given, the result is written to SOURCE-rtseg.mp4 in the current folder.
    Of several sources each has its own result: in a folder, or where {name} stands in the name of an output.
    Ctrl-C ends a run and keeps what was written.
    """
    named = name_sources(sources, source, config)
    if config is not None or grid is not None or len(named) > 1:
        if preset:
            raise OptionError("--preset is for one source: leave it out")
        cameras = _cameras(named, config, replace(options, report=None, metrics=None), given)
        raise typer.Exit(_stream_many(cameras, options, grid, quiet=messages.quiet))
    from rtseg.app.presets import apply_preset
    from rtseg.app.terminal import run_to_the_end

    options = replace(options, source=named[0] if named else None)
    if preset:
        options = apply_preset(preset, options, lambda line: None if messages.quiet else print(line, flush=True))
    raise typer.Exit(run_to_the_end(options, quiet=messages.quiet))


def _cameras(sources: list[str], config: Path | None, options: StreamOptions, given: GivenFields) -> list[Camera]:
    from rtseg.app.cameras import load_cameras, name_cameras

    if config is None:
        return name_cameras(sources, options)
    return load_cameras(config, options, given - {"report", "show", "metrics"})


def _stream_many(cameras: list[Camera], options: StreamOptions, grid: str | None, *, quiet: bool) -> int:
    from rtseg.app.many_terminal import ManyOptions, run_many_to_the_end

    many = ManyOptions(options.report, options.overwrite, options.show, grid, options.recording, quiet, options.metrics)
    return run_many_to_the_end(cameras, many)
