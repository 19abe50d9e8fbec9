"""``rtseg models``: what can be trained, and what comes along."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["models"]

_SIZE = (384, 640)
_CLASSES = 11
"""Those of CamVid; their number hardly changes the cost."""


def models() -> None:
    """List the bundled models and the networks that can be trained."""
    from rich.console import Console

    from rtseg.weights import bundled_models

    console = Console()
    for name, path in bundled_models().items():
        _describe(console, name, path)
    _list_networks(console)


def _describe(console: Console, name: str, path: Path) -> None:
    """A bundled model, a fact a line."""
    from rich.table import Table

    from rtseg.spec import load_model

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


def _list_networks(console: Console) -> None:
    from rich.table import Table

    from rtseg.errors import MissingExtra
    from rtseg.models import MODELS

    try:
        from rtseg.models._cost import cost_of

        costs = {name: cost_of(name, _CLASSES, _SIZE) for name in MODELS}
    except (ModuleNotFoundError, MissingExtra):
        console.print(f"networks for `rtseg train --model`: {', '.join(MODELS)}")
        console.print(
            "(their parameters and GFLOPs are shown once torch is there: pip install 'rtseg[train]')", markup=False
        )
        return
    table = Table("network for `rtseg train --model`")
    table.add_column("parameters, M", justify="right")
    table.add_column(f"GFLOPs at {_SIZE[0]}x{_SIZE[1]}", justify="right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost.parameters / 1e6:.1f}", f"{cost.flops / 1e9:.1f}")
    console.print(table)
    console.print(
        f"counted for {_CLASSES} classes, one picture, the auxiliary heads of training left out; "
        "2 FLOPs a multiply-add. Options go behind a colon, e.g. icnet:width=64 or fcn-resnet18:step=8,channels=1",
        markup=False,
        highlight=False,
    )
