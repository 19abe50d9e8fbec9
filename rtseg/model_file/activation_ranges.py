"""Recorded activation ranges, from which a model is quantized to INT8 without images.

The ranges of a model are stored in one JSON file. It also says how, on which images and for which model file they were
recorded, which nodes are kept in float, and how the quantized graph was verified.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtseg.errors import ModelError
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import file_sha256
from rtseg.system.atomic_files import write_text
from rtseg.system.read_file import read_text

__all__ = [
    "FloatGroup",
    "Ranges",
    "calibrate_hint",
    "default_output",
    "find_ranges",
    "read_ranges",
    "write_ranges",
]

_FORMAT = 1
_FOLDER = "calib"
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class FloatGroup:
    """Nodes that read the same tensor and are kept in float, because INT8 loses too much accuracy there."""

    nodes: tuple[str, ...]
    """Names in the graph of the model file."""
    gain: float
    """Gain in pixel agreement with the float graph if only these nodes are kept in float, in percentage points."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The result of ``rtseg calibrate``.

    Raises:
        ModelError: a range is not two finite numbers with low <= high.
    """

    model: str
    """Name of the model."""
    model_sha256: str
    """SHA-256 of the model file, as 64 hex digits. Ranges are valid only for this file, at any input size."""
    method: str
    """``minmax``, ``entropy`` or ``percentile``."""
    data: str
    """Description of the images."""
    frames: int
    """Number of images."""
    tensors: Mapping[str, tuple[float, float]]
    """Tensor of the graph -> (low, high)."""
    kept: tuple[FloatGroup, ...] = ()
    """Nodes kept in float, in the order in which they were chosen."""
    verdict: Mapping[str, Any] | None = None
    """How the quantized graph was verified, as ``Verdict.to_dict``; None before that."""

    def __post_init__(self) -> None:
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ModelError(f"the range of {name} must be two finite numbers, low first, got {low} and {high}")

    @property
    def kept_nodes(self) -> frozenset[str]:
        """Names of all nodes kept in float."""
        return frozenset(node for group in self.kept for node in group.nodes)

    def to_json(self) -> str:
        """Return the content of the JSON file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Parse the result of ``to_json``.

        Raises:
            ModelError: ``text`` is malformed or of another format.
        """
        try:
            values = json.loads(text)
            version = values.pop("format")
            if version != _FORMAT:
                raise ModelError(f"ranges of format {version!r}, this rtseg reads {_FORMAT}: calibrate again")
            values["tensors"] = {
                str(name): (float(low), float(high)) for name, (low, high) in values["tensors"].items()
            }
            values["kept"] = tuple(FloatGroup(tuple(group["nodes"]), float(group["gain"])) for group in values["kept"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"ranges cannot be read ({type(error).__name__}: {error})") from error


def read_ranges(path: Path) -> Ranges:
    """Read a file of ranges.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return Ranges.from_json(read_text(path))
    except OSError as error:
        raise ModelError(
            f"cannot read the ranges {path} ({error.strerror}): make them with `rtseg calibrate`"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is damaged, it is not text: make it again with `rtseg calibrate`") from error
    except ModelError as error:
        raise ModelError(f"{path} is damaged: {error}; make it again with `rtseg calibrate`") from error


def write_ranges(ranges: Ranges, path: Path) -> None:
    """Write a file of ranges, and create its folder.

    Raises:
        SinkError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, ranges.to_json())


def find_ranges(model: ModelFile) -> Ranges:
    """Find the ranges of ``model``.

    Searches ``calib/<name>.json`` in the working folder, then ``<file>.calib.json`` beside the model file, then the
    ranges that are installed with rtseg.

    Raises:
        ModelError: there are none, they belong to another model file, or one is damaged.
    """
    sha256 = file_sha256(model.path)
    others = []
    for path in _candidate_paths(model):
        if path.is_file():
            ranges = read_ranges(path)
            if ranges.model_sha256 == sha256:
                return ranges
            others.append(str(path))
    hint = calibrate_hint(model)
    if others:
        raise ModelError(f"the INT8 ranges in {' and '.join(others)} belong to another file than {model.path}: {hint}")
    raise ModelError(f"no INT8 ranges for {model.spec.name}: {hint}")


def calibrate_hint(model: ModelFile) -> str:
    """Return how to record the ranges of a model, for error messages."""
    return f"record them with `rtseg calibrate {model.path} --data KIND:PATH`"


def default_output(model: ModelFile) -> Path:
    """Return ``calib/<name>.json``.

    Raises:
        ModelError: the name of the model is not a valid file name.
    """
    name = model.spec.name
    if not name or Path(name).name != name:
        raise ModelError(f"the model's name {name!r} is not a valid file name: give --output")
    return Path(_FOLDER) / f"{name}.json"


def _candidate_paths(model: ModelFile) -> list[Path]:
    name = f"{model.spec.name}.json"
    beside = model.path.with_suffix(".calib.json")
    # The folder is in the package in a wheel, and beside the package in a checkout.
    bundled = [folder / _FOLDER / name for folder in (_PACKAGE, _PACKAGE.parent)]
    return [Path(_FOLDER) / name, beside, *bundled]
