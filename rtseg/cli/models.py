"""``rtseg models``: the bundled models, and the networks that can be trained."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from rtseg.cli.messages import MessageOptions, open_console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from rtseg.models.figures import NetworkFigures

__all__ = ["models"]

EXAMPLES = (
    "rtseg models",
    "rtseg models icnet fcn8s-vgg16",
    "rtseg models --measure icnet:width=64",
    "rtseg models get deeplabv3_resnet50",
)
_GET = "get"


def models(
    messages: MessageOptions,
    names: list[str] | None = typer.Argument(
        None,
        metavar="NETWORK",
        help="Networks to list. With --measure they can have options, e.g. icnet:width=64. get NAME: download the "
        "weights of a published model into the cache folder (RTSEG_CACHE).",
        show_default="all",
    ),
    measure: bool = typer.Option(
        False,
        "--measure",
        help=r"Measure the speed on this machine, a few seconds for each network; needs rtseg\[train].",
    ),
    offline: bool = typer.Option(False, "--offline", help="With get: use only the cache folder."),
) -> None:
    """List the bundled models, published ones to import, and the networks to train, with their cost and speed."""
    from rtseg.weights import bundled_models

    console = open_console()
    if names and names[0] == _GET:
        _get(console, names[1:], offline=offline)
        return
    if measure:
        _measure(console, names or [])
        return
    if not names:
        for name, path in bundled_models().items():
            _describe(console, name, path)
        _list_published(console)
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


def _list_published(console: Console) -> None:
    from rich.table import Table

    from rtseg.published.catalogue import PUBLISHED
    from rtseg.published.download import is_cached

    table = Table("published model for `rtseg import`", "classes", "mIoU %", "MB", "SHA-256", "commercial use")
    for model in PUBLISHED.values():
        size = f"{model.size / 1e6:.0f}" if model.size else "-"
        known = f"{model.sha256[:8]}.." if len(model.sha256) == 64 else model.sha256 or "at first use"
        use = "not excluded" if model.is_free else "NO"
        cached = " (downloaded)" if is_cached(model) else ""
        table.add_row(model.name + cached, model.classes, f"{100 * model.miou:.1f}", size, known, use)
    console.print(table, soft_wrap=False)
    for text in dict.fromkeys(model.licence for model in PUBLISHED.values()):
        kinds = ", ".join(sorted({m.name.partition("/")[0] for m in PUBLISHED.values() if m.licence == text}))
        kinds = "torchvision" if "torchvision:" in kinds else kinds
        console.print(f"{kinds}: {text}")
    for text in dict.fromkeys(f"mIoU on {model.measured_on}: {model.miou_source}" for model in PUBLISHED.values()):
        console.print(text)


def _get(console: Console, names: list[str], *, offline: bool) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from rtseg.errors import OptionError
    from rtseg.published.catalogue import find_published
    from rtseg.published.download import download

    if not names:
        raise OptionError("rtseg models get: give the name of a published model, see `rtseg models`")
    found = [find_published(name) for name in names]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    for model in found:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(model.file_name, total=model.size)
            path = download(
                model,
                offline=offline,
                notify=console.print,
                on_progress=partial(_show, progress, task),
            )
        console.print(f"{path}: SHA-256 checked; import it with `rtseg import {model.name}`")


def _show(progress: Progress, task: TaskID, done: int, total: int | None) -> None:
    progress.update(task, completed=done, total=total)


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
