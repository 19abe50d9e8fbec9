"""Options classes as parameters of a command: one command-line option for each field that has an ``Option``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, cleandoc, getsource, signature
from itertools import pairwise
from pathlib import Path
from sys import modules
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from rtseg.cli.messages import MessageOptions, log_to_stderr
from rtseg.cli.parsing import VALUES, Values
from rtseg.errors import OptionError
from rtseg.option import Group, Option

__all__ = ["GivenFields", "OptionGroup", "with_options"]

T = TypeVar("T")

_MAX_INTEGER = 2**53
"""Larger whole numbers are not exact as floats, or no floats at all."""

GivenFields = frozenset[str]
"""As the type of a parameter of a command: the names of the fields that were set on the command line."""


def with_options(function: Callable[..., T]) -> Callable[..., T]:
    """Make a function into a command that Typer understands.

    Each parameter whose type is an options class is replaced by the options of that class; the function gets the
    object. All other parameters are passed to Typer as they are. One parameter must be ``MessageOptions``, which may
    also be given before the name of the command.
    """
    hints, declared = get_type_hints(function, include_extras=True), signature(function).parameters
    groups = {name: OptionGroup(hints[name], f"{name}__") for name in declared if is_dataclass(hints[name])}
    (messages,) = [name for name in groups if hints[name] is MessageOptions]
    given = [name for name in declared if hints[name] == GivenFields]
    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name in sorted(declared.keys() - set(given), key=lambda name: (name == messages, [*declared].index(name))):
        own = declared[name].replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)
        parameters += groups[name].parameters() if name in groups else [own]

    def command(context: typer.Context, **values: Any) -> T:
        before = context.find_root().params
        for option in groups[messages].options:
            values[option.path] = values[option.path] or before.get(option.name, values[option.path])
        arguments = {name: value for name, value in values.items() if name in declared}
        arguments[messages] = groups[messages].build(values)
        with log_to_stderr(arguments[messages], context.command_path, values):
            arguments |= {name: group.build(values) for name, group in groups.items() if name != messages}
            return function(**arguments, **dict.fromkeys(given, _given(context, values)))

    command.__doc__, command.__name__, command.__module__ = function.__doc__, function.__name__, function.__module__
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _given(context: typer.Context, values: dict[str, Any]) -> GivenFields:
    sources = {name.rpartition("__")[2]: context.get_parameter_source(name) for name in values}
    return frozenset(name for name, source in sources.items() if source and source.name == "COMMANDLINE")


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
        return (self.flags or (self.option.argument.lower(),))[0].removeprefix("--")

    @property
    def flags(self) -> tuple[str, ...]:
        """E.g. ``--size``; none for an argument."""
        option, default_flag = self.option, f"--{self.name.replace('_', '-')}"
        if option.argument:
            return ()
        if option.flags or self.values.kind is not bool or self.default is False:
            return option.flags or (default_flag,)
        return (f"{default_flag}/--no-{default_flag[2:]}",)

    def parameter(self) -> Parameter:
        """As Typer wants it."""
        option, values = self.option, self.values
        default = ... if self.default is MISSING else None if self.default is None else values.to_cli(self.default)
        text = f"{self.help} One of: {', '.join(option.choices)}." if option.choices else self.help
        common: dict[str, Any] = {
            "help": text.replace("[", r"\["),  # Typer reads brackets as markup
            "metavar": option.argument or option.metavar or values.metavar or None,
            "rich_help_panel": option.panel,
            "show_default": option.default or not (self.default in (MISSING, None, (), "") or self.default is False),
            "autocompletion": _completer(option.choices) if option.choices else None,
        }
        info = typer.Argument(default, **common) if option.argument else typer.Option(default, *self.flags, **common)
        kind = values.kind | None if self.default is None else values.kind
        return Parameter(self.path, Parameter.KEYWORD_ONLY, default=info, annotation=kind)

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

    def parameters(self) -> list[Parameter]:
        """One for each option."""
        return [option.parameter() for option in self.options]

    def build(self, given: dict[str, Any]) -> Any:
        """The options object for what Typer read."""
        values = {
            name: member.build(given) if isinstance(member, OptionGroup) else member.value(given[member.path])
            for name, member in self._members.items()
        }
        return self._kind(**values)


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


def _completer(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
