"""Presets: named sets of options for ``rtseg stream --preset``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rtseg.app.background import make_background
from rtseg.app.options import BackgroundOptions, StreamOptions
from rtseg.backends import read_spec
from rtseg.errors import OptionError
from rtseg.sources import open_source
from rtseg.weights import DEFAULT_MODEL, find_model

__all__ = ["PRESETS", "apply_preset"]

PRESETS = ("fringes",)

_SOURCE = "fringes:2"
"""Two seconds are two periods of the moving fringes, so their mean contains no fringes."""
_SIZE = (1024, 1024)
_MAX_BACKGROUND_FRAMES = 100
_CLAHE = "clahe:clip=2,tiles=8"

Notify = Callable[[str], None]


def apply_preset(name: str, options: StreamOptions, notify: Notify = lambda line: None) -> StreamOptions:
    """Return ``options`` with the preset's values for options that were not given.

    ``fringes`` is for interferograms. The default source is ``fringes:2``, synthetic interferograms of 3072x3072. The
    mean of its frames is subtracted as background, then CLAHE is applied. The background is stored as
    ``<source name>-background.png`` in the working folder and reused if it exists. The default size is 1024x1024. A
    model given by the user keeps its own size, and its own preprocessing steps if it has any.

    Args:
        name: One of ``PRESETS``.
        options: The user's options.
        notify: Called with messages for the user.

    Raises:
        OptionError: There is no such preset.
        RtsegError: The model or the source cannot be used, or the background cannot be written.
    """
    if name not in PRESETS:
        raise OptionError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    source = options.source or _SOURCE
    synthetic = source.partition(":")[0] == "fringes"
    spec = read_spec(find_model(options.model))
    bundled = options.model == DEFAULT_MODEL
    size = _SIZE if bundled and options.size is None else options.size
    steps = options.preprocess
    if steps is None and not spec.preprocess:
        steps = (f"background:{_find_or_make_background(source, options, notify)}", _CLAHE)
    if bundled:
        step_list = ",".join(("resize", *(steps or spec.preprocess)))
        notify(
            f"{spec.name} was trained on streets: its classes mean nothing here. To train on "
            f"{'these' if synthetic else 'synthetic'} interferograms: `rtseg train --data synthetic:fringes "
            f"--size {_SIZE[0]}x{_SIZE[1]} --preprocess {step_list} --output runs/fringes`, "
            "then `rtseg export`, then use --model"
        )
    return replace(options, source=source, size=size, preprocess=steps)


def _find_or_make_background(source: str, options: StreamOptions, notify: Notify) -> Path:
    """Return the path of the background image. Create it if it does not exist."""
    path = Path(f"{open_source(source, options.part).name}-background.png")
    if path.exists():
        notify(f"background: {path} already exists and is used; delete it to create a new one")
        return path
    notify(f"background: averaging {source} into {path}")
    background = make_background(BackgroundOptions(source, path, count=_MAX_BACKGROUND_FRAMES, source=options.part))
    notify(f"background: {path}, the mean of {background.frames} frames")
    return path
