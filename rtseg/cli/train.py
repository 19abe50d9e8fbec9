"""``rtseg train``: train a network on labelled images."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import (
    CACHE_GB,
    PREFETCH_MB,
    SSD_CACHE,
    STORAGE,
    STORAGE_TIMEOUT,
    parse_numbers,
    parse_range,
    parse_size,
)

__all__ = ["train"]

_DATA, _NETWORK, _AUGMENTATION, _RECIPE, _MACHINE = "Data", "Network", "Augmentation", "Recipe", "Machine"
"""Panels of the help."""


def train(
    data: list[str] = typer.Option(
        ...,
        "--data",
        "-d",
        help="KIND:PATH, e.g. camvid:FOLDER or synthetic:street,frames=40; may be repeated.",
        rich_help_panel=_DATA,
    ),
    output: Path = typer.Option(
        ..., "--output", "-o", help="Run folder: config, metrics, TensorBoard, best and last checkpoint."
    ),
    val_data: str = typer.Option(
        "", help="KIND:PATH to validate on; the first --data unless given.", rich_help_panel=_DATA
    ),
    model: str = typer.Option("icnet", "--model", "-m", help="Network; see `rtseg models`.", rich_help_panel=_NETWORK),
    pretrained: bool = typer.Option(
        False, "--pretrained", help="Begin with torchvision's published weights.", rich_help_panel=_NETWORK
    ),
    channels: int | None = typer.Option(
        None, help="Of the images: 1 (grey), 2, 3 (colour, the default) or 4.", rich_help_panel=_NETWORK
    ),
    init: Path | None = typer.Option(None, help="Checkpoint whose weights to begin with.", rich_help_panel=_NETWORK),
    size: str = typer.Option("384x640", help="HEIGHTxWIDTH of the model's input.", rich_help_panel=_NETWORK),
    crop: str = typer.Option("320x448", help="HEIGHTxWIDTH of training crops.", rich_help_panel=_AUGMENTATION),
    clip: int = typer.Option(
        4, help="Frames of an example, for a network that remembers.", rich_help_panel=_AUGMENTATION
    ),
    preprocess: list[str] = typer.Option(
        [],
        help="Steps before all else, in training as in the model, e.g. resize,background:FILE,clahe:clip=2,tiles=8; "
        "may be repeated, a step each.",
        rich_help_panel=_AUGMENTATION,
    ),
    scale: str = typer.Option(
        "0.5/2", help="Least and greatest scale, as a share of the model's input.", rich_help_panel=_AUGMENTATION
    ),
    stretch: float = typer.Option(
        1.25, help="Most that the aspect ratio is changed by, as a factor.", rich_help_panel=_AUGMENTATION
    ),
    flips: str = typer.Option("horizontal", help="horizontal, both or none.", rich_help_panel=_AUGMENTATION),
    rotation: float = typer.Option(0.0, help="Largest angle in degrees, up to 180.", rich_help_panel=_AUGMENTATION),
    colour: bool = typer.Option(True, help="Change brightness, contrast and colour.", rich_help_panel=_AUGMENTATION),
    epochs: int = typer.Option(150, rich_help_panel=_RECIPE),
    batch: int = typer.Option(8, help="Examples a step, of all processes together.", rich_help_panel=_RECIPE),
    loss: str = typer.Option(
        "ce", help="ce, asymmetric, ohem, dice, lovasz, or a sum such as ce+0.5*dice.", rich_help_panel=_RECIPE
    ),
    loss_weights: str = typer.Option(
        "", help="Of each output, e.g. 1/0.4/0.4; the network's own unless given.", rich_help_panel=_RECIPE
    ),
    class_weights: str = typer.Option("enet", help="none, enet or median.", rich_help_panel=_RECIPE),
    optimizer: str = typer.Option("adamw", help="adamw, adam or sgd.", rich_help_panel=_RECIPE),
    lr: float = typer.Option(1e-3, help="Highest learning rate.", rich_help_panel=_RECIPE),
    schedule: str = typer.Option("poly", help="How it falls: poly, cosine or step.", rich_help_panel=_RECIPE),
    weight_decay: float = typer.Option(0.01, rich_help_panel=_RECIPE),
    ema: float = typer.Option(0.998, help="Decay of the averaged weights.", rich_help_panel=_RECIPE),
    amp: str = typer.Option("bf16", help="bf16, fp16 or none.", rich_help_panel=_MACHINE),
    eval_every: int = typer.Option(5, help="Epochs between validations.", rich_help_panel=_RECIPE),
    seed: int = typer.Option(0, rich_help_panel=_RECIPE),
    workers: int = typer.Option(2, help="Processes that load and augment.", rich_help_panel=_MACHINE),
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_MACHINE),
    storage: str = STORAGE,
    prefetch_mb: int = PREFETCH_MB,
    ssd_cache: Path | None = SSD_CACHE,
    cache_gb: float = CACHE_GB,
    storage_timeout: float = STORAGE_TIMEOUT,
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint in the run folder."),
) -> None:
    """Train a network; the best and the last state are kept in the run folder.

    On several GPUs or machines: torchrun --nproc-per-node 4 -m rtseg train ...
    """
    from rtseg.errors import MissingExtra
    from rtseg.image_io.options import ReadOptions
    from rtseg.preprocess import parse_steps
    from rtseg.training.options import Augmentation, TrainOptions

    options = TrainOptions(
        data=tuple(data),
        output=output,
        val_data=val_data or None,
        model=model,
        pretrained=pretrained,
        channels=channels,
        init=init,
        size=parse_size(size),
        crop=parse_size(crop, "--crop"),
        clip=clip,
        preprocess=parse_steps(",".join(preprocess)) or (),
        augmentation=Augmentation(
            scale=parse_range(scale, "--scale"), stretch=stretch, flips=flips, rotation=rotation, colour=colour
        ),
        epochs=epochs,
        batch=batch,
        loss=loss,
        loss_weights=parse_numbers(loss_weights, "--loss-weights") if loss_weights else None,
        class_weights=class_weights,
        optimizer=optimizer,
        lr=lr,
        schedule=schedule,
        weight_decay=weight_decay,
        ema=ema,
        amp=amp,
        eval_every=eval_every,
        seed=seed,
        workers=workers,
        reading=ReadOptions(
            storage=storage,
            prefetch_mb=prefetch_mb,
            ssd_cache=ssd_cache,
            cache_gb=cache_gb,
            timeout_s=storage_timeout,
        ),
        device=device,
        resume=resume,
    )
    try:
        from rtseg.training import train as loop
        from rtseg.training.checkpoint import LAST
    except ModuleNotFoundError as error:
        raise MissingExtra.of("training", error.name, "train") from error
    try:
        loop.train(options)
    except KeyboardInterrupt:
        go_on = f"go on with the same command and --resume (state in {output / LAST})"
        print(f"stopped; {go_on if (output / LAST).exists() else 'no epoch was finished, so begin again'}")
        raise typer.Exit(130) from None
