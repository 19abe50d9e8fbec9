"""Options of regions, events and their destinations. Importing this loads no library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.events.rule import parse_rules
from rtseg.option import Option
from rtseg.regions.region import parse_regions
from rtseg.system.redact import redact

__all__ = ["EventOptions", "is_url"]

_PANEL = "Regions and events"
_SCHEMES = ("http", "https", "mqtt", "mqtts")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Regions of the frame, what is an event, and where events are sent.

    Raises:
        OptionError: a region or a rule cannot be read, or a destination is of an unknown kind.
    """

    roi: Annotated[tuple[str, ...], Option(_PANEL, metavar="[NAME=]x,y,w,h|POLYGON")] = ()
    """Label only this part of the frame: x,y,width,height or x1,y1 x2,y2 x3,y3 ..., in pixels or percent. With a name,
    a region for --events and --stats, which limits nothing. Can be repeated."""
    rules: Annotated[tuple[str, ...], Option(_PANEL, ("--events",), metavar="RULE")] = ()
    """An event, e.g. "Pedestrian > 2% for 1s in gate". Can be repeated."""
    destinations: Annotated[tuple[str, ...], Option(_PANEL, ("--events-to",), metavar="FILE.jsonl|URL")] = ()
    """Where to send events: a file of JSON lines, a webhook (https://HOST/PATH) or an MQTT broker (mqtt://HOST). Those
    of a live source that goes offline or online are sent too. Can be repeated."""
    token: Annotated[
        Path | None, Option(_PANEL, ("--events-token",), metavar="FILE", default="RTSEG_EVENTS_TOKEN, if set")
    ] = None
    """File with a token for webhooks, sent as "Authorization: Bearer TOKEN"."""
    snapshots: Annotated[bool, Option(_PANEL)] = True
    """Send an image with each event that begins."""

    def __post_init__(self) -> None:
        parse_regions(self.roi)
        parse_rules(self.rules)
        for destination in self.destinations:
            match = _URL.match(destination)
            if match is not None and match[1].lower() not in _SCHEMES:
                raise OptionError(
                    f"--events-to {redact(destination)}: unknown scheme, give a file, https://, mqtt:// or mqtts://"
                )
            if match is None and Path(destination).suffix.lower() not in (".jsonl", ".ndjson"):
                raise OptionError(f"--events-to {redact(destination)} must be FILE.jsonl, https://HOST or mqtt://HOST")
        files = [destination for destination in self.destinations if not is_url(destination)]
        if len(set(files)) < len(files):
            raise OptionError(f"--events-to {files[-1]} is given twice: leave one out")

    @property
    def any_events(self) -> bool:
        """Whether there is anything to watch for."""
        return bool(self.rules or self.destinations)


def is_url(destination: str) -> bool:
    """Whether a destination is a URL and not a file."""
    return _URL.match(destination) is not None
