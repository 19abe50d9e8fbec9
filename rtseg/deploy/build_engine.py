"""Builds a TensorRT engine from a model file, and verifies its labels before it is installed."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.tensorrt.engine_file import (
    ENGINES,
    REMEDY,
    EngineFacts,
    EngineRequirements,
    covers,
    engine_path,
    install_engine,
    mismatch_reason,
    read_engine,
    read_engine_facts,
    staged,
    write_staged,
)
from rtseg.backends.tensorrt.library import TensorRTLibrary, import_tensorrt
from rtseg.deploy.options import CURRENT, EngineOptions
from rtseg.deploy.tensorrt_builder import BuildTarget, Plan, build_plan, resolve_target
from rtseg.deploy.verify import BUDGETS, Verdict, drawn_data_notice, open_verification_data, verify
from rtseg.errors import ModelError, OptionError, ProofError, SinkError
from rtseg.model_file.background import store_backgrounds
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.input_size import resize_input
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import ModelSpec, file_sha256
from rtseg.system.atomic_files import check_folder_writable, check_writable, write_bytes
from rtseg.system.nvidia import driver_version, find_gpu
from rtseg.system.read_file import read_bytes
from rtseg.version import __version__
from rtseg.weights import find_model

__all__ = ["BuiltEngine", "build_engine"]


OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An installed engine."""

    path: Path
    facts: EngineFacts
    is_new: bool
    """False if a matching engine existed already."""


def build_engine(
    options: EngineOptions, on_progress: OnProgress = lambda phase: None, notify: OnProgress = lambda line: None
) -> BuiltEngine:
    """Build an engine, verify its labels and install it. An existing engine that matches is kept.

    If this machine has a GPU that can run the engine, the engine itself is verified. Otherwise its graph is verified on
    the CPU by ONNX Runtime. The certificate says which.

    Args:
        options: what to build.
        on_progress: called with the name of every phase, on any thread.
        notify: called with messages for the user, e.g. why an engine is built again.

    Raises:
        OptionError: an option does not suit the model or the runtime.
        ModelError: the model cannot be used, has no ranges for int8, or the parser rejects its graph.
        BackendUnavailable: the runtime, or ONNX Runtime for the verification, is not installed.
        BackendError: the build failed.
        ProofError: the labels of the engine are too different; nothing was written.
        SinkError: the engine cannot be written; a previous engine is kept.
    """
    original = _load_float_or_int8(options)
    model = original if options.size in (None, original.spec.size) else resize_input(original, options.size)
    if model.spec.batch is not None and options.batch > model.spec.batch:
        raise OptionError(f"--batch {options.batch}: {model.spec.name} takes one image at a time, leave --batch out")
    trt = import_tensorrt(options.runtime)
    if options.timing_cache is not None and trt.name == "rtx":
        raise OptionError("--timing-cache is for TensorRT: TensorRT-RTX takes no timings, leave it out")
    target = resolve_target(trt, options.targets)
    path = options.output or _default_path(original.spec, model.spec, options, trt, target)
    check_folder_writable(path.parent, f"--output {path}")
    if path.is_dir():
        raise SinkError(f"--output {path} is a folder: give a file name in it")
    if options.timing_cache is not None:
        check_writable(options.timing_cache, f"--timing-cache {options.timing_cache}")
    ranges_sha256 = _ranges_sha256(model, options.precision)
    request = _BuildRequest(options, model, trt, target, file_sha256(model.path), ranges_sha256)
    existing = _find_existing(path, request, notify)
    if existing is not None:
        return BuiltEngine(path, existing, is_new=False)
    notice = drawn_data_notice(model.spec, options.data)
    if notice:
        notify(notice)
    return BuiltEngine(path, _build_and_verify(path, request, on_progress), is_new=True)


