"""The metadata of a model file, and the required inputs and outputs of its graph.

A model file is an ONNX graph with one input and one output::

    frames : uint8 (N, H, W, C)   H, W and C fixed; BGR if C is 3
    labels : uint8 (N, H, W)      class IDs; 255 is never predicted

C is 4 for BGR and an extra channel (alpha, infrared, depth), and 2 for grey and an extra channel.
``rtseg.image_io.decode`` says how files store it. A network for grey images gets BGR and converts it.

A sequence model, whose labels depend on earlier frames too, has one more input and one more output::

    state      : float32 (N, D, h, w)   D, h and w fixed; zeros for the first frame
    next_state : float32 (N, D, h, w)   the ``state`` for the next frame

A file may have one more output, see ``rtseg.model_file.margin``::

    margin : uint8 (N, h, w)      255 times the difference of the two highest probabilities

Normalization, upsampling and argmax are part of the graph. The metadata is a JSON text with the key ``rtseg``.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.errors import ModelError
from rtseg.frame import CHANNELS

if TYPE_CHECKING:
    import onnx

__all__ = ["METADATA_KEY", "VOID", "ModelSpec", "file_sha256", "write_spec"]

VOID = 255
"""Label of pixels without a class. Never predicted."""
METADATA_KEY = "rtseg"
_FORMAT = 1
_HIDDEN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, halves of surrogate pairs, and separators of lines and paragraphs."""
_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The metadata of a model file.

    Raises:
        ModelError: classes and palette differ in length, there are no classes or more than 255, names repeat or are
            not strings, a text contains a character that is not displayed, a colour is not three values of 0..255, the
            size is not positive, miou is not in [0, 1], or channels are not 2 to 4.
    """

    name: str
    """E.g. ``icnet-camvid``."""
    classes: tuple[str, ...]
    """Class names; the index is the class ID."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of each class, values 0..255."""
    size: tuple[int, int]
    """(H, W) of the graph's input, in pixels."""
    channels: int = 3
    """Last dimension of the graph's input; see ``rtseg.frame.Image``."""
    batch: int | None = None
    """1 if the graph takes one image at a time; None if it takes any number."""
    preprocess: tuple[str, ...] = ()
    """Preprocessing steps after resizing, in order, e.g. ``clahe:clip=2,tiles=8``; see ``rtseg.preprocess``."""
    architecture: str = ""
    """Argument of ``create_model``, e.g. ``icnet`` or ``icnet:width=64``; empty if rtseg did not build the graph."""
    trained_on: str = ""
    """Description of the training data."""
    licence: str = ""
    """Description of what the weights may be used for."""
    miou: float | None = None
    """Measured mean IoU, in [0, 1]; None if it was not measured."""
    measured_on: str = ""
    """The data, split and size of the measurement of ``miou``."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further facts, e.g. recipe, seed, epochs. They are stored and shown only."""

    def __post_init__(self) -> None:
        texts = (self.name, self.architecture, self.trained_on, self.licence, self.measured_on)
        if not all(isinstance(text, str) for text in (*texts, *self.classes, *self.preprocess)):
            raise ModelError("names, classes, steps and descriptions of a model must be strings")
        for text in (*texts, *self.classes, *self.preprocess, *_texts(self.extra)):
            _check_displayable(text)
        if self.miou is not None and not (isinstance(self.miou, int | float) and 0 <= self.miou <= 1):
            raise ModelError(f"miou must be a number in [0, 1], got {self.miou!r}")
        if not 1 <= len(self.classes) <= VOID:
            raise ModelError(f"a model has 1 to {VOID} classes, got {len(self.classes)}")
        if len(self.palette) != len(self.classes):
            raise ModelError(f"{len(self.classes)} classes but {len(self.palette)} colours")
        if len(set(self.classes)) != len(self.classes):
            raise ModelError(f"class names repeat: {', '.join(self.classes)}")
        for name, colour in zip(self.classes, self.palette, strict=True):
            if len(colour) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in colour):
                raise ModelError(f"colour of {name!r} must be three integers of 0..255, got {colour}")
        if len(self.size) != 2 or not all(type(v) is int and 0 < v < 1 << 31 for v in self.size):
            raise ModelError(f"size must be two positive integers (H, W), got {self.size}")
        if type(self.channels) is not int or self.channels not in CHANNELS:
            raise ModelError(f"channels must be {', '.join(map(str, CHANNELS))}, got {self.channels!r}")
        if self.batch not in (None, 1):
            raise ModelError(f"batch must be 1 or null, got {self.batch!r}")

    def class_id(self, name: str) -> int:
        """Return the ID of a class. Upper and lower case do not matter.

        Raises:
            ModelError: there is no such class; the text lists the known ones.
        """
        lowered = [known.lower() for known in self.classes]
        if name.strip().lower() not in lowered:
            raise ModelError(f"{self.name} has no class {name!r}; it has {', '.join(self.classes)}")
        return lowered.index(name.strip().lower())

    def to_json(self) -> str:
        """Return the JSON text for the metadata of a file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse the result of ``to_json``.

        Raises:
            ModelError: ``text`` is malformed, or a newer version of rtseg wrote it.
        """
        try:
            values = json.loads(text)
            version = values.pop("format")
            if version != _FORMAT:
                raise ModelError(f"metadata of format {version!r}, this rtseg reads {_FORMAT}: update rtseg")
            known = {entry.name for entry in fields(cls)}
            values = {key: value for key, value in values.items() if key in known}
            for key in ("classes", "size", "preprocess", "palette"):
                if not isinstance(values[key], list):
                    raise TypeError(f"{key} is not a list")
                values[key] = tuple(values[key])
            values["palette"] = tuple(tuple(colour) for colour in values["palette"])
            return cls(**values)
        except ModelError:
            raise
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise ModelError(f"metadata cannot be read ({type(error).__name__}: {error})") from error


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (*_texts(key), *_texts(each))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _check_displayable(text: str) -> None:
    """Refuse what would control a terminal, reverse the text around it, or cannot be written as UTF-8."""
    for sign in text:
        if unicodedata.category(sign) in _HIDDEN_CATEGORIES or sign in _BIDIRECTIONAL:
            raise ModelError(f"a text of the metadata contains {sign!a}, which cannot be displayed: {text!a}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_spec(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Store ``spec`` in the metadata of ``model``, and replace any that is there."""
    others = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in [*others, (METADATA_KEY, spec.to_json())]:
        model.metadata_props.add(key=key, value=value)
