"""Recipes: the options of a command, in a TOML file. Keys are the long flags without their dashes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from rtseg.app.option_fields import FieldOption, OptionGroup
from rtseg.deploy.options import EngineOptions
from rtseg.errors import OptionError

__all__ = ["read_recipe", "recipe_defaults"]


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of ``EngineOptions`` that a recipe sets. Paths in it are relative to the current folder.

    Raises:
        OptionError: the file cannot be read, is not TOML, names no model, or has a key that is not an option.
    """
    options = {option.key: option for option in OptionGroup(EngineOptions).options if option.key != "force"}
    given = _read(path, options, "give a recipe, an .onnx file or a name", "engines/README.md")
    if "model" not in given:
        raise OptionError(f"{path} names no model: add a line such as model = 'icnet-camvid'")
    return {options[key].name: options[key].value(value) for key, value in given.items()}


def recipe_defaults(path: Path, kind: type[Any], parameter: str) -> dict[str, Any]:
    """The values that a recipe gives to the options of a command, by the names of Typer's parameters.

    Args:
        path: the recipe; paths in it are relative to the current folder.
        kind: the options class.
        parameter: the name of the command's parameter of that class.

    Raises:
        OptionError: the file cannot be read, is not TOML, or has a key that is not an option.
    """
    options = {option.key: option for option in OptionGroup(kind, f"{parameter}__").options}
    given = _read(path, options, "give a .toml file", "recipes/README.md")
    return {options[key].path: value for key, value in given.items()}


def _read(path: Path, options: dict[str, FieldOption], advice: str, manual: str) -> dict[str, Any]:
    """Return the values of the recipe by key, of the types that Typer reads."""
    from rtseg.system.read_file import read_text

    try:
        recipe = tomllib.loads(read_text(path))
    except OSError as error:
        raise OptionError(f"{path} cannot be read ({error.strerror}): {advice}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not TOML ({error}): see {manual}") from error
    values = {}
    for key, value in recipe.items():
        if key not in options:
            raise OptionError(f"{path} has the key {key!r}, which is not an option; known are {', '.join(options)}")
        try:
            values[key] = options[key].typed(value)
        except OptionError as error:
            raise OptionError(f"{path}: {key} {error}") from error
    return values
