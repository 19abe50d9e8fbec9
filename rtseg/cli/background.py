"""``rtseg background``: the still part of a scene, to be subtracted before labelling."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import parse_size

__all__ = ["background"]


def background(
    frames: str = typer.Argument(
        ..., metavar="FRAMES", help="As --source of `rtseg stream`: a folder, a glob, a video, camera:0 ..."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="PNG file for the background."),
    median: bool = typer.Option(
        False,
        "--median",
        help="The median in place of the mean: what stands in a few frames leaves no trace. All its frames are in "
        "memory at once.",
    ),
    count: int | None = typer.Option(
        None,
        "--frames",
        help="Take at most so many, spread evenly, or the first where the source does not tell how many it has. All "
        "unless given; of a median 31.",
    ),
    size: str = typer.Option("", help="HEIGHTxWIDTH to make it; that of the frames unless given."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an output that is there."),
) -> None:
    """Average frames into the background that the preprocessing step background:FILE subtracts.

    Frames must be of one size, and all in grey or all in colour. The image has 8 bits, and is grey where the frames
    are. Images that cannot be read are left out and counted.
    """
    from rich.console import Console
    from rich.progress import Progress

    from rtseg.app.background import BackgroundOptions, make_background

    options = BackgroundOptions(frames, output, median, count, parse_size(size) if size else None, overwrite)
    console = Console(markup=False, emoji=False, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("averaging", total=None)
        made = make_background(options, lambda done, total: progress.update(task, completed=done, total=total))
    height, width, channels = made.image.shape
    left_out = f", {made.damaged} that cannot be used left out" if made.damaged else ""
    console.print(
        f"wrote {output}: {'median' if median else 'mean'} of {made.frames} frames{left_out}, {height}x{width}, "
        f"{'grey' if channels == 1 else 'colour'}; subtract it with --preprocess resize,background:{output}",
        soft_wrap=True,
    )
