"""The graph through TensorRT: parsed into a strongly typed network, and built into a plan."""

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
from rtseg.model_file.load import ModelFile
from rtseg.system.nvidia import find_gpu

if TYPE_CHECKING:
    import onnx

__all__ = ["PORTABLE", "BuildTarget", "Plan", "build_plan", "resolve_target"]

PORTABLE = "sm_86+"
"""Compute capability 8.6 and all after it: what TensorRT-RTX builds for by itself."""
_NO_DRIVER = "and there is no usable NVIDIA driver here: install one, or use --runtime rtx, which builds without a GPU"
_WAKE_S = 0.5
"""Longest time in which a Ctrl-C may stay unheard."""
_TOLD = 3
"""Reasons of a failure that the message names."""


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """Where an engine is to run."""

    targets: tuple[str, ...]
    """Compute capabilities, as ``rtseg.backends.tensorrt.engine_file.EngineFacts.targets``."""
    gpu: str | None
    """The GPU that it is built for, where it is built for one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What TensorRT built."""

    data: bytes
    """The engine."""
    seconds: float
    """That the build took."""
    timing_cache: bytes | None
    """What it learned of the GPU on the way; None for a build without such a cache."""


def resolve_target(trt: TensorRTLibrary, wanted: tuple[str, ...]) -> BuildTarget:
    """Where the engines of a runtime can run, given what is wanted; the usual unless given.

    Raises:
        OptionError: the runtime does not build for a target.
        BackendUnavailable: it is to build for the GPU in this machine, and there is none.
    """
    if trt.name == "rtx" and wanted != (CURRENT,):
        return BuildTarget(_named_targets(trt, wanted), None)
    gpu = find_gpu()
    if gpu is None and trt.name == "rtx":
        raise BackendUnavailable(
            f"--target {CURRENT} builds on the GPU in this machine, and there is no usable one: name its compute "
            "capability, e.g. sm_89, or leave --target out"
        )
    if gpu is None:
        raise BackendUnavailable(f"{trt.title} builds where there is a GPU, {_NO_DRIVER}")
    if wanted not in ((), (gpu.target,), (CURRENT,)):
        raise OptionError(
            f"{trt.title} builds for the GPU in this machine, {gpu.name} ({gpu.target}), not for {', '.join(wanted)}: "
            "leave --target out, or use --runtime rtx"
        )
    return BuildTarget((gpu.target,), gpu.name)


