"""``rtseg models``: what can be trained, and what comes along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from rtseg.models.figures import NetworkFigures

__all__ = ["models"]


def models(
    names: list[str] = typer.Argument(
        [], metavar="[NETWORK]...", help="Networks to tell of; all unless given. With --measure also with options."
    ),
    measure: bool = typer.Option(False, "--measure", help="Measure here, for some seconds each; needs rtseg[train]."),
) -> None:
    """List the bundled models and the networks that can be trained, with what they cost and how fast they are."""
    from rich.console import Console

    from rtseg.weights import bundled_models

    console = Console()
    if measure:
        _measure(console, names)
        return
    if not names:
        for name, path in bundled_models().items():
            _describe(console, name, path)
    _list_networks(console, names)


def _describe(console: Console, name: str, path: Path) -> None:
    """A bundled model, a fact a line."""
    from rich.table import Table

    from rtseg.model_file.load import load_model

    spec = load_model(path).spec
    miou = f"{100 * spec.miou:.1f} % on {spec.measured_on}" if spec.miou is not None else "not measured"
    facts = Table.grid(padding=(0, 2))
    for what, value in (
        ("model", name),
        ("input", f"{spec.size[0]}x{spec.size[1]}"),
        ("classes", ", ".join(spec.classes)),
        ("mIoU", miou),
        ("trained on", spec.trained_on),
        ("licence", spec.licence),
    ):
        facts.add_row(what, value)
    console.print(facts)


def _list_networks(console: Console, names: list[str]) -> None:
    """The figures that come with rtseg."""
    from rtseg.errors import OptionError
    from rtseg.models.figures import load_figures

    figures = load_figures()
    table = _table()
    for name in names or figures.networks:
        if name not in figures.networks:
            raise OptionError(f"unknown network {name!r}; known are {', '.join(sorted(figures.networks))}")
        _add(table, name, figures.networks[name])
    console.print(table)
    _explain(
        console,
        f"fps: {figures.runtime}, {figures.precision}, on {figures.processor}, {figures.cores} cores, {figures.date}; "
        "`rtseg models --measure` measures here",
    )


def _measure(console: Console, names: list[str]) -> None:
    from rich.live import Live

    from rtseg.errors import MissingExtra
    from rtseg.models import MODELS

    try:
        from rtseg.bench.network_speed import check_networks, measure
    except ModuleNotFoundError as error:
        raise MissingExtra.of("measuring", error.name, "train") from error
    check_networks(names)
    table = _table()
    with Live(table, console=console, auto_refresh=False) as live:
        for name in names or MODELS:
            _add(table, name, measure(name))
            live.refresh()
    if not console.is_terminal:
        console.line()  # rich ends the table's last line on terminals only
    _explain(console, "fps: OpenVINO on this machine")


def _table() -> Table:
    from rich.table import Table

    from rtseg.models.figures import SIZE

    table = Table("network for `rtseg train --model`")
    for column in ("parameters, M", f"GFLOPs at {SIZE[0]}x{SIZE[1]}", "fps"):
        table.add_column(column, justify="right")
    return table


def _add(table: Table, name: str, figures: NetworkFigures) -> None:
    table.add_row(name, f"{figures.parameters / 1e6:.1f}", f"{figures.flops / 1e9:.1f}", f"{figures.fps:.1f}")


def _explain(console: Console, how: str) -> None:
    from rtseg.models.figures import CLASSES

    console.print(
        f"{how}. Counted for {CLASSES} classes, one image, the auxiliary heads of training left out; "
        "2 FLOPs a multiply-add. Options go behind a colon, e.g. icnet:width=64 or fcn-resnet18:step=8,channels=1",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
