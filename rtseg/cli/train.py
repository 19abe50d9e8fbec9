"""``rtseg train``: train a network on labelled pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import parse_size

__all__ = ["train"]


def train(
    data: list[str] = typer.Option(
        ...,
        "--data",
        "-d",
        help="KIND:PATH, e.g. camvid:FOLDER or synthetic:street,frames=40; may be repeated.",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Run folder: config, metrics, best.pt and last.pt."),
    val_data: str = typer.Option("", help="KIND:PATH to validate on; the first --data unless given."),
    model: str = typer.Option("icnet", "--model", "-m", help="Network; see `rtseg models`."),
    init: Path | None = typer.Option(None, help="Checkpoint whose weights to begin with."),
    size: str = typer.Option("384x640", help="HEIGHTxWIDTH at which the network is validated."),
    crop: str = typer.Option("320x448", help="HEIGHTxWIDTH of training crops."),
    epochs: int = typer.Option(150),
    batch: int = typer.Option(8),
    optimizer: str = typer.Option("adamw", help="adamw or sgd."),
    lr: float = typer.Option(1e-3, help="Highest learning rate; falls by the poly schedule."),
    weight_decay: float = typer.Option(0.01),
    class_weights: str = typer.Option("enet", help="none, enet or median."),
    ema: float = typer.Option(0.998, help="Decay of the averaged weights."),
    amp: str = typer.Option("bf16", help="bf16 or none."),
    eval_every: int = typer.Option(5, help="Epochs between validations."),
    seed: int = typer.Option(0),
    workers: int = typer.Option(2, help="Processes that load and augment."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    resume: bool = typer.Option(False, "--resume", help="Go on from last.pt in the run folder."),
) -> None:
    """Train a network; the best and the last state are kept in the run folder."""
    from rtseg.errors import MissingExtra
    from rtseg.training.options import TrainOptions

    options = TrainOptions(
        data=tuple(data),
        output=output,
        val_data=val_data or None,
        model=model,
        init=init,
        size=parse_size(size),
        crop=parse_size(crop, "--crop"),
        epochs=epochs,
        batch=batch,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        class_weights=class_weights,
        ema=ema,
        amp=amp,
        eval_every=eval_every,
        seed=seed,
        workers=workers,
        device=device,
        resume=resume,
    )
    try:
        from rtseg.training import loop
    except ModuleNotFoundError as error:
        raise MissingExtra.of("training", error.name, "train") from error
    try:
        scores = loop.train(options)
    except KeyboardInterrupt:
        print(f"stopped; go on with the same command and --resume (state in {output}/last.pt)")
        raise typer.Exit(130) from None
    print(f"best validation mIoU {100 * scores.miou:.2f} %, in {output}/best.pt")