def _named_targets(trt: TensorRTLibrary, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """What TensorRT-RTX builds for without a GPU."""
    known = {f"sm_{name[2:]}": name for name in trt.module.ComputeCapability.__members__ if name.startswith("SM")}
    for target in wanted:
        if target == CURRENT:
            raise OptionError(f"--target {CURRENT} stands alone: such an engine is for the GPU in this machine")
        if target not in known and target != PORTABLE:
            raise OptionError(
                f"{trt.title} does not build for {target}: it does for {', '.join(known)}, "
                f"and with {PORTABLE} (the default) for all from 8.6 on"
            )
    if PORTABLE in wanted and len(wanted) > 1:
        raise OptionError(f"--target {PORTABLE} stands alone: it has all later ones in it")
    return wanted or (_usual_target(known),)


def _usual_target(known: Collection[str]) -> str:
    """What TensorRT-RTX builds for unless told otherwise: the GPU that is here where it is older than ``PORTABLE``."""
    gpu = find_gpu()
    if gpu is None or gpu.target not in known or covers((PORTABLE,), gpu.target):
        return PORTABLE
    return gpu.target


def build_plan(
    trt: TensorRTLibrary,
    model: ModelFile,
    place: BuildTarget,
    *,
    batch: int = 1,
    timing_cache: bytes | None = None,
    on_progress: Callable[[str], None] = lambda phase: None,
) -> Plan:
    """Build an engine. Its precision is that of the graph; fp32 is never rounded to TF32.

    The build runs on a thread of its own: TensorRT lets Python run meanwhile, so that Ctrl-C is heard, and is told to
    stop through its progress monitor, which it asks at every step: it may take a few seconds to the next.

    Args:
        trt: the runtime.
        model: the graph, already of the precision that is wanted.
        place: see ``resolve_target``.
        batch: most frames of a batch: with 1 the engine takes one frame, else 1 to so many.
        timing_cache: what an earlier build learned, b"" to begin one; None for a build without.
        on_progress: called with the name of every phase, from any thread.

    Raises:
        BackendUnavailable: there is no usable driver.
        ModelError: the parser refuses the graph; the text holds its reasons.
        BackendError: the build failed; the text holds TensorRT's reasons.
    """
    cancelled = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="rtseg-engine") as executor:
        executor.submit(int).result()  # the thread is there: no Ctrl-C can hit its making, and leave it unknown
        try:
            monitor = _monitor(trt, cancelled, on_progress)
            building = executor.submit(_build, trt, model, place, batch, timing_cache, monitor)
            while not wait([building], _WAKE_S).done:  # a Ctrl-C right before a wait is heard when that ends
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
    trt: TensorRTLibrary, model: ModelFile, place: BuildTarget, batch: int, timing_cache: bytes | None, monitor: Any
) -> Plan:
    with captured_errors(trt) as reasons:
        builder = _builder(trt)
        network = builder.create_network(1 << int(trt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.module.OnnxParser(network, get_logger(trt.module))
        if not parser.parse(_with_batch(model, batch).SerializeToString()):
            raise ModelError(f"{trt.title} refuses the graph of {model.path}: {_parser_reasons(parser)}")
        config = builder.create_builder_config()
        config.progress_monitor = monitor
        config.clear_flag(trt.module.BuilderFlag.TF32)
        if batch > 1:
            config.add_optimization_profile(_profile(builder, network, batch))
        if trt.name == "rtx":
            _set_targets(trt, config, place)
        cache = _set_cache(config, timing_cache) if timing_cache is not None else None
        began = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - began
        if plan is None:
            where = ", ".join(place.targets)
            raise BackendError(f"{trt.title} cannot build {model.spec.name} for {where}: {_listed(reasons)}")
        return Plan(bytes(plan), seconds, bytes(cache.serialize()) if cache is not None else None)


def _builder(trt: TensorRTLibrary) -> Any:
    try:
        return trt.module.Builder(get_logger(trt.module))
    except TypeError as error:  # "factory function returned nullptr": all that TensorRT says of a missing driver
        raise BackendUnavailable(f"{trt.title} cannot begin, {_NO_DRIVER}") from error


def _with_batch(model: ModelFile, batch: int) -> onnx.ModelProto:
    """The graph for a batch of 1, which TensorRT can then count on; as it is for more."""
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    if batch == 1:
        for value in (*graph.graph.input, *graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    return graph


def _profile(builder: Any, network: Any, batch: int) -> Any:
    """For 1 to ``batch`` frames. The most of them are what the build optimises for."""
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        tail = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, (1, *tail), (batch, *tail), (batch, *tail))
    return profile


def _set_targets(trt: TensorRTLibrary, config: Any, place: BuildTarget) -> None:
    if place.targets == (PORTABLE,):
        return
    names = ["CURRENT"] if place.gpu is not None else [target.upper().replace("_", "") for target in place.targets]
    config.num_compute_capabilities = len(names)
    for number, name in enumerate(names):
        # Where this is not heeded the engine is one for another GPU, and nothing tells.
        if not config.set_compute_capability(getattr(trt.module.ComputeCapability, name), number):
            if len(names) == 1:
                raise BackendError(f"{trt.title} does not take {place.gpu or place.targets[0]} as a target")
            among = ", ".join(place.targets)
            raise BackendError(f"{trt.title} does not take {place.targets[number]} among {among}: build for it alone")


def _set_cache(config: Any, known: bytes) -> Any:
    """The timing cache of a build: ``known`` where TensorRT takes it, else an empty one."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # of another TensorRT or GPU: worth nothing here
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parser_reasons(parser: Any) -> str:
    reasons = []
    for place in range(parser.num_errors):
        error = parser.get_error(place)
        node = f"{error.node_operator()} {error.node_name()!r}" if error.node_operator() else "the file"
        reasons.append(f"{node}: {_reason(error.desc()) or 'this operator is not supported'}")
    return _listed(reasons)


def _reason(text: str) -> str:
    """Why the parser refuses a node, out of its own text: a condition of its source, or lines that lead to one."""
    lines = [line for line in text.splitlines() if not line.startswith("Invalid Node") and "catchCudaError" not in line]
    quoted = text.split('"')
    if "&&" in text and len(quoted) > 2:  # creator && "Plugin not found, ..."
        return quoted[1]
    return "; ".join(strip_source_location(line) for line in lines if line != "false")


def _listed(reasons: list[str]) -> str:
    return "; ".join(dict.fromkeys(reasons[:_TOLD])) or "it gives no reason"
