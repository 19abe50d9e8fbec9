"""Runtimes that run a model file: one module per runtime, one interface for all.

A backend has two main methods: ``submit`` a batch and ``wait`` for its labels. Up to ``depth`` batches are in flight.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from rtseg.backends.base import Backend, BackendOptions, no_margins
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
"""Name -> (module, class or function, extra that installs the runtime)."""


_log = logging.getLogger(__name__)
_ENGINE_SUFFIX = ".engine"
"""Suffix of the files that `rtseg build-engine` writes."""


def open_backend(
    name: str, model: str | Path | ModelFile, *, size: tuple[int, int] | None = None, **options: Any
) -> Backend:
    """Load a model. A runtime is imported only when it is needed.

    Args:
        name: a key of ``BACKENDS``; or ``auto``: TensorRT if there is a GPU and a matching engine, else torch if there
            is a GPU, else OpenVINO. If one cannot be opened, the next is tried. ``Backend.chosen`` says why.
        model: an ``.onnx`` file, the name of a bundled model, an ``.engine`` file, or a model file that is loaded.
        size: (H, W) of the input, in pixels; the size of the file by default.
        options: fields of ``BackendOptions``.

    Raises:
        OptionError: ``name`` or an option is unknown, or the model does not support ``size``.
        ModelError: the file is not a model file.
        BackendUnavailable: the runtime is not installed, does not support the options on this machine, computes this
            model in int8 wrongly on this processor, or does not tell the ``margin``.
        BackendError: the runtime failed, e.g. because it ran out of memory.
    """
    if name != "auto" and name not in BACKENDS:
        raise OptionError(f"unknown backend {name!r}; known are auto, {', '.join(sorted(BACKENDS))}")
    backend_options = BackendOptions(**options)
    # A graph that was changed in memory is verified by whoever changed it.
    from_file = not isinstance(model, ModelFile)
    if not isinstance(model, ModelFile):
        from rtseg.weights import find_model

        path = find_model(model)
        if path.suffix == _ENGINE_SUFFIX:
            if backend_options.margin:
                raise no_margins("tensorrt")
            return _logged(_open_engine(name, path, backend_options, size))
        model = load_model(path)
    if size is not None and size != model.spec.size:
        from rtseg.model_file.input_size import resize_input

        model = resize_input(model, size)
    backend = _open(name, model, backend_options) if name != "auto" else _open_auto(model, backend_options)
    if backend_options.margin and not backend.has_margins:
        backend.close()
        raise no_margins(backend.name)
    if from_file and backend.precision == "int8" and backend.name in ("openvino", "onnxruntime"):
        _check_int8(model, backend)
    return _logged(backend)


def read_spec(model: Path) -> ModelSpec:
    """Return the metadata of a model file or an engine.

    Raises:
        ModelError: the file is neither.
    """
    if model.suffix != _ENGINE_SUFFIX:
        return load_model(model).spec
    from rtseg.backends.tensorrt.engine_file import read_engine_facts

    return read_engine_facts(model).spec


def _check_int8(model: ModelFile, backend: Backend) -> None:
    """See ``rtseg.backends.int8_check``; a backend that fails is closed."""
    from rtseg.backends.int8_check import check_int8

    try:
        backend.int8_check = asdict(check_int8(model, backend))
    except BaseException:
        backend.close()
        raise


def _logged(backend: Backend) -> Backend:
    height, width = backend.spec.size
    _log.info(
        "%s at %dx%d on %s %s (%s, %s), %s",
        *(backend.spec.name, height, width, backend.name, backend.version, backend.precision, backend.device),
        backend.chosen,
    )
    return backend


def _open(name: str, model: ModelFile, options: BackendOptions) -> Backend:
    module, factory_name, extra = BACKENDS[name]
    try:
        factory: Callable[[ModelFile, BackendOptions], Backend] = getattr(import_module(module), factory_name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "rtseg":
            raise  # a bug in rtseg, not a missing package
        remedy = f"pip install 'rtseg[{extra}]'" if extra else "pip install --force-reinstall rtseg"
        raise BackendUnavailable(f"backend {name!r} needs {error.name or name!r}: {remedy}") from error
    backend = factory(model, options)
    backend.model_sha256 = file_sha256(model.path)
    return backend


def _open_auto(model: ModelFile, options: BackendOptions) -> Backend:
    from rtseg.backends.select import choose

    failed: dict[str, str] = {}
    choice = choose(model, options)
    while True:
        try:
            backend = _open(choice.name, model, options)
        except BackendError as error:
            if choice.name == "openvino":
                raise
            failed[choice.name] = str(error)
            choice = choose(model, options, failed)
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
