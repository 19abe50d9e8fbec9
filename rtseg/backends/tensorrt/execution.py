"""Runs a TensorRT engine: it is loaded once, and each slot has its own execution context, stream and memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.tensorrt.cuda import Device, DriverError, Graph
from rtseg.backends.tensorrt.engine_file import EngineFacts
from rtseg.backends.tensorrt.library import TensorRTLibrary, captured_errors, get_logger
from rtseg.backends.tensorrt.runtime_cache import RuntimeCacheFile
from rtseg.errors import BackendError

__all__ = ["FIRST_RUNS", "EngineSlot", "LoadedEngine"]

FIRST_RUNS = 2
"""Special runs of a new shape: the first compiles and allocates, the second is captured as a CUDA graph ("Working with
RTX CUDA Graphs" in the TensorRT-RTX documentation, "CUDA Graphs" in that of TensorRT)."""
_FLOAT_BYTES = 4
_EMPTY = np.empty((0, 0, 0), np.uint8)


class LoadedEngine:
    """A loaded engine.

    Args:
        trt: the runtime.
        device: the GPU; the caller holds its ``lock``.
        path: file of the engine, for error messages.
        data: content of the file.
        cache_file: kernels that were compiled for the engine before.
    """

    def __init__(
        self, trt: TensorRTLibrary, device: Device, path: Path, data: bytes, cache_file: RuntimeCacheFile
    ) -> None:
        self.trt = trt
        self._device = device
        self._cache_file = cache_file
        self._cache: Any = None
        self._config: Any = None
        with device.active():
            with captured_errors(trt) as errors:
                self._runtime = trt.module.Runtime(get_logger(trt.module))
                self._engine = self._runtime.deserialize_cuda_engine(data)
                if self._engine is None:
                    raise BackendError(
                        f"{trt.title} cannot load {path}{_summary(errors)}: build it again with `rtseg build-engine`"
                    )
            if hasattr(trt.module, "CudaGraphStrategy"):  # TensorRT-RTX 1.2 and later
                self._configure()

    @property
    def captures_itself(self) -> bool:
        """Whether the runtime captures CUDA graphs by itself."""
        return self._config is not None

    def _configure(self) -> None:
        """Turn on CUDA graphs, and load kernels that were compiled before."""
        module = self.trt.module
        self._config = self._engine.create_runtime_config()
        self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Compile in the first run of a length and capture in the second; otherwise it happens in any later run.
        eager = module.DynamicShapesKernelSpecializationStrategy.EAGER
        self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._cache = self._config.create_runtime_cache()
        compiled = self._cache_file.read()
        if compiled is not None and not self._cache.deserialize(compiled):
            self._cache_file.discard()
        if not self._config.set_runtime_cache(self._cache):
            self._cache = None
            self._cache_file.discard()

    def save_compiled(self) -> None:
        """Save the compiled kernels for the next time. A failure costs only time, so it is noted and not raised."""
        if self._cache is None:
            return
        try:
            with self._device.lock, self._device.active():
                compiled = self._cache.serialize()
        except BackendError as error:
            self._cache_file.note = f"not saved ({error})"
            return
        if compiled is not None:
            self._cache_file.write(bytes(compiled))

    def context(self) -> Any:
        """Make an execution context for one slot."""
        with captured_errors(self.trt) as errors:
            # No local variable for the configuration: a traceback would keep it alive longer than the engine.
            if self._config is None:
                context = self._engine.create_execution_context()
            else:
                context = self._engine.create_execution_context(self._config)
            if context is None:
                raise BackendError(
                    f"{self.trt.title} cannot run the engine{_summary(errors)}: "
                    "close other programs that use the GPU, or give a smaller --size"
                )
        return context

    def close(self) -> None:
        """Free it. All its contexts are freed already."""
        self.save_compiled()
        with self._device.lock, self._device.active():
            self._cache = None
            self._config = None
            self._engine = None
            self._runtime = None


class _Launcher:
    """Queues the network on the stream of a slot, from the third run of the same length on as a CUDA graph.

    A graph is valid for one set of shapes, and both runtimes keep their memory for the last shapes only. So there is
    one graph, captured again for other shapes. Batches whose parts differ in length are never replayed.

    Args:
        engine: the engine of ``context``.
        device: the GPU.
        context: execution context with all addresses set, which never change; the caller sets the shapes.
        stream: stream of the slot.
    """

    def __init__(self, engine: LoadedEngine, device: Device, context: Any, stream: Any) -> None:
        self._engine = engine
        self._device = device
        self._context = context
        self._stream = stream
        self._length = 0
        self._runs = 0
        """Consecutive successful runs of ``_length`` frames."""
        self._graph: Graph | None = None
        self.note = "TensorRT-RTX's own" if engine.captures_itself else "none yet"
        """Whether a CUDA graph is replayed, for a report: ``captured``, or why not."""

    def __call__(self, length: int) -> None:
        """Queue the network for ``length`` frames. After an error the next run counts as the first.

        Raises:
            BackendError: the runtime failed.
            DriverError: the graph cannot be launched.
        """
        if length != self._length:
            self._drop_graph()
            self._length, self._runs = length, 0
        runs, self._runs = self._runs, 0
        if self._graph is not None:
            self._replay(self._graph)
        elif runs < FIRST_RUNS:
            with self._device.may_capture():
                self._run_first(runs)
        else:
            self._enqueue()
        self._runs = runs + 1

    def _replay(self, graph: Graph) -> None:
        try:
            graph.launch(self._stream.handle)
        except DriverError:
            self._drop_graph()
            raise

    def _run_first(self, runs: int) -> None:
        if runs == 0 or self._engine.captures_itself:
            self._enqueue()
            return
        try:
            # Pass the handle only: a traceback would keep the stream alive longer than its context.
            self._graph = self._device.capture(self._enqueue, self._stream.handle)
        except (BackendError, DriverError) as error:
            self.note = f"none ({error})"
            self._enqueue()
        else:
            self.note = "captured"
            self._replay(self._graph)

    def _enqueue(self) -> None:
        with captured_errors(self._engine.trt) as errors:
            if not self._context.execute_async_v3(self._stream.handle):
                raise BackendError(f"{self._engine.trt.title} failed on a batch{_summary(errors)}")

    def _drop_graph(self) -> None:
        if self._graph is None:
            return
        graph, self._graph = self._graph, None
        self.note = "none yet"
        try:
            self._stream.synchronize()  # TensorRT does not see graph launches: they must end before its next run
        finally:
            with self._device.lock:
                graph.close()

    def close(self) -> None:
        """Free the graph. No run is in progress. The owner of the context frees it."""
        if self._graph is not None:
            self._graph.close()
        self._graph = self._context = self._stream = None


class EngineSlot:
    """See ``Slot``. It also holds the state of a sequence model, which has only one slot.

    Args:
        engine: the engine to run.
        device: the GPU.
        facts: facts about the engine.
    """

    def __init__(self, engine: LoadedEngine, device: Device, facts: EngineFacts) -> None:
        self._device = device
        self._title = engine.trt.title
        self._image_shape = (*facts.size, facts.spec.channels)
        self._max_batch = facts.batch
        self._state_bytes = _FLOAT_BYTES * facts.batch * int(np.prod(facts.state_shape or 0))
        self._state_shape = facts.state_shape
        self._memory: list[Any] = []
        self._states: list[Any] = []
        """One per part of a batch that is longer than ``_max_batch``. A single part needs no copy of its state."""
        self._must_reset = True
        self._context_length = 0
        """The batch length that the context is set to."""
        self._length = 0
        self._host_frames = self._host_labels = _EMPTY
        self._context: Any = None
        self._launch: _Launcher | None = None
        self._stream: Any = None
        self._done: Any = None
        pixels = facts.batch * facts.size[0] * facts.size[1]
        with ExitStack() as on_error:
            on_error.callback(self.close)
            with device.active():
                self._stream = device.stream()
                self._done = device.event()
                self._allocate_pinned(1)
                self._frames = self._allocate(pixels * facts.spec.channels)
                self._labels = self._allocate(pixels)
                self._context = engine.context()
                self._launch = _Launcher(engine, device, self._context, self._stream)
                self._bind("frames", self._frames)
                self._bind("labels", self._labels)
                if self._state_shape is not None:
                    self._state, self._next_state = (self._allocate(self._state_bytes) for _ in range(2))
                    self._bind("state", self._state)
                    self._bind("next_state", self._next_state)
            on_error.pop_all()

    @property
    def graph_note(self) -> str:
        """Whether a CUDA graph is replayed, for a report."""
        return self._launch.note if self._launch is not None else "closed"

    def _allocate(self, size: int) -> Any:
        self._memory.append(self._device.memory(size))
        return self._memory[-1]

    def _allocate_pinned(self, length: int) -> None:
        """Allocate pinned memory for the frames and the labels of a batch."""
        shapes = (self._image_shape, self._image_shape[:2])
        self._host_frames, self._host_labels = (self._device.pinned((length, *shape)) for shape in shapes)

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``."""
        with self._device.active():
            if len(frames) > len(self._host_frames):
                self._allocate_pinned(len(frames))
            np.copyto(self._host_frames[: len(frames)], frames)
            self._length = len(frames)
            parts = -(-len(frames) // self._max_batch)
            try:
                if self._state_shape is not None:
                    self._prepare_states(parts if parts > 1 else 0)
                for part, first in enumerate(range(0, len(frames), self._max_batch)):
                    self._run_part(part, first, min(first + self._max_batch, len(frames)))
            finally:  # even after an error: ``finish`` must wait for whatever was queued
                self._done.record(self._stream)

    def _run_part(self, part: int, first: int, end: int) -> None:
        """Label the frames ``first`` to ``end - 1`` of the batch."""
        assert self._launch is not None, "the slot is closed"
        self._device.upload(self._frames, self._host_frames[first:end], self._stream)
        self._set_length(end - first)
        if self._states:
            self._device.copy(self._state, self._states[part], self._state_bytes, self._stream)
        self._launch(end - first)
        if self._state_shape is not None:
            state = self._states[part] if self._states else self._state
            self._device.copy(state, self._next_state, self._state_bytes, self._stream)
        self._device.download(self._host_labels[first:end], self._labels, self._stream)

    def _set_length(self, length: int) -> None:
        if length == self._context_length:
            return
        shapes: dict[str, tuple[int, ...]] = {"frames": (length, *self._image_shape)}
        if self._state_shape is not None:
            shapes["state"] = (length, *self._state_shape)
        self._context_length = 0
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(f"{self._title} refuses {name} of the shape {shape}")
        self._context_length = length

    def _prepare_states(self, count: int) -> None:
        """Allocate ``count`` separate states, and set all states to 0 after a reset."""
        while len(self._states) < count:
            self._states.append(self._allocate(self._state_bytes))
        if not self._must_reset:
            return
        for state in (self._state, *self._states):
            self._device.clear(state, self._state_bytes, self._stream)
        self._must_reset = False

    def _bind(self, name: str, memory: Any) -> None:
        if not self._context.set_tensor_address(name, int(memory)):
            raise BackendError(f"the engine has no {name}: build it again with `rtseg build-engine`")

    def reset(self) -> None:
        """See ``Slot.reset``."""
        self._must_reset = True

    def finish(self) -> None:
        """See ``Slot.finish``."""
        with self._device.active():
            self._done.synchronize()

    def labels(self) -> NDArray[np.uint8]:
        """See ``Slot.labels``."""
        return self._host_labels[: self._length]

    def close(self) -> None:
        """See ``Slot.close``. The context is freed before the memory that it uses."""
        with self._device.lock, self._device.active():
            if self._launch is not None:
                self._launch.close()
                self._launch = None
            # pycuda frees a stream or event with its last reference, which must happen while the context is current.
            self._context = self._done = self._stream = None
            self._host_frames = self._host_labels = _EMPTY
            while self._memory:
                self._memory.pop().free()


def _summary(errors: list[str]) -> str:
    """Return the first errors of the runtime in parentheses; empty without errors."""
    return f" ({'; '.join(errors[:2])})" if errors else ""
