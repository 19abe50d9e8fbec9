"""Which backend ``auto`` takes, and why. Without an NVIDIA driver that is settled before anything is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from rtseg.backends.base import BackendOptions
from rtseg.errors import BackendUnavailable
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import file_sha256
from rtseg.system.nvidia import find_driver

__all__ = ["Choice", "choose", "choose_for"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why that one."""

    name: str
    """A key of ``rtseg.backends.BACKENDS``."""
    reason: str
    """E.g. ``no NVIDIA driver``, or why each backend before this one cannot be taken."""
    engine: Path | None = None
    """The engine that TensorRT will run."""
    notice: str = ""
    """A sentence for the user where a GPU stays idle, or an engine that fits is not used; else empty."""


def choose(model: Path, options: BackendOptions) -> Choice:
    """What ``open_backend("auto", model)`` will open, unless that fails then.

    Args:
        model: a model file or an engine.
        options: how it is to be run.

    Raises:
        ModelError: the file is no model file.
        BackendUnavailable: a GPU is asked for, and there is no way to it.
    """
    if model.suffix == ".engine":
        return Choice("tensorrt", "the model is an engine", model)
    return choose_for(load_model(model), options)


def choose_for(model: ModelFile, options: BackendOptions, failed: Mapping[str, str] = _NOTHING) -> Choice:
    """``choose`` for a model file that is loaded, at the size at which it is to be run.

    Args:
        model: the file.
        options: how it is to be run.
        failed: what was chosen before and could not be opened, with why: it is not chosen again.

    Raises:
        BackendUnavailable: see ``choose``.
    """
    if options.device == "cpu":
        return Choice("openvino", "the CPU was asked for")
    if find_driver() is None:
        if options.device == "cuda":
            raise BackendUnavailable("no NVIDIA driver answers: install one, or use --device cpu")
        return Choice("openvino", "no NVIDIA driver")
    unopened = {name: f"{name} could not be opened: {why}" for name, why in failed.items()}
    engine, no_tensorrt = (None, unopened["tensorrt"]) if "tensorrt" in failed else _by_tensorrt(model, options)
    if engine is not None:
        return Choice("tensorrt", f"{engine} fits the model and the GPU", engine)
    no_torch = unopened.get("torch") or _by_torch(model, options)
    if no_torch is None:
        notice = f"torch takes the GPU, for {no_tensorrt}" if "tensorrt" in failed else ""
        return Choice("torch", f"a GPU, but {no_tensorrt}", notice=notice)
    reason = f"{no_tensorrt}; {no_torch}"
    if options.device == "cuda":
        raise BackendUnavailable(f"the GPU cannot be used: {reason}")
    return Choice("openvino", reason, notice=f"the GPU stays idle, for {reason}")


def _by_tensorrt(model: ModelFile, options: BackendOptions) -> tuple[Path | None, str]:
    """The engine that TensorRT would run, or why there is none."""
    from rtseg.backends.tensorrt.backend import PRECISIONS, fitting_engine, no_engine

    if options.precision not in ("auto", *PRECISIONS):
        return None, f"TensorRT does not compute in {options.precision}"
    if find_spec("pycuda") is None:
        return None, "pycuda is not installed (pip install 'rtseg[cuda]')"
    try:
        found = fitting_engine(file_sha256(model.path), model.spec.size, options.precision)
    except BackendUnavailable as error:
        return None, str(error)
    return found.path, no_engine(model, options.precision, found.reasons)


def _by_torch(model: ModelFile, options: BackendOptions) -> str | None:
    """Why torch cannot run the model on the GPU; None if it can."""
    if find_spec("torch") is None:
        return "torch is not installed"
    from rtseg.backends.torch import why_not_on_a_gpu

    return why_not_on_a_gpu(model.spec, options.precision)
