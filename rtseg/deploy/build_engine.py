"""Model file -> TensorRT engine: converted to its precision, built, proven, and only then given its name."""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.engine_file import (
    ENGINES,
    REMEDY,
    EngineFacts,
    covers,
    engine_path,
    install_engine,
    mismatch_reason,
    read_engine,
    read_engine_facts,
    staged,
    write_staged,
)
from rtseg.backends.tensorrt.library import RUNTIMES, TensorRTLibrary, import_tensorrt
from rtseg.deploy.tensorrt_builder import CURRENT, BuildTarget, Plan, build_plan, resolve_target
from rtseg.deploy.verify import BUDGETS, Verdict, proof_data, verify
from rtseg.errors import ModelError, OptionError, ProofError, SinkError
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.graph import is_quantised
from rtseg.model_file.input_size import at_size
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import ModelSpec, file_sha256
from rtseg.system.atomic_files import check_folder_writable, check_writable, is_part, write_bytes
from rtseg.system.nvidia import find_driver, find_gpu
from rtseg.version import __version__
from rtseg.weights import find_model

__all__ = ["PRECISIONS", "BuiltEngine", "EngineOptions", "build_engine"]

PRECISIONS = ("fp16", "fp32", "int8")
_LARGEST_BATCH = 64
OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which engine to build of what.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    model: str | Path
    """A model file, or the name of a bundled one."""
    precision: str = "fp16"
    """``fp16``, ``fp32`` or ``int8`` (the rest of its graph in fp16)."""
    batch: int = 1
    """Most frames of a batch: 1 is fixed in the engine, with more it takes 1 to so many."""
    size: tuple[int, int] | None = None
    """(H, W) of the input, in pixels; the model's own unless given."""
    runtime: str = "auto"
    """``tensorrt``, ``rtx``, or ``auto``: TensorRT where it and a driver are there, else TensorRT-RTX."""
    targets: tuple[str, ...] = ()
    """Compute capabilities, e.g. ``sm_86``, or ``current``; see ``resolve_target`` for what is built unless given."""
    timing_cache: Path | None = None
    """File in which TensorRT keeps what it measured of the GPU, for the next build."""
    output: Path | None = None
    """The ``.engine`` file; in ``engines``, named after model, precision, runtime and targets, unless given."""
    force: bool = False
    """Build even where there is an engine that fits."""
    data: str | None = None
    """``KIND:PATH`` of the images of the proof, their split ``val``; drawn streets unless given."""
    max_drop: float | None = None
    """Points of mIoU that the engine may lose; as ``rtseg.deploy.verify.BUDGETS`` says unless given."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("runtime", self.runtime, RUNTIMES),
        ):
            if value not in allowed:
                raise OptionError(f"--{name} must be one of {', '.join(allowed)}, got {value!r}")
        if not 1 <= self.batch <= _LARGEST_BATCH:
            raise OptionError(f"--batch must be 1 to {_LARGEST_BATCH} frames, got {self.batch}")
        for target in self.targets:
            if re.fullmatch(rf"sm_\d{{2,3}}\+?|{CURRENT}", target) is None:
                raise OptionError(
                    f"--target wants compute capabilities with commas, e.g. sm_86,sm_89, or {CURRENT}; got {target!r}"
                )
        if len(set(self.targets)) != len(self.targets):
            raise OptionError(f"--target names one twice: {', '.join(self.targets)}")
        if self.output is not None and (self.output.suffix != ".engine" or is_part(self.output)):
            raise OptionError(f"--output must end in .engine (and not in .part.engine), got {self.output}")
        if self.max_drop is not None and not (math.isfinite(self.max_drop) and 0 <= self.max_drop <= 100):
            raise OptionError(f"--max-drop wants points of mIoU, 0 to 100, e.g. 0.5; got {self.max_drop:g}")


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine that is in its place."""

    path: Path
    facts: EngineFacts
    is_new: bool
    """False where one that was there already fits."""


