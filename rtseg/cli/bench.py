"""``rtseg bench``: how fast this machine is, and where its time goes."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import BACKEND, DEVICE, MODEL, PRECISION, PREPROCESS, parse_size
from rtseg.errors import OptionError

__all__ = ["bench"]

_STORAGE = "Storage: reading images"
_CLIP = "Pipeline: a clip through backends"
_MODEL = "What labels it"
_RESULT = "How it is measured, and where the result goes"
_SIZES = {"png": (3072, 3072), "jpg": (720, 1280)}
"""Of drawn images: those of the instrument, and of a camera."""
_WIDTH = 120
"""Of tables where no terminal says how wide it is."""


def bench(
    storage: list[str] = typer.Option(
        [], help="ssd, hdd, auto or e.g. ssd=/mnt/nvme; may be repeated.", rich_help_panel=_STORAGE
    ),
    simulate: bool = typer.Option(
        False, "--simulate", help="Read --storage hdd through a stated model of a disk.", rich_help_panel=_STORAGE
    ),
    data: Path | None = typer.Option(
        None, "--data", "-d", help="A folder of images; drawn ones unless given.", rich_help_panel=_STORAGE
    ),
    images: int = typer.Option(100, help="How many are drawn.", rich_help_panel=_STORAGE),
    size: str = typer.Option("", help="HEIGHTxWIDTH of those drawn.", rich_help_panel=_STORAGE),
    format_: str = typer.Option(
        "png", "--format", help="png: grey, 3072x3072 unless told. jpg: colour, 720x1280.", rich_help_panel=_STORAGE
    ),
    decoders: str = typer.Option(
        "", help="Of cv2,pil,turbojpeg,torchvision; all unless given.", rich_help_panel=_STORAGE
    ),
    workers: str = typer.Option("0,1,2,4,8", help="Numbers of threads to try.", rich_help_panel=_STORAGE),
    prefetch_mb: int = typer.Option(256, help="MB that may be read ahead.", rich_help_panel=_STORAGE),
    cache_folder: Path | None = typer.Option(
        None,
        help="Where the --ssd-cache of a hard disk lies; the folder for temporary files unless given.",
        rich_help_panel=_STORAGE,
    ),
    reading_only: bool = typer.Option(False, "--reading-only", help="Without any model.", rich_help_panel=_STORAGE),
    pipeline: bool = typer.Option(False, "--pipeline", help="Measure a clip.", rich_help_panel=_CLIP),
    source: str = typer.Option("demo", "--source", "-s", help="A video, images or demo.", rich_help_panel=_CLIP),
    backends: str = typer.Option(
        "", help="With commas, e.g. openvino,onnxruntime; --backend unless given.", rich_help_panel=_CLIP
    ),
    frames: int = typer.Option(200, help="Frames of a round.", rich_help_panel=_CLIP),
    model: str = MODEL,
    backend: str = BACKEND,
    precision: str = PRECISION,
    device: str = DEVICE,
    model_size: str = typer.Option(
        "", help="Input size of the model, HEIGHTxWIDTH in multiples of 32.", rich_help_panel=_MODEL
    ),
    preprocess: str = PREPROCESS,
    rounds: int = typer.Option(3, help="Everything is measured so many times, in turn.", rich_help_panel=_RESULT),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Folder for storage.json and .png, or pipeline.json and .png.",
        rich_help_panel=_RESULT,
    ),
    compare: Path | None = typer.Option(None, help="An older .json: print ratios.", rich_help_panel=_RESULT),
    max_regression: float = typer.Option(
        10.0, help="Exit with 1 where a figure is worse than in --compare by more percent.", rich_help_panel=_RESULT
    ),
) -> None:
    """Measure storage, decoders and workers (--storage), or a clip through backends (--pipeline, --backends).

    Every figure is a median over rounds, with quartiles. Ctrl-C keeps what was measured. What is written to be read is
    removed at the end.
    """
    from rich.console import Console

    from rtseg.bench.pipeline import ClipOptions
    from rtseg.bench.run import Outcome
    from rtseg.bench.run import bench as run
    from rtseg.bench.storage.image_sets import DrawnOptions
    from rtseg.bench.storage.run import StorageOptions
    from rtseg.bench.storage.targets import parse_places
    from rtseg.preprocess import parse_steps

    of_clip = pipeline or bool(backends)
    if bool(storage) == of_clip:
        given = "both are given" if of_clip else "neither is given"
        raise OptionError(f"bench measures --storage or --pipeline, and {given}: give one")
    wanted = parse_size(model_size, "--model-size") if model_size else None
    options: StorageOptions | ClipOptions
    if of_clip:
        options = ClipOptions(
            source=source,
            backends=_names(backends) or (backend,),
            model=model,
            precision=precision,
            device=device,
            model_size=wanted,
            preprocess=parse_steps(preprocess),
            frames=frames,
            rounds=rounds,
        )
    else:
        options = StorageOptions(
            places=tuple(parse_places(storage, simulate=simulate)),
            data=data,
            drawn=DrawnOptions(images, parse_size(size) if size else _SIZES.get(format_, (0, 0)), format_),
            decoders=_names(decoders),
            workers=_numbers(workers),
            rounds=rounds,
            prefetch_mb=prefetch_mb,
            cache=cache_folder,
            network=not reading_only,
            model=model,
            backend=backend,
            precision=precision,
            device=device,
            model_size=wanted,
            preprocess=parse_steps(preprocess),
        )
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    raise typer.Exit(run(options, Outcome(output, compare, max_regression), console))


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, each once.

    Raises:
        OptionError: the text is not of that form.
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise OptionError(
            f"--workers wants whole numbers with commas between them, e.g. 0,2,8; got {text!r}"
        ) from error
