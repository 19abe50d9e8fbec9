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
    "hide": {
        "type": "string",
        "description": "Classes that are not drawn, separated by commas. Can be repeated.",
    },
}
"""Their JSON schemas."""


def parse_drawing(query: QueryParams, spec: ModelSpec) -> OverlayOptions:
    """Read the options.

    Raises:
        HTTPException: 400 if a value is wrong.
    """
    try:
        hidden = frozenset(spec.class_id(name) for name in _names(query, spec))
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


def _names(query: QueryParams, spec: ModelSpec) -> list[str]:
    """The hidden classes. ``hide`` may be repeated; a comma may also be a part of a name."""
    values = query.getlist("hide")
    return [
        name for value in values for name in ([value] if value in spec.classes else value.split(",")) if name.strip()
    ]


def _flag(query: QueryParams, name: str) -> bool:
    return query.get(name, "false").lower() in ("true", "1", "yes")
