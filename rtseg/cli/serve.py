"""``rtseg serve``: show live results in a browser."""

from __future__ import annotations

from dataclasses import replace

import typer

from rtseg.app.options import StreamOptions
from rtseg.cli.messages import MessageOptions
from rtseg.errors import MissingExtra, OptionError
from rtseg.web.options import PageOptions

__all__ = ["serve"]

EXAMPLES = (
    "rtseg serve camera:0",
    "rtseg serve rtsp://camera.local/live --port 8000",
    "rtseg serve demo --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem",
)


def serve(
    page: PageOptions,
    options: StreamOptions,
    messages: MessageOptions,
    source: str | None = typer.Argument(
        None, metavar="SOURCE", show_default="the first camera", help="What to segment, as for `rtseg stream`."
    ),
) -> None:
    """Show the results in a browser, on a page to watch, measure and steer.

    Files are played at their own speed, with --loop again and again. The page is served to this machine only, unless
    --host says otherwise.
    """
    try:
        from rtseg.web.server import PageServer
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingExtra.for_feature("`rtseg serve`", error.name, "web") from error

    if source is not None and options.source not in (None, source):
        raise OptionError(f"SOURCE {source} and --source {options.source} differ: give one of them")
    options = replace(options, source=options.source if source is None else source)
    with PageServer([options], page) as server:
        if not messages.quiet:
            for run in server.sources:
                print(f"{run.name}: {run.spec.name} -> {', '.join(run.outputs)}")
            print(f"page: {server.address} (Ctrl-C ends)", flush=True)
        server.run()
