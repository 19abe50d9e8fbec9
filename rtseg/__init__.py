"""Real-time semantic segmentation of live video: a frame goes in, a class for every pixel comes out.

The names below are the public API. They are loaded when they are first used, so that ``import rtseg`` is quick and
needs no runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtseg.backends import Backend, open_backend
    from rtseg.errors import RtsegError
    from rtseg.frame import Frame
    from rtseg.overlay import Overlay, OverlayOptions
    from rtseg.pipeline import Pipeline
    from rtseg.sinks import Sink
    from rtseg.sources import Source, SourceOptions, open_source
    from rtseg.sources.reading import ReadOptions
    from rtseg.spec import ModelSpec
    from rtseg.stream import StreamOptions, StreamRun

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "Frame",
    "ModelSpec",
    "Overlay",
    "OverlayOptions",
    "Pipeline",
    "ReadOptions",
    "RtsegError",
    "Sink",
    "Source",
    "SourceOptions",
    "StreamOptions",
    "StreamRun",
    "__version__",
    "open_backend",
    "open_source",
]

_HOME = {
    "Backend": "backends",
    "Frame": "frame",
    "ModelSpec": "spec",
    "Overlay": "overlay",
    "OverlayOptions": "overlay",
    "Pipeline": "pipeline",
    "ReadOptions": "sources.reading",
    "RtsegError": "errors",
    "Sink": "sinks",
    "Source": "sources",
    "SourceOptions": "sources",
    "StreamOptions": "stream",
    "StreamRun": "stream",
    "open_backend": "backends",
    "open_source": "sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rtseg' has no attribute {name!r}")
    return getattr(import_module(f"rtseg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
