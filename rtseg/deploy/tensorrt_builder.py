"""Builds a graph with TensorRT: parses it into a strongly typed network, and builds a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from rtseg.backends.tensorrt.engine_file import covers
from rtseg.backends.tensorrt.library import TensorRTLibrary, captured_errors, get_logger, strip_source_location
from rtseg.deploy.options import CURRENT
from rtseg.errors import BackendError, BackendUnavailable, ModelError, OptionError
from rtseg.model_file.graph import copy_graph
from rtseg.model_file.load import ModelFile
from rtseg.system.nvidia import find_gpu

if TYPE_CHECKING:
    import onnx

__all__ = ["PORTABLE", "BuildTarget", "Plan", "build_plan", "resolve_target"]

PORTABLE = "sm_86+"
"""Compute capability 8.6 and later, the default of TensorRT-RTX."""
_NO_DRIVER = "and there is no usable NVIDIA driver: install one, or use --runtime rtx, which builds without a GPU"
_CTRL_C_INTERVAL_S = 0.5
"""Longest delay until Ctrl-C is handled."""
_MAX_REASONS = 3
"""Number of reasons in the message of a failure."""


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """The GPUs that an engine is built for."""

    targets: tuple[str, ...]
    """Compute capabilities, see ``rtseg.backends.tensorrt.engine_file.EngineFacts.targets``."""
    gpu: str | None
    """Name of the GPU if it is built for one; None if it is built for all GPUs of ``targets``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of a build."""

    data: bytes
    """The engine."""
    seconds: float
    """Duration of the build."""
    timing_cache: bytes | None
    """TensorRT's timings of the GPU; None for a build without a timing cache."""


def resolve_target(trt: TensorRTLibrary, targets: tuple[str, ...]) -> BuildTarget:
    """Check the requested targets, and replace no targets by the default of the runtime.

    The default of TensorRT is the GPU of this machine. The default of TensorRT-RTX is ``PORTABLE``, or the GPU of this
    machine if it is older.

    Raises:
        OptionError: the runtime does not build for a target.
        BackendUnavailable: the build needs a GPU, and this machine has none.
    """
    if trt.name == "rtx" and targets != (CURRENT,):
        return BuildTarget(_check_targets(trt, targets), None)
    gpu = find_gpu()
    if gpu is None and trt.name == "rtx":
        raise BackendUnavailable(
            f"--target {CURRENT} builds on the GPU of this machine, and there is no usable one: name its compute "
            "capability, e.g. sm_89, or leave --target out"
        )
    if gpu is None:
        raise BackendUnavailable(f"{trt.title} needs a GPU to build, {_NO_DRIVER}")
    if targets not in ((), (gpu.target,), (CURRENT,)):
        raise OptionError(
            f"{trt.title} builds for the GPU of this machine, {gpu.name} ({gpu.target}), not for "
            f"{', '.join(targets)}: leave --target out, or use --runtime rtx"
        )
    return BuildTarget((gpu.target,), gpu.name)


