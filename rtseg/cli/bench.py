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
    from rtseg.app.existing_report import check_replaces_json
    from rtseg.bench.run import ResultOptions
    from rtseg.bench.run import bench as run

    is_clip = options.pipeline or bool(options.backends)
    if bool(options.storage) == is_clip:
        given = "both are given" if is_clip else "neither is given"
        raise OptionError(f"bench measures --storage or --pipeline, and {given}: give one")
    check_replaces_json(options.report)
    outcome = ResultOptions(options.output, options.compare, options.max_regression, options.report)
    console = open_console(progress=not messages.quiet)
    raise typer.Exit(run(options.clip_options() if is_clip else options.storage_options(), outcome, console))
