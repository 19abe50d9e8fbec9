"""The API: what can be asked of the page, and told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rtseg.app.model_pool import ModelPool
from rtseg.app.prometheus import StreamMetrics
from rtseg.errors import RtsegError
from rtseg.system.redact import redact
from rtseg.web.body import read_json
from rtseg.web.clients import Clients
from rtseg.web.drawing_query import PARAMETERS, parse_drawing
from rtseg.web.openapi import Endpoint, describe
from rtseg.web.page_status import PageStatus
from rtseg.web.painting import BOUNDARY, Painter, mjpeg_parts
from rtseg.web.prediction import Prediction
from rtseg.web.recordings import find_recording, list_recordings
from rtseg.web.region_values import regions_from_json
from rtseg.web.source_run import SourceRun
from rtseg.web.sources import Sources
from rtseg.web.threads import WorkThreads

__all__ = ["Api"]

_HEALTHY_S = 5.0
"""An older newest frame of all sources counts as a fault."""
_Handler = Callable[[Request, SourceRun], Awaitable[Response]]


class Api:
    """The endpoints, with their description.

    Args:
        sources: of the page.
        pool: opens models for single images and other choices of a viewer.
        metrics: of all sources.
        models: names that a viewer may choose from.
        recordings: folder of the recordings that viewers start.
        clients: counts those who watch.
        status: of the page and all sources.
    """

    def __init__(
        self,
        sources: Sources,
        pool: ModelPool,
        metrics: StreamMetrics,
        models: Sequence[str],
        recordings: Path,
        clients: Clients,
        status: PageStatus,
    ) -> None:
        self._sources = sources
        self._painters: dict[str, Painter] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(metrics)
        self._models = list(models)
        self._recordings = recordings
        self._clients = clients
        self._status = status
        self._threads = WorkThreads()
        self._predict = Prediction(pool, self._threads)
        self._changing = asyncio.Lock()

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        change = {
            "model": {"type": "string", "enum": self._models},
            "propagate": {"type": "string", "pattern": "^(auto|off|[1-9][0-9]{0,2})$"},
        }
        record = {"on": {"type": "boolean"}}
        one = "/api/sources/{id}"
        return [
            Endpoint("GET", "/healthz", "Fails (503) when no frame came for 5 s.", self._health),
            Endpoint("GET", "/metrics", "Figures for Prometheus.", self._show_metrics),
            Endpoint("GET", "/api/status", "State and figures of all sources.", self._show_status),
            Endpoint("GET", one, "All about one source.", self._for_one(self._details), query=_DETAILS),
            Endpoint("PATCH", one, "Go on with other options.", self._for_one(self._change), body=change),
            Endpoint("GET", f"{one}/events/{{number}}.jpg", "Image of an event.", self._for_one(self._event_image)),
            Endpoint("POST", f"{one}/recording", "Start or end a recording.", self._for_one(self._record), body=record),
            Endpoint("GET", f"{one}/class", "Class at a place.", self._for_one(self._name_class), query=_PLACE),
            Endpoint("PUT", f"{one}/regions", "Label only these.", self._for_one(self._set_regions), body=_REGIONS),
            Endpoint("GET", "/api/recordings", "Those that viewers started.", self._list_recordings),
            Endpoint("GET", "/api/recordings/{id}.mp4", "The file of one.", self._send_recording),
            Endpoint("POST", "/api/predict", "Label one image.", self._label, upload=True, query=_PREDICT_QUERY),
            Endpoint("GET", "/snapshot/{id}.jpg", "The newest image.", self._for_one(self._snapshot), query=PARAMETERS),
            Endpoint("GET", "/stream/{id}.mjpg", "All images.", self._for_one(self._stream), query=PARAMETERS),
        ]

    def routes(self) -> list[Route]:
        """For Starlette."""
        endpoints = self.endpoints()
        description = describe(endpoints)

        async def show(request: Request) -> Response:
            return JSONResponse(description)

        routes = [Route(each.path, each.handler, methods=[each.method]) for each in endpoints]
        return [*routes, Route("/api/openapi.json", show)]

    def _for_one(self, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            source = self._sources.get(request.path_params["id"])
            if source is None:
                raise HTTPException(404, "there is no such source")
            return await handler(request, source)

        return handle

    async def _health(self, request: Request) -> Response:
        ages = [source.frame_age_s for source in self._sources]
        age_s = min((age for age in ages if age is not None), default=math.inf)
        is_healthy = age_s <= _HEALTHY_S
        return JSONResponse({"healthy": is_healthy}, 200 if is_healthy else 503)

    async def _show_status(self, request: Request) -> Response:
        return JSONResponse(self._status.values)

    async def _show_metrics(self, request: Request) -> Response:
        text = await self._threads.run(generate_latest, self._registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _event_image(self, request: Request, source: SourceRun) -> Response:
        number = request.path_params["number"]
        event = source.recent_events().get(int(number[:9])) if number.isdecimal() else None
        if event is None or event.snapshot is None:
            raise HTTPException(404, "there is no such image")
        return Response(event.snapshot, media_type="image/jpeg")

    async def _details(self, request: Request, source: SourceRun) -> Response:
        details = await self._threads.run(source.details)
        if request.query_params.get("history") == "false":
            del details["history"]
        return JSONResponse({**details, "models": self._models})

    async def _name_class(self, request: Request, source: SourceRun) -> Response:
        try:
            x, y = (float(request.query_params[name]) for name in _PLACE)
        except (KeyError, ValueError) as error:
            raise HTTPException(400, "x and y must be numbers from 0 to 1") from error
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise HTTPException(400, "x and y must be numbers from 0 to 1")
        return JSONResponse(source.class_at(x, y))

    async def _change(self, request: Request, source: SourceRun) -> Response:
        values = await read_json(request)
        model, propagate = values.pop("model", None), values.pop("propagate", None)
        if values or not all(value is None or isinstance(value, str) for value in (model, propagate)):
            raise HTTPException(400, "model and propagate can be changed, and are texts")
        if model is not None and model not in self._models:
            raise HTTPException(400, f"model must be one of {', '.join(self._models)}")
        async with self._changing:
            await self._refused_if_wrong(source.change, model=model, propagate=propagate)
        return JSONResponse(source.status())

    async def _record(self, request: Request, source: SourceRun) -> Response:
        values = await read_json(request)
        if not isinstance(values.get("on"), bool):
            raise HTTPException(400, "on must be true or false")
        await self._refused_if_wrong(source.start_recording if values["on"] else source.recorder.stop)
        return JSONResponse(source.status())

    async def _set_regions(self, request: Request, source: SourceRun) -> Response:
        values = await read_json(request)
        await self._refused_if_wrong(lambda: source.set_regions(regions_from_json(values.get("regions"))))
        return JSONResponse(await self._threads.run(source.details))

    async def _list_recordings(self, request: Request) -> Response:
        found = await self._refused_if_wrong(list_recordings, self._recordings)
        return JSONResponse({"recordings": [each.to_json() for each in found]})

    async def _send_recording(self, request: Request) -> Response:
        found = await self._refused_if_wrong(find_recording, self._recordings, request.path_params["id"])
        if found is None:
            raise HTTPException(404, "there is no such recording")
        return FileResponse(found.path, media_type="video/mp4", filename=found.path.name)

    async def _label(self, request: Request) -> Response:
        name = request.query_params.get("source")
        source = next(iter(self._sources), None) if name is None else self._sources.get(name)
        if source is None:
            raise HTTPException(404, "there is no such source")
        return JSONResponse(await self._predict(request, source))

    def _painter(self, source: SourceRun) -> Painter:
        painter = self._painters.get(source.id)
        if painter is None or painter.source is not source:
            painter = self._painters[source.id] = Painter(source)
        return painter

    async def _snapshot(self, request: Request, source: SourceRun) -> Response:
        options = parse_drawing(request.query_params, source.spec)
        jpeg = await self._refused_if_wrong(self._painter(source).paint, options)
        if jpeg is None:
            raise HTTPException(409, "no frame has come yet: try again soon")
        return Response(jpeg, media_type="image/jpeg")

    async def _stream(self, request: Request, source: SourceRun) -> Response:
        options = parse_drawing(request.query_params, source.spec)
        parts = self._clients.count(mjpeg_parts(source, self._painter(source), options, self._threads))
        if parts is None:
            raise HTTPException(503, "there are too many viewers")
        return StreamingResponse(parts, media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    async def _refused_if_wrong(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call ``function`` on a thread; an error of rtseg becomes the status 409."""
        try:
            return await self._threads.run(function, *arguments, **named)
        except RtsegError as error:
            raise HTTPException(409, redact(error)) from error


_POINT = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 2, "maxItems": 2}
_REGION = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "points": {"type": "array", "items": _POINT, "minItems": 3}},
    "required": ["points"],
}
_REGIONS = {"regions": {"type": "array", "items": _REGION}}
_PREDICT_QUERY = {"source": {"type": "string", "description": "The source whose model is used."}}
_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_PLACE = {"x": _FRACTION, "y": _FRACTION}
_DETAILS = {"history": {"type": "boolean", "description": "Whether the shares of the last ten minutes are sent too."}}
