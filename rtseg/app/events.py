"""Opens what ``--events`` and ``--events-to`` ask for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from rtseg.app.drawing import open_overlay
from rtseg.app.options import StreamOptions
from rtseg.events.event_file import EventFile
from rtseg.events.options import EventOptions, is_url
from rtseg.events.outbox import Destination, Outbox
from rtseg.events.rule import Rule, parse_rules
from rtseg.events.watch import EventWatch
from rtseg.events.webhook import Webhook, read_token
from rtseg.frame import Frame, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.regions.masks import Regions
from rtseg.sinks.events import EventsSink
from rtseg.sources.base import Source
from rtseg.sources.supervisor import SupervisedSource
from rtseg.system.opencv import cv2

__all__ = ["event_files", "open_events"]

_JPEG_QUALITY: Final = 85
_LONGEST_SIDE: Final = 1280
_LINE_COLOUR: Final = (255, 255, 255)


def event_files(options: EventOptions) -> list[Path]:
    """The files that events are written to."""
    return [Path(destination) for destination in options.destinations if not is_url(destination)]


def open_events(
    stream: StreamOptions, source: Source, spec: ModelSpec, regions: Regions, *, shows_events: bool = False
) -> EventsSink | None:
    """The sink that watches for events and sends them; None if nobody asks for events.

    With ``shows_events`` there are snapshots even if events are sent nowhere.

    Raises:
        OptionError: a rule names a class or region that does not exist, or a destination cannot be used.
        MissingExtra: the package for MQTT is missing.
        SinkError: a file cannot be written.
    """
    options = stream.events
    if not options.any_events:
        return None
    rules = parse_rules(options.rules)
    has_viewers = options.destinations or shows_events
    snapshot = _snapshots(stream, spec, regions) if options.snapshots and has_viewers else None
    watch = EventWatch(
        rules,
        spec,
        regions,
        source=source.name,
        states=lambda: source.states if isinstance(source, SupervisedSource) and source.live else (),
        snapshot=snapshot or (lambda frame, labels, region: None),
    )
    token = read_token(options.token)
    found = [_destination(url, token, source, rules, spec) for url in options.destinations if is_url(url)]
    notices = [destination.notice for destination in found if isinstance(destination, Webhook) and destination.notice]
    with ExitStack() as opened:
        files = []
        for path in event_files(options):
            files.append(EventFile(path, overwrite=stream.overwrite))
            opened.callback(files[-1].close)
        sink = EventsSink(watch, files, [Outbox(destination) for destination in found], notices)
        opened.pop_all()
    return sink


def _destination(url: str, token: str, source: Source, rules: tuple[Rule, ...], spec: ModelSpec) -> Destination:
    if url.lower().startswith("http"):
        return Webhook(url, token)
    from rtseg.events.mqtt import MqttBroker  # its package is optional

    return MqttBroker(url, source.name, rules, model=spec.name)


def _snapshots(options: StreamOptions, spec: ModelSpec, regions: Regions) -> Callable[[Frame, Labels, str], bytes]:
    """A function that draws labels and the outline of a region, and encodes the image as JPEG.

    What is blurred or hidden in the outputs is so here too.
    """
    view = "overlay" if options.view in ("side", "mask") else options.view
    overlay = open_overlay(replace(options, view=view, legend=False), spec)

    def snapshot(frame: Frame, labels: Labels, region: str) -> bytes:
        image = overlay.draw(frame.image, labels)
        height, width = image.shape[:2]
        mask = regions.named(labels.shape).get(region)
        if mask is not None:
            outlines, _ = cv2.findContours(mask.inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            offset = np.array([mask.columns.start, mask.rows.start])
            thickness = max(1, round(height / 360))
            cv2.polylines(image, [outline + offset for outline in outlines], True, _LINE_COLOUR, thickness)
        scale = _LONGEST_SIDE / max(height, width)
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
        return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])

    return snapshot
