"""TensorRT and TensorRT-RTX: runs the engines that `rtseg build-engine` makes, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rtseg.backends.base import BackendOptions
from rtseg.backends.gpu_slots import DEPTH, SlotBackend
from rtseg.backends.tensorrt.cuda import open_device
from rtseg.backends.tensorrt.engine_file import (
    ENGINES,
    EngineFacts,
    FoundEngine,
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
from rtseg.system.nvidia import Gpu, find_driver, find_gpu
from rtseg.weights import bundled_models

__all__ = ["PRECISIONS", "TensorRtBackend", "fitting_engine", "no_engine", "open_engine", "open_tensorrt"]

PRECISIONS = ("fp32", "fp16", "int8")


def open_tensorrt(model: ModelFile, options: BackendOptions) -> TensorRtBackend:
    """Run ``model`` by the engine in ``engines`` that fits it, its size, the precision, this GPU and this TensorRT.

    Raises:
        BackendUnavailable: there is none, and why each that comes near does not fit; or no GPU, driver or library.
        ModelError: the engine is damaged.
        BackendError: the GPU has not enough memory.
    """
    _refuse_options(options)
    found = fitting_engine(file_sha256(model.path), model.spec.size, options.precision)
    if found.path is None or found.facts is None or found.plan is None:
        raise BackendUnavailable(no_engine(model, options.precision, found.reasons))
    return TensorRtBackend(found.path, found.facts, found.plan, options)


def open_engine(path: Path, options: BackendOptions, size: tuple[int, int] | None = None) -> TensorRtBackend:
    """Run the engine in the file ``path``.

    Raises:
        ModelError: the file, or the JSON beside it, is missing or damaged.
        BackendUnavailable: it is of another precision or size than asked for, or does not run here, and why.
        BackendError: the GPU has not enough memory.
    """
    _refuse_options(options)
    facts = read_engine_facts(path)
    _refuse_mismatch(path, facts, options, size or facts.size)
    return TensorRtBackend(path, facts, read_engine(path, facts), options)


def fitting_engine(model_sha256: str, size: tuple[int, int], precision: str) -> FoundEngine:
    """The engine in ``engines`` that labels as the model file would, on this GPU, by a TensorRT that is installed.

    Args:
        model_sha256: of the ONNX file.
        size: (H, W) of the input, in pixels.
        precision: ``auto`` for any.

    Raises:
        BackendUnavailable: no GPU, no driver, or neither TensorRT nor TensorRT-RTX is installed.
    """
    gpu = _gpu()
    reasons: list[str] = []
    for trt in _installed():
        found = find_engine(
            ENGINES,
            model_sha256=model_sha256,
            size=size,
            runtime=trt.name,
            runtime_version=trt.version,
            target=gpu.target,
            precision=None if precision == "auto" else precision,
            gpu=gpu.name,
        )
        if found.path is not None:
            return found
        reasons += found.reasons
    return FoundEngine(None, None, None, tuple(dict.fromkeys(reasons)))


def no_engine(model: ModelFile, precision: str, reasons: Sequence[str]) -> str:
    """The sentence for a model that has no engine, with why those that come near do not fit."""
    name = model.path.stem if model.path in bundled_models().values() else model.path
    how = "" if precision == "auto" else f" in {precision}"
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return (
        f"no engine for {model.spec.name} at {_times(model.spec.size)}{how} in {ENGINES}/{why}: "
        f"build one with `rtseg build-engine {name}`"
    )


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _installed() -> list[TensorRTLibrary]:
    """TensorRT, TensorRT-RTX or both."""
    found, missing = [], []
    for name in ("tensorrt", "rtx"):
        try:
            found.append(import_tensorrt(name))
        except BackendUnavailable as error:
            missing.append(error)
    if not found:
        raise missing[-1]  # of RTX, which the package index has
    return found


def _gpu() -> Gpu:
    if find_driver() is None:
        raise BackendUnavailable("no NVIDIA driver answers: install one, or run the .onnx file with --backend openvino")
    gpu = find_gpu()
    if gpu is None:
        raise BackendUnavailable(
            "CUDA finds no usable GPU: see what nvidia-smi says, or run the .onnx file with --backend openvino"
        )
    return gpu


def _refuse_options(options: BackendOptions) -> None:
    if options.device == "cpu":
        raise BackendUnavailable(
            "the tensorrt backend runs on an NVIDIA GPU: use --device cuda, or run the .onnx file with "
            "--backend openvino"
        )
    if options.precision not in ("auto", *PRECISIONS):
        raise BackendUnavailable(f"the tensorrt backend computes in fp32, fp16 or int8, not in {options.precision}")


class TensorRtBackend(SlotBackend):
    """Runs one engine. Batches of any length: one longer than the engine takes goes through it in parts.

    Every slot has an execution context, a stream, pinned memory and device memory of its own: while one batch is
    computed, the next is uploaded and the one before it downloaded. Within a slot the stream keeps the order, and an
    event behind the download says when the labels are there. The network is replayed as one CUDA graph: TensorRT-RTX
    captures it by itself, and for TensorRT the slot does.

    The state of a sequence model stays on the GPU. What the network writes is copied over what it has read, rather
    than the two changing places: addresses that never change are what lets a CUDA graph be replayed.
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
        self.engine_facts = facts
        self._engine_file = engine
        self._device = open_device()
        self.device = self._device.name
        self._loaded: LoadedEngine | None = None
        # TensorRT-RTX passes over what an older GPU driver compiled without a word, and compiles it again every time.
        owner = f"{facts.engine_sha256}, {trt.title}, {self.device}, driver {find_driver()}"
        self._cache = RuntimeCacheFile(engine, owner)
        depth = 1 if self.recurrent else DEPTH[options.hint]
        with self._device.alone:  # one engine at a time is loaded and captured
            loaded = self._loaded = LoadedEngine(trt, self._device, engine, plan, self._cache)
            self._use((EngineSlot(loaded, self._device, facts) for _ in range(depth)), warm_runs=FIRST_RUNS + 1)
            loaded.keep_compiled()

    def facts(self) -> dict[str, Any]:
        """See ``Backend.facts``; with the engine, its CUDA graph, and what became of what TensorRT-RTX compiled."""
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


def _refuse_mismatch(path: Path, facts: EngineFacts, options: BackendOptions, size: tuple[int, int]) -> None:
    gpu, trt = _gpu(), import_tensorrt(facts.runtime)
    reason = mismatch_reason(
        facts,
        model_sha256=facts.model_sha256,  # its own: nobody gave an ONNX file to compare with
        size=size,
        runtime=trt.name,
        runtime_version=trt.version,
        targets=(gpu.target,),
        precision=None if options.precision == "auto" else options.precision,
        gpu=gpu.name,
    )
    if reason is not None:
        raise BackendUnavailable(f"{path} {reason}: build one that fits with `rtseg build-engine`")
