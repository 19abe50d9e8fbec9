"""``rtseg label``: draw boxes on images and make masks of them."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["label"]


def label(
    folder: Path = typer.Argument(..., help="Folder of images; boxes.csv is kept there."),
    listing: Path | None = typer.Option(None, "--from", help="Draw nothing, take the boxes from this file."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder for the masks, palette PNGs."),
) -> None:
    """Draw boxes around the objects in images, in a window; go on where it was stopped. Train with boxes:FOLDER.

    Drag a box and press Enter, as often as there are objects, then Esc. Then Enter goes to the next image, r draws
    this one again, q stops.
    """
    from rtseg.app.label import BoxWindow, label_folder, write_masks
    from rtseg.datasets.boxes import FILE
    from rtseg.errors import OptionError

    if listing is not None and output is None:
        raise OptionError("--from makes masks, and wants a folder for them: give --output")
    if listing is None:
        done = label_folder(folder, BoxWindow)
        for name in done.damaged:
            print(f"passed over {name}: damaged")
        print(f"{done.labelled} of {done.images} images labelled, {done.boxes} boxes, in {folder / FILE}")
    if output is not None:
        count = write_masks(folder, listing or folder / FILE, output)
        print(f"wrote {count} masks into {output}")
