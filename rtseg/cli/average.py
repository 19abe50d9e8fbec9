"""``rtseg average``: the mean of several checkpoints."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["average"]


def average(
    checkpoints: list[Path] = typer.Argument(..., help="Two or more checkpoints of the same network and classes."),
    output: Path = typer.Option(..., "--output", "-o", help="The .safetensors file to write."),
    data: str = typer.Option(
        "", "--data", "-d", help="KIND:PATH on whose training split batch norm's statistics are taken anew."
    ),
    val_data: str = typer.Option("", help="KIND:PATH to validate the mean on; --data unless given."),
    batch: int = typer.Option(8, min=2, help="Images at a time."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Average the weights of checkpoints: often better than the best of them, and as fast as one."""
    from rtseg.errors import MissingExtra, OptionError

    if output.suffix != ".safetensors":
        raise OptionError(f"--output must end in .safetensors, got {output}")
    try:
        from rtseg.training.average import average as mean_of
    except ModuleNotFoundError as error:
        raise MissingExtra.of("averaging", error.name, "train") from error
    scores = mean_of(checkpoints, output, data=data or None, val_data=val_data or None, batch=batch, device=device)
    measured = f", validation mIoU {100 * scores.miou:.2f} %" if scores is not None else ""
    print(f"wrote {output}, the mean of {len(checkpoints)} checkpoints{measured}")
