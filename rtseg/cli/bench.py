"""``rtseg bench``: how fast this machine is, and where the time goes."""

from __future__ import annotations

import typer

from rtseg.bench.options import BenchOptions
from rtseg.cli.messages import MessageOptions, open_console
from rtseg.errors import OptionError

__all__ = ["bench"]

EXAMPLES = (
    "rtseg bench --pipeline --source dashcam.mp4 --backends openvino,onnxruntime",
    "rtseg bench --storage ssd --storage hdd=/mnt/disk --output results",
    "rtseg bench --pipeline --output new --compare old/pipeline.json",
)


def bench(options: BenchOptions, messages: MessageOptions) -> None:
    """Measure how fast images are read from a storage (--storage), or how fast a clip is labelled (--pipeline).

    --storage compares storages, decoders and numbers of threads; --pipeline, or --backends, compares runtimes. Every
    figure is a median over rounds, with quartiles. Ctrl-C keeps what was measured. Files written for the measurement
    are removed afterwards.
    """
    from rtseg.app.existing_report import locked_results
    from rtseg.bench.run import ResultOptions
    from rtseg.bench.run import bench as run

    is_clip = options.pipeline or bool(options.backends)
    if bool(options.storage) == is_clip:
        given = "both are given" if is_clip else "neither is given"
        raise OptionError(f"bench measures --storage or --pipeline, and {given}: give one")
    outcome = ResultOptions(options.output, options.compare, options.max_regression, options.report)
    console = open_console(progress=not messages.quiet)
    kind, folder = "pipeline" if is_clip else "storage", options.output
    files = [folder / f"{kind}.json", folder / f"{kind}.png"] if folder is not None and folder.is_dir() else []
    with locked_results(options.report, overwrite=options.overwrite, others=[("--output", file) for file in files]):
        code = run(options.clip_options() if is_clip else options.storage_options(), outcome, console)
    raise typer.Exit(code)
