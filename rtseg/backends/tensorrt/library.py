"""Imports TensorRT or TensorRT-RTX, and captures their error messages.

Both have the same Python API as far as rtseg uses it. TensorRT needs a driver to build engines, and builds for the GPU
of the machine. TensorRT-RTX builds engines for any RTX GPU, on any machine.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

from rtseg.errors import BackendUnavailable, OptionError
from rtseg.system.nvidia import driver_version

__all__ = ["RUNTIMES", "TensorRTLibrary", "captured_errors", "get_logger", "import_tensorrt", "strip_source_location"]

RUNTIMES = ("auto", "tensorrt", "rtx")
_MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
_MIN_VERSION = (10, 12)
"""Earlier versions of TensorRT do not support strongly typed Q/DQ as rtseg writes it."""
_logger_lock = Lock()
_MAX_ERRORS = 16
"""Errors kept per listener: the first name the cause, later ones only follow from it."""


@dataclass(frozen=True, slots=True)
class TensorRTLibrary:
    """One of the two runtimes, imported."""

    module: Any
    """``tensorrt`` or ``tensorrt_rtx``."""
    name: str
    """``tensorrt`` or ``rtx``."""
    version: str
    """E.g. ``1.7.1.116``. An engine runs only on the version that built it."""

    @property
    def title(self) -> str:
        """Name and version for messages, e.g. ``TensorRT-RTX 1.7.1.116``."""
        return f"{_TITLES[self.name]} {self.version}"


def import_tensorrt(runtime: str = "auto") -> TensorRTLibrary:
    """Import TensorRT or TensorRT-RTX.

    Args:
        runtime: ``tensorrt``, ``rtx``, or ``auto``: TensorRT if it and a driver are installed, else TensorRT-RTX.

    Raises:
        OptionError: ``runtime`` is unknown.
        BackendUnavailable: it is not installed, too old, or cannot be loaded; the text names the extra to install.
    """
    if runtime not in RUNTIMES:
        raise OptionError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if runtime != "auto":
        return _import(runtime)
    reasons = []
    for name in ("tensorrt", "rtx") if driver_version() is not None else ("rtx",):
        try:
            return _import(name)
        except BackendUnavailable as error:
            reasons.append(str(error))
    raise BackendUnavailable("; ".join(reasons))


def _import(name: str) -> TensorRTLibrary:
    remedy = f"pip install 'rtseg[{name}]'"
    try:
        module = import_module(_MODULES[name])
    except ImportError as error:
        raise BackendUnavailable(f"{_TITLES[name]} needs the package {_MODULES[name]!r}: {remedy}") from error
    except OSError as error:  # the package is installed, but a library that it loads is not
        raise BackendUnavailable(f"{_TITLES[name]} cannot be loaded ({error}): {remedy}") from error
    version = str(module.__version__)
    if name == "tensorrt" and _numbers(version)[:2] < _MIN_VERSION:
        minimum = ".".join(map(str, _MIN_VERSION))
        raise BackendUnavailable(f"TensorRT {version} is too old, rtseg needs {minimum} or newer: {remedy}")
    return TensorRTLibrary(module, name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def get_logger(module: ModuleType) -> Any:
    """Return the only ``ILogger`` of a module. It collects errors for ``captured_errors`` and prints nothing.

    TensorRT uses the first logger that it is given and ignores all others while any of its objects exists. So a second
    logger, e.g. one for each build, would stay empty.
    """
    with _logger_lock:
        return _make_logger(module)


@cache
def _make_logger(module: ModuleType) -> Any:
    class Collector(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: dict[int, list[str]] = {}

        def log(self, severity: Any, message: str) -> None:  # called on any thread, also TensorRT's own
            # Without a GPU it repeats that it finds none, which is not the cause of any failure.
            if severity > module.ILogger.ERROR or "catchCudaError" in message:
                return
            for errors in list(self.listeners.values()):
                if len(errors) < _MAX_ERRORS:
                    errors.append(strip_source_location(message))

    return Collector()


@contextlib.contextmanager
def captured_errors(trt: TensorRTLibrary) -> Iterator[list[str]]:
    """Collect the errors that the runtime logs in the ``with`` block, one line each.

    TensorRT does not say which call an error belongs to, so errors of other threads are included.
    """
    listeners, errors = get_logger(trt.module).listeners, list[str]()
    listeners[id(errors)] = errors
    try:
        yield errors
    finally:
        del listeners[id(errors)]


def strip_source_location(message: str) -> str:
    """Shorten an error message of TensorRT to its reason, on one line.

    ``IBuilder::x: Error Code 1: Myelin ([a.cpp:3: f] Reason. In g at /h.cpp:4)`` -> ``Reason``."""
    text = " ".join(message.split())
    inner = re.search(r"Error Code \d+: [\w ]+ \((.*)\)$", text)
    text = inner[1] if inner else text
    text = re.sub(r"\[[\w.]+:[^]]*\] ?|\.? ?\bIn [\w:]+(\(\))? at \S+:\d+ ?", "", text)  # where in its source
    text = re.sub(r"^Assertion failed: \S.*?: (?=[A-Z])", "", text)
    return text.strip(" .()") if text.startswith("(") else text.strip(" .")
