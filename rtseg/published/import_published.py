"""Makes a model file of a network of another library: loads it, exports it to ONNX, and imports that."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rtseg.errors import MissingExtra, OptionError
from rtseg.importing.import_onnx import ImportedModel, Origin, import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.published.catalogue import PUBLISHED

__all__ = ["import_published", "is_published_name"]

KINDS = ("torchvision", "smp", "timm", "hf", "rtseg")
_NOT_STATED = "not stated: see the page of the model"


def is_published_name(text: str) -> bool:
    """Return whether ``text`` is KIND:NAME with a known kind."""
    kind, colon, name = text.partition(":")
    return bool(colon and name) and kind in KINDS


def import_published(
    name: str,
    options: ImportOptions | None = None,
    *,
    weights: Path | None = None,
    offline: bool = False,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[str], None] = lambda phase: None,
) -> ImportedModel:
    """Make a model file of ``torchvision:NAME``, ``smp:OWNER/NAME``, ``hf:OWNER/NAME`` or ``rtseg:NETWORK``.

    Args:
        name: see above; for ``smp:`` and ``hf:`` also a folder with a saved model.
        options: what the user says about it.
        weights: a state dict for a network of torchvision, instead of the published one; or one that another program
            trained for a network of rtseg.
        offline: use only files of this machine.
        notify: called with messages for the user, e.g. the licence before a first download.
        on_progress: called with the name of each phase.

    Raises:
        OptionError: there is no such network.
        ModelError: it cannot be loaded, or see ``import_onnx``.
        MissingExtra: a package is not installed.
        SinkError: the file cannot be written.
    """
    try:
        from rtseg.published.export_torch import export_to_onnx
        from rtseg.published.torch_networks import LOADERS, LoadOptions
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature(f"importing {name}", error.name, "import") from error
    options = options or ImportOptions()
    kind, _, rest = name.partition(":")
    on_progress("loading the weights")
    loaded = LOADERS[kind](rest, LoadOptions(weights, offline, notify, options.size))
    entry = PUBLISHED.get(name) if weights is None else None
    if loaded.classes is None and not options.classes:
        raise OptionError(f"{name} does not say what its classes are: add --classes, a preset or names")
    size = options.size or loaded.size
    stem = re.sub(r"[^\w.-]+", "-", Path(rest).name if Path(rest).is_dir() else rest).strip("-")
    options = replace(
        options, size=size, name=options.name or stem, output=options.output or Path(f"{stem}-rtseg.onnx")
    )
    origin = Origin(
        trained_on=entry.trained_on if entry else "",
        licence=entry.licence if entry else _NOT_STATED,
        source=name if weights is None else f"{name} with {weights.name}",
        normalization=loaded.normalization,
        classes=loaded.classes,
    )
    with TemporaryDirectory(prefix="rtseg-import-") as folder:
        path = Path(folder) / f"{stem}.onnx"
        on_progress("exporting to ONNX")
        export_to_onnx(loaded.network, size, path)
        return import_onnx(path, options, origin=origin, on_progress=on_progress)
