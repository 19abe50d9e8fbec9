"""Names of the results of several sources: one file or folder for each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtseg.app.options import StreamOptions
from rtseg.errors import OptionError
from rtseg.events.options import is_url
from rtseg.sinks import NOTHING, is_video_file
from rtseg.system.redact import redact

__all__ = ["NAME", "SUFFIXES", "has_outputs", "make_folders", "name_outputs", "refuse_shared_outputs"]

NAME = "{name}"
"""In the name of a result: the name of the source."""
SUFFIXES = {"output": ".mp4", "stats": ".jsonl", "polygons": ".geojson", "masks": "", "report": ".json"}
"""The fields of ``StreamOptions`` that name a result, with the suffix of its file in a folder; empty: a folder."""


def name_outputs(
    name: str, options: StreamOptions, *, own: Collection[str] = (), is_only_one: bool = False
) -> StreamOptions:
    """The options of one source: every result has the name of that source.

    ``{name}`` becomes the name. In a folder, which is a name without a suffix, the result is ``NAME.mp4`` or so.

    Args:
        name: of the source.
        options: of several sources, or of this one.
        own: the fields that were set for this source alone, whose names of files are taken as they are.
        is_only_one: whether there is no other source; then a name without ``{name}`` is taken as it is.

    Raises:
        OptionError: the name is the same for all sources.
    """
    named: dict[str, Any] = {}
    for field, value in _results(options):
        if isinstance(value, tuple):
            named[field] = tuple(_named(name, field, each, field in own, is_only_one=is_only_one) for each in value)
        else:
            named[field] = Path(_named(name, field, str(value), field in own, is_only_one=is_only_one))
    as_it_is = is_only_one or "destinations" in own
    destinations = tuple(_destination(name, each, as_it_is=as_it_is) for each in options.events.destinations)
    return replace(options, events=replace(options.events, destinations=destinations), **named)


def _destination(name: str, destination: str, *, as_it_is: bool) -> str:
    """Of events. A webhook and a broker may be the same for all sources: each event has the name of its source."""
    if NAME in destination or as_it_is or is_url(destination):
        return destination.replace(NAME, name)
    place = Path(destination)
    raise OptionError(
        f"--events-to {destination} would be written by every source: give a name with {NAME}, "
        f"e.g. {place.with_stem(f'{place.stem}-{NAME}')}"
    )


def has_outputs(options: StreamOptions) -> bool:
    """Whether a source has any result of its own."""
    return any(field != "report" for field, _ in _results(options))


def _results(options: StreamOptions) -> Iterator[tuple[str, tuple[str, ...] | Path]]:
    """Each field that names results, with its value."""
    for field in SUFFIXES:
        value = getattr(options, field)
        if value:
            yield field, value


def _files(options: StreamOptions) -> Iterator[tuple[str, str]]:
    """Each file or folder that is written, with its option."""
    for field, value in _results(options):
        for path in value if isinstance(value, tuple) else (str(value),):
            if is_video_file(path):
                yield f"--{field}", path
    yield from (("--events-to", each) for each in options.events.destinations if not is_url(each))


def _named(name: str, field: str, path: str, is_own: bool, *, is_only_one: bool) -> str:
    if NAME in path:
        return path.replace(NAME, name)
    if is_only_one or not is_video_file(path):  # two sources with one address are refused later
        return path
    place = Path(path)
    is_whole = not SUFFIXES[field] or (place.suffix and not place.is_dir())
    if is_own and is_whole:
        return path
    if place.suffix and not place.is_dir():
        raise OptionError(
            f"--{field} {path} would be written by every source: give a folder, or a name with {NAME}, "
            f"e.g. {place.with_stem(f'{place.stem}-{NAME}')}"
        )
    return str(place / f"{name}{SUFFIXES[field]}")


def refuse_shared_outputs(cameras: Mapping[str, StreamOptions], others: Mapping[str, Path | None]) -> None:
    """Refuse that two sources write the same file or send to the same address, or that one writes what another reads.

    Args:
        cameras: the options of each source, by its name, after ``name_outputs``.
        others: further results, by their option.

    Raises:
        OptionError: they would.
    """
    taken = {os.path.realpath(str(options.source)): f"the source {name}" for name, options in cameras.items()}
    written = [(f"{option} of {name}", path) for name, each in cameras.items() for option, path in _files(each)]
    for what, path in [*((option, str(path)) for option, path in others.items() if path is not None), *written]:
        real = os.path.realpath(path)
        if real in taken:
            raise OptionError(f"{what} {path} is also {taken[real]}: give each its own name, e.g. with {NAME}")
        taken[real] = what
    addresses: dict[str, str] = {}
    for name, each in cameras.items():
        for address in each.output:
            if address == NOTHING or is_video_file(address):
                continue
            if address in addresses:
                other = addresses[address]
                raise OptionError(
                    f"--output {redact(address)} of {name} is also that of {other}: give each its own, e.g. with {NAME}"
                )
            addresses[address] = name


def make_folders(options: StreamOptions) -> None:
    """Create the folder of each file that ``options`` name, where only that folder is missing.

    Raises:
        OptionError: it cannot be created.
    """
    for option, path in _files(options):
        folder = Path(path).parent
        if folder.exists() or not folder.parent.is_dir():
            continue
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"{option}: the folder {folder} cannot be created ({error.strerror}): choose another"
            ) from error