def build_engine(
    options: EngineOptions, on_progress: OnProgress = lambda phase: None, tell: OnProgress = lambda line: None
) -> BuiltEngine:
    """Build an engine, prove its labels and put it in its place; one that fits is left as it is.

    Where the GPU that it is for is here the engine itself is judged, on that GPU. Elsewhere its graph is judged on the
    CPU by ONNX Runtime; the certificate says which.

    Args:
        options: what to build.
        on_progress: called with every phase, from any thread.
        tell: called with what a user ought to keep in mind, e.g. why an engine is built again.

    Raises:
        OptionError: an option does not suit the model or the runtime.
        ModelError: the model cannot be used, has no ranges for int8, or the parser refuses its graph.
        BackendUnavailable: the runtime, or ONNX Runtime for the proof, is not here.
        BackendError: the build failed.
        ProofError: the labels of the engine are too different; nothing was written.
        SinkError: the engine cannot be written; what was there before still is.
    """
    own = _load(options)
    model = own if options.size in (None, own.spec.size) else at_size(own, options.size)
    trt = import_tensorrt(options.runtime)
    if options.timing_cache is not None and trt.name == "rtx":
        raise OptionError("--timing-cache is for TensorRT: TensorRT-RTX measures nothing when it builds, leave it out")
    place = resolve_target(trt, options.targets)
    label = _label(own.spec, model.spec, options.batch)
    # Of TensorRT-RTX there may be one for the GPU in this machine beside one for all of its kind.
    tuned = (CURRENT,) if trt.name == "rtx" and place.gpu is not None else ()
    path = options.output or engine_path(ENGINES, label, options.precision, trt.name, (*place.targets, *tuned))
    check_folder_writable(path.parent, f"--output {path}")
    if path.is_dir():
        raise SinkError(f"--output {path} is a folder: give a file name in it")
    if options.timing_cache is not None:
        check_writable(options.timing_cache, f"--timing-cache {options.timing_cache}")
    wanted = _Wanted(options, model, trt, place, file_sha256(model.path), _ranges_sha256(model, options.precision))
    fitting = _fitting(path, wanted, tell)
    if fitting is not None:
        return BuiltEngine(path, fitting, is_new=False)
    return BuiltEngine(path, _build_and_prove(path, wanted, on_progress), is_new=True)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that decides what the engine will be."""

    options: EngineOptions
    model: ModelFile
    trt: TensorRTLibrary
    place: BuildTarget
    model_sha256: str
    ranges_sha256: str | None

    def facts(self, plan: Plan) -> EngineFacts:
        """Of the engine ``plan``, not proven yet."""
        return EngineFacts(
            model=self.model.spec.name,
            model_sha256=self.model_sha256,
            engine_sha256=hashlib.sha256(plan.data).hexdigest(),
            runtime=self.trt.name,
            runtime_version=self.trt.version,
            precision=self.options.precision,
            batch=self.options.batch,
            targets=self.place.targets,
            gpu=self.place.gpu,
            driver=find_driver(),
            spec=self.model.spec,
            state_shape=self.model.state_shape,
            build_seconds=round(plan.seconds, 3),
            built=datetime.datetime.now(datetime.UTC).date().isoformat(),
            rtseg=__version__,
            ranges_sha256=self.ranges_sha256,
            certificate={},
        )

    @property
    def _where(self) -> str:
        return f"{self.place.gpu} alone" if self.place.gpu else f"any {', '.join(self.place.targets)}"

    def mismatch_reason(self, facts: EngineFacts) -> str | None:
        """Why an engine does not fit, in words; None if it does."""
        reason = mismatch_reason(
            facts,
            model_sha256=self.model_sha256,
            size=self.model.spec.size,
            runtime=self.trt.name,
            runtime_version=self.trt.version,
            targets=self.place.targets,
            precision=self.options.precision,
            batch=self.options.batch,
            gpu=self.place.gpu,
        )
        if reason is None and facts.gpu != self.place.gpu:
            return f"was built for {facts.gpu or 'any ' + ', '.join(facts.targets)}, not for {self._where}"
        if reason is None and facts.ranges_sha256 != self.ranges_sha256:
            return "was quantised with other ranges than those recorded now"
        most, proven = self.options.max_drop, facts.certificate["budget"]["max_drop"] if facts.certificate else math.inf
        if reason is None and most is not None and proven > most:
            return f"is proven to {proven:g} points of mIoU, {most:g} are wanted"
        return reason


def _fitting(path: Path, wanted: _Wanted, tell: OnProgress) -> EngineFacts | None:
    """The facts of the engine that is in its place already, if it fits; else tells why it is built again."""
    if wanted.options.force or not path.exists():
        return None
    try:
        facts = read_engine_facts(path)
        read_engine(path, facts)
    except ModelError as error:
        tell(f"building again: {str(error).removesuffix(REMEDY)}")
        return None
    reason = wanted.mismatch_reason(facts)
    if reason is None:
        return facts
    tell(f"building again: {path} {reason}")
    return None


def _build_and_prove(path: Path, wanted: _Wanted, on_progress: OnProgress) -> EngineFacts:
    """Build an engine and put it at ``path`` if its labels are right."""
    options, model = wanted.options, wanted.model
    budget = BUDGETS[options.precision]
    if options.max_drop is not None:
        budget = replace(budget, max_drop=options.max_drop)
    # What the proof needs is found before the build, which may take minutes.
    data = proof_data(model.spec, options.data)
    with open_backend("onnxruntime", model.path, size=model.spec.size) as reference, staged(path) as part:
        on_progress(f"preparing the graph in {options.precision}")
        graph = _convert(model, options.precision)
        plan = _plan(wanted, graph, on_progress)
        facts = wanted.facts(plan)
        on_progress("writing")
        write_staged(part, plan.data, facts)
        candidate, judged_by = _candidate(wanted, graph, part)
        with candidate:
            verdict = verify(
                reference,
                candidate,
                data,
                budget,
                judged_by=judged_by,
                on_progress=lambda done, total: on_progress(f"checking the labels, image {done} of {total}"),
            )
        _refuse_failed(path, verdict)
        facts = replace(facts, certificate=_certificate(verdict, path, facts.engine_sha256))
        install_engine(part, facts, path)
    return facts


def _certificate(verdict: Verdict, engine: Path, sha256: str) -> dict[str, Any]:
    """The verdict for JSON. An engine that was judged goes by the name that it is given now, not by the staged one."""
    found = verdict.to_dict()
    if "engine" in found["candidate"]:
        found["candidate"] = {**found["candidate"], "engine": {"file": str(engine), "sha256": sha256}}
    return found


def _refuse_failed(path: Path, verdict: Verdict) -> None:
    if verdict.passed:
        return
    dropped = verdict.drop is not None and verdict.drop > verdict.budget.max_drop
    remedy = "use another --precision" + (", or allow more with --max-drop" if dropped else "")
    raise ProofError(f"{path} is not written, {' and '.join(verdict.reasons)} ({verdict.data}): {remedy}")


def _plan(wanted: _Wanted, graph: ModelFile, on_progress: OnProgress) -> Plan:
    cache = wanted.options.timing_cache
    try:
        known = None if cache is None else cache.read_bytes() if cache.exists() else b""
    except OSError as error:
        raise OptionError(f"--timing-cache {cache} cannot be read ({error.strerror}): give another file") from error
    plan = build_plan(
        wanted.trt,
        graph,
        wanted.place,
        batch=wanted.options.batch,
        timing_cache=known,
        on_progress=lambda phase: on_progress(f"{wanted.trt.title}: {phase}"),
    )
    if cache is not None and plan.timing_cache is not None:
        write_bytes(cache, plan.timing_cache)
    return plan


def _candidate(wanted: _Wanted, graph: ModelFile, part: Path) -> tuple[Backend, str]:
    """What is judged: the engine where it can run, else its graph. And what that is, in words."""
    gpu = find_gpu()
    if gpu is not None and covers(wanted.place.targets, gpu.target) and find_spec("pycuda") is not None:
        return open_backend("tensorrt", part), f"the engine on {gpu.name}"
    from rtseg.backends.onnxruntime import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(emulate_float16(graph), BackendOptions())
    backend.model_sha256 = wanted.model_sha256
    rounded = "" if wanted.options.precision == "fp32" else ", every value rounded to fp16"
    return backend, f"the graph on the CPU by ONNX Runtime {backend.version}{rounded}"


def _load(options: EngineOptions) -> ModelFile:
    path = find_model(options.model)
    if path.suffix == ".engine":
        raise OptionError(f"{path} is an engine already: give the model file that it was made of")
    model = load_model(path)
    if options.precision != "int8" and is_quantised(model.graph):
        raise OptionError(f"{model.path} is quantised: use --precision int8, or give the model that it was made of")
    return model


def _ranges_sha256(model: ModelFile, precision: str) -> str | None:
    """Of the ranges that ``model`` will be quantised with."""
    if precision != "int8" or is_quantised(model.graph):
        return None
    from rtseg.model_file.activation_ranges import find_ranges
    from rtseg.model_file.quantize import refuse_sequence

    refuse_sequence(model)
    return hashlib.sha256(find_ranges(model).to_json().encode()).hexdigest()


def _convert(model: ModelFile, precision: str) -> ModelFile:
    """``model`` in the types that a strongly typed network is to compute in."""
    if precision == "fp32":
        return model
    if precision == "fp16":
        return to_float16(model)
    from rtseg.model_file.quantize import int8_model

    return to_float16(int8_model(model))


def _label(own: ModelSpec, spec: ModelSpec, batch: int) -> str:
    """The model in an engine's name, with what is not as usual, so that such engines do not replace each other."""
    size = "" if spec.size == own.size else f"-{spec.size[0]}x{spec.size[1]}"
    return spec.name + size + (f"-b{batch}" if batch > 1 else "")
