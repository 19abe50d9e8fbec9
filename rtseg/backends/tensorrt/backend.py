"""TensorRT and TensorRT-RTX: run the engines that `rtseg build-engine` makes, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rtseg.backends.base import BackendOptions
from rtseg.backends.slots import GPU_DEPTH, SlotBackend
from rtseg.backends.tensorrt.cuda import open_device
from rtseg.backends.tensorrt.engine_file import (
    ENGINES,
    EngineFacts,
    EngineMatch,
    EngineRequirements,
    find_engine,
    mismatch_reason,
    read_engine,
    read_engine_facts,
)
from rtseg.backends.tensorrt.execution import FIRST_RUNS, EngineSlot, LoadedEngine
from rtseg.backends.tensorrt.library import TensorRTLibrary, import_tensorrt
from rtseg.backends.tensorrt.runtime_cache import RuntimeCacheFile
from rtseg.errors import BackendUnavailable
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import file_sha256
from rtseg.system.nvidia import Gpu, driver_version, find_gpu
from rtseg.weights import bundled_models

__all__ = ["PRECISIONS", "TensorRTBackend", "find_matching_engine", "no_engine_message", "open_engine", "open_tensorrt"]

PRECISIONS = ("fp32", "fp16", "int8")


def open_tensorrt(model: ModelFile, options: BackendOptions) -> TensorRTBackend:
    """Run ``model`` with the engine in ``engines`` that matches it, its size, the precision, the GPU and the runtime.

    Raises:
        BackendUnavailable: no engine matches (the text says why), or there is no GPU, driver or runtime.
        ModelError: the engine is damaged.
        BackendError: the GPU has too little memory.
    """
    _check_options(options)
    match = find_matching_engine(file_sha256(model.path), model.spec.size, options.precision)
    if match.path is None or match.facts is None or match.plan is None:
        raise BackendUnavailable(no_engine_message(model, options.precision, match.reasons))
    return TensorRTBackend(match.path, match.facts, match.plan, options)


def open_engine(path: Path, options: BackendOptions, size: tuple[int, int] | None = None) -> TensorRTBackend:
    """Run the engine in the file ``path``.

    Raises:
        ModelError: the file, or the JSON beside it, is missing or damaged.
        BackendUnavailable: the engine has another precision or size, or cannot run on this machine.
        BackendError: the GPU has too little memory.
    """
    _check_options(options)
    facts = read_engine_facts(path)
    _check_match(path, facts, options, size or facts.size)
    return TensorRTBackend(path, facts, read_engine(path, facts), options)


def find_matching_engine(model_sha256: str, size: tuple[int, int], precision: str) -> EngineMatch:
    """Find the engine in ``engines`` that was built from a model file, for this GPU and an installed runtime.

    Args:
        model_sha256: SHA-256 of the ONNX file.
        size: (H, W) of the input, in pixels.
        precision: ``auto`` for any.

    Raises:
        BackendUnavailable: no GPU, no driver, or neither TensorRT nor TensorRT-RTX is installed.
    """
    gpu = _require_gpu()
    reasons: list[str] = []
    for trt in _installed_runtimes():
        match = find_engine(ENGINES, _requirements(model_sha256, size, precision, trt, gpu))
        if match.path is not None:
            return match
        reasons += match.reasons
    return EngineMatch(None, None, None, tuple(dict.fromkeys(reasons)))


def _requirements(
    model_sha256: str, size: tuple[int, int], precision: str, trt: TensorRTLibrary, gpu: Gpu
) -> EngineRequirements:
    return EngineRequirements(
        model_sha256=model_sha256,
        size=size,
        runtime=trt.name,
        runtime_version=trt.version,
        targets=(gpu.target,),
        precision=None if precision == "auto" else precision,
        gpu=gpu.name,
    )


def no_engine_message(model: ModelFile, precision: str, reasons: Sequence[str]) -> str:
    """Return the error message for a model without a matching engine; ``reasons`` are those of its other engines."""
    name = model.path.stem if model.path in bundled_models().values() else model.path
    height, width = model.spec.size
    in_precision = "" if precision == "auto" else f" in {precision}"
    details = f" ({'; '.join(reasons)})" if reasons else ""
    return (
        f"no engine for {model.spec.name} at {height}x{width}{in_precision} in {ENGINES}/{details}: "
        f"build one with `rtseg build-engine {name}`"
    )


def _installed_runtimes() -> list[TensorRTLibrary]:
    """Return TensorRT, TensorRT-RTX or both."""
    installed, errors = [], []
    for name in ("tensorrt", "rtx"):
        try:
            installed.append(import_tensorrt(name))
        except BackendUnavailable as error:
            errors.append(error)
    if not installed:
        raise errors[-1]  # suggests TensorRT-RTX, which is on the package index
    return installed


def _require_gpu() -> Gpu:
    if driver_version() is None:
        raise BackendUnavailable("no NVIDIA driver found: install one, or run the .onnx file with --backend openvino")
    gpu = find_gpu()
    if gpu is None:
        raise BackendUnavailable(
            "CUDA finds no usable GPU: see nvidia-smi, or run the .onnx file with --backend openvino"
        )
    return gpu


def _check_options(options: BackendOptions) -> None:
    if options.device == "cpu":
        raise BackendUnavailable(
            "the tensorrt backend runs on an NVIDIA GPU: use --device cuda, or run the .onnx file with "
            "--backend openvino"
        )
    if options.precision not in ("auto", *PRECISIONS):
        raise BackendUnavailable(f"the tensorrt backend computes in fp32, fp16 or int8, not in {options.precision}")


class TensorRTBackend(SlotBackend):
    """Runs one engine. A batch that is longer than the engine allows is processed in parts.

    Each slot has its own execution context, stream, pinned memory and device memory: while one batch is computed, the
    next is uploaded and the previous one downloaded. In a slot the stream keeps the order, and an event after the
    download marks that the labels are ready. The network is replayed as one CUDA graph. TensorRT-RTX captures it by
    itself; for TensorRT the slot captures it.

    The state of a sequence model stays on the GPU. The next state is copied over the state instead of swapping the two
    buffers, because a CUDA graph can be replayed only with the same addresses.
    """

    name = "tensorrt"

    def __init__(self, engine: Path, facts: EngineFacts, plan: bytes, options: BackendOptions) -> None:
        super().__init__()
        trt = import_tensorrt(facts.runtime)
        self.spec = facts.spec
        self.precision = facts.precision
        self.version = trt.version
        self.model_sha256 = facts.model_sha256
        self.recurrent = facts.state_shape is not None
        self.max_batch = facts.batch
        self.engine_facts = facts
        self._engine_file = engine
        self._device = open_device()
        self.device = self._device.name
        self._loaded: LoadedEngine | None = None
        # The driver is part of it because TensorRT-RTX ignores kernels that an older driver compiled, without an error.
        owner = f"{facts.engine_sha256}, {trt.title}, {self.device}, driver {driver_version()}"
        self._cache = RuntimeCacheFile(engine, owner)
        depth = 1 if self.recurrent else GPU_DEPTH[options.hint]
        with self._device.lock:  # load and capture one engine at a time
            loaded = self._loaded = LoadedEngine(trt, self._device, engine, plan, self._cache)
            self._add_slots((EngineSlot(loaded, self._device, facts) for _ in range(depth)), warmup_runs=FIRST_RUNS + 1)
            loaded.save_compiled()

    def facts(self) -> dict[str, Any]:
        """See ``Backend.facts``; also describes the engine, its CUDA graph and its runtime cache."""
        engine = {
            "file": str(self._engine_file),
            "sha256": self.engine_facts.engine_sha256,
            "cuda_graph": "; ".join(sorted({slot.graph_note for slot in self._slots()})) or "closed",
            "runtime_cache": self._cache.note,
        }
        return {**super().facts(), "engine": engine}

    def _slots(self) -> Iterator[EngineSlot]:
        yield from (*self._free, *(ticket.handle for ticket in self._lent))

    def _close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None


def _check_match(path: Path, facts: EngineFacts, options: BackendOptions, size: tuple[int, int]) -> None:
    gpu, trt = _require_gpu(), import_tensorrt(facts.runtime)
    # There is no ONNX file to compare with, so its own hash is passed.
    reason = mismatch_reason(facts, _requirements(facts.model_sha256, size, options.precision, trt, gpu))
    if reason is not None:
        raise BackendUnavailable(f"{path} {reason}: build one that fits with `rtseg build-engine`")
