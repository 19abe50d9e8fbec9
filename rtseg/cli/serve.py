"""``rtseg serve``: show live results in a browser."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from rtseg.app.options import StreamOptions
from rtseg.cli.many_sources import ConfigFile, SourceNames, name_sources
from rtseg.cli.messages import MessageOptions
from rtseg.cli.option_groups import GivenFields
from rtseg.errors import MissingExtra, OptionError
from rtseg.option import Group
from rtseg.web.options import PageOptions

__all__ = ["serve"]

EXAMPLES = (
    "rtseg serve camera:0",
    "rtseg serve rtsp://gate/live rtsp://yard/live --port 8000",
    "rtseg serve --config cameras.toml",
    "rtseg serve demo --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem",
)


def serve(
    page: PageOptions,
    options: Annotated[StreamOptions, Group(without=("source", "report", "metrics"))],
    messages: MessageOptions,
    given: GivenFields,
    sources: list[str] | None = typer.Argument(
        None, metavar="SOURCE", show_default="the first camera", help="What to segment, as for `rtseg stream`."
    ),
    source: SourceNames = None,
    config: ConfigFile = None,
) -> None:
    """Show the results in a browser, on a page to watch, measure and steer.

    Files are played at their own speed, with --loop again and again. The page is served to this machine only, unless
    --host says otherwise.
    """
    try:
        from rtseg.web.server import PageServer
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client"):
            raise
        raise MissingExtra.for_feature("`rtseg serve`", error.name, "web") from error
    from rtseg.app.cameras import load_cameras, name_cameras

    def say(line: str) -> None:
        if not messages.quiet:
            print(line, flush=True)

    named = name_sources(sources, source, config)
    if config is not None:
        load = partial(load_cameras, config, options, given)
        cameras, watched = load(), (config, load)
    else:
        cameras, watched = name_cameras(named or [_first_camera()], options), None
    with PageServer(cameras, page, watched, say) as server:
        if not messages.quiet:
            for run in server.sources:
                print(f"{run.name}: {run.spec.name}" + "".join(f" -> {output}" for output in run.outputs))
            print(f"page: {server.address} (Ctrl-C ends)", flush=True)
            if server.notice:
                print(server.notice, flush=True)
        if server.new_token is not None:  # apart from the address: what follows a # in an address is not printed
            print(f"token: {server.new_token}", flush=True)
        server.run()


def _first_camera() -> str:
    from rtseg.sources.camera import find_cameras

    cameras = find_cameras()
    if not cameras:
        raise OptionError(
            "no source is given and no camera was found: try `rtseg serve dashcam.mp4` or `rtseg serve demo`"
        )
    return f"camera:{cameras[0]}"
