"""The description of the API in the format of OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rtseg.version import __version__

__all__ = ["Endpoint", "describe"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    summary: str
    handler: Callable[[Request], Awaitable[Response]]
    query: dict[str, Any] = field(default_factory=dict)
    """JSON schema of each parameter of the query."""
    body: dict[str, Any] = field(default_factory=dict)
    """JSON schema of each property of the JSON object that is sent."""
    upload: bool = False
    """Whether an image file is sent."""


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the description of all endpoints, as JSON values."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    schemes = {
        "token": {"type": "http", "scheme": "bearer"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "rtseg"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "rtseg serve", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": schemes},
        "security": [{}, {"token": []}, {"cookie": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in endpoint.query.items()]
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {"200": {"description": "Done."}, "default": {"description": "An object with error, a text."}},
    }
    if endpoint.body:
        schema = {"type": "object", "properties": endpoint.body, "additionalProperties": False}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if endpoint.upload:
        schema = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": schema}}}
    return operation
