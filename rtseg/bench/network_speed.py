"""Measure how fast a network runs on this machine: exported with random weights, in OpenVINO."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.image_io.decode import image_channels
from rtseg.model_file.spec import ModelSpec
from rtseg.models import channels_of, create_model
from rtseg.models.cost import compute_cost
from rtseg.models.figures import CLASSES, SIZE, NetworkFigures

__all__ = ["check_networks", "export_fresh", "frames_per_second", "measure"]

_ROUNDS = 3
_SECONDS = 2.0
"""Duration of one round."""
_MIN_IMAGES = 5
"""Time at least this many images: heavy networks take seconds for each."""
_IMAGES = 8


def check_networks(architectures: Iterable[str]) -> None:
    """Check all names first, so that a typo in the last one does not cost minutes.

    Raises:
        OptionError: a network or one of its options is unknown.
        MissingExtra: torch or torchvision is not installed.
    """
    for architecture in architectures:
        compute_cost(architecture, CLASSES, SIZE)


def measure(architecture: str) -> NetworkFigures:
    """Export a network with random weights, run it for some seconds, and count its parameters and operations.

    Args:
        architecture: see ``create_model``.

    Raises:
        OptionError: the network is unknown.
        MissingExtra: torch, torchvision or the exporter's package is not installed.
    """
    cost = compute_cost(architecture, CLASSES, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = export_fresh(architecture, Path(folder) / "fresh.onnx")
        with open_backend("openvino", path) as backend:
            fps = statistics.median(frames_per_second(backend, _SECONDS) for _ in range(_ROUNDS))
    return NetworkFigures(cost.parameters, cost.flops, fps)


def export_fresh(architecture: str, path: Path, size: tuple[int, int] = SIZE) -> Path:
    """Export a network with random weights, for ``CLASSES`` classes and images of ``size``, to the model file ``path``.

    The speed does not depend on the values of the weights.

    Raises:
        OptionError: the network is unknown.
        MissingExtra: torch, torchvision or the exporter's package is not installed.
    """
    from rtseg.deploy.export import export_network

    network = create_model(architecture, CLASSES)
    spec = ModelSpec(
        name=architecture,
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        palette=tuple((number, number, number) for number in range(CLASSES)),
        size=size,
        channels=image_channels(channels_of(architecture)),
        architecture=network.architecture,
    )
    export_network(network, spec, path)
    return path


def frames_per_second(backend: Backend, seconds: float) -> float:
    """Return (n - 1) / (last - first) over the times at which labels arrive, with ``depth`` images in flight.

    Args:
        backend: with nothing in flight. It is warmed up first.
        seconds: time at least this long.
    """
    spec = backend.spec
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *spec.size, spec.channels), dtype=np.uint8)
    in_flight: deque[Any] = deque()
    times: list[float] = []
    submitted, warm_up = 0, 2 * backend.depth
    while len(times) < warm_up + _MIN_IMAGES or times[-1] - times[warm_up] < seconds:
        while len(in_flight) < backend.depth:
            in_flight.append(backend.submit(images[submitted % _IMAGES][None]))
            submitted += 1
        backend.wait(in_flight.popleft())
        times.append(time.perf_counter())
    for ticket in in_flight:
        backend.wait(ticket)
    return (len(times) - 1 - warm_up) / (times[-1] - times[warm_up])
