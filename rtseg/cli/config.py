"""``rtseg config``: files of cameras."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli.messages import MessageOptions, open_console

__all__ = ["check"]

EXAMPLES = ("rtseg config check cameras.toml", "rtseg config check cameras.toml --quiet")


def check(
    messages: MessageOptions,
    file: Path = typer.Argument(..., metavar="FILE.toml", help="The file of cameras."),
) -> None:
    """Check a file of cameras and print each fault with its line.

    Sources and models are not opened. Exit code 2 if something is wrong.
    """
    from rtseg.app.cameras import CamerasError, load_cameras

    console = open_console(quiet=messages.quiet)
    try:
        cameras = load_cameras(file)
    except CamerasError as error:
        open_console().print("\n".join(error.faults))
        raise typer.Exit(2) from error
    console.print(f"{file}: {len(cameras)} cameras: {', '.join(camera.name for camera in cameras)}")
