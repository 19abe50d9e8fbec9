"""``rtseg build-engine``: build a TensorRT engine from a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtseg.cli._recipe import read_recipe
from rtseg.cli.messages import MessageOptions, open_console
from rtseg.cli.option_groups import GivenFields
from rtseg.deploy.options import EngineOptions

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.deploy.build_engine import BuiltEngine

__all__ = ["build_engine"]

EXAMPLES = (
    "rtseg build-engine icnet-camvid",
    "rtseg build-engine mine.onnx --size 512x1024 --precision fp16",
    "rtseg build-engine engines/icnet-int8.toml --target sm_86,sm_89",
)
_REFRESHES_PER_S = 4


def build_engine(options: EngineOptions, given: GivenFields, messages: MessageOptions) -> None:
    """Build a TensorRT engine, check that it still gives the right labels, and only then install it.

    An engine that matches is kept as it is. TensorRT-RTX can build without a GPU; the labels are then checked on the
    CPU. Options of the command line take precedence over those of a recipe. Exit code 1: the labels differ too much,
    and nothing was written.
    """
    if Path(options.model).suffix == ".toml":
        own = {
            name: getattr(options, name) for name in given & {*EngineOptions.__dataclass_fields__} if name != "model"
        }
        options = EngineOptions(**read_recipe(Path(options.model)) | own)
    console = open_console(quiet=messages.quiet)
    try:
        built = _build(console, options)
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        raise typer.Exit(130) from None
    _print_engine(console, built)


def _build(console: Console, options: EngineOptions) -> BuiltEngine:
    """Build, and show the phase and the time: in one line that changes on a terminal, else a line per phase."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from rtseg.deploy.build_engine import build_engine

    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    progress = Progress(
        *columns,
        console=console,
        refresh_per_second=_REFRESHES_PER_S,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("loading the model", total=None)
        return build_engine(
            options,
            on_progress=lambda phase: progress.update(task, description=phase),
            notify=console.print,
        )


def _print_engine(console: Console, built: BuiltEngine) -> None:
    facts, proof = built.facts, built.facts.certificate
    megabytes = built.path.stat().st_size / 1e6
    if not built.is_new:
        console.print(f"{built.path} matches, nothing to do (--force builds it again)")
        return
    console.print(
        f"wrote {built.path} ({megabytes:.1f} MB, built in {facts.build_seconds:.1f} s): {facts.model}, "
        f"{facts.precision}, {facts.size[0]}x{facts.size[1]}, for {facts.gpu or ', '.join(facts.targets)}"
    )
    drop = "" if proof["drop"] is None else f", mIoU {-proof['drop']:+z.2f} points"
    console.print(
        f"labels agree on {100 * proof['agreement']:.2f} % of pixels{drop}: {proof['judged_by']}, on {proof['data']}"
    )
