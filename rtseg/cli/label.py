"""``rtseg label``: draw boxes on images and make masks from them."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli.messages import MessageOptions, open_console
from rtseg.errors import OptionError

__all__ = ["label"]

EXAMPLES = (
    "rtseg label images/",
    "rtseg label images/ --from images/boxes.csv --output masks",
    "rtseg train --data boxes:images --output runs/boxes",
)


def label(
    messages: MessageOptions,
    folder: Path = typer.Argument(
        ..., metavar="FOLDER", help="Folder of images. The boxes are kept in boxes.csv in this folder."
    ),
    boxes: Path | None = typer.Option(
        None, "--from", metavar="FILE.csv", help="Open no window, and use the boxes in this file."
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="FOLDER", help="Write masks to this folder, as PNG with a palette."
    ),
) -> None:
    """Draw boxes around the objects in images, in a window. The next call continues where the last one stopped.

    Drag a box and press Enter, for each object, then Esc. Then Enter goes to the next image, r draws this one again,
    and q stops. Train with --data boxes:FOLDER.
    """
    from rtseg.app.label import BoxWindow, label_folder, write_masks
    from rtseg.datasets.boxes import BOXES_FILE

    console = open_console(quiet=messages.quiet)
    if boxes is not None and output is None:
        raise OptionError("--from makes masks, and no folder is given for them: give --output")
    if boxes is None:
        done = label_folder(folder, BoxWindow)
        for name in done.damaged:
            console.print(f"skipped {name}: damaged")
        console.print(f"{done.labelled} of {done.images} images labelled, {done.boxes} boxes, in {folder / BOXES_FILE}")
    if output is not None:
        count = write_masks(folder, boxes or folder / BOXES_FILE, output)
        console.print(f"wrote {count} mask{'s' * (count != 1)} into {output}")
