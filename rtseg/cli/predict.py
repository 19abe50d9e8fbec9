"""``rtseg predict``: label single images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli._options import BACKEND, DEVICE, MODEL, PRECISION, PREPROCESS, SIZE, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.app.predict import Prediction, PredictOptions

__all__ = ["predict"]

_SHOWN = 20
_CLASSES = 3
_RESULT = "Where the results go"


def predict(
    images: list[str] = typer.Argument(
        ..., metavar="IMAGES", help="Images, folders of images, globs.", show_default=False
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Folder of the results.", rich_help_panel=_RESULT),
    model: str = MODEL,
    backend: str = BACKEND,
    precision: str = PRECISION,
    device: str = DEVICE,
    size: str = SIZE,
    preprocess: str = PREPROCESS,
    only: str = typer.Option(
        "masks,colours,overlays", help="Which results, with commas between them.", rich_help_panel=_RESULT
    ),
    alpha: float = typer.Option(0.5, help="Weight of the colours in overlays, 0 to 1.", rich_help_panel=_RESULT),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is there.", rich_help_panel=_RESULT),
    report: Path | None = typer.Option(
        None, help="JSON file with the class shares of every image.", rich_help_panel=_RESULT
    ),
) -> None:
    """Label images, each for itself: class ids, class colours and an overlay, of the size of the image.

    a.jpg becomes masks/a.png (class ids, with a palette), colours/a.png and overlays/a.jpg. Images of several folders
    keep their folders below these. A file that is there already is an error before anything is written, unless
    --overwrite is given. An image that cannot be read is named, and ends the command with code 2 when the others are
    done.
    """
    from rich.console import Console
    from rich.progress import Progress

    from rtseg.app.predict import PredictOptions, PredictRun
    from rtseg.preprocess import parse_steps

    options = PredictOptions(
        images=tuple(images),
        output=output,
        model=model,
        backend=backend,
        precision=precision,
        device=device,
        size=parse_size(size) if size else None,
        preprocess=parse_steps(preprocess),
        alpha=alpha,
        only=tuple(dict.fromkeys(kind.strip() for kind in only.split(",") if kind.strip())),
        overwrite=overwrite,
        report=report,
    )
    console = Console(markup=False, emoji=False, highlight=False)
    done: list[Prediction] = []
    with PredictRun(options) as run:
        spec, used = run.spec, run.backend
        size_used = f"{spec.size[0]}x{spec.size[1]}"
        console.print(f"{spec.name} at {size_used} on {used.name} ({used.precision}, {used.device})", soft_wrap=True)
        for notice in filter(None, (used.notice, run.notice)):
            console.print(notice, soft_wrap=True)
        try:
            with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
                bar = progress.add_task("labelling", total=len(run.images))

                def on_progress(image: Prediction) -> None:
                    done.append(image)
                    progress.advance(bar)

                run.run(on_progress)
        except KeyboardInterrupt:
            console.print(f"stopped after {len(done)} of {len(run.images)} images")
            raise typer.Exit(130) from None
        finally:
            if done:
                _tell(console, done, options)


def _tell(console: Console, done: list[Prediction], options: PredictOptions) -> None:
    """The first images with their size and the classes that cover most of them, and what was written."""
    from rich.table import Table

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("size")
    table.add_column("most of it")
    for image in done[:_SHOWN]:
        largest = sorted(image.shares.items(), key=lambda item: -item[1])[:_CLASSES]
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in largest if share >= 0.005)
        size = f"{image.size[0]}x{image.size[1]}" if image.size is not None else "-"
        table.add_row(image.name, size, image.fault or shares)
    console.print(table)
    if len(done) > _SHOWN:
        console.print(f"and {len(done) - _SHOWN} more images: --report FILE keeps the shares of all")
    usable = sum(image.fault is None for image in done)
    written = ", ".join(f"{usable} {kind}" for kind in options.only)
    console.print(f"wrote {written} into {options.output}", soft_wrap=True)
