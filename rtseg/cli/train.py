"""``rtseg train``: train a network on labelled images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from rtseg.cli._recipe import recipe_defaults
from rtseg.cli.messages import MessageOptions, open_console
from rtseg.errors import MissingExtra
from rtseg.training.options import TrainOptions

__all__ = ["train"]

EXAMPLES = (
    "rtseg train --data camvid:CamVid --output runs/camvid",
    "rtseg train --data pairs:images,masks,classes=road+car --output runs/mine --pretrained",
    "rtseg train --recipe recipes/icnet-camvid.toml",
    "torchrun --nproc-per-node 4 -m rtseg train --data camvid:CamVid --output runs/camvid",
)


def _apply(context: typer.Context, recipe: Path | None) -> Path | None:
    """Make the values of the recipe the defaults of the other options, before these are read."""
    if recipe is not None:
        context.default_map = recipe_defaults(recipe, TrainOptions, "options")
    return recipe


def train(
    options: TrainOptions,
    messages: MessageOptions,
    recipe: Path | None = typer.Option(
        None,
        metavar="FILE.toml",
        callback=_apply,
        is_eager=True,
        help="Take options from this file, unless they are given here. A run that the folder holds is continued.",
    ),
) -> None:
    """Train a network. The run folder keeps the best and the last checkpoint.

    Use torchrun to train on several GPUs or machines.
    """
    from rtseg.training.data import LAST, open_data

    if recipe is not None and (options.output / LAST).exists():
        options = replace(options, resume=True)
    data = open_data(options)  # wrong data are refused before torch is loaded
    try:
        from rtseg.training import train as training
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("training", error.name, "train") from error
    try:
        training.train(options, open_console(quiet=True) if messages.quiet else None, data)
    except KeyboardInterrupt:
        last = options.output / LAST
        remedy = f"continue with the same command and --resume (state in {last})"
        print(f"stopped; {remedy if last.exists() else 'no epoch was finished, so start again'}")
        raise typer.Exit(130) from None
