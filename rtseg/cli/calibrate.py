"""``rtseg calibrate``: record what an INT8 model needs."""

from __future__ import annotations

from rtseg.cli.messages import MessageOptions, open_console
from rtseg.deploy.options import CalibrateOptions

__all__ = ["calibrate"]

EXAMPLES = (
    "rtseg calibrate icnet-camvid --data camvid:CamVid",
    "rtseg calibrate mine.onnx --data pairs:images,masks,classes=road+car --frames 100",
    "rtseg stream dashcam.mp4 --model mine.onnx --precision int8",
)


def calibrate(options: CalibrateOptions, messages: MessageOptions) -> None:
    """Record the activation ranges that --precision int8 needs, and measure the accuracy of the INT8 model.

    Layers that lose too much accuracy in INT8 stay in float, so that the model loses at most 0.5 points of mIoU on
    images that were not recorded on. Exit code 1: this cannot be reached, and nothing was written.
    """
    from rich.progress import Progress

    from rtseg.deploy.calibrate import calibrate as run

    console = open_console(quiet=messages.quiet)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading")
        done = run(
            options,
            lambda phase, now, total: progress.update(task, description=phase, completed=now, total=total),
            console.print,
        )
    verdict = done.verdict
    console.print(
        f"wrote {done.path}: {done.ranges.model}, {done.ranges.method} on {done.ranges.data}, "
        f"{len(done.ranges.kept_nodes)} nodes left in float"
    )
    drop = "" if verdict.drop is None else f", mIoU {-verdict.drop:+z.2f} points"
    console.print(
        f"labels agree on {100 * verdict.agreement:.2f} % of pixels{drop}: {verdict.judged_by}, on {verdict.data}"
    )
