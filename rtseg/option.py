"""Which fields of an options class can be set on the command line, and how.

A field is an option where its type is annotated with ``Option``. The text below the field is its help::

    stride: Annotated[int, Option("Input")] = 1
    \"\"\"Use every n-th frame.\"\"\"

Only the first paragraph of that text is shown. Nothing here depends on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

__all__ = [
    "BackendName",
    "DataSplit",
    "DeviceName",
    "Group",
    "InputSize",
    "ModelName",
    "Option",
    "Overwrite",
    "PrecisionName",
    "PreprocessSteps",
    "Report",
    "Unsure",
]

_MODEL = "Model"


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is set on the command line."""

    panel: str | None = None
    """Heading in the help of the command."""
    flags: tuple[str, ...] = ()
    """E.g. ``("--model", "-m")``; made from the name of the field unless given."""
    argument: str = ""
    """What the help calls a positional argument; empty for an option with flags."""
    choices: tuple[str, ...] = ()
    """Values that the help lists and the shell completes. The options class itself checks them."""
    metavar: str = ""
    """What the help calls the value; its type unless given."""
    default: str = ""
    """What the help shows as the default where None or an empty value is the default."""
    parse: Literal["", "names", "steps", "duration", "bytes"] = ""
    """``names``: names separated by commas. ``steps``: preprocessing steps. ``duration``: seconds, as 30s, 10m or 1h.
    ``bytes``: as 500MB or 20GB. Else by the type of the field."""
    help: str = ""
    """For fields that several classes have; else the text below the field."""


@dataclass(frozen=True, slots=True)
class Group:
    """Marks a field that is itself an options class: its options become options of the command."""

    without: tuple[str, ...] = ()
    """Names of fields that have no meaning here."""


ModelName = Annotated[
    str, Option(_MODEL, ("--model", "-m"), help="A model file (.onnx or .engine), or the name of a bundled model.")
]
BackendName = Annotated[
    str,
    Option(
        _MODEL,
        choices=("auto", "openvino", "onnxruntime", "torch", "tensorrt"),
        help="Runtime that runs the model. auto: TensorRT if there is a GPU and a matching engine in engines/, "
        "else torch if there is a GPU, else openvino.",
    ),
]
PrecisionName = Annotated[
    str,
    Option(
        _MODEL,
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        help="Number format of the computation. auto: the fastest one that this device supports well. "
        "int8 needs ranges recorded by `rtseg calibrate`.",
    ),
]
DeviceName = Annotated[str, Option(_MODEL, choices=("auto", "cpu", "cuda"), help="Device that runs the model.")]
InputSize = Annotated[
    tuple[int, int] | None,
    Option(_MODEL, default="the model's own", help="Input size of the model, (H, W) in pixels: multiples of 32."),
]
PreprocessSteps = Annotated[
    tuple[str, ...] | None,
    Option(
        _MODEL,
        default="the model's own",
        parse="steps",
        help="Preprocessing steps, e.g. resize,background:FILE,clahe:clip=2,tiles=8. resize alone: no other step.",
    ),
]
Report = Annotated[Path | None, Option("Output", metavar="FILE.json", help="Write all figures to this JSON file.")]
Overwrite = Annotated[bool, Option("Output", help="Replace results that exist.")]
DataSplit = Annotated[str, Option("Data", help="Split of the data, e.g. train or val.")]
Unsure = Annotated[
    float | None,
    Option(
        "Output",
        metavar="SHARE",
        default="all labels",
        help="Leave out labels whose probability is not this much above that of the next class, 0 to 1, e.g. 0.2: they "
        "are void, 255 in masks, and hatched where they are drawn (openvino, onnxruntime).",
    ),
]
