"""``rtseg export``: convert a checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.app.option_values import parse_size
from rtseg.cli.messages import MessageOptions, open_console
from rtseg.deploy.options import PriorCorrection
from rtseg.errors import MissingExtra, OptionError

__all__ = ["export"]

EXAMPLES = (
    "rtseg export runs/mine/best.safetensors --output mine.onnx",
    "rtseg export runs/mine/best.safetensors --output small.onnx --size 256x448",
    "rtseg export runs/mine/best.safetensors --output mine.onnx --prior-correction 0.75",
)


def export(
    messages: MessageOptions,
    correction: PriorCorrection,
    checkpoint: Path = typer.Argument(
        ...,
        metavar="CHECKPOINT",
        help="best.safetensors or last.safetensors of a run folder; with --prior-correction also a model file.",
    ),
    output: Path = typer.Option(..., "--output", "-o", metavar="FILE.onnx", help="The model file to write."),
    name: str = typer.Option("", help="Name of the model.", show_default="the name of the file"),
    size: str = typer.Option(
        "",
        metavar="HEIGHTxWIDTH",
        help="Input size of the model, in pixels.",
        show_default="that of the training",
    ),
    margin: bool = typer.Option(False, "--margin", help="Add an output that tells how sure each label is."),
) -> None:
    """Convert a checkpoint to a model file (frames in, labels out), and check its labels against torch."""
    if output.suffix != ".onnx":
        raise OptionError(f"--output must end in .onnx, got {output}")
    input_size = parse_size(size) if size else None
    try:
        from rtseg.deploy.export import export_checkpoint, write_margin
        from rtseg.deploy.prior_correction import correct_model_file
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("export", error.name, "train") from error
    if checkpoint.suffix == ".onnx":
        if not (correction.alpha or margin) or input_size is not None:
            raise OptionError(
                f"{checkpoint} is a model file already: only --prior-correction and --margin can change it"
            )
        spec = correct_model_file(checkpoint, output, correction, name or None) if correction.alpha else None
    else:
        spec = export_checkpoint(checkpoint, output, name=name or None, size=input_size, correction=correction)
    if margin:
        spec = write_margin(checkpoint if spec is None else output, output)
    assert spec is not None, "a checkpoint or a model file was written"
    measured = f", mIoU {100 * spec.miou:.2f} % ({spec.measured_on})" if spec.miou is not None else ""
    megabytes = output.stat().st_size / 1e6
    open_console(quiet=messages.quiet).print(
        f"wrote {output} ({megabytes:.1f} MB): {spec.name}, {len(spec.classes)} classes{measured}"
    )
