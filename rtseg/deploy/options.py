"""Options of the commands that make models fast. Importing them loads no library."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.image_io.options import ReadOptions
from rtseg.option import Group, Option, PreprocessSteps
from rtseg.system.atomic_files import is_part

__all__ = ["CURRENT", "CalibrateOptions", "EngineOptions", "PriorCorrection"]

_PRECISIONS = ("fp16", "fp32", "int8")
_RUNTIMES = ("auto", "tensorrt", "rtx")
_METHODS = ("minmax", "entropy", "percentile")
"""The same as in ``rtseg.backends.tensorrt.library`` and ``rtseg.model_file.quantize``, which load much."""
CURRENT = "current"
"""The target that stands for the GPU of this machine only."""
_LARGEST_BATCH = 64
_LARGEST_ALPHA = 2.0


@dataclass(frozen=True, slots=True)
class PriorCorrection:
    """How far to undo what class weights in training did to the decisions, see ``rtseg.deploy.prior_correction``.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    alpha: Annotated[float, Option("Class weights", ("--prior-correction",), metavar="ALPHA")] = 0.0
    """Subtract ALPHA times the logarithm of the class weight of the training from each class: 0 changes nothing, 1
    removes the effect of the weights. Rare classes are then predicted less often."""
    unchanged: Annotated[tuple[str, ...], Option("Class weights", ("--prior-except",), parse="names")] = ()
    """Classes to leave alone."""
    data: Annotated[
        tuple[str, ...],
        Option("Class weights", ("--prior-data",), metavar="KIND:PATH", default="weights in the checkpoint"),
    ] = ()
    """Training data from which to compute the weights of files that do not record them. Can be repeated."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= _LARGEST_ALPHA:
            raise OptionError(f"--prior-correction must be 0 to {_LARGEST_ALPHA:g}, got {self.alpha:g}")
        if not self.alpha and (self.unchanged or self.data):
            raise OptionError("--prior-except and --prior-data need --prior-correction, e.g. 0.75")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which engine to build from which model.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    model: Annotated[str | Path, Option(argument="MODEL")]
    """A model file, the name of a bundled model, or a recipe (.toml) that sets the options below."""
    precision: Annotated[str, Option("Engine", choices=_PRECISIONS)] = "fp16"
    """Number format of the engine. int8: the rest of the graph is in fp16."""
    batch: Annotated[int, Option("Engine")] = 1
    """Largest number of frames in a batch. 1 is fixed in the engine; else it takes 1 to this many."""
    size: Annotated[tuple[int, int] | None, Option("Engine", default="the model's own")] = None
    """Input size, (H, W) in pixels."""
    runtime: Annotated[str, Option("Engine", choices=_RUNTIMES)] = "auto"
    """Library that builds. auto: TensorRT if it and a driver are installed, else TensorRT-RTX."""
    targets: Annotated[tuple[str, ...], Option("Engine", ("--target",), parse="names", metavar="SM,SM,...")] = ()
    """Compute capabilities to build for, e.g. sm_86,sm_89, or ``current`` for the GPU of this machine only. By default,
    rtx builds for sm_86+ (8.6 and later) or an older GPU of this machine, tensorrt for the GPU of this machine."""
    timing_cache: Annotated[Path | None, Option("Engine", metavar="FILE")] = None
    """File that keeps TensorRT's measurements for the next build."""
    output: Annotated[Path | None, Option(None, ("--output", "-o"), metavar="FILE.engine", default="in engines/")] = (
        None
    )
    """The engine to write; named after model, precision, runtime and targets by default."""
    force: Annotated[bool, Option()] = False
    """Build even if a matching engine exists."""
    data: Annotated[
        str | None, Option("Proof", ("--data", "-d"), metavar="KIND:PATH", default="drawn street scenes")
    ] = None
    """Labelled images on which the engine must give the right labels; their split val is used."""
    max_drop: Annotated[float | None, Option("Proof", default="0.05, or 0.5 for int8")] = None
    """Largest loss of mIoU, in percentage points."""

    def __post_init__(self) -> None:
        for name, value, allowed in (("precision", self.precision, _PRECISIONS), ("runtime", self.runtime, _RUNTIMES)):
            if value not in allowed:
                raise OptionError(f"--{name} must be one of {', '.join(allowed)}, got {value!r}")
        if not 1 <= self.batch <= _LARGEST_BATCH:
            raise OptionError(f"--batch must be 1 to {_LARGEST_BATCH} frames, got {self.batch}")
        for target in self.targets:
            if re.fullmatch(rf"sm_\d{{2,3}}\+?|{CURRENT}", target) is None:
                raise OptionError(
                    f"--target must be compute capabilities separated by commas, e.g. sm_86,sm_89, or {CURRENT}; "
                    f"got {target!r}"
                )
        if len(set(self.targets)) != len(self.targets):
            raise OptionError(f"--target names one twice: {', '.join(self.targets)}")
        if self.output is not None and (self.output.suffix != ".engine" or is_part(self.output)):
            raise OptionError(f"--output must end in .engine (and not in .part.engine), got {self.output}")
        if self.max_drop is not None and not (math.isfinite(self.max_drop) and 0 <= self.max_drop <= 100):
            raise OptionError(f"--max-drop must be points of mIoU, 0 to 100, e.g. 0.5; got {self.max_drop:g}")


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What to calibrate, and on which images.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    model: Annotated[str | Path, Option(argument="MODEL")]
    """A model file, or the name of a bundled model."""
    data: Annotated[str, Option("Data", ("--data", "-d"), metavar="KIND:PATH")]
    """Images like those that the model will see, e.g. camvid:FOLDER."""
    split: Annotated[str, Option("Data")] = "train"
    """Split of the data to record on; not one that is used to measure the model later."""
    method: Annotated[str, Option(choices=_METHODS)] = "percentile"
    """How the range of an activation is derived from its values.

    See ``rtseg.model_file.quantize.record_ranges``.
    """
    frames: Annotated[int, Option("Data")] = 300
    """Number of images to record on, spread evenly over the data."""
    output: Annotated[Path | None, Option(None, ("--output", "-o"), metavar="FILE.json", default="in calib/")] = None
    """File for the recorded ranges."""
    save_model: Annotated[Path | None, Option(metavar="FILE.onnx")] = None
    """Write the quantized model to this file, too."""
    val_data: Annotated[
        str | None, Option("Data", metavar="KIND:PATH", default="images of --data that are not recorded on")
    ] = None
    """Labelled images that prove the result, of the same split."""
    preprocess: PreprocessSteps = None
    reading: Annotated[ReadOptions, Group(("decoder", "on_error", "max_pixels", "bits", "reduce"))] = field(
        default_factory=ReadOptions
    )

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise OptionError(f"--method must be one of {', '.join(_METHODS)}, got {self.method!r}")
        if self.frames < 1:
            raise OptionError(f"--frames must be at least 1, got {self.frames}")
        if self.split in ("val", "test"):
            raise OptionError(f"--split {self.split} is for measuring: calibrate on train, or other training data")
        if self.output is not None and self.output.suffix != ".json":
            raise OptionError(f"--output must end in .json, got {self.output}")
        if self.save_model is not None and self.save_model.suffix != ".onnx":
            raise OptionError(f"--save-model must end in .onnx, got {self.save_model}")
