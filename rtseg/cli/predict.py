"""``rtseg predict``: label single images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from rtseg.app.options import PredictOptions
from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.app.predict import Prediction

__all__ = ["predict"]

EXAMPLES = (
    "rtseg predict photo.jpg --output labels",
    "rtseg predict images/ --output labels --only masks --report labels.json",
    "rtseg predict 'images/*.png' --output labels --model runs/mine.onnx --overwrite",
    "rtseg predict images/ --output labels --format cvat --select 100",
)
_SHOWN = 20
_CLASSES = 3


def predict(options: PredictOptions, messages: MessageOptions) -> None:
    """Label single images: write class IDs, class colours and an overlay of the size of each image.

    a.jpg becomes masks/a.png (class IDs, with a palette), colours/a.png and overlays/a.jpg. Images from several folders
    keep their folders below these. If a result exists, nothing is written unless --overwrite is given. An image that
    cannot be read is listed, and the exit code is 2 after all others are done.
    """
    from rich.progress import Progress

    from rtseg.app.predict import PredictRun

    console = open_console(quiet=messages.quiet)
    done: list[Prediction] = []
    with PredictRun(options) as run:
        spec, backend = run.spec, run.backend
        size = f"{spec.size[0]}x{spec.size[1]}"
        console.print(f"{spec.name} at {size} on {backend.name} ({backend.precision}, {backend.device})")
        for notice in filter(None, (backend.notice, run.notice)):
            console.print(notice)
        try:
            with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
                images = len(run.images)
                ranking = progress.add_task("ranking", total=images, visible=options.select is not None)
                bar = progress.add_task("labelling", total=min(images, options.select or images))

                def on_progress(image: Prediction) -> None:
                    done.append(image)
                    progress.advance(bar)

                run.run(on_progress, lambda: progress.advance(ranking))
        except KeyboardInterrupt:
            console.print(f"stopped after {len(done)} of {len(run.images)} images")
            raise typer.Exit(130) from None
        finally:
            if done:
                _print_results(console, done, options)
            for notice in run.reading_notices if not messages.quiet else ():
                print(notice, file=sys.stderr)


def _print_results(console: Console, done: list[Prediction], options: PredictOptions) -> None:
    """The first images with their size and the classes that cover most of them, and what was written."""
    from rich.table import Table

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("size")
    table.add_column("largest classes")
    if options.select is not None:
        table.add_column(options.by)
    for image in done[:_SHOWN]:
        largest = sorted(image.shares.items(), key=lambda item: -item[1])[:_CLASSES]
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in largest if share >= 0.005)
        size = f"{image.size[0]}x{image.size[1]}" if image.size is not None else "-"
        unsure = [f"{100 * image.uncertainty:.1f} %"] if image.uncertainty is not None else []
        table.add_row(image.name, size, image.fault or shares, *unsure)
    console.print(table, soft_wrap=False)
    if len(done) > _SHOWN:
        console.print(f"and {len(done) - _SHOWN} more images: --report FILE keeps the shares of all")
    usable = sum(image.fault is None for image in done)
    results = [f"{usable} {kind.removesuffix('s') if usable == 1 else kind}" for kind in options.kinds]
    if options.format is not None:
        results.append(f"{options.format} annotations of {usable} image{'' if usable == 1 else 's'}")
    written = ", ".join(results)
    console.print(f"wrote {written} into {options.output}")
