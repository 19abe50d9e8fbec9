"""What runs a model file: one runtime a file, one contract for all.

A backend is two methods: ``submit`` a batch, ``wait`` for its labels. ``depth`` batches may be in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rtseg.backends.base import Backend, BackendOptions
from rtseg.errors import BackendError, BackendUnavailable, OptionError
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import ModelSpec, file_sha256

__all__ = ["BACKENDS", "Backend", "BackendOptions", "open_backend", "read_spec"]


BACKENDS: dict[str, tuple[str, str, str | None]] = {
    "openvino": ("rtseg.backends.openvino", "OpenVinoBackend", None),
    "onnxruntime": ("rtseg.backends.onnxruntime", "OnnxRuntimeBackend", "onnxruntime"),
    "torch": ("rtseg.backends.torch", "TorchBackend", "train"),
    "tensorrt": ("rtseg.backends.tensorrt.backend", "open_tensorrt", "tensorrt"),
}
"""Name -> (module, class or function, extra that brings the runtime)."""


_ENGINE = ".engine"
"""Suffix of what `rtseg build-engine` makes."""


def open_backend(name: str, model: str | Path, *, size: tuple[int, int] | None = None, **options: Any) -> Backend:
    """Load a model file. A runtime is imported only when it is asked for by name.

    Args:
        name: a key of ``BACKENDS``; or ``auto``: TensorRT where there is a GPU and an engine that fits, else torch
            where there is a GPU, else OpenVINO; each also where the one before cannot be opened. ``chosen`` of the
            backend says why.
        model: an ``.onnx`` file, the name of a bundled model, or an ``.engine`` file.
        size: (H, W) to run it at, in pixels, where that is not the size of the file.
        options: fields of ``BackendOptions``.

    Raises:
        OptionError: ``name`` or an option is not known, or the model cannot take ``size``.
        ModelError: the file is no model file.
        BackendUnavailable: the runtime is not installed, or cannot do what is asked on this machine.
        BackendError: the runtime failed, e.g. for want of memory.
    """
    from rtseg.weights import find_model

    if name != "auto" and name not in BACKENDS:
        raise OptionError(f"unknown backend {name!r}; known are auto, {', '.join(sorted(BACKENDS))}")
    wanted = BackendOptions(**options)
    path = find_model(model)
    if path.suffix == _ENGINE:
        return _open_engine(name, path, wanted, size)
    loaded = load_model(path)
    if size is not None and size != loaded.spec.size:
        from rtseg.model_file.input_size import at_size

        loaded = at_size(loaded, size)
    return _open(name, loaded, wanted) if name != "auto" else _open_chosen(loaded, wanted)


def read_spec(model: Path) -> ModelSpec:
    """What a model file or an engine says of itself.

    Raises:
        ModelError: it is neither.
    """
    if model.suffix != _ENGINE:
        return load_model(model).spec
    from rtseg.backends.tensorrt.engine_file import read_engine_facts

    return read_engine_facts(model).spec


def _open(name: str, model: ModelFile, options: BackendOptions) -> Backend:
    module, factory_name, extra = BACKENDS[name]
    try:
        factory: Callable[[ModelFile, BackendOptions], Backend] = getattr(import_module(module), factory_name)
    except ImportError as error:
        remedy = f"pip install 'rtseg[{extra}]'" if extra else "pip install --force-reinstall rtseg"
        raise BackendUnavailable(f"backend {name!r} needs {error.name or name!r}: {remedy}") from error
    backend = factory(model, options)
    backend.model_sha256 = file_sha256(model.path)
    return backend


def _open_chosen(model: ModelFile, options: BackendOptions) -> Backend:
    from rtseg.backends.select import choose_for

    failed: dict[str, str] = {}
    choice = choose_for(model, options)
    while True:
        try:
            backend = _open(choice.name, model, options)
        except BackendError as error:
            if choice.name == "openvino":
                raise
            failed[choice.name] = str(error)
            choice = choose_for(model, options, failed)
        else:
            backend.chosen, backend.notice = choice.reason, choice.notice
            return backend


def _open_engine(name: str, path: Path, options: BackendOptions, size: tuple[int, int] | None) -> Backend:
    if name not in ("auto", "tensorrt"):
        raise OptionError(f"{path} is an engine, which only TensorRT runs: leave --backend {name} out")
    from rtseg.backends.tensorrt.backend import open_engine

    backend = open_engine(path, options, size)
    if name == "auto":
        backend.chosen = "the model is an engine"
    return backend
