"""TensorRT and TensorRT-RTX: runs the engines that `rtseg build-engine` makes, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends import BackendOptions
from rtseg.backends._cuda import Device, open_device
from rtseg.backends._runtime_cache import RuntimeCacheFile
from rtseg.backends._slots import DEPTH, SlotBackend
from rtseg.engine_file import ENGINES, EngineFacts, FoundEngine, find_engine, misfit, read_engine, read_engine_facts
from rtseg.errors import BackendError, BackendUnavailable
from rtseg.spec import ModelFile, file_sha256
from rtseg.trt import Gpu, Trt, complaints, find_driver, find_gpu, import_tensorrt, logger_of
from rtseg.weights import bundled_models

__all__ = ["PRECISIONS", "TensorRtBackend", "fitting_engine", "no_engine", "open_engine", "open_tensorrt"]

PRECISIONS = ("fp32", "fp16", "int8")
_FLOAT_BYTES = 4
_NOTHING = np.empty((0, 0, 0), np.uint8)


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
    _refuse_misfit(path, facts, options, size or facts.size)
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


def _installed() -> list[Trt]:
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
    event behind the download says when the labels are there. Where TensorRT-RTX can, it replays the whole network as
    one CUDA graph; TensorRT proper leaves the capture to its user, and pycuda has no call for it.

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
        self._plan: _Plan | None = None
        self._cache = RuntimeCacheFile(engine, f"{facts.engine_sha256}, {trt.title}, {self.device}")
        depth = 1 if self.recurrent else DEPTH[options.hint]
        with self._device.alone:  # one engine at a time is loaded, and captured when it is run for the first time
            loaded = self._plan = _Plan(trt, self._device, engine, plan, self._cache)
            self._use((_Slot(loaded, self._device, facts) for _ in range(depth)), warm=True)
            loaded.keep_compiled()

    def facts(self) -> dict[str, Any]:
        """See ``Backend.facts``; with the engine, and what became of what TensorRT-RTX compiled of it."""
        engine = {"file": str(self._engine_file), "sha256": self.engine_facts.engine_sha256}
        return {**super().facts(), "engine": {**engine, "runtime_cache": self._cache.note}}

    def _close(self) -> None:
        if self._plan is not None:
            self._plan.close()
            self._plan = None


def _refuse_misfit(path: Path, facts: EngineFacts, options: BackendOptions, size: tuple[int, int]) -> None:
    gpu, trt = _gpu(), import_tensorrt(facts.runtime)
    reason = misfit(
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


class _Plan:
    """An engine, loaded.

    Args:
        trt: what runs it.
        device: where; ``alone`` is held.
        path: of its file, for what is told.
        data: the engine itself.
        kept: what was compiled of it before.
    """

    def __init__(self, trt: Trt, device: Device, path: Path, data: bytes, kept: RuntimeCacheFile) -> None:
        self.trt = trt
        self._device = device
        self._kept = kept
        self._cache: Any = None
        self._config: Any = None
        with device.active():
            with complaints(trt) as said:
                self._runtime = trt.module.Runtime(logger_of(trt.module))
                self._engine = self._runtime.deserialize_cuda_engine(data)
                if self._engine is None:
                    raise BackendError(
                        f"{trt.title} does not load {path}{_because(said)}: build it again with `rtseg build-engine`"
                    )
            if hasattr(trt.module, "CudaGraphStrategy"):  # TensorRT-RTX, since its 1.2
                self._configure()

    def _configure(self) -> None:
        """Have CUDA graphs, and kernels that were compiled before."""
        module = self.trt.module
        self._config = self._engine.create_runtime_config()
        self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Compiled, and captured, in the first run of a length: else that happens in a later one, nobody knows which.
        eager = module.DynamicShapesKernelSpecializationStrategy.EAGER
        self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._cache = self._config.create_runtime_cache()
        compiled = self._kept.read()
        with complaints(self.trt):  # of what is kept: it is compiled anew, and nothing is wrong
            if compiled is not None and not self._cache.deserialize(compiled):
                self._kept.refuse()
        if not self._config.set_runtime_cache(self._cache):
            self._cache = None
            self._kept.refuse()

    def keep_compiled(self) -> None:
        """Keep what was compiled by now for the next time."""
        if self._cache is None:
            return
        with self._device.alone, self._device.active():
            compiled = self._cache.serialize()
        if compiled is not None:
            self._kept.write(bytes(compiled))

    def context(self) -> Any:
        """What runs the engine for one slot."""
        with complaints(self.trt) as said:
            # No name here for the configuration: the traceback of an error would keep it alive beyond the engine.
            if self._config is None:
                context = self._engine.create_execution_context()
            else:
                context = self._engine.create_execution_context(self._config)
            if context is None:
                raise BackendError(
                    f"{self.trt.title} cannot run the engine{_because(said)}: "
                    "close what else runs on the GPU, or give a smaller --size"
                )
        return context

    def close(self) -> None:
        """Free it, after all contexts."""
        self.keep_compiled()
        with self._device.alone, self._device.active():
            self._cache = None
            self._config = None
            self._engine = None
            self._runtime = None


class _Slot:
    """See ``Slot``. The state of a sequence model lies here as well, for it has one slot."""

    def __init__(self, plan: _Plan, device: Device, facts: EngineFacts) -> None:
        self._plan = plan
        self._device = device
        self._picture = (*facts.size, facts.spec.channels)
        self._batch = facts.batch
        self._state_bytes = _FLOAT_BYTES * facts.batch * int(np.prod(facts.state_shape or 0))
        self._state_shape = facts.state_shape
        self._memory: list[Any] = []
        self._states: list[Any] = []
        """Of each part of a batch; one part, unless a batch is longer than the engine takes."""
        self._fresh = True
        self._shaped = 0
        """Frames that the context was told to expect."""
        self._captured: set[int] = set()
        """Lengths of the batches that were run before: what follows of them allocates and captures nothing."""
        self._length = 0
        self._host_frames = self._host_labels = _NOTHING
        self._context: Any = None
        self._stream: Any = None
        self._done: Any = None
        pixels = facts.batch * facts.size[0] * facts.size[1]
        with ExitStack() as unfinished:
            unfinished.callback(self.close)
            with device.active():
                self._stream = device.stream()
                self._done = device.event()
                self._hold(1)
                self._frames = self._allocate(pixels * facts.spec.channels)
                self._labels = self._allocate(pixels)
                self._context = plan.context()
                self._bind("frames", self._frames)
                self._bind("labels", self._labels)
                if self._state_shape is not None:
                    self._next_state = self._allocate(self._state_bytes)
                    self._bind("next_state", self._next_state)
            unfinished.pop_all()

    def _allocate(self, size: int) -> Any:
        self._memory.append(self._device.memory(size))
        return self._memory[-1]

    def _hold(self, length: int) -> None:
        """Have pinned memory for so many frames, both ways."""
        self._host_frames = self._device.pinned((length, *self._picture))
        self._host_labels = self._device.pinned((length, *self._picture[:2]))

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``."""
        is_first = len(frames) not in self._captured
        with self._device.alone if is_first else nullcontext(), self._device.active():
            if len(frames) > len(self._host_frames):
                self._hold(len(frames))
            np.copyto(self._host_frames[: len(frames)], frames)
            self._length = len(frames)
            try:
                if self._state_shape is not None:
                    self._prepare_states(-(-len(frames) // self._batch))
                for part, first in enumerate(range(0, len(frames), self._batch)):
                    self._run(part, first, min(first + self._batch, len(frames)))
            finally:  # also behind half a batch: the memory is not used again before that is done
                self._done.record(self._stream)
        self._captured.add(len(frames))

    def _run(self, part: int, first: int, end: int) -> None:
        """Label the frames ``first`` to ``end`` of the batch, which are its ``part``."""
        self._device.upload(self._frames, self._host_frames[first:end], self._stream)
        if self._state_shape is not None:
            self._bind("state", self._states[part])
        self._expect(end - first)
        with complaints(self._plan.trt) as said:
            if not self._context.execute_async_v3(self._stream.handle):
                raise BackendError(f"{self._plan.trt.title} failed on a batch{_because(said)}")
        if self._state_shape is not None:
            self._device.copy(self._states[part], self._next_state, self._state_bytes, self._stream)
        self._device.download(self._host_labels[first:end], self._labels, self._stream)

    def _expect(self, length: int) -> None:
        if length == self._shaped:
            return
        shapes: dict[str, tuple[int, ...]] = {"frames": (length, *self._picture)}
        if self._state_shape is not None:
            shapes["state"] = (length, *self._state_shape)
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(f"{self._plan.trt.title} refuses {name} of the shape {shape}")
        self._shaped = length

    def _prepare_states(self, parts: int) -> None:
        while len(self._states) < parts:
            self._states.append(self._allocate(self._state_bytes))
        if self._fresh:
            for state in self._states:
                self._device.clear(state, self._state_bytes, self._stream)
            self._fresh = False

    def _bind(self, name: str, memory: Any) -> None:
        if not self._context.set_tensor_address(name, int(memory)):
            raise BackendError(f"the engine has no {name}: build it again with `rtseg build-engine`")

    def reset(self) -> None:
        """Begin anew with the next batch; the one in flight is not touched."""
        self._fresh = True

    def finish(self) -> None:
        """See ``Slot.finish``."""
        with self._device.active():
            self._done.synchronize()

    def labels(self) -> NDArray[np.uint8]:
        """See ``Slot.labels``."""
        return self._host_labels[: self._length]

    def close(self) -> None:
        """See ``Slot.close``. What the context uses goes after it."""
        with self._device.alone, self._device.active():
            # pycuda frees streams and events that nobody refers to, and can only do so where its context is current.
            self._context = self._done = self._stream = None
            self._host_frames = self._host_labels = _NOTHING
            while self._memory:
                self._memory.pop().free()


def _because(said: list[str]) -> str:
    """What the runtime complained of, as part of a sentence."""
    return f" ({'; '.join(said[:2])})" if said else ""
