"""Options that several commands share, and their parsing."""

from __future__ import annotations

import re
from typing import Any

import typer

from rtseg.errors import OptionError

__all__ = [
    "BACKEND",
    "CACHE_GB",
    "DEVICE",
    "FILES",
    "MODEL",
    "PRECISION",
    "PREFETCH_MB",
    "PREPROCESS",
    "SIZE",
    "SSD_CACHE",
    "STORAGE",
    "STORAGE_TIMEOUT",
    "parse_numbers",
    "parse_range",
    "parse_size",
]

_PANEL = "What labels it"
FILES = "How files are read"

MODEL: Any = typer.Option(
    "icnet-camvid",
    "--model",
    "-m",
    help="A model file, the name of a bundled one, or an .engine file.",
    rich_help_panel=_PANEL,
)
BACKEND: Any = typer.Option(
    "auto",
    help="auto, openvino, onnxruntime, torch or tensorrt. auto: TensorRT where a GPU has an engine in engines/, else "
    "torch on a GPU, else openvino.",
    rich_help_panel=_PANEL,
)
PRECISION: Any = typer.Option(
    "auto",
    help="auto, fp32, bf16, fp16 (GPU), or int8 with recorded ranges (`rtseg calibrate`).",
    rich_help_panel=_PANEL,
)
DEVICE: Any = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_PANEL)
SIZE: Any = typer.Option(
    "",
    help="Input size of the model, HEIGHTxWIDTH in multiples of 32; its own unless given.",
    rich_help_panel=_PANEL,
)
PREPROCESS: Any = typer.Option(
    "",
    help="Steps in place of those that the model file names, e.g. resize,background:FILE,clahe:clip=2,tiles=8; "
    "resize alone: no other step.",
    rich_help_panel=_PANEL,
)

PREFETCH_MB: Any = typer.Option(256, help="Bound of what is read and decoded ahead.", rich_help_panel=FILES)
STORAGE: Any = typer.Option(
    "auto",
    help="hdd: one file after the other, also for mounts of other machines. ssd: many at once. auto: what the kernel "
    "knows of the disk, else what the first files show.",
    rich_help_panel=FILES,
)
SSD_CACHE: Any = typer.Option(
    None, help="Folder on an SSD for copies of what is read: the next pass takes them.", rich_help_panel=FILES
)
CACHE_GB: Any = typer.Option(20.0, help="Bound of that folder.", rich_help_panel=FILES)
STORAGE_TIMEOUT: Any = typer.Option(
    20.0, help="Longest wait, in seconds, for storage that gives no data.", rich_help_panel=FILES
)


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``HxW`` in pixels, e.g. ``384x640``.

    Raises:
        OptionError: the text is not of that form.
    """
    found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if found is None:
        raise OptionError(f"{option} wants HEIGHTxWIDTH in pixels, e.g. 384x640; got {text!r}")
    return int(found[1]), int(found[2])


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers with slashes between them, e.g. ``1/0.4/0.4``.

    Raises:
        OptionError: the text is not of that form.
    """
    try:
        return tuple(float(part) for part in text.split("/"))
    except ValueError as error:
        raise OptionError(f"{option} wants numbers with slashes between them, e.g. 1/0.4; got {text!r}") from error


def parse_range(text: str, option: str) -> tuple[float, float]:
    """Two numbers, least and greatest, e.g. ``0.5/2``.

    Raises:
        OptionError: the text is not of that form.
    """
    numbers = parse_numbers(text, option)
    if len(numbers) != 2:
        raise OptionError(f"{option} wants two numbers with a slash between them, e.g. 0.5/2; got {text!r}")
    return numbers[0], numbers[1]
