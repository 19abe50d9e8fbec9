"""Recipes: the options of ``rtseg build-engine``, in a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from rtseg.errors import OptionError

__all__ = ["read_recipe"]

_KEYS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "precision": (str,),
    "batch": (int,),
    "size": (str,),
    "runtime": (str,),
    "target": (str,),
    "timing-cache": (str,),
    "output": (str,),
    "data": (str,),
    "max-drop": (int, float),
}
_WORDS = {str: "text", int: "a whole number", float: "a number"}


def read_recipe(path: Path) -> dict[str, Any]:
    """The options that a recipe gives, by their names on the command line; paths are seen from the current folder.

    Raises:
        OptionError: there is no such file, it is not TOML, names no model, or has a key that is no option.
    """
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(
            f"{path} cannot be read ({error.strerror}): give a recipe, an .onnx file or a name"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not TOML ({error}): see engines/README.md") from error
    for key, value in recipe.items():
        if key not in _KEYS:
            raise OptionError(f"{path} has the key {key!r}, which is no option; known are {', '.join(_KEYS)}")
        if type(value) not in _KEYS[key]:
            raise OptionError(f"{path}: {key} must be {_WORDS[_KEYS[key][-1]]}, got {value!r}")
    if "model" not in recipe:
        raise OptionError(f"{path} names no model: give it a line such as model = 'icnet-camvid'")
    return recipe
