"""Engines for tests on a GPU: built for it when a test asks for one."""

from __future__ import annotations

from pathlib import Path

from helpers.fake_cuda import write_engine

from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.library import import_tensorrt
from rtseg.deploy.tensorrt_builder import build_plan, resolve_target
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.load import ModelFile


def built_engine(model: ModelFile, *, precision: str = "fp32", batch: int = 1) -> Path:
    """An engine of ``model`` in ``engines``, by the TensorRT that is installed, for the GPU that is here."""
    trt = import_tensorrt("auto")
    place = resolve_target(trt, ())
    graph = to_float16(model) if precision == "fp16" else model
    return write_engine(
        model,
        plan=build_plan(trt, graph, place, batch=batch).data,
        precision=precision,
        batch=batch,
        runtime=trt.name,
        runtime_version=trt.version,
        targets=place.targets,
        gpu=place.gpu,
    )


def open_with_engine(model: ModelFile, options: BackendOptions) -> Backend:
    """As a backend of ``BACKENDS``: builds the engine that is asked for, then opens it."""
    from rtseg.backends.tensorrt.backend import open_tensorrt

    if options.precision in ("auto", "fp32", "fp16"):
        for path in Path("engines").glob("*"):
            path.unlink()
        built_engine(model, precision="fp16" if options.precision == "auto" else options.precision)
    return open_tensorrt(model, options)
