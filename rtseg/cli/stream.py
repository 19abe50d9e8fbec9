"""``rtseg stream``: segment a source and show or keep the result."""

from __future__ import annotations

from pathlib import Path

import typer

from rtseg.cli._options import (
    BACKEND,
    CACHE_GB,
    DEVICE,
    FILES,
    MODEL,
    PRECISION,
    PREFETCH_MB,
    PREPROCESS,
    SIZE,
    SSD_CACHE,
    STORAGE,
    STORAGE_TIMEOUT,
    parse_size,
)

__all__ = ["stream"]

_WHAT = "What to segment"
_RESULT = "Where the result goes"
_LOOK = "How it is drawn"


def stream(
    source: str = typer.Option(
        "demo",
        "--source",
        "-s",
        help="A video file or URL, camera:0, demo or demo:SECONDS, fringes:SECONDS; of images a folder, a glob, "
        "frame_%05d.png, paths.txt, or a URL of them (s3://, zip://, https://host/*.png ..).",
        rich_help_panel=_WHAT,
    ),
    model: str = MODEL,
    backend: str = BACKEND,
    precision: str = PRECISION,
    device: str = DEVICE,
    size: str = SIZE,
    preprocess: str = PREPROCESS,
    preset: str = typer.Option(
        "",
        help="fringes: what 3072x3072 interferograms want. Unless given, the source is fringes:2, which is drawn, the "
        "size 1024x1024, the steps resize, background and CLAHE; the background is made of the source, into "
        "<source name>-background.png, or taken from there.",
        rich_help_panel=_WHAT,
    ),
    start: float = typer.Option(0.0, help="Skip so many seconds.", rich_help_panel=_WHAT),
    duration: float | None = typer.Option(
        None, help="Length of the part to read, in seconds; --loop repeats it.", rich_help_panel=_WHAT
    ),
    max_frames: int | None = typer.Option(None, help="Stop after so many frames.", rich_help_panel=_WHAT),
    stride: int = typer.Option(1, help="Take every n-th frame.", rich_help_panel=_WHAT),
    loop: bool = typer.Option(False, "--loop", help="Begin again at the end.", rich_help_panel=_WHAT),
    drop: str = typer.Option(
        "auto",
        help="auto: live sources drop frames they cannot wait with. always: play files at their own pace and drop. "
        "never: keep every frame.",
        rich_help_panel=_WHAT,
    ),
    playlists: bool = typer.Option(
        False,
        "--playlists",
        help="Allow .m3u8 and .mpd, which may name other files and hosts.",
        rich_help_panel=_WHAT,
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Video file (.mp4, .mkv, .mov), or null to keep nothing.",
        rich_help_panel=_RESULT,
    ),
    show: bool | None = typer.Option(
        None,
        "--show/--no-show",
        help="A window; on by default where a display answers.",
        rich_help_panel=_RESULT,
    ),
    masks: Path | None = typer.Option(None, help="Folder for class-id PNGs with a palette.", rich_help_panel=_RESULT),
    stats: Path | None = typer.Option(None, help="JSON-lines file of class shares.", rich_help_panel=_RESULT),
    report: Path | None = typer.Option(None, help="JSON file about the run.", rich_help_panel=_RESULT),
    view: str = typer.Option("overlay", help="overlay, mask, side or image.", rich_help_panel=_LOOK),
    alpha: float = typer.Option(0.5, help="Weight of the colours, 0 to 1.", rich_help_panel=_LOOK),
    legend: bool = typer.Option(
        False, "--legend/--no-legend", help="Names and live percentages.", rich_help_panel=_LOOK
    ),
    contours: bool = typer.Option(
        False, "--contours/--no-contours", help="Lines between classes.", rich_help_panel=_LOOK
    ),
    hide: list[str] = typer.Option([], help="A class that is not drawn; may be repeated.", rich_help_panel=_LOOK),
    decoder: str = typer.Option("cv2", help="cv2, pil, turbojpeg or torchvision.", rich_help_panel=FILES),
    prefetch_mb: int = PREFETCH_MB,
    storage: str = STORAGE,
    ssd_cache: Path | None = SSD_CACHE,
    cache_gb: float = CACHE_GB,
    on_error: str = typer.Option(
        "skip",
        help="skip: leave out images that cannot be used, and name them. stop: end at the first, or at one of "
        "another size.",
        rich_help_panel=FILES,
    ),
    storage_timeout: float = STORAGE_TIMEOUT,
    max_pixels: int = typer.Option(2**27, help="Images of more pixels are refused.", rich_help_panel=FILES),
    reduce: bool = typer.Option(
        False,
        "--reduce",
        help="Decode JPEGs at 1/2, 1/4 or 1/8 where the model's input is smaller by that; results shrink with them.",
        rich_help_panel=FILES,
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RESULT),
) -> None:
    """Segment a video, a camera or images, and show the result or write it.

    Without a display and without any output it writes <source name>-rtseg.mp4 into the working folder. Ctrl-C ends
    a run in good order.
    """
    from rtseg.app.presets import apply_preset
    from rtseg.app.stream import StreamOptions
    from rtseg.app.terminal import run_to_the_end
    from rtseg.image_io.options import ReadOptions
    from rtseg.preprocess import parse_steps
    from rtseg.sources.base import SourceOptions

    options = StreamOptions(
        source=source,
        model=model,
        backend=backend,
        precision=precision,
        device=device,
        size=parse_size(size) if size else None,
        preprocess=parse_steps(preprocess),
        part=SourceOptions(
            start_s=start,
            duration_s=duration,
            stride=stride,
            max_frames=max_frames,
            loop=loop,
            allow_playlists=playlists,
            reading=ReadOptions(
                decoder=decoder,
                prefetch_mb=prefetch_mb,
                storage=storage,
                ssd_cache=ssd_cache,
                cache_gb=cache_gb,
                on_error=on_error,
                timeout_s=storage_timeout,
                max_pixels=max_pixels,
                reduce=reduce,
            ),
        ),
        output=output,
        show=show,
        masks=masks,
        stats=stats,
        report=report,
        view=view,
        alpha=alpha,
        contours=contours,
        legend=legend,
        hide=tuple(hide),
        drop=drop,
    )
    if preset:
        options = apply_preset(preset, options, lambda line: None if quiet else print(line, flush=True))
    raise typer.Exit(run_to_the_end(options, quiet=quiet))
