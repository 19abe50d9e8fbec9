"""Real-time semantic segmentation of live video: a frame goes in, a class for every pixel comes out.

The names below are the public API. They are loaded when they are first used, so that ``import rtseg`` is quick and
needs no runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtseg.version import __version__

if TYPE_CHECKING:
    from rtseg.app.options import StreamOptions
    from rtseg.app.stream import StreamRun
    from rtseg.backends import open_backend
    from rtseg.backends.base import Backend
    from rtseg.deploy.export import export_checkpoint
    from rtseg.errors import RtsegError
    from rtseg.frame import Frame
    from rtseg.image_io.options import ReadOptions
    from rtseg.model_file.spec import ModelSpec
    from rtseg.pipeline.options import PropagationOptions
    from rtseg.pipeline.propagation import Propagator
    from rtseg.pipeline.runner import Pipeline
    from rtseg.sinks.base import Sink
    from rtseg.sinks.video import VideoSink
    from rtseg.sources import open_source
    from rtseg.sources.base import Source
    from rtseg.sources.options import SourceOptions
    from rtseg.training.options import TrainOptions
    from rtseg.training.train import train
    from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = [
    "Backend",
    "Frame",
    "ModelSpec",
    "Overlay",
    "OverlayOptions",
    "Pipeline",
    "PropagationOptions",
    "Propagator",
    "ReadOptions",
    "RtsegError",
    "Sink",
    "Source",
    "SourceOptions",
    "StreamOptions",
    "StreamRun",
    "TrainOptions",
    "VideoSink",
    "__version__",
    "export_checkpoint",
    "open_backend",
    "open_source",
    "train",
]

_HOME = {
    "Backend": "backends",
    "Frame": "frame",
    "ModelSpec": "model_file.spec",
    "Overlay": "visualize.overlay",
    "OverlayOptions": "visualize.overlay",
    "Pipeline": "pipeline.runner",
    "PropagationOptions": "pipeline.options",
    "Propagator": "pipeline.propagation",
    "ReadOptions": "image_io.options",
    "RtsegError": "errors",
    "Sink": "sinks",
    "Source": "sources",
    "SourceOptions": "sources",
    "StreamOptions": "app.options",
    "StreamRun": "app.stream",
    "TrainOptions": "training.options",
    "VideoSink": "sinks.video",
    "export_checkpoint": "deploy.export",
    "open_backend": "backends",
    "open_source": "sources",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rtseg' has no attribute {name!r}")
    return getattr(import_module(f"rtseg.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
