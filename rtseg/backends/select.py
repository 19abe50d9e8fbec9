"""Which backend ``auto`` chooses, and why. Without an NVIDIA driver, no other runtime is imported."""

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
from rtseg.system.nvidia import driver_version

__all__ = ["Choice", "choose"]

_NONE_FAILED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen backend, and the reason."""

    name: str
    """A key of ``rtseg.backends.BACKENDS``."""
    reason: str
    """E.g. ``no NVIDIA driver``, or why each preferred backend cannot be used."""
    engine: Path | None = None
    """The engine that TensorRT will run."""
    notice: str = ""
    """A sentence for the user if a GPU or a matching engine is not used; empty otherwise."""


def choose(model: Path | ModelFile, options: BackendOptions, failed: Mapping[str, str] = _NONE_FAILED) -> Choice:
    """Choose the backend that ``open_backend("auto", model)`` tries to open.

    Args:
        model: a model file or an engine; or a loaded model file, at the size to run it at.
        options: how to run it.
        failed: backends that could not be opened, with the reasons. They are not chosen again.

    Raises:
        ModelError: the file is not a model file.
        BackendUnavailable: a GPU is requested, but no backend can use it.
    """
    if isinstance(model, Path):
        if model.suffix == ".engine":
            return Choice("tensorrt", "the model is an engine", model)
        model = load_model(model)
    if options.device == "cpu":
        return Choice("openvino", "the CPU was asked for")
    if driver_version() is None:
        if options.device == "cuda":
            raise BackendUnavailable("no NVIDIA driver found: install one, or use --device cpu")
        return Choice("openvino", "no NVIDIA driver")
    failures = {name: f"{name} could not be opened: {reason}" for name, reason in failed.items()}
    engine, no_tensorrt = (None, failures["tensorrt"]) if "tensorrt" in failed else _try_tensorrt(model, options)
    if engine is not None:
        return Choice("tensorrt", f"{engine} fits the model and the GPU", engine)
    no_torch = failures.get("torch") or _why_not_torch(model, options)
    if no_torch is None:
        notice = f"torch runs on the GPU: {no_tensorrt}" if "tensorrt" in failed else ""
        return Choice("torch", f"a GPU, but {no_tensorrt}", notice=notice)
    reason = f"{no_tensorrt}; {no_torch}"
    if options.device == "cuda":
        raise BackendUnavailable(f"the GPU cannot be used: {reason}")
    return Choice("openvino", reason, notice=f"the GPU is not used: {reason}")


def _try_tensorrt(model: ModelFile, options: BackendOptions) -> tuple[Path | None, str]:
    """Return the engine that TensorRT would run, or None and the reason why there is none."""
    from rtseg.backends.tensorrt.backend import PRECISIONS, find_matching_engine, no_engine_message

    if options.precision not in ("auto", *PRECISIONS):
        return None, f"TensorRT does not compute in {options.precision}"
    if find_spec("pycuda") is None:
        return None, "pycuda is not installed (pip install 'rtseg[cuda]')"
    try:
        match = find_matching_engine(file_sha256(model.path), model.spec.size, options.precision)
    except BackendUnavailable as error:
        return None, str(error)
    return match.path, no_engine_message(model, options.precision, match.reasons)


def _why_not_torch(model: ModelFile, options: BackendOptions) -> str | None:
    """Return why torch cannot run the model on the GPU; None if it can."""
    if find_spec("torch") is None:
        return "torch is not installed"
    from rtseg.backends.torch import why_not_on_gpu

    return why_not_on_gpu(model.spec, options.precision)
