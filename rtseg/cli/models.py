"""``rtseg models``: the bundled models, and the networks that can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from rtseg.models.figures import NetworkFigures

__all__ = ["models"]

EXAMPLES = ("rtseg models", "rtseg models icnet fcn8s-vgg16", "rtseg models --measure icnet:width=64")


def models(
    messages: MessageOptions,
    names: list[str] | None = typer.Argument(
        None,
        metavar="NETWORK",
        help="Networks to list. With --measure they can have options, e.g. icnet:width=64.",
        show_default="all",
    ),
    measure: bool = typer.Option(
        False,
        "--measure",
        help=r"Measure the speed on this machine, a few seconds for each network; needs rtseg\[train].",
    ),
) -> None:
    """List the bundled models and the networks that can be trained, with their cost and speed."""
    from rtseg.weights import bundled_models

    console = open_console()
    if measure:
        _measure(console, names or [])
        return
    if not names:
        for name, path in bundled_models().items():
            _describe(console, name, path)
    _list_networks(console, names or [])


def _describe(console: Console, name: str, path: Path) -> None:
    """Print a bundled model, one fact per line."""
    from rich.table import Table

    from rtseg.model_file.load import load_model

    spec = load_model(path).spec
    miou = f"{100 * spec.miou:.1f} % on {spec.measured_on}" if spec.miou is not None else "not measured"
    facts = Table.grid(padding=(0, 2))
    for title, value in (
        ("model", name),
        ("input", f"{spec.size[0]}x{spec.size[1]}"),
        ("classes", ", ".join(spec.classes)),
        ("mIoU", miou),
        ("trained on", spec.trained_on),
        ("licence", spec.licence),
    ):
        facts.add_row(title, value)
    console.print(facts, soft_wrap=False)


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
    console.print(table, soft_wrap=False)
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
        raise MissingExtra.for_feature("measuring", error.name, "train") from error
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
        f"{how}. For {CLASSES} classes and one image, without the auxiliary heads of training; one multiply-add is "
        "2 FLOPs. Options follow a colon, e.g. icnet:width=64 or fcn-resnet18:step=8,channels=1"
    )
