"""``rtseg export``: make a model file of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import parse_size

__all__ = ["export"]


def export(
    checkpoint: Path = typer.Argument(..., help="best.safetensors or last.safetensors of a run folder."),
    output: Path = typer.Option(..., "--output", "-o", help="The .onnx file to write."),
    name: str = typer.Option("", help="Name of the model; the file's stem unless given."),
    size: str = typer.Option("", help="HEIGHTxWIDTH of the input; that of the training's validation unless given."),
) -> None:
    """Make a model file (frames in, labels out) of a checkpoint, proven against torch before it is kept."""
    from rtseg.errors import MissingExtra, OptionError

    if output.suffix != ".onnx":
        raise OptionError(f"--output must end in .onnx, got {output}")
    wanted = parse_size(size) if size else None
    try:
        from rtseg.deploy.export import export_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtra.of("export", error.name, "train") from error
    spec = export_checkpoint(checkpoint, output, name=name or None, size=wanted)
    measured = f", mIoU {100 * spec.miou:.2f} % ({spec.measured_on})" if spec.miou is not None else ""
    megabytes = output.stat().st_size / 1e6
    print(f"wrote {output} ({megabytes:.1f} MB): {spec.name}, {len(spec.classes)} classes{measured}")