def _check_targets(trt: TensorRTLibrary, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Return the targets for which TensorRT-RTX builds without a GPU."""
    known = {f"sm_{name[2:]}": name for name in trt.module.ComputeCapability.__members__ if name.startswith("SM")}
    for target in targets:
        if target == CURRENT:
            raise OptionError(f"--target {CURRENT} cannot be combined: such an engine is for the GPU of this machine")
        if target not in known and target != PORTABLE:
            raise OptionError(
                f"{trt.title} does not build for {target}: use {', '.join(known)}, "
                f"or {PORTABLE} (the default) for 8.6 and later"
            )
    if PORTABLE in targets and len(targets) > 1:
        raise OptionError(f"--target {PORTABLE} cannot be combined: it includes all later ones")
    return targets or (_default_target(known),)


def _default_target(known: Collection[str]) -> str:
    """Return the default target of TensorRT-RTX: ``PORTABLE``, or the GPU of this machine if it is older."""
    gpu = find_gpu()
    if gpu is None or gpu.target not in known or covers((PORTABLE,), gpu.target):
        return PORTABLE
    return gpu.target


def build_plan(
    trt: TensorRTLibrary,
    model: ModelFile,
    target: BuildTarget,
    *,
    batch: int = 1,
    timing_cache: bytes | None = None,
    on_progress: Callable[[str], None] = lambda phase: None,
) -> Plan:
    """Build an engine in the precision of the graph. fp32 is never rounded to TF32.

    The build runs on a separate thread, so that Ctrl-C is handled meanwhile. TensorRT is cancelled through its progress
    monitor, which it calls at every step. The next step may take a few seconds.

    Args:
        trt: the runtime.
        model: the graph, in the precision of the engine.
        target: see ``resolve_target``.
        batch: largest batch. With 1 the batch is fixed; otherwise the engine takes 1 to ``batch`` frames.
        timing_cache: timings of an earlier build, b"" to start a new cache; None for a build without.
        on_progress: called with the name of every phase, on any thread.

    Raises:
        BackendUnavailable: there is no usable driver.
        ModelError: the parser rejects the graph; the text has its reasons.
        BackendError: the build failed; the text has TensorRT's reasons.
    """
    cancelled = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="rtseg-engine") as executor:
        executor.submit(int).result()  # starts the thread, so that Ctrl-C cannot interrupt its start
        try:
            monitor = _monitor(trt, cancelled, on_progress)
            building = executor.submit(_build, trt, model, target, batch, timing_cache, monitor)
            while not wait([building], _CTRL_C_INTERVAL_S).done:  # Ctrl-C just before a wait is handled after it
                pass
            return building.result()
        except KeyboardInterrupt:
            cancelled.set()
            on_progress("stopping")
            raise  # leaving ``with`` waits for the other thread


def _monitor(trt: TensorRTLibrary, cancelled: Event, on_progress: Callable[[str], None]) -> Any:
    class Monitor(trt.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.module.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            on_progress(phase)

        def step_complete(self, phase: str, step: int) -> bool:
            return not cancelled.is_set()

        def phase_finish(self, phase: str) -> None: ...

    return Monitor()


def _build(
    trt: TensorRTLibrary, model: ModelFile, target: BuildTarget, batch: int, timing_cache: bytes | None, monitor: Any
) -> Plan:
    with captured_errors(trt) as reasons:
        builder = _builder(trt)
        network = builder.create_network(1 << int(trt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.module.OnnxParser(network, get_logger(trt.module))
        if not parser.parse(_with_batch(model, batch).SerializeToString()):
            raise ModelError(f"{trt.title} rejects the graph of {model.path}: {_parser_reasons(parser)}")
        config = builder.create_builder_config()
        config.progress_monitor = monitor
        config.clear_flag(trt.module.BuilderFlag.TF32)
        if batch > 1:
            config.add_optimization_profile(_profile(builder, network, batch))
        if trt.name == "rtx":
            _set_targets(trt, config, target)
        cache = _set_cache(config, timing_cache) if timing_cache is not None else None
        began = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - began
        if plan is None:
            raise BackendError(
                f"{trt.title} cannot build {model.spec.name} for {', '.join(target.targets)}: {_join(reasons)}"
            )
        return Plan(bytes(plan), seconds, bytes(cache.serialize()) if cache is not None else None)


def _builder(trt: TensorRTLibrary) -> Any:
    try:
        return trt.module.Builder(get_logger(trt.module))
    except TypeError as error:  # TensorRT's only error without a driver: "factory function returned nullptr"
        raise BackendUnavailable(f"{trt.title} cannot start, {_NO_DRIVER}") from error


def _with_batch(model: ModelFile, batch: int) -> onnx.ModelProto:
    """Copy the graph, with the batch fixed to 1 if that is the largest batch, so that TensorRT can optimize for it."""
    graph = copy_graph(model)
    if batch == 1:
        for value in (*graph.graph.input, *graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    return graph


def _profile(builder: Any, network: Any, batch: int) -> Any:
    """Make an optimization profile for 1 to ``batch`` frames, optimized for ``batch``."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, (1, *shape), (batch, *shape), (batch, *shape))
    return profile


def _set_targets(trt: TensorRTLibrary, config: Any, target: BuildTarget) -> None:
    if target.targets == (PORTABLE,):
        return
    names = ["CURRENT"] if target.gpu is not None else [each.upper().replace("_", "") for each in target.targets]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        # If the result were ignored, the engine would be for another GPU without any error.
        if not config.set_compute_capability(getattr(trt.module.ComputeCapability, name), index):
            if len(names) == 1:
                raise BackendError(f"{trt.title} does not accept {target.gpu or target.targets[0]} as a target")
            raise BackendError(
                f"{trt.title} does not accept {target.targets[index]} among {', '.join(target.targets)}: "
                "build an engine for it only"
            )


def _set_cache(config: Any, timings: bytes) -> Any:
    """Set the timing cache of a build: ``timings`` if TensorRT accepts them, otherwise an empty one."""
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):  # from another TensorRT or GPU
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parser_reasons(parser: Any) -> str:
    reasons = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = f"{error.node_operator()} {error.node_name()!r}" if error.node_operator() else "the file"
        reasons.append(f"{node}: {_reason(error.desc()) or 'this operator is not supported'}")
    return _join(reasons)


def _reason(text: str) -> str:
    """Extract the reason from an error of the parser: a condition in its source code, or lines that end in one."""
    lines = [line for line in text.splitlines() if not line.startswith("Invalid Node") and "catchCudaError" not in line]
    quoted = text.split('"')
    if "&&" in text and len(quoted) > 2:  # creator && "Plugin not found, ..."
        return quoted[1]
    return "; ".join(strip_source_location(line) for line in lines if line != "false")


def _join(reasons: list[str]) -> str:
    return "; ".join(dict.fromkeys(reasons[:_MAX_REASONS])) or "it gives no reason"
