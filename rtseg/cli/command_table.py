"""Which commands there are, and the group that imports the module of a command when it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["COMMANDS", "CommandGroup", "Entry"]

_RUN, _TRAIN, _DEPLOY, _MACHINE = "Label images", "Train", "Make models fast", "Look around"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command."""

    function: str
    """``module:function`` in this folder; empty for a group of commands."""
    help: str
    """One line for the list of commands."""
    panel: str | None = None
    """Heading in that list."""
    commands: dict[str, Entry] = field(default_factory=dict)


COMMANDS = {
    "stream": Entry("stream:stream", "Segment a video, a camera or a folder of images.", _RUN),
    "serve": Entry("serve:serve", "Show live results on a page in a browser.", _RUN),
    "predict": Entry("predict:predict", "Label single images.", _RUN),
    "config": Entry(
        "",
        "Check a file of cameras.",
        _RUN,
        {"check": Entry("config:check", "Check a file of cameras; print each fault with its line.")},
    ),
    "batch": Entry("batch:batch", "Label a library of videos, resumably.", _RUN),
    "background": Entry("background:background", "Average frames into a background image.", _RUN),
    "label": Entry("label:label", "Draw boxes on images to make training data.", _TRAIN),
    "data": Entry(
        "",
        "Get labelled images, and check them before training on them.",
        _TRAIN,
        {
            "check": Entry("data:check", "Read every image and mask, and list problems."),
            "get": Entry("data_get:get", "Download a public data set."),
        },
    ),
    "train": Entry("train:train", "Train a network on labelled images.", _TRAIN),
    "average": Entry("average:average", "Average the weights of checkpoints.", _TRAIN),
    "eval": Entry("evaluate:evaluate", "Measure how good the labels of a model are.", _TRAIN),
    "export": Entry("export:export", "Convert a checkpoint to a model file.", _DEPLOY),
    "import": Entry("import_model:import_model", "Make a model file of a network from elsewhere (ONNX).", _DEPLOY),
    "calibrate": Entry("calibrate:calibrate", "Record activation ranges for INT8.", _DEPLOY),
    "build-engine": Entry("build_engine:build_engine", "Build a TensorRT engine from a model file.", _DEPLOY),
    "verify": Entry("verify:verify", "Compare the labels of two models.", _DEPLOY),
    "models": Entry("models:models", "List the bundled models and the networks.", _MACHINE),
    "bench": Entry("bench:bench", "Measure how fast this machine is.", _MACHINE),
    "doctor": Entry("doctor:doctor", "Show what this machine has for rtseg.", _MACHINE),
}


class CommandGroup(TyperGroup):
    """A group that knows the names of its commands, and imports one when it is run or its help is asked for."""

    entries: dict[str, Entry]

    @classmethod
    def from_entries(cls, entries: dict[str, Entry]) -> type[CommandGroup]:
        """The class of a group with these commands."""
        return type("CommandGroup", (cls,), {"entries": entries})

    def __init__(self, **settings: Any) -> None:
        names = {
            name: TyperCommand(name, help=entry.help, rich_help_panel=entry.panel)
            for name, entry in self.entries.items()
        }
        super().__init__(**settings | {"commands": names})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the named command; there is none while the shell completes an unknown name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(str(name), self.entries[str(name)]) if command is not None else None, rest

    def invoke(self, ctx: Any) -> Any:
        """Report Ctrl-C where a command does not; some versions of typer print nothing."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Abort from interrupt


class _CommandWithExamples(TyperCommand):
    """A command whose help ends with examples, a line each: typer would wrap them."""

    examples: tuple[str, ...] = ()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print("\n".join([" Examples:", *(f"   {example}" for example in self.examples)]))


def _load(name: str, entry: Entry) -> Any:
    """Typer's object for a command."""
    if entry.commands:
        group = typer.Typer(cls=CommandGroup.from_entries(entry.commands), add_completion=False)
        group.callback(help=entry.help)(lambda: None)
        return typer.main.get_command(group)
    from importlib import import_module

    from rtseg.cli.option_groups import with_options

    module_name, _, function_name = entry.function.partition(":")
    module = import_module(f"rtseg.cli.{module_name}")
    function = getattr(module, function_name)
    paragraphs = (function.__doc__ or "").replace("[", r"\[").split("\n\n")
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name, cls=_CommandWithExamples, help="\n\n".join(" ".join(text.split()) for text in paragraphs))(
        with_options(function)
    )
    command = typer.main.get_command(app)
    command.examples = module.EXAMPLES  # type: ignore[attr-defined]
    return command
