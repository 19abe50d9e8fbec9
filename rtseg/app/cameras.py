"""Several sources with names: from a command line, or from a file such as ``cameras.toml``.

    [defaults]                      # options of `rtseg stream`, without the dashes
    model = "icnet-camvid"
    output = "recordings"

    [camera.gate]                   # one table for each source
    source = "rtsp://user:word@192.0.2.7/live"
    propagate = "off"

Options of the command line take precedence over those of a camera, and these over the defaults. Paths are relative to
the current folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from rtseg.app.option_fields import FieldOption, OptionGroup
from rtseg.app.options import StreamOptions
from rtseg.app.output_names import name_outputs, refuse_shared_outputs
from rtseg.app.toml_lines import find_lines
from rtseg.errors import OptionError, RtsegError
from rtseg.sources import open_source
from rtseg.system.read_file import read_text
from rtseg.system.redact import redact
from rtseg.weights import find_model

__all__ = ["Camera", "CamerasError", "load_cameras", "name_cameras"]

_DEFAULTS, _CAMERAS = "defaults", "camera"
_NOT_IN_FILE = {
    "show": "the window shows all sources: give --show on the command line",
    "metrics": "one address serves the figures of all sources: give --metrics on the command line",
    "report": "one report has a part for each source: give --report on the command line",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST_CAMERAS = 256


@dataclass(frozen=True, slots=True)
class Camera:
    """A source with a name of its own."""

    name: str
    """For messages and names of files; unique, whatever the case of its letters."""
    options: StreamOptions


class CamerasError(OptionError):
    """A file of cameras cannot be used: ``faults`` has one line for each fault, ``FILE:LINE: what is wrong``."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        more = f" (and {len(faults) - 1} more: see `rtseg config check`)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{more}")


def name_cameras(sources: Sequence[str], options: StreamOptions) -> list[Camera]:
    """One camera for each source of a command line, with names made from the sources.

    Raises:
        RtsegError: a source cannot be used, or two of them would write the same file.
    """
    names: dict[str, None] = {}
    for source in sources:
        own = re.sub(r"[^A-Za-z0-9_-]+", "_", open_source(source, options.part).name).strip("_-")[:60] or "source"
        number, name = 2, own
        while name.lower() in map(str.lower, names):
            name, number = f"{own}-{number}", number + 1
        names[name] = None
    is_only_one = len(sources) == 1
    cameras = [
        Camera(name, name_outputs(name, replace(options, source=source), is_only_one=is_only_one))
        for name, source in zip(names, sources, strict=True)
    ]
    refuse_shared_outputs({camera.name: camera.options for camera in cameras}, {})
    return cameras


