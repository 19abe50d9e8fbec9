"""Names of the results of several sources: one file or folder for each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtseg.app.options import StreamOptions
from rtseg.errors import OptionError
from rtseg.sinks import NOTHING

__all__ = ["FILES_OF_A_SOURCE", "NAME", "make_folders", "name_outputs", "refuse_shared_outputs"]

NAME = "{name}"
"""In the name of a result: the name of the source."""
FILES_OF_A_SOURCE = {"output": ".mp4", "stats": ".jsonl", "masks": "", "report": ".json"}
"""The fields of ``StreamOptions`` that name a result, with the suffix of its file; an empty one for a folder."""


def name_outputs(name: str, options: StreamOptions, *, is_only_one: bool = False) -> StreamOptions:
    """The options of one source: every result has the name of that source.

    ``{name}`` becomes the name. In a folder, which is a name without a suffix, the result is ``NAME.mp4`` or so.

    Args:
        name: of the source.
        options: of several sources, or of this one.
        is_only_one: whether there is no other source; then a name without ``{name}`` is taken as it is.

    Raises:
        OptionError: the name is the same for all sources.
    """
    named: dict[str, Any] = {}
    for field, suffix in FILES_OF_A_SOURCE.items():
        path = getattr(options, field)
        if path is not None and path != NOTHING:
            named[field] = _named(name, field, path, suffix, is_only_one=is_only_one)
    return replace(options, **named)


def _named(name: str, field: str, path: Path, suffix: str, *, is_only_one: bool) -> Path:
    if NAME in str(path):
        return Path(str(path).replace(NAME, name))
    if is_only_one:
        return path
    if not suffix:
        return path / name
    if path.suffix and not path.is_dir():
        raise OptionError(
            f"--{field} {path} would be written by every source: give a folder, or a name with {NAME}, "
            f"e.g. {path.with_stem(f'{path.stem}-{NAME}')}"
        )
    return path / f"{name}{suffix}"


def refuse_shared_outputs(cameras: Mapping[str, StreamOptions], others: Mapping[str, Path | None]) -> None:
    """Refuse that two sources write the same file, or that one writes what another reads.

    Args:
        cameras: the options of each source, by its name, after ``name_outputs``.
        others: further results, by their option.

    Raises:
        OptionError: they would.
    """
    taken: dict[str, str] = {}
    for name, options in cameras.items():
        taken[os.path.realpath(str(options.source))] = f"the source {name}"
    written = [
        (f"--{field} of {name}", getattr(each, field)) for name, each in cameras.items() for field in FILES_OF_A_SOURCE
    ]
    for what, path in [*others.items(), *written]:
        if path is None or path == NOTHING:
            continue
        real = os.path.realpath(path)
        if real in taken:
            raise OptionError(f"{what} {path} is also {taken[real]}: give each its own name, e.g. with {NAME}")
        taken[real] = what


def make_folders(options: StreamOptions) -> None:
    """Create the folder of each file that ``options`` name, where only that folder is missing.

    Raises:
        OptionError: it cannot be created.
    """
    for field, suffix in FILES_OF_A_SOURCE.items():
        path = getattr(options, field)
        if path is None or path == NOTHING or not suffix or path.parent.exists() or not path.parent.parent.is_dir():
            continue
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"--{field}: the folder {path.parent} cannot be created ({error.strerror}): choose another"
            ) from error
