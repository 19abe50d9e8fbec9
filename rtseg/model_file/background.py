"""The background images that the preprocessing steps of a model name: each is stored beside the model file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rtseg.errors import ModelError
from rtseg.model_file.spec import ModelSpec
from rtseg.system.atomic_files import write_bytes
from rtseg.system.read_file import MAX_IMAGE_BYTES, read_bytes

__all__ = ["resolve_backgrounds", "store_backgrounds"]

_STEP = "background:"


def resolve_backgrounds(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Return ``spec`` with paths that can be opened, for a model file in ``folder``.

    Raises:
        ModelError: a background is outside the folder. A model from a stranger must not name files of this machine.
    """
    return _replace_paths(spec, lambda text: f"{folder / _check_inside(text, folder)}")


def store_backgrounds(spec: ModelSpec, output: Path) -> ModelSpec:
    """Return ``spec`` as it is to be stored in the file ``output``: each background is named relative to its folder.

    A background that is elsewhere is copied to ``<name of output>-background.png``.

    Raises:
        ModelError: a background cannot be read.
        SinkError: the copy cannot be written.
    """

    def store(text: str) -> str:
        folder = os.path.realpath(output.parent)
        inside = os.path.relpath(os.path.realpath(text), folder)
        if not inside.startswith(os.pardir):
            return inside
        copy = output.with_name(f"{output.stem}-background{Path(text).suffix}")
        try:
            data = read_bytes(Path(text), MAX_IMAGE_BYTES)
        except OSError as error:
            raise ModelError(f"cannot read the background image {text} ({error.strerror}): give another") from error
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, data)
        return copy.name

    return _replace_paths(spec, store)


def _check_inside(text: str, folder: Path) -> str:
    path, root = os.path.realpath(folder / text), os.path.realpath(folder)
    if Path(text).is_absolute() or os.path.commonpath((path, root)) != root:
        raise ModelError(
            f"its background {text!r} is not in the folder of the model: put the image beside it and export it again"
        )
    return text


def _replace_paths(spec: ModelSpec, change: Callable[[str], str]) -> ModelSpec:
    steps = tuple(
        _STEP + change(step.removeprefix(_STEP)) if step.startswith(_STEP) and step != _STEP else step
        for step in spec.preprocess
    )
    return spec if steps == spec.preprocess else replace(spec, preprocess=steps)
