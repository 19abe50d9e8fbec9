"""Options classes as parameters of a command: one command-line option for each field that has an ``Option``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, get_args, get_type_hints

import typer

from rtseg.app.option_fields import FieldOption, OptionGroup
from rtseg.cli.messages import MessageOptions, log_to_stderr
from rtseg.option import Group

__all__ = ["GivenFields", "with_options"]

T = TypeVar("T")

GivenFields = frozenset[str]
"""As the type of a parameter of a command: the names of the fields that were set on the command line."""


def with_options(function: Callable[..., T]) -> Callable[..., T]:
    """Make a function into a command that Typer understands.

    Each parameter whose type is an options class is replaced by the options of that class; the function gets the
    object. The type may be annotated with a ``Group`` that leaves some out. All other parameters are passed to Typer
    as they are. One parameter must be ``MessageOptions``, which may also be given before the name of the command.
    """
    hints, declared = get_type_hints(function, include_extras=True), signature(function).parameters
    groups = {name: group for name in declared if (group := _group(hints[name], name)) is not None}
    (messages,) = [name for name in groups if hints[name] is MessageOptions]
    given = [name for name in declared if hints[name] == GivenFields]
    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name in sorted(declared.keys() - set(given), key=lambda name: (name == messages, [*declared].index(name))):
        own = declared[name].replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)
        parameters += map(_parameter, groups[name].options) if name in groups else [own]

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


def _group(hint: Any, name: str) -> OptionGroup | None:
    """The options of the class ``hint``, without those that a ``Group`` leaves out; None for another type."""
    kind, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if not isinstance(kind, type) or not is_dataclass(kind):
        return None
    left_out = [part for mark in marks if isinstance(mark, Group) for part in mark.without]
    return OptionGroup(kind, f"{name}__", tuple(left_out))


def _given(context: typer.Context, values: dict[str, Any]) -> GivenFields:
    sources = {name.rpartition("__")[2]: context.get_parameter_source(name) for name in values}
    return frozenset(name for name, source in sources.items() if source and source.name == "COMMANDLINE")


def _parameter(field: FieldOption) -> Parameter:
    """The option as Typer wants it."""
    option, values = field.option, field.values
    default = ... if field.default is MISSING else None if field.default is None else values.to_cli(field.default)
    text = f"{field.help} One of: {', '.join(option.choices)}." if option.choices else field.help
    common: dict[str, Any] = {
        "help": text.replace("[", r"\["),  # Typer reads brackets as markup
        "metavar": option.argument or option.metavar or values.metavar or None,
        "rich_help_panel": option.panel,
        "show_default": option.default or not (field.default in (MISSING, None, (), "") or field.default is False),
        "autocompletion": _completer(option.choices) if option.choices else None,
    }
    info = typer.Argument(default, **common) if option.argument else typer.Option(default, *field.flags, **common)
    kind = values.kind | None if field.default is None else values.kind
    return Parameter(field.path, Parameter.KEYWORD_ONLY, default=info, annotation=kind)


def _completer(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
