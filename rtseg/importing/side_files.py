"""Reads what other programs write beside an exported model, or into its metadata: classes, size and normalization."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import onnx

from rtseg.errors import MissingExtra
from rtseg.importing.plan import IMAGENET_MEAN, IMAGENET_STD, Normalization, Size, Triple
from rtseg.system.read_file import read_text

__all__ = ["SideFacts", "read_side_files"]


@dataclass(frozen=True, slots=True)
class SideFacts:
    """What the files beside a model say; None where they say nothing."""

    classes: tuple[str, ...] | None = None
    size: Size | None = None
    normalization: Normalization | None = None
    letterbox: bool | None = None
    source: str = ""
    """Name of the file that says it."""


def read_side_files(model: onnx.ModelProto, path: Path) -> list[SideFacts]:
    """Return what the metadata of a model and the files in its folder say, the most certain first.

    A file that cannot be parsed says nothing.
    """
    readers: list[tuple[str, Callable[[Any], SideFacts]]] = [
        ("preprocessor_config.json", _from_preprocessor_config),
        ("config.json", _from_config),
        ("pipeline.json", _from_pipeline),
        ("detail.json", _from_detail),
    ]
    found = [_from_ultralytics({entry.key: entry.value for entry in model.metadata_props})]
    for name, parse in readers:
        found.append(_named(name, _parsed(path.parent / name, json.loads, parse)))
    for name, parse in (("deploy.yaml", _from_paddle), ("inference.yml", _from_paddle)):
        found.append(_named(name, _parsed(path.parent / name, _parse_yaml, parse)))
    return [facts for facts in found if any(getattr(facts, each.name) is not None for each in fields(facts)[:4])]


def _named(name: str, facts: SideFacts) -> SideFacts:
    return SideFacts(facts.classes, facts.size, facts.normalization, facts.letterbox, name)


def _parsed(path: Path, parse_text: Callable[[str], Any], parse: Callable[[Any], SideFacts]) -> SideFacts:
    try:
        return parse(parse_text(read_text(path)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return SideFacts()


def _parse_yaml(text: str) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtra.for_feature("the YAML file beside the network", "yaml", "import") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _from_preprocessor_config(values: Any) -> SideFacts:
    """Of Hugging Face's image processors."""
    size = values.get("size")
    sides: Size | None = None
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        sides = (int(size["height"]), int(size["width"]))
    elif isinstance(size, int):
        sides = (size, size)
    factor = float(values.get("rescale_factor", 1 / 255))
    scale = 1 / factor if values.get("do_rescale", True) else 1.0
    if not values.get("do_normalize", True):
        return SideFacts(size=sides, normalization=Normalization(round(scale, 6), (0, 0, 0), (1, 1, 1)))
    mean, std = (_triple(values.get(key, default)) for key, default in _HUGGING_FACE_DEFAULTS.items())
    return SideFacts(size=sides, normalization=Normalization(round(scale, 6), mean, std))


_HUGGING_FACE_DEFAULTS = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}


def _from_config(values: Any) -> SideFacts:
    """Of Hugging Face's models, with ``id2label``; and of timm's encoders, with ``mean`` and ``std``."""
    names = values.get("id2label")
    classes = tuple(str(names[key]) for key in sorted(names, key=int)) if isinstance(names, dict) else None
    encoder = values.get("pretrained_cfg", values)
    normalization = None
    if "mean" in encoder and "std" in encoder:
        normalization = Normalization(255, _triple(encoder["mean"]), _triple(encoder["std"]))
    return SideFacts(classes=_unique(classes), normalization=normalization)


def _from_pipeline(values: Any) -> SideFacts:
    """Of mmdeploy: the transforms of the first task."""
    tasks = values["pipeline"]["tasks"]
    transforms = next(task["transforms"] for task in tasks if "transforms" in task)
    size, normalization = None, None
    for transform in transforms:
        if transform.get("type") == "Resize" and not transform.get("keep_ratio", False):
            width, height = transform["size"]
            size = (int(height), int(width))
        if transform.get("type") == "Normalize":
            normalization = Normalization(
                1, _triple(transform["mean"]), _triple(transform["std"]), bgr=not transform.get("to_rgb", True)
            )
    return SideFacts(size=size, normalization=normalization)


def _from_detail(values: Any) -> SideFacts:
    """Of mmdeploy: what is said of the code base, with the classes in some versions."""
    return SideFacts(classes=_unique(tuple(map(str, values["codebase"]["classes"]))))


def _from_paddle(values: Any) -> SideFacts:
    """Of PaddleSeg: the transforms. Values are divided by 255 before ``Normalize``, whose defaults are 0.5."""
    deploy = values["Deploy"]
    size, normalization = None, Normalization(1, (0, 0, 0), (1, 1, 1))
    for transform in deploy.get("transforms") or []:
        if transform["type"] == "Resize" and "target_size" in transform:
            width, height = transform["target_size"]
            size = (int(height), int(width))
        if transform["type"] == "Normalize":
            mean, std = (_triple(transform.get(key, [0.5] * 3)) for key in ("mean", "std"))
            normalization = Normalization(255, mean, std)
    return SideFacts(size=size, normalization=normalization)


def _from_ultralytics(metadata: dict[str, str]) -> SideFacts:
    """Of the metadata in the graph: ``names`` is a dictionary, written as Python does."""
    if "names" not in metadata:
        return SideFacts()
    try:
        names = ast.literal_eval(metadata["names"])
        height, width = ast.literal_eval(metadata["imgsz"]) if "imgsz" in metadata else (None, None)
        classes = tuple(str(names[key]) for key in sorted(names)) if isinstance(names, dict) else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return SideFacts()
    size = (int(height), int(width)) if height is not None and width is not None else None
    is_ultralytics = "stride" in metadata or "ultralytics" in metadata.get("description", "").lower()
    normalization = Normalization(255, (0, 0, 0), (1, 1, 1)) if is_ultralytics else None
    return SideFacts(_unique(classes), size, normalization, is_ultralytics or None, "the metadata of the file")


def _triple(values: Any) -> Triple:
    numbers = [float(value) for value in (values if isinstance(values, list | tuple) else [values] * 3)]
    if len(numbers) == 1:
        numbers *= 3
    first, second, third = numbers
    return first, second, third


def _unique(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return names that differ: a number is appended to those that repeat."""
    if names is None:
        return None
    counts: dict[str, int] = {}
    result = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(result)
