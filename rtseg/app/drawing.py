"""How a run draws its frames, from its options."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rtseg.app.options import StreamOptions
from rtseg.errors import OptionError
from rtseg.frame import Image
from rtseg.image_io.decode import ImageError, decode_image, to_bgr
from rtseg.model_file.spec import ModelSpec
from rtseg.system.read_file import read_image_bytes
from rtseg.visualize.effects import Blur, Effect, ReplaceBackground
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["open_effects", "open_overlay"]

_BACKGROUND_NAMES: Final = ("background", "unlabelled", "unlabeled", "void", "other")


def open_overlay(options: StreamOptions, spec: ModelSpec) -> Overlay:
    """What draws the labels on the frames.

    Raises:
        ModelError: the model has no class of a given name.
    """
    has_effects = bool(options.blur) or options.replace_background is not None
    view = options.view or ("image" if has_effects else "overlay")
    hidden = _hidden_classes(options, spec)
    return Overlay(
        spec, OverlayOptions(view, options.alpha, options.contours, options.legend, hidden, options.unsure is not None)
    )


def open_effects(options: StreamOptions, spec: ModelSpec) -> list[Effect]:
    """What changes the frames before they are drawn and sent anywhere.

    Raises:
        ModelError: the model has no class of a given name.
        OptionError: the image for the background cannot be read, or it is not clear which classes are in front of it.
    """
    effects: list[Effect] = []
    if options.blur:
        effects.append(Blur([spec.class_id(name) for name in options.blur]))
    if options.replace_background is not None:
        background = _read_background(options.replace_background)
        effects.append(ReplaceBackground(background, _front_classes(options, spec)))
    return effects


def _hidden_classes(options: StreamOptions, spec: ModelSpec) -> frozenset[int]:
    only = [spec.class_id(name) for name in options.only] or range(len(spec.classes))
    return frozenset(range(len(spec.classes))).difference(only).union(spec.class_id(name) for name in options.hide)


def _front_classes(options: StreamOptions, spec: ModelSpec) -> list[int]:
    """The classes in front of a replaced background: those that are drawn, or all but one called background."""
    behind = _hidden_classes(options, spec)
    if not options.only and not options.hide:
        behind = frozenset(number for number, name in enumerate(spec.classes) if name.lower() in _BACKGROUND_NAMES)
    front = [number for number in range(len(spec.classes)) if number not in behind]
    if not behind or not front:
        raise OptionError(
            f"--replace-background: say what stays in front of it with --only CLASS (or --hide CLASS for what is "
            f"behind); {spec.name} has {', '.join(spec.classes)}"
        )
    return front


def _read_background(path: Path) -> Image:
    try:
        return to_bgr(decode_image(read_image_bytes(path)))
    except OSError as error:
        raise OptionError(f"--replace-background {path} cannot be read: {error.strerror}; check the path") from error
    except ImageError as error:
        raise OptionError(f"--replace-background {path} {error}: give an image file") from error
