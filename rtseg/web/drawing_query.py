"""How a snapshot or an MJPEG stream is drawn, from the query of its address."""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from rtseg.errors import RtsegError
from rtseg.model_file.spec import ModelSpec
from rtseg.visualize.overlay import OverlayOptions

__all__ = ["PARAMETERS", "parse_drawing"]

PARAMETERS = {
    "view": {"type": "string", "enum": ["overlay", "mask", "side", "image"]},
    "alpha": {"type": "number", "minimum": 0, "maximum": 1},
    "contours": {"type": "boolean"},
    "legend": {"type": "boolean"},
    "hide": {"type": "string", "description": "Names of classes that are not drawn, separated by commas."},
}
"""Their JSON schemas."""


def parse_drawing(query: QueryParams, spec: ModelSpec) -> OverlayOptions:
    """Read the options.

    Raises:
        HTTPException: 400 if a value is wrong.
    """
    try:
        hidden = frozenset(spec.class_id(name) for name in query.get("hide", "").split(",") if name.strip())
        return OverlayOptions(
            query.get("view", "overlay"),
            float(query.get("alpha", "0.5")),
            _flag(query, "contours"),
            _flag(query, "legend"),
            hidden,
        )
    except (RtsegError, ValueError) as error:
        problem = str(error) if isinstance(error, RtsegError) else "alpha must be a number from 0 to 1"
        raise HTTPException(400, problem) from error


def _flag(query: QueryParams, name: str) -> bool:
    return query.get(name, "false").lower() in ("true", "1", "yes")
