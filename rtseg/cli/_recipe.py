"""Recipes: the options of ``rtseg build-engine``, in a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from rtseg.cli.option_groups import OptionGroup
from rtseg.deploy.options import EngineOptions
from rtseg.errors import OptionError

__all__ = ["read_recipe"]

_WORDS = {int: "a whole number", float: "a number"}


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of ``EngineOptions`` that a recipe sets. Paths in it are relative to the current folder.

    Raises:
        OptionError: the file cannot be read, is not TOML, names no model, or has a key that is not an option.
    """
    from rtseg.system.read_file import read_text

    try:
        recipe = tomllib.loads(read_text(path))
    except OSError as error:
        raise OptionError(
            f"{path} cannot be read ({error.strerror}): give a recipe, an .onnx file or a name"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not TOML ({error}): see engines/README.md") from error
    options = {option.key: option for option in OptionGroup(EngineOptions).options if option.key != "force"}
    values = {}
    for key, value in recipe.items():
        if key not in options:
            raise OptionError(f"{path} has the key {key!r}, which is not an option; known are {', '.join(options)}")
        kind = options[key].values.kind
        if type(value) not in {int: (int,), float: (int, float)}.get(kind, (str,)):
            raise OptionError(f"{path}: {key} must be {_WORDS.get(kind, 'text')}, got {value!r}")
        values[options[key].name] = options[key].value(kind(value))
    if "model" not in values:
        raise OptionError(f"{path} names no model: add a line such as model = 'icnet-camvid'")
    return values
