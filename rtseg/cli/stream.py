"""``rtseg stream``: segment a source and show or write the result."""

from __future__ import annotations

from dataclasses import replace

import typer

from rtseg.app.options import StreamOptions
from rtseg.cli.messages import MessageOptions
from rtseg.errors import OptionError

__all__ = ["stream"]

EXAMPLES = (
    "rtseg stream dashcam.mp4",
    "rtseg stream camera:0 --view side --legend",
    "rtseg stream 'images/*.png' --fps 10 --masks masks --report run.json",
    "rtseg stream demo:10 --output demo.mp4",
)


def stream(
    options: StreamOptions,
    messages: MessageOptions,
    source: str | None = typer.Argument(
        None,
        metavar="SOURCE",
        show_default="the first camera",
        help="What to segment: a video file or URL, camera:0, or images: a folder, a glob, frame_%05d.png, a list "
        "paths.txt, or a URL of images (s3://, zip://, https://host/*.png). demo:SECONDS and fringes:SECONDS are drawn "
        "by rtseg.",
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
    Ctrl-C ends a run and keeps what was written.
    """
    from rtseg.app.presets import apply_preset
    from rtseg.app.terminal import run_to_the_end

    if source is not None and options.source not in (None, source):
        raise OptionError(f"SOURCE {source} and --source {options.source} differ: give one of them")
    options = replace(options, source=options.source if source is None else source)
    if preset:
        options = apply_preset(preset, options, lambda line: None if messages.quiet else print(line, flush=True))
    raise typer.Exit(run_to_the_end(options, quiet=messages.quiet))
