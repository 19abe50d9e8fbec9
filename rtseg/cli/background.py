"""``rtseg background``: the static part of a scene, to be subtracted before labelling."""

from __future__ import annotations

from rtseg.app.options import BackgroundOptions
from rtseg.cli.messages import MessageOptions, open_console

__all__ = ["background"]

EXAMPLES = (
    "rtseg background frames/ --output background.png",
    "rtseg background camera:0 --frames 100 --median --output background.png",
    "rtseg stream frames/ --preprocess resize,background:background.png",
)


def background(options: BackgroundOptions, messages: MessageOptions) -> None:
    """Average frames into a background image, which the preprocessing step background:FILE subtracts.

    All frames must have the same size, and all must be grey or all in colour. Images that cannot be read are left out
    and counted.
    """
    from rich.progress import Progress

    from rtseg.app.background import make_background
    from rtseg.image_io.notes import name_some

    console = open_console(quiet=messages.quiet)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("averaging", total=None)
        made = make_background(options, lambda done, total: progress.update(task, completed=done, total=total))
    height, width, channels = made.image.shape
    names = f" ({name_some(list(made.damaged_names))})" if made.damaged_names else ""
    left_out = f", {made.damaged} unusable left out{names}" if made.damaged else ""
    console.print(
        f"wrote {options.output}: {'median' if options.median else 'mean'} of {made.frames} frames{left_out}, "
        f"{height}x{width}, {'grey' if channels == 1 else 'colour'}; subtract it with "
        f"--preprocess resize,background:{options.output}"
    )
