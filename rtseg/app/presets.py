"""Whole set-ups under one name: what ``rtseg stream --preset`` fills in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rtseg.app.background import BackgroundOptions, make_background
from rtseg.app.stream import StreamOptions
from rtseg.backends import read_spec
from rtseg.errors import OptionError
from rtseg.sources import open_source
from rtseg.weights import DEFAULT_MODEL, find_model

__all__ = ["PRESETS", "apply_preset"]

PRESETS = ("fringes",)

_SOURCE = "fringes:2"
"""Two periods of the moving fringes: their mean shows none."""
_SIZE = (1024, 1024)
_FRAMES = 100
"""Of a background, at most."""
_CLAHE = "clahe:clip=2,tiles=8"

Tell = Callable[[str], None]


def apply_preset(name: str, options: StreamOptions, tell: Tell = lambda line: None) -> StreamOptions:
    """``options`` with what the preset says of those that were not given.

    ``fringes``: interferograms of an instrument. The source is ``fringes:2``, drawn, 3072x3072. Its background is
    averaged into ``<source name>-background.png`` in the working folder, or taken from there, and subtracted, and CLAHE
    follows. The size is 1024x1024. A model that was given keeps its own size, and its own steps where it names any.

    Args:
        name: one of ``PRESETS``.
        options: what the user gave; defaults stand for what was not.
        tell: called with what a user ought to know.

    Raises:
        OptionError: there is no such preset.
        RtsegError: the model or the source cannot be used, or the background not be written.
    """
    if name not in PRESETS:
        raise OptionError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    source = _SOURCE if options.source == StreamOptions().source else options.source
    drawn = source.partition(":")[0] == "fringes"
    own = read_spec(find_model(options.model))
    bundled = options.model == DEFAULT_MODEL
    size = _SIZE if bundled and options.size is None else options.size
    steps = options.preprocess
    if steps is None and not own.preprocess:
        steps = (f"background:{_background_of(source, options, tell)}", _CLAHE)
    if bundled:
        listed = ",".join(("resize", *(steps or own.preprocess)))
        tell(
            f"{own.name} knows streets: its classes mean nothing here. One that knows {'these' if drawn else 'drawn'} "
            f"interferograms: `rtseg train --data synthetic:fringes --size {_SIZE[0]}x{_SIZE[1]} "
            f"--preprocess {listed} --output runs/fringes`, then `rtseg export`, and --model"
        )
    return replace(options, source=source, size=size, preprocess=steps)


def _background_of(source: str, options: StreamOptions, tell: Tell) -> Path:
    """The image of the background, which is made unless it is there."""
    path = Path(f"{open_source(source, options.part).name}-background.png")
    if path.exists():
        tell(f"background: {path}, which is there already; remove it to have it made anew")
        return path
    tell(f"background: averaging {source} into {path}")
    made = make_background(BackgroundOptions(source, path, count=_FRAMES, source=options.part))
    tell(f"background: {path}, the mean of {made.frames} frames")
    return path