@dataclass(frozen=True, slots=True)
class _BuildRequest:
    """Everything that determines the engine."""

    options: EngineOptions
    model: ModelFile
    trt: TensorRTLibrary
    target: BuildTarget
    model_sha256: str
    ranges_sha256: str | None

    def facts(self, plan: Plan) -> EngineFacts:
        """Return the facts about the engine ``plan``, which is not verified yet."""
        return EngineFacts(
            model=self.model.spec.name,
            model_sha256=self.model_sha256,
            engine_sha256=hashlib.sha256(plan.data).hexdigest(),
            runtime=self.trt.name,
            runtime_version=self.trt.version,
            precision=self.options.precision,
            batch=self.options.batch,
            targets=self.target.targets,
            gpu=self.target.gpu,
            driver=driver_version(),
            spec=self.model.spec,
            state_shape=self.model.state_shape,
            build_seconds=round(plan.seconds, 3),
            built=datetime.datetime.now(datetime.UTC).date().isoformat(),
            rtseg=__version__,
            ranges_sha256=self.ranges_sha256,
            certificate={},
        )

    def mismatch_reason(self, facts: EngineFacts) -> str | None:
        """Return why an engine does not match, as the rest of a sentence; None if it does."""
        needed = EngineRequirements(
            model_sha256=self.model_sha256,
            size=self.model.spec.size,
            runtime=self.trt.name,
            runtime_version=self.trt.version,
            targets=self.target.targets,
            precision=self.options.precision,
            batch=self.options.batch,
            gpu=self.target.gpu,
        )
        reason = mismatch_reason(facts, needed)
        if reason is not None:
            return reason
        if facts.gpu != self.target.gpu:
            needed_for = f"{self.target.gpu} only" if self.target.gpu else f"any {', '.join(self.target.targets)}"
            return f"was built for {facts.gpu or 'any ' + ', '.join(facts.targets)}, not for {needed_for}"
        if facts.ranges_sha256 != self.ranges_sha256:
            return "was quantized with other ranges than those recorded now"
        allowed = self.options.max_drop
        verified = facts.certificate["budget"]["max_drop"] if facts.certificate else math.inf
        if allowed is not None and verified > allowed:
            return f"was verified to lose at most {verified:g} points of mIoU, {allowed:g} are allowed"
        return None


def _find_existing(path: Path, request: _BuildRequest, notify: OnProgress) -> EngineFacts | None:
    """Return the facts about the engine at ``path`` if it matches; otherwise notify why it is built again."""
    if request.options.force or not path.exists():
        return None
    try:
        facts = read_engine_facts(path)
        read_engine(path, facts)
    except ModelError as error:
        notify(f"building again: {str(error).removesuffix(REMEDY)}")
        return None
    reason = request.mismatch_reason(facts)
    if reason is None:
        return facts
    notify(f"building again: {path} {reason}")
    return None


def _build_and_verify(path: Path, request: _BuildRequest, on_progress: OnProgress) -> EngineFacts:
    """Build an engine and install it at ``path`` if its labels are good enough."""
    options, model = request.options, request.model
    budget = BUDGETS[options.precision]
    if options.max_drop is not None:
        budget = replace(budget, max_drop=options.max_drop)
    # Open the data and the reference first: errors must come before the build, which may take minutes.
    data = open_verification_data(model.spec, options.data)
    with open_backend("onnxruntime", model) as reference, staged(path) as part:
        on_progress(f"preparing the graph in {options.precision}")
        graph = _convert(model, options.precision)
        plan = _build(request, graph, on_progress)
        facts = replace(request.facts(plan), spec=store_backgrounds(model.spec, path))
        on_progress("writing")
        write_staged(part, plan.data, facts)
        candidate, judged_by = _open_candidate(request, graph, part)
        with candidate:
            verdict = verify(
                reference,
                candidate,
                data,
                budget,
                judged_by=judged_by,
                on_progress=lambda done, total: on_progress(f"checking the labels, image {done} of {total}"),
            )
        _check_passed(path, verdict)
        facts = replace(facts, certificate=_certificate(verdict, path, facts.engine_sha256))
        install_engine(part, facts, path)
    return facts


