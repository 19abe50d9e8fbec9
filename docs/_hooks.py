"""MkDocs hook: write the command reference from the command line itself, so that the two cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from rtseg.cli import app

_MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the command reference; other pages stay as they are."""
    return markdown.replace(_MARK, "\n".join(_describe_all())) if page.file.src_uri == "commands.md" else markdown


def _describe_all() -> Iterator[str]:
    group: Any = get_command(app)
    context = group.make_context("rtseg", [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.resolve_command(context, [name])[1]  # imports the module of the command
        if hasattr(command, "list_commands"):
            inner = command.make_context(name, [], parent=context, resilient_parsing=True)
            for inner_name in command.list_commands(inner):
                yield from _describe(f"{name} {inner_name}", command.resolve_command(inner, [inner_name])[1])
        else:
            yield from _describe(name, command)


def _describe(name: str, command: Any) -> Iterator[str]:
    parameters = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    usage = " ".join(["rtseg", name, *map(_argument_usage, arguments), "[OPTIONS]"])
    yield from (f"## rtseg {name}", "", _plain(command.help or ""), "", f"    {usage}", "")
    if getattr(command, "examples", ()):
        yield from ("For example:", "", *(f"    {example}" for example in command.examples), "")
    panels: dict[str, list[Any]] = {"Arguments": arguments}
    for parameter in parameters:
        if parameter not in arguments and parameter.name != "help":
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
    for panel, members in panels.items():
        if members:
            yield from (f"**{panel}**", "", "| name | meaning |", "| --- | --- |", *map(_row, members), "")


def _argument_usage(argument: Any) -> str:
    name = f"{_argument_name(argument)}{' ...' if argument.nargs == -1 else ''}"
    return name if argument.required else f"[{name}]"


def _argument_name(argument: Any) -> str:
    return (argument.metavar or argument.name).upper().strip("[]{}.")


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{_argument_name(parameter)}`"
    else:
        names = " ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    meaning = _plain(parameter.help or "").replace("|", "\\|")
    default = parameter.default
    if parameter.required:
        meaning += " *Required.*"
    elif isinstance(default, str | int | float) and not isinstance(default, bool) and default != "":
        meaning += f" *Default: `{default}`.*"
    return f"| {names} | {meaning} |"


def _plain(text: str) -> str:
    """Help text as Markdown: paragraphs stay, everything else is running text."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b", "").replace("\f", "").strip())
    joined = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return re.sub(r"([<>*_])", r"\\\1", joined)
