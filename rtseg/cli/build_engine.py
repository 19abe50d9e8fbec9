"""``rtseg build-engine``: make a TensorRT engine of a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rtseg.cli._options import parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.deploy.build_engine import BuiltEngine, EngineOptions

__all__ = ["build_engine"]

_REFRESHES_PER_S = 4


def build_engine(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="A model file, the name of a bundled one, or a recipe (.toml).", show_default=False
    ),
    precision: str | None = typer.Option(None, help="fp16 (the default), fp32 or int8."),
    batch: int | None = typer.Option(None, help="Most frames of a batch; 1 unless given."),
    size: str | None = typer.Option(None, help="HEIGHTxWIDTH of the input; the model's own unless given."),
    runtime: str | None = typer.Option(
        None, help="tensorrt, rtx, or auto (the default): TensorRT where it and a driver are there, else TensorRT-RTX."
    ),
    target: str | None = typer.Option(
        None,
        help="Compute capabilities, e.g. sm_86,sm_89, or current: the GPU that is here, and no other. Unless given: "
        "rtx builds for sm_86+ (8.6 and later) or an older GPU that is here, tensorrt for the GPU that is here.",
    ),
    timing_cache: Path | None = typer.Option(None, help="File that keeps what TensorRT measured, for the next build."),
    output: Path | None = typer.Option(None, "--output", "-o", help="The .engine file; in engines/ unless given."),
    force: bool = typer.Option(False, "--force", help="Build even where there is an engine that fits."),
    data: str | None = typer.Option(None, help="KIND:PATH to prove the labels on; drawn streets unless given."),
    max_drop: float | None = typer.Option(None, help="Points of mIoU that may be lost; 0.05, or 0.5 for int8."),
) -> None:
    """Build a TensorRT engine, prove that it still gives the right labels, and only then put it in its place.

    An engine that fits already is left as it is. Without a GPU TensorRT-RTX builds all the same, and the graph is
    judged on the CPU. A recipe gives the options; those of the command line go before them. Exit code 1: the labels
    are too different, nothing was written.
    """
    from rich.console import Console

    from rtseg.cli._recipe import read_recipe

    given = {
        "precision": precision,
        "batch": batch,
        "size": size,
        "runtime": runtime,
        "target": target,
        "timing-cache": timing_cache,
        "output": output,
        "data": data,
        "max-drop": max_drop,
    }
    recipe = read_recipe(Path(model)) if Path(model).suffix == ".toml" else {"model": model}
    options = _options(recipe | {key: value for key, value in given.items() if value is not None}, force)
    console = Console(markup=False, emoji=False, highlight=False)
    try:
        built = _build(console, options)
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        raise typer.Exit(130) from None
    _tell(console, built)


def _options(given: dict[str, Any], force: bool) -> EngineOptions:
    from rtseg.deploy.build_engine import EngineOptions

    parsers: dict[str, Callable[[Any], Any]] = {
        "size": parse_size,
        "target": lambda text: tuple(part.strip() for part in text.split(",")),
        "timing-cache": Path,
        "output": Path,
    }
    names = {"target": "targets"}
    values = {
        names.get(key, key.replace("-", "_")): parsers[key](value) if key in parsers else value
        for key, value in given.items()
    }
    return EngineOptions(**values, force=force)


def _build(console: Console, options: EngineOptions) -> BuiltEngine:
    """Build with the phase and the time since the beginning on one line of a terminal, or a line a phase elsewhere."""
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
            tell=lambda line: progress.console.print(line, soft_wrap=True),
        )


def _tell(console: Console, built: BuiltEngine) -> None:
    facts, proof = built.facts, built.facts.certificate
    megabytes = built.path.stat().st_size / 1e6
    if not built.is_new:
        console.print(f"{built.path} fits, nothing to do (--force builds it again)", soft_wrap=True)
        return
    console.print(
        f"wrote {built.path} ({megabytes:.1f} MB, built in {facts.build_seconds:.1f} s): {facts.model}, "
        f"{facts.precision}, {facts.size[0]}x{facts.size[1]}, for {facts.gpu or ', '.join(facts.targets)}",
        soft_wrap=True,
    )
    drop = "" if proof["drop"] is None else f", mIoU {-proof['drop']:+z.2f} points"
    console.print(
        f"labels agree on {100 * proof['agreement']:.2f} % of pixels{drop}: {proof['judged_by']}, on {proof['data']}",
        soft_wrap=True,
    )
