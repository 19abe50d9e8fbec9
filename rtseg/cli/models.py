"""``rtseg models``: what can be trained, and what comes along."""

from __future__ import annotations

__all__ = ["models"]


def models() -> None:
    """List the bundled models and the networks that can be trained."""
    from rich.console import Console
    from rich.table import Table

    from rtseg.models import MODELS
    from rtseg.spec import load_model
    from rtseg.weights import bundled_models

    table = Table("bundled model", "input", "classes", "mIoU %", "trained on", "licence")
    for name, path in bundled_models().items():
        spec = load_model(path).spec
        miou = f"{100 * spec.miou:.1f}" if spec.miou is not None else "-"
        table.add_row(
            name,
            f"{spec.size[0]}x{spec.size[1]}",
            ", ".join(spec.classes),
            miou,
            spec.trained_on,
            spec.licence,
        )
    console = Console()
    console.print(table)
    console.print(f"networks for `rtseg train --model`: {', '.join(sorted(MODELS))}")