def _certificate(verdict: Verdict, engine: Path, sha256: str) -> dict[str, Any]:
    """Return the verdict for JSON, with the final file name of a verified engine instead of the staged one."""
    certificate = verdict.to_dict()
    if "engine" in certificate["candidate"]:
        certificate["candidate"] = {**certificate["candidate"], "engine": {"file": str(engine), "sha256": sha256}}
    return certificate


def _check_passed(path: Path, verdict: Verdict) -> None:
    if verdict.passed:
        return
    has_dropped = verdict.drop is not None and verdict.drop > verdict.budget.max_drop
    remedy = "use another --precision" + (", or allow more with --max-drop" if has_dropped else "")
    raise ProofError(f"{path} is not written, {' and '.join(verdict.reasons)} ({verdict.data}): {remedy}")


def _build(request: _BuildRequest, graph: ModelFile, on_progress: OnProgress) -> Plan:
    cache = request.options.timing_cache
    try:
        timings = None if cache is None else read_bytes(cache, 1 << 30) if cache.exists() else b""
    except OSError as error:
        raise OptionError(f"--timing-cache {cache} cannot be read ({error.strerror}): give another file") from error
    plan = build_plan(
        request.trt,
        graph,
        request.target,
        batch=request.options.batch,
        timing_cache=timings,
        on_progress=lambda phase: on_progress(f"{request.trt.title}: {phase}"),
    )
    if cache is not None and plan.timing_cache is not None:
        write_bytes(cache, plan.timing_cache)
    return plan


def _open_candidate(request: _BuildRequest, graph: ModelFile, part: Path) -> tuple[Backend, str]:
    """Open what is verified, and describe it: the engine if it can run here, otherwise its graph."""
    gpu = find_gpu()
    if gpu is not None and covers(request.target.targets, gpu.target) and find_spec("pycuda") is not None:
        return open_backend("tensorrt", part), f"the engine on {gpu.name}"
    backend = open_backend("onnxruntime", emulate_float16(graph))
    rounded = "" if request.options.precision == "fp32" else ", every value rounded to fp16"
    return backend, f"the graph on the CPU by ONNX Runtime {backend.version}{rounded}"


def _load_float_or_int8(options: EngineOptions) -> ModelFile:
    path = find_model(options.model)
    if path.suffix == ".engine":
        raise OptionError(f"{path} is an engine already: give the model file that it was built from")
    model = load_model(path)
    if options.precision != "int8" and is_quantized(model.graph):
        raise OptionError(f"{model.path} is quantized: use --precision int8, or give the model that it was made from")
    return model


def _ranges_sha256(model: ModelFile, precision: str) -> str | None:
    """Return the SHA-256 of the activation ranges that ``model`` will be quantized with."""
    if precision != "int8" or is_quantized(model.graph):
        return None
    from rtseg.model_file.activation_ranges import find_ranges
    from rtseg.model_file.quantize import reject_sequence_model

    reject_sequence_model(model)
    return hashlib.sha256(find_ranges(model).to_json().encode()).hexdigest()


def _convert(model: ModelFile, precision: str) -> ModelFile:
    """Convert ``model`` to a precision: a strongly typed TensorRT network computes in the types of its graph."""
    if precision == "fp32":
        return model
    if precision == "fp16":
        return to_float16(model)
    from rtseg.model_file.quantize import to_int8

    return to_float16(to_int8(model))


def _default_path(
    original: ModelSpec, spec: ModelSpec, options: EngineOptions, trt: TensorRTLibrary, target: BuildTarget
) -> Path:
    """Return the default path of an engine, with its size and batch if they are not the usual ones."""
    size = "" if spec.size == original.size else f"-{spec.size[0]}x{spec.size[1]}"
    name = spec.name + size + (f"-b{options.batch}" if options.batch > 1 else "")
    # TensorRT-RTX can build an engine for the GPU of this machine and another one for all GPUs of its targets.
    current = (CURRENT,) if trt.name == "rtx" and target.gpu is not None else ()
    return engine_path(ENGINES, name, options.precision, trt.name, (*target.targets, *current))
