"""Lets those in who know the token."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rtseg.web.access import COOKIE, Access
from rtseg.web.body import read_json
from rtseg.web.guard import error_response

__all__ = ["log_in"]

_MONTH_S = 30 * 24 * 3600


async def log_in(request: Request, access: Access) -> Response:
    """Answer ``POST /api/login``: a JSON object with ``token``; the answer to the right one sets the cookie."""
    address = request.client.host if request.client else ""
    if access.failures.is_reached(address):
        return error_response(429, "too many wrong tokens: wait a minute")
    token = (await read_json(request)).get("token")
    if not isinstance(token, str) or not access.is_right_token(token):
        access.failures.count(address)
        return error_response(401, "this is not the token")
    response = JSONResponse({"ok": True})
    response.set_cookie(COOKIE, access.cookie, max_age=_MONTH_S, httponly=True, samesite="strict", secure=access.secure)
    return response
