"""Builds the engines that tests on a GPU need."""

from __future__ import annotations

from pathlib import Path

from helpers.fake_cuda import write_engine

from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.library import import_tensorrt
from rtseg.deploy.tensorrt_builder import build_plan, resolve_target
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.load import ModelFile


def built_engine(model: ModelFile, *, precision: str = "fp32", batch: int = 1) -> Path:
    """Build an engine of ``model`` in ``engines``, with the installed TensorRT, for the GPU of this machine."""
    trt = import_tensorrt("auto")
    target = resolve_target(trt, ())
    graph = to_float16(model) if precision == "fp16" else model
    return write_engine(
        model,
        plan=build_plan(trt, graph, target, batch=batch).data,
        precision=precision,
        batch=batch,
        runtime=trt.name,
        runtime_version=trt.version,
        targets=target.targets,
        gpu=target.gpu,
    )


def open_with_engine(model: ModelFile, options: BackendOptions) -> Backend:
    """Build the engine for a model and open it. It can replace the ``tensorrt`` entry of ``BACKENDS``."""
    from rtseg.backends.tensorrt.backend import open_tensorrt

    if options.precision in ("auto", "fp32", "fp16"):
        for path in Path("engines").glob("*"):
            path.unlink()
        built_engine(model, precision="fp16" if options.precision == "auto" else options.precision)
    return open_tensorrt(model, options)