def load_cameras(
    path: Path, options: StreamOptions | None = None, given: Collection[str] = frozenset()
) -> list[Camera]:
    """Read a file of cameras and check everything that can be checked without opening a source or a model.

    Args:
        path: the file.
        options: those of a command line.
        given: the names of the fields of ``options`` that take precedence over the file.

    Raises:
        CamerasError: it cannot be used; its ``faults`` name the lines.
    """
    try:
        text = read_text(path)
        tables = tomllib.loads(text)
    except OSError as error:
        raise CamerasError([f"{path} cannot be read ({error.strerror}): give a .toml file"]) from error
    except UnicodeDecodeError as error:
        raise CamerasError([f"{path} is not UTF-8 text: save it as UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise CamerasError([f"{path}{_place_of(error, text)}"]) from error
    reader = _Reader(path, text, options or StreamOptions(), given)
    cameras = reader.cameras(tables)
    if reader.faults:
        raise CamerasError([redact(text) for _, text in sorted(reader.faults, key=lambda fault: fault[0])])
    return cameras


def _place_of(error: tomllib.TOMLDecodeError, text: str) -> str:
    """``:LINE: what is wrong`` of Python's message, which ends in the place."""
    found = re.search(r"^(.*) \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    if found is None:
        return f" is not TOML ({error})"
    line = found[2] or str(text.rstrip().count("\n") + 1)
    return f":{line}: this is not TOML ({found[1][:1].lower()}{found[1][1:]})"


class _Reader:
    """Turns the tables of one file into cameras and collects what is wrong."""

    def __init__(self, path: Path, text: str, options: StreamOptions, given: Collection[str]) -> None:
        self._path = path
        self._lines = find_lines(text)
        self._group = OptionGroup(StreamOptions)
        self._by_key = {option.key: option for option in self._group.options}
        by_path = {option.path: option.name for option in self._group.options}
        fixed = self._group.values_of(options)
        self._fixed = {path: value for path, value in fixed.items() if by_path[path] in given}
        self.faults: list[tuple[int, str]] = []

    def _fault(self, keys: tuple[str, ...], text: str) -> None:
        line = next((self._lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self._lines), 1)
        self.faults.append((line, f"{self._path}:{line}: {text}"))

    def cameras(self, tables: dict[str, Any]) -> list[Camera]:
        for key in tables:
            if key not in (_DEFAULTS, _CAMERAS):
                known = f"[{_DEFAULTS}] and [{_CAMERAS}.NAME]"
                near = ", did you mean [defaults]?" if get_close_matches(key, [_DEFAULTS], 1) else ""
                self._fault((key,), f"there is no table {key!r}; known are {known}{near}")
        defaults = self._options((_DEFAULTS,), tables.get(_DEFAULTS, {}))
        found = tables.get(_CAMERAS, {})
        if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
            self._fault((_CAMERAS,), f"name each camera: [{_CAMERAS}.NAME]")
            return []
        if not 0 < len(found) <= _MOST_CAMERAS:
            self._fault((_CAMERAS,), f"there must be 1 to {_MOST_CAMERAS} cameras, [{_CAMERAS}.NAME], not {len(found)}")
            return []
        cameras = [camera for name in found if (camera := self._camera(name, found[name], defaults)) is not None]
        self._check_outputs(cameras)
        return cameras

    def _camera(self, name: str, table: dict[str, Any], defaults: dict[str, Any]) -> Camera | None:
        place = (_CAMERAS, name)
        if _NAME.fullmatch(name) is None:
            self._fault(place, f"the name {name!r} must be letters, digits, - and _, at most 64, for names of files")
            return None
        values = defaults | self._options(place, table) | self._fixed
        if not values.get(self._by_key["source"].path):
            self._fault(place, f"{name} has no source: add a line such as source = 'rtsp://HOST/PATH'")
            return None
        try:
            options = self._group.assemble(values)
        except OptionError as error:
            self._fault((*place, self._key_in(str(error), table)), f"{name}: {error}")
            return None
        self._check_parts(place, name, options)
        try:
            own = {self._by_key[key].name for key in table if key in self._by_key}
            return Camera(name, name_outputs(name, options, own=own))
        except OptionError as error:
            self._fault((*place, self._key_in(str(error), table)), f"{name}: {error}")
            return None

    def _options(self, place: tuple[str, ...], table: Any) -> dict[str, Any]:
        """The values of the fields that a table sets, by the paths of the options."""
        values: dict[str, Any] = {}
        if not isinstance(table, dict):
            self._fault(place, f"[{place[0]}] must be a table")
            return values
        for key, value in table.items():
            option = self._by_key.get(key)
            if option is None or key in _NOT_IN_FILE or (key == "source" and place == (_DEFAULTS,)):
                self._fault((*place, key), self._unknown(key))
                continue
            try:
                values[option.path] = _value(option, value)
            except OptionError as error:
                text = str(error)
                self._fault((*place, key), f"{key} {text}" if text.startswith("must") else text)
        return values

    def _unknown(self, key: str) -> str:
        if key in _NOT_IN_FILE:
            return f"{key} is not for single cameras: {_NOT_IN_FILE[key]}"
        if key == "source":
            return "each camera has a source of its own: move source into [camera.NAME]"
        bare = key.strip("-").replace("_", "-")
        near = [bare] if bare in self._by_key else get_close_matches(bare, self._by_key, 1)
        advice = f"did you mean {near[0]}?" if near else "see `rtseg stream --help` for all"
        return f"there is no option {key!r}: {advice}"

    def _check_parts(self, place: tuple[str, ...], name: str, options: StreamOptions) -> None:
        """Whether there are such a source and such a model."""
        for key, check in (
            ("model", lambda: find_model(options.model)),
            ("source", lambda: open_source(str(options.source), options.part)),
        ):
            try:
                check()
            except RtsegError as error:
                keys = (*place, key) if (*place, key) in self._lines else (_DEFAULTS, key)
                self._fault(keys, f"{name}: {error}")

    def _key_in(self, text: str, table: dict[str, Any]) -> str:
        """The key of ``table`` whose option a message names; an empty text if it names none."""
        named = re.findall(r"--([a-z-]+)", text)
        return next((key for key in named if key in table), "")

    def _check_outputs(self, cameras: list[Camera]) -> None:
        lower: dict[str, str] = {}
        for camera in cameras:
            other = lower.setdefault(camera.name.lower(), camera.name)
            if other != camera.name:
                self._fault((_CAMERAS, camera.name), f"{camera.name} and {other} would be one file on some systems")
        for end in range(1, len(cameras) + 1):
            try:
                refuse_shared_outputs({camera.name: camera.options for camera in cameras[:end]}, {})
            except OptionError as error:
                self._fault((_CAMERAS, cameras[end - 1].name), str(error))
                return


def _value(option: FieldOption, value: Any) -> Any:
    """The value of a field for one of the file. One text will do for a list of texts, and a number for a text."""
    if option.values.kind is str and type(value) in (int, float):
        value = str(value)
    if get_args(option.values.kind) and type(value) is str:
        value = [value]
    return option.value(option.typed(value))
