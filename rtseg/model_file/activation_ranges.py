"""Recorded activation ranges: what an INT8 model is built from, without images.

The ranges of a model lie in one JSON file that says on which images, by which method and for which model file they
were recorded, which nodes are left in float and what that gained, and how the quantised graph was judged.
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

__all__ = [
    "Kept",
    "Ranges",
    "calibrate_command",
    "default_output",
    "find_ranges",
    "read_ranges",
    "write_ranges",
]

_FORMAT = 1
_FOLDER = "calib"
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Kept:
    """Nodes that read the same tensor and compute in float, because INT8 costs too much there."""

    nodes: tuple[str, ...]
    """Names in the graph of the model file."""
    gain: float
    """Points of pixel agreement with the float graph that leaving these out, and nothing else, gains."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """What ``rtseg calibrate`` found.

    Raises:
        ModelError: a range is not two finite numbers, low at most high.
    """

    model: str
    """Name of the model."""
    model_sha256: str
    """Of the model file, as 64 hex digits. Ranges hold for this file alone, at any input size."""
    method: str
    """``minmax``, ``entropy`` or ``percentile``."""
    data: str
    """The images, in words."""
    frames: int
    """How many images the ranges were recorded on."""
    tensors: Mapping[str, tuple[float, float]]
    """Tensor of the graph -> least and greatest value."""
    kept: tuple[Kept, ...] = ()
    """What is left in float, in the order in which it was found."""
    verdict: Mapping[str, Any] | None = None
    """How the quantised graph was judged, as ``Verdict.to_dict``; None before that."""

    def __post_init__(self) -> None:
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ModelError(f"the range of {name} must be two numbers, the lower first, got {low} and {high}")

    @property
    def kept_nodes(self) -> frozenset[str]:
        """Names of all nodes that are left in float."""
        return frozenset(node for kept in self.kept for node in kept.nodes)

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is not such a text, or of another format.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("format")
            if version != _FORMAT:
                raise ModelError(f"ranges of format {version!r}, this rtseg reads {_FORMAT}: calibrate again")
            facts["tensors"] = {str(name): (float(low), float(high)) for name, (low, high) in facts["tensors"].items()}
            facts["kept"] = tuple(Kept(tuple(kept["nodes"]), float(kept["gain"])) for kept in facts["kept"])
            return cls(**facts)
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"ranges cannot be read ({type(error).__name__}: {error})") from error


def read_ranges(path: Path) -> Ranges:
    """Read a file of ranges.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        return Ranges.from_json(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(
            f"cannot read the ranges {path} ({error.strerror}): make them with `rtseg calibrate`"
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is damaged, it is no text: make it again with `rtseg calibrate`") from error
    except ModelError as error:
        raise ModelError(f"{path} is damaged: {error}; make it again with `rtseg calibrate`") from error


def write_ranges(ranges: Ranges, path: Path) -> None:
    """Write a file of ranges; its folder is made.

    Raises:
        SinkError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, ranges.to_json())


def find_ranges(model: ModelFile) -> Ranges:
    """The ranges that belong to ``model``.

    Looked for in ``calib/<name>.json`` of the working directory, then in ``<file>.calib.json`` beside the model file,
    then among those that come with rtseg.

    Raises:
        ModelError: there are none, those there are belong to another file, or one is damaged.
    """
    sha256 = file_sha256(model.path)
    others = []
    for path in _places(model):
        if path.is_file():
            ranges = read_ranges(path)
            if ranges.model_sha256 == sha256:
                return ranges
            others.append(str(path))
    command = calibrate_command(model)
    if others:
        raise ModelError(
            f"the INT8 ranges in {' and '.join(others)} belong to another file than {model.path}: {command}"
        )
    raise ModelError(f"no INT8 ranges for {model.spec.name}: {command}")


def calibrate_command(model: ModelFile) -> str:
    """What a message tells the user to do."""
    return f"record them with `rtseg calibrate {model.path} --data KIND:PATH`"


def default_output(model: ModelFile) -> Path:
    """``calib/<name>.json``.

    Raises:
        ModelError: the name of the model cannot be the name of a file.
    """
    name = model.spec.name
    if not name or Path(name).name != name:
        raise ModelError(f"the model's name {name!r} cannot be the name of a file: give --output")
    return Path(_FOLDER) / f"{name}.json"


def _places(model: ModelFile) -> list[Path]:
    name = f"{model.spec.name}.json"
    beside = model.path.with_suffix(".calib.json")
    # The wheel holds the folder inside the package, a checkout beside it.
    bundled = [folder / _FOLDER / name for folder in (_PACKAGE, _PACKAGE.parent)]
    return [Path(_FOLDER) / name, beside, *bundled]
