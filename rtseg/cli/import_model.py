"""``rtseg import``: make a model file of a network that another program exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli.messages import MessageOptions, open_console
from rtseg.importing.options import ImportOptions

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.importing.import_onnx import ImportedModel

__all__ = ["import_model"]

EXAMPLES = (
    "rtseg import deeplab.onnx --classes voc",
    "rtseg import road.onnx --classes other,road --size 384x640 --mean 0 --std 1 --scale 255",
    "rtseg import torchvision:deeplabv3_mobilenet_v3_large --size 384x640",
    "rtseg import rtseg:pidnet-s --weights mmseg.pth --classes cityscapes --size 512x1024",
)


def import_model(
    options: ImportOptions,
    messages: MessageOptions,
    model: str = typer.Argument(
        ...,
        metavar="MODEL",
        help="An ONNX or TFLite file of a semantic segmentation network; torchvision:NAME, smp:OWNER/NAME or "
        r"hf:OWNER/NAME (needs rtseg\[import]); or rtseg:NETWORK with --weights. `rtseg models` lists some.",
    ),
    weights: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="State dict for torchvision:NAME, instead of the published weights, or for rtseg:NETWORK.",
    ),
    offline: bool = typer.Option(False, "--offline", help="Use only files of this machine."),
) -> None:
    """Make a model file of an ONNX or TFLite file that another program wrote, or of a published network.

    Layout, size, input values, output and classes are taken from the options, from files beside MODEL, or from the
    graph; a table shows each with the reason. The result is compared with the original. Exit code 1: they disagree,
    and nothing was written.
    """
    from rtseg.errors import OptionError
    from rtseg.importing.import_onnx import import_onnx
    from rtseg.importing.tflite import import_tflite
    from rtseg.published.import_published import import_published, is_published_name

    console = open_console(quiet=messages.quiet)
    with console.status("loading") if console.is_terminal else _Silent() as status:
        if is_published_name(model):
            done = import_published(
                model, options, weights=weights, offline=offline, notify=console.print, on_progress=status.update
            )
        elif weights is not None:
            raise OptionError("--weights is for torchvision:NAME and rtseg:NETWORK, e.g. torchvision:fcn_resnet50")
        elif model.lower().endswith(".tflite"):
            done = import_tflite(Path(model), options, on_progress=lambda phase: status.update(phase))
        else:
            done = import_onnx(Path(model), options, on_progress=lambda phase: status.update(phase))
    _print(console, done)


class _Silent:
    """Stands for the status line where there is no terminal."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, phase: str) -> None: ...


def _print(console: Console, done: ImportedModel) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "found", "why"):
        table.add_column(heading)
    for fact in done.facts:
        table.add_row(fact.what, fact.value, f"guessed: {fact.reason}" if fact.is_guess else fact.reason)
    if done.changes:
        table.add_row("changed", ", ".join(done.changes), "")
    console.print(table)
    for score in done.scores:
        console.print(f"mIoU {100 * score.miou:5.1f} % with {score.normalization}")
    megabytes = done.path.stat().st_size / 1e6
    height, width = done.spec.size
    console.print(
        f"wrote {done.path} ({megabytes:.1f} MB): {done.spec.name}, {len(done.spec.classes)} classes, {height}x{width}"
    )
    console.print(
        f"labels agree with the original on {100 * done.agreement.share:.3f} % of pixels "
        f"({done.agreement.classes} classes occur), both in ONNX Runtime"
    )
    if done.guesses:
        named = ", ".join(fact.what for fact in done.guesses)
        console.print(f"guessed: {named}: look at the result, e.g. rtseg stream VIDEO --model {done.path}")
    if done.sheet is not None:
        console.print(
            f"overlays with other input values are in {done.sheet}: if another row is right, import again with its "
            "--scale, --mean, --std and --bgr or --rgb, or give --data"
        )
