"""``rtseg average``: the mean of several checkpoints."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli.messages import MessageOptions, open_console

__all__ = ["average"]

EXAMPLES = (
    "rtseg average runs/a/best.safetensors runs/b/best.safetensors --output mean.safetensors",
    "rtseg average runs/*/best.safetensors --data camvid:CamVid --output mean.safetensors",
)


def average(
    messages: MessageOptions,
    checkpoints: list[Path] = typer.Argument(
        ...,
        metavar="CHECKPOINTS",
        help="Checkpoints of one network with the same classes; of a single one only the batch norm changes.",
    ),
    output: Path = typer.Option(..., "--output", "-o", metavar="FILE", help="The .safetensors file to write."),
    data: str = typer.Option(
        "",
        "--data",
        "-d",
        metavar="KIND:PATH",
        help="Data whose training split is used to compute the batch norm statistics again.",
    ),
    val_data: str = typer.Option(
        "", metavar="KIND:PATH", help="Data to validate the mean on.", show_default="that of --data"
    ),
    batch: int = typer.Option(8, min=2, help="Images in a batch."),
    device: str = typer.Option("auto", help="Device that computes. One of: auto, cpu, cuda."),
) -> None:
    """Average the weights of checkpoints. The mean is often better than the best of them, and as fast as one."""
    from rtseg.errors import MissingExtra, OptionError

    if output.suffix != ".safetensors":
        raise OptionError(f"--output must end in .safetensors, got {output}")
    try:
        from rtseg.training.average import average as average_checkpoints
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("averaging", error.name, "train") from error
    scores = average_checkpoints(
        checkpoints, output, data=data or None, val_data=val_data or None, batch=batch, device=device
    )
    measured = f", validation mIoU {100 * scores.miou:.2f} %" if scores is not None else ""
    open_console(quiet=messages.quiet).print(f"wrote {output}, the mean of {len(checkpoints)} checkpoints{measured}")
