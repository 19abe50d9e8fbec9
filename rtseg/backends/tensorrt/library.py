"""TensorRT and TensorRT-RTX behind one name: which of them is here, and what they complain of.

Both have the same Python API as far as rtseg uses it. TensorRT comes with its vendor's index, needs a driver to build
and builds for the GPU in the machine; TensorRT-RTX comes with the package index and builds anywhere for any RTX GPU.
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
from rtseg.system.nvidia import find_driver

__all__ = ["RUNTIMES", "TensorRTLibrary", "captured_errors", "import_tensorrt", "logger_of", "plain"]

RUNTIMES = ("auto", "tensorrt", "rtx")
_MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
_OLDEST = (10, 12)
"""TensorRT proper before this has no strongly typed Q/DQ as rtseg writes it."""
_making = Lock()
_KEPT = 16
"""Complaints kept: the first ones name the cause, those after it its echoes."""


@dataclass(frozen=True, slots=True)
class TensorRTLibrary:
    """One of the two runtimes, imported."""

    module: Any
    """``tensorrt`` or ``tensorrt_rtx``."""
    name: str
    """``tensorrt`` or ``rtx``."""
    version: str
    """E.g. ``1.7.1.116``. An engine runs on the very version that built it, and on no other."""

    @property
    def title(self) -> str:
        """As a user calls it, e.g. ``TensorRT-RTX 1.7.1.116``."""
        return f"{_TITLES[self.name]} {self.version}"


def import_tensorrt(wanted: str = "auto") -> TensorRTLibrary:
    """Import TensorRT or TensorRT-RTX.

    Args:
        wanted: ``tensorrt``, ``rtx``, or ``auto``: TensorRT where it is installed and a driver is there, else RTX.

    Raises:
        OptionError: ``wanted`` is not known.
        BackendUnavailable: it is not installed, too old, or cannot be loaded; the text names the extra.
    """
    if wanted not in RUNTIMES:
        raise OptionError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {wanted!r}")
    if wanted != "auto":
        return _import(wanted)
    reasons = []
    for name in ("tensorrt", "rtx") if find_driver() is not None else ("rtx",):
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
    except OSError as error:  # the package is there, a library that it loads is not
        raise BackendUnavailable(f"{_TITLES[name]} cannot be loaded ({error}): {remedy}") from error
    version = str(module.__version__)
    if name == "tensorrt" and _numbers(version)[:2] < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise BackendUnavailable(f"TensorRT {version} is too old, rtseg needs {oldest} or newer: {remedy}")
    return TensorRTLibrary(module, name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def logger_of(module: ModuleType) -> Any:
    """The ``ILogger`` of a module, always the same one: it keeps what goes wrong, and prints nothing.

    TensorRT takes the first logger that it is given and ignores all others while anything made with it lives, so
    that a logger for every build would stay empty. Read it through ``captured_errors``.
    """
    with _making:
        return _made_logger(module)


@cache
def _made_logger(module: ModuleType) -> Any:

    class Collector(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: dict[int, list[str]] = {}

        def log(self, severity: Any, message: str) -> None:  # from any thread, also of TensorRT's own
            # Without a GPU it also says that it found none, at every turn: true, and the cause of nothing.
            if severity > module.ILogger.ERROR or "catchCudaError" in message:
                return
            for said in list(self.listeners.values()):
                if len(said) < _KEPT:
                    said.append(plain(message))

    return Collector()


@contextlib.contextmanager
def captured_errors(trt: TensorRTLibrary) -> Iterator[list[str]]:
    """What the runtime complains of within ``with``, each in a line without its source files.

    TensorRT does not tell which call a complaint is about: what it says of another thread's is among them.
    """
    listeners, said = logger_of(trt.module).listeners, list[str]()
    listeners[id(said)] = said
    try:
        yield said
    finally:
        del listeners[id(said)]


def plain(message: str) -> str:
    """``IBuilder::x: Error Code 1: Myelin ([a.cpp:3: f] Reason. In g at /h.cpp:4)`` -> ``Reason``."""
    text = " ".join(message.split())
    inner = re.search(r"Error Code \d+: [\w ]+ \((.*)\)$", text)
    text = inner[1] if inner else text
    text = re.sub(r"\[[\w.]+:[^]]*\] ?|\.? ?\bIn [\w:]+(\(\))? at \S+:\d+ ?", "", text)  # where in its source
    text = re.sub(r"^Assertion failed: \S.*?: (?=[A-Z])", "", text)
    return text.strip(" .()") if text.startswith("(") else text.strip(" .")
