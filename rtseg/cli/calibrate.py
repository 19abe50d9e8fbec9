"""``rtseg calibrate``: record what an INT8 model is built from."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import CACHE_GB, PREFETCH_MB, PREPROCESS, SSD_CACHE, STORAGE, STORAGE_TIMEOUT

__all__ = ["calibrate"]


def calibrate(
    model: str = typer.Argument(..., metavar="MODEL", help="A model file, or the name of a bundled one."),
    data: str = typer.Option(..., "--data", "-d", help="KIND:PATH of images like those that the model will see."),
    split: str = typer.Option("train", help="Split of the data; not one that is judged on later."),
    method: str = typer.Option("percentile", help="minmax, entropy or percentile."),
    frames: int = typer.Option(300, help="Images to record on, spread evenly over the data."),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file; calib/<model>.json unless given."),
    save_model: Path | None = typer.Option(None, help="File (.onnx) for the quantised graph as well."),
    verify_data: str | None = typer.Option(
        None, help="KIND:PATH of the images that judge; some of --data that are not recorded on unless given."
    ),
    preprocess: str = PREPROCESS,
    storage: str = STORAGE,
    prefetch_mb: int = PREFETCH_MB,
    ssd_cache: Path | None = SSD_CACHE,
    cache_gb: float = CACHE_GB,
    storage_timeout: float = STORAGE_TIMEOUT,
) -> None:
    """Record activation ranges for --precision int8, and prove them.

    What costs too much accuracy in INT8 is found and left in float, until at most 0.5 points of mIoU are lost on
    images that were not recorded on. Exit code 1: that cannot be had, nothing was written.
    """
    from rich.console import Console
    from rich.progress import Progress

    from rtseg.deploy.calibrate import CalibrateOptions
    from rtseg.deploy.calibrate import calibrate as run
    from rtseg.image_io.options import ReadOptions
    from rtseg.preprocess import parse_steps

    steps = parse_steps(preprocess)
    reading = ReadOptions(
        storage=storage,
        prefetch_mb=prefetch_mb,
        ssd_cache=ssd_cache,
        cache_gb=cache_gb,
        timeout_s=storage_timeout,
    )
    options = CalibrateOptions(model, data, split, method, frames, output, save_model, verify_data, steps, reading)
    console = Console(markup=False, emoji=False, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading")
        done = run(
            options,
            lambda phase, now, total: progress.update(task, description=phase, completed=now, total=total),
            lambda line: progress.console.print(line, soft_wrap=True),
        )
    verdict = done.verdict
    console.print(
        f"wrote {done.path}: {done.ranges.model}, {done.ranges.method} on {done.ranges.data}, "
        f"{len(done.ranges.kept_nodes)} nodes left in float",
        soft_wrap=True,
    )
    drop = "" if verdict.drop is None else f", mIoU {-verdict.drop:+z.2f} points"
    console.print(
        f"labels agree on {100 * verdict.agreement:.2f} % of pixels{drop}: {verdict.judged_by}, on {verdict.data}",
        soft_wrap=True,
    )
