"""What a model file says about itself, and the contract of its graph.

A model file is an ONNX graph with one input and one output::

    frames : uint8 (N, H, W, C), C = 3: BGR   H, W and C fixed
    labels : uint8 (N, H, W), class ids       255 is never predicted

C is 4 where a plane beside BGR is needed (alpha, infrared, depth), 2 where one beside grey is;
``rtseg.image_io.decode`` says how files hold it. A network that sees grey alone is given BGR and mixes it.

A sequence model, whose labels hang on the frames before as well, has one more of each, and no other form is allowed::

    state      : float32 (N, D, h, w), zeros at first   D, h and w fixed
    next_state : float32 (N, D, h, w)                   the ``state`` that goes with the next frame

Normalisation, upsampling and argmax are inside the graph. Everything else that a user of the model must
know is one JSON text under the key ``rtseg`` of the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.errors import ModelError
from rtseg.frame import CHANNELS

if TYPE_CHECKING:
    import onnx

__all__ = ["VOID", "ModelSpec", "file_sha256", "write_spec"]

VOID = 255
"""Label of pixels without a class. Never predicted."""
_KEY = "rtseg"
_FORMAT = 1
_LONGEST_TAIL = 8
_MAX_BYTES = 1 << 31  # protobuf's own bound: a larger file cannot be parsed


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The metadata of a model file.

    Raises:
        ModelError: classes and palette differ in length, there are none or more than 255, names repeat or are no
            texts, a colour is not three values of 0..255, the size is not positive, or channels are not 2 to 4.
    """

    name: str
    """E.g. ``icnet-camvid``."""
    classes: tuple[str, ...]
    """Name of class i at place i."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of class i at place i, values 0..255."""
    size: tuple[int, int]
    """(H, W) of the graph's input, in pixels."""
    channels: int = 3
    """The last dimension of the graph's input; see ``rtseg.frame.Image``."""
    preprocess: tuple[str, ...] = ()
    """Steps after resizing, in order, e.g. ``clahe:clip=2,tiles=8``; see ``rtseg.preprocess``."""
    architecture: str = ""
    """What ``create_model`` builds it from, e.g. ``icnet`` or ``icnet:width=64``; empty for a graph of other origin."""
    trained_on: str = ""
    """The training data, in words."""
    licence: str = ""
    """What the weights may be used for, in words."""
    miou: float | None = None
    """Measured mean IoU, in [0, 1]; None if nobody measured it."""
    measured_on: str = ""
    """The data, split and size that ``miou`` was measured on."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further facts (recipe, seed, epochs): kept, shown, never acted on."""

    def __post_init__(self) -> None:
        texts = (self.name, self.architecture, self.trained_on, self.licence, self.measured_on)
        if not all(isinstance(text, str) for text in (*texts, *self.classes, *self.preprocess)):
            raise ModelError("names, classes, steps and remarks of a model must be texts")
        if self.miou is not None and not isinstance(self.miou, int | float):
            raise ModelError(f"miou must be a number in [0, 1], got {self.miou!r}")
        if not 1 <= len(self.classes) <= VOID:
            raise ModelError(f"a model has 1 to {VOID} classes, got {len(self.classes)}")
        if len(self.palette) != len(self.classes):
            raise ModelError(f"{len(self.classes)} classes but {len(self.palette)} colours")
        if len(set(self.classes)) != len(self.classes):
            raise ModelError(f"class names repeat: {', '.join(self.classes)}")
        for name, colour in zip(self.classes, self.palette, strict=True):
            if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
                raise ModelError(f"colour of {name!r} must be three integers of 0..255, got {colour}")
        if len(self.size) != 2 or not all(isinstance(v, int) and v > 0 for v in self.size):
            raise ModelError(f"size must be two positive integers (H, W), got {self.size}")
        if type(self.channels) is not int or self.channels not in CHANNELS:
            raise ModelError(f"channels must be {', '.join(map(str, CHANNELS))}, got {self.channels!r}")

    def class_id(self, name: str) -> int:
        """The id of a class, by its name in any case.

        Raises:
            ModelError: there is no such class; the text lists those there are.
        """
        lowered = [known.lower() for known in self.classes]
        if name.strip().lower() not in lowered:
            raise ModelError(f"{self.name} has no class {name!r}; it has {', '.join(self.classes)}")
        return lowered.index(name.strip().lower())

    def to_json(self) -> str:
        """The text that stands in the file's metadata."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is not such a text, or a newer rtseg wrote it.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("format")
            if version != _FORMAT:
                raise ModelError(f"metadata of format {version!r}, this rtseg reads {_FORMAT}: update rtseg")
            known = {entry.name for entry in fields(cls)}
            facts = {key: value for key, value in facts.items() if key in known}
            for key in ("classes", "size", "preprocess"):
                facts[key] = tuple(facts[key])
            facts["palette"] = tuple(tuple(colour) for colour in facts["palette"])
            return cls(**facts)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ModelError(f"metadata cannot be read ({type(error).__name__}: {error})") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_spec(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Put ``spec`` into the metadata of ``model``, in place of any that stood there."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != _KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (_KEY, spec.to_json())]:
        model.metadata_props.add(key=key, value=value)
