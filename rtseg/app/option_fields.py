"""The fields of options classes that users set: on the command line, in recipes and in cameras.toml."""

from __future__ import annotations

import ast
from dataclasses import MISSING, Field, dataclass, fields
from inspect import cleandoc, getsource
from itertools import pairwise
from pathlib import Path
from sys import modules
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from rtseg.app.option_values import VALUES, Values
from rtseg.errors import OptionError
from rtseg.option import Group, Option

__all__ = ["FieldOption", "OptionGroup"]

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts"}
_MAX_INTEGER = 2**53
"""Larger whole numbers are not exact as floats, or no floats at all."""


@dataclass(frozen=True, slots=True)
class FieldOption:
    """One field that is set by one option."""

    name: str
    path: str
    """The name with those of the groups before it: the name of Typer's parameter."""
    help: str
    option: Option
    default: Any
    """``MISSING`` where the user must give a value."""
    is_optional: bool
    values: Values

    @property
    def key(self) -> str:
        """The long flag without its dashes, or the name of an argument in small letters; as in a recipe."""
        return (self.flags or (self.option.argument.lower(),))[0].removeprefix("--").partition("/")[0]

    @property
    def flags(self) -> tuple[str, ...]:
        """E.g. ``--size``; none for an argument."""
        option, default_flag = self.option, f"--{self.name.replace('_', '-')}"
        if option.argument:
            return ()
        if option.flags or self.values.kind is not bool or self.default is False:
            return option.flags or (default_flag,)
        return (f"{default_flag}/--no-{default_flag[2:]}",)

    def typed(self, value: Any) -> Any:
        """A value of a TOML file, of the type that ``value`` takes.

        Raises:
            OptionError: it is of another type; the text does not name the option.
        """
        kind = self.values.kind
        word = list if get_args(kind) else kind
        if not _has_type(value, word):
            raise OptionError(f"must be {_WORDS.get(word, 'text')}, got {value!r}")
        return value if word in (list, bool) else kind(value)

    def value(self, given: Any) -> Any:
        """Of the field, for what Typer read."""
        if self.is_optional and given in (None, "", [], [""]):
            return None
        name = self.flags[-1] if self.flags else self.option.argument
        if isinstance(given, int) and abs(given) > _MAX_INTEGER:
            raise OptionError(f"{name} is too large: give a number of at most {len(str(_MAX_INTEGER)) - 1} digits")
        return self.values.parse(given, name)


class OptionGroup:
    """An options class, and the groups within it."""

    def __init__(self, kind: type[Any], path: str = "", without: tuple[str, ...] = ()) -> None:
        self._kind = kind
        self._members: dict[str, FieldOption | OptionGroup] = {}
        hints, texts = get_type_hints(kind, include_extras=True), _field_texts(kind)
        for field in fields(kind):
            hint, name = hints[field.name], f"{path}{field.name}"
            for mark in getattr(hint, "__metadata__", ()):
                if isinstance(mark, Group):
                    self._members[field.name] = OptionGroup(get_args(hint)[0], f"{name}__", mark.without)
                elif isinstance(mark, Option) and field.name not in without:
                    self._members[field.name] = _field_option(field, name, get_args(hint)[0], mark, texts)

    @property
    def options(self) -> list[FieldOption]:
        """All options, with those of groups within this one."""
        members = self._members.values()
        return [option for each in members for option in (each.options if isinstance(each, OptionGroup) else [each])]

    def build(self, given: dict[str, Any]) -> Any:
        """The options object for what Typer read, by the paths of the options."""
        return self.assemble({option.path: option.value(given[option.path]) for option in self.options})

    def assemble(self, values: dict[str, Any]) -> Any:
        """The options object for values of fields by the paths of the options; the others have their defaults."""
        members = {
            name: member.assemble(values) if isinstance(member, OptionGroup) else values[member.path]
            for name, member in self._members.items()
            if isinstance(member, OptionGroup) or member.path in values
        }
        return self._kind(**members)

    def values_of(self, options: Any) -> dict[str, Any]:
        """The values of the fields of an options object, by the paths of the options."""
        values: dict[str, Any] = {}
        for name, member in self._members.items():
            value = getattr(options, name)
            values |= member.values_of(value) if isinstance(member, OptionGroup) else {member.path: value}
        return values


def _field_option(field: Field[Any], path: str, kind: Any, option: Option, texts: dict[str, str]) -> FieldOption:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    alternatives = get_args(kind) if not isinstance(kind, type) and get_origin(kind) is not tuple else (kind,)
    plain = next(one for one in alternatives if one is not NoneType)
    text = option.help or texts.get(field.name, "")
    return FieldOption(field.name, path, text, option, default, NoneType in alternatives, _values_for(plain, option))


def _field_texts(kind: type[Any]) -> dict[str, str]:
    """The first paragraph of the text below each field of a class, read from its source; nothing without a source."""
    try:
        module = ast.parse(getsource(modules[kind.__module__]))
    except OSError:
        return {}
    (body,) = [node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
    texts = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            paragraph = cleandoc(str(text.value.value)).partition("\n\n")[0]
            texts[ast.unparse(field.target)] = " ".join(paragraph.replace("``", "").split())
    return texts


def _values_for(kind: Any, option: Option) -> Values:
    if option.parse:
        return VALUES[option.parse]
    if get_origin(kind) is not tuple:
        return Values(kind)
    if kind in VALUES:
        return VALUES[kind]
    is_path = get_args(kind)[0] is Path
    return Values(list[Path] if is_path else list[str], to_cli=list, parse=lambda given, option: tuple(given))


def _has_type(value: Any, kind: Any) -> bool:
    if kind is list:
        return isinstance(value, list) and all(type(part) is str for part in value)
    return type(value) in {int: (int,), float: (int, float), bool: (bool,)}.get(kind, (str,))
