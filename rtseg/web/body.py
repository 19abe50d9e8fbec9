"""Reads what a request brings along, up to a limit in bytes and time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

__all__ = ["read_body", "read_json"]

_JSON_BYTES = 16_384
_TIMEOUT_S = 20.0


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body.

    Raises:
        HTTPException: 413 if it is larger than ``limit`` bytes, 408 if it does not come in time, 400 if it breaks off.
    """
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise HTTPException(413, f"the body must have at most {limit} bytes")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"the body must have at most {limit} bytes")
    except TimeoutError as error:
        raise HTTPException(408, "the body took too long") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body breaks off") from error
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body.

    Raises:
        HTTPException: there is none, or see ``read_body``.
    """
    body = await read_body(request, _JSON_BYTES)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body must be JSON") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return value
