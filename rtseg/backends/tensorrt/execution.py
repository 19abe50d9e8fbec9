"""A TensorRT engine on a GPU: loaded once, run in slots that each have a context, a stream and memory of their own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.tensorrt.cuda import Device, DriverError, Graph
from rtseg.backends.tensorrt.engine_file import EngineFacts
from rtseg.backends.tensorrt.library import TensorRTLibrary, captured_errors, logger_of
from rtseg.backends.tensorrt.runtime_cache import RuntimeCacheFile
from rtseg.errors import BackendError

__all__ = ["FIRST_RUNS", "EngineSlot", "LoadedEngine"]

FIRST_RUNS = 2
"""Runs of new shapes that are not like all later ones: the first compiles and allocates, the second is
captured as a CUDA graph ("Working with RTX CUDA Graphs" of TensorRT-RTX, "CUDA Graphs" of TensorRT)."""
_FLOAT_BYTES = 4
_NOTHING = np.empty((0, 0, 0), np.uint8)


class LoadedEngine:
    """An engine, loaded.

    Args:
        trt: what runs it.
        device: where; ``alone`` is held.
        path: of its file, for what is told.
        data: the engine itself.
        kept: what was compiled of it before.
    """

    def __init__(self, trt: TensorRTLibrary, device: Device, path: Path, data: bytes, kept: RuntimeCacheFile) -> None:
        self.trt = trt
        self._device = device
        self._kept = kept
        self._cache: Any = None
        self._config: Any = None
        with device.active():
            with captured_errors(trt) as said:
                self._runtime = trt.module.Runtime(logger_of(trt.module))
                self._engine = self._runtime.deserialize_cuda_engine(data)
                if self._engine is None:
                    raise BackendError(
                        f"{trt.title} does not load {path}{because(said)}: build it again with `rtseg build-engine`"
                    )
            if hasattr(trt.module, "CudaGraphStrategy"):  # TensorRT-RTX, since its 1.2
                self._configure()

    @property
    def captures_itself(self) -> bool:
        """Whether the runtime makes CUDA graphs of what it is given, without being asked."""
        return self._config is not None

    def _configure(self) -> None:
        """Have CUDA graphs, and kernels that were compiled before."""
        module = self.trt.module
        self._config = self._engine.create_runtime_config()
        self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # Compiled in the first run of a length, and captured in the second: else nobody knows in which.
        eager = module.DynamicShapesKernelSpecializationStrategy.EAGER
        self._config.dynamic_shapes_kernel_specialization_strategy = eager
        self._cache = self._config.create_runtime_cache()
        compiled = self._kept.read()
        if compiled is not None and not self._cache.deserialize(compiled):
            self._kept.refuse()
        if not self._config.set_runtime_cache(self._cache):
            self._cache = None
            self._kept.refuse()

    def keep_compiled(self) -> None:
        """Keep what was compiled by now for the next time. It only saves time then: where that fails it is noted."""
        if self._cache is None:
            return
        try:
            with self._device.alone, self._device.active():
                compiled = self._cache.serialize()
        except BackendError as error:
            self._kept.note = f"nothing kept ({error})"
            return
        if compiled is not None:
            self._kept.write(bytes(compiled))

    def context(self) -> Any:
        """What runs the engine for one slot."""
        with captured_errors(self.trt) as said:
            # No name here for the configuration: the traceback of an error would keep it alive beyond the engine.
            if self._config is None:
                context = self._engine.create_execution_context()
            else:
                context = self._engine.create_execution_context(self._config)
            if context is None:
                raise BackendError(
                    f"{self.trt.title} cannot run the engine{because(said)}: "
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


class _Launch:
    """Puts the network on the stream of a slot; what is the same for the third time, as a CUDA graph.

    A graph is one of shapes, and both runtimes keep what they need for the last ones alone. So one graph is kept, and
    begun anew with other shapes: batches whose parts differ in length are never replayed.

    Args:
        engine: whose ``context`` it is.
        device: where.
        context: has all its addresses, which stay; told of the shapes by whoever calls.
        stream: the slot's.
    """

    def __init__(self, engine: LoadedEngine, device: Device, context: Any, stream: Any) -> None:
        self._engine = engine
        self._device = device
        self._context = context
        self._stream = stream
        self._length = 0
        self._runs = 0
        """Of batches of ``_length`` in a row, without a failure."""
        self._graph: Graph | None = None
        self.note = "TensorRT-RTX's own" if engine.captures_itself else "none yet"
        """Whether a CUDA graph is replayed, for a report: ``captured``, or why not."""

    def __call__(self, length: int) -> None:
        """Put it on the stream, for so many frames.

        Raises:
            BackendError: the runtime refuses; the next run counts as the first.
            DriverError: the graph cannot be launched, likewise.
        """
        if length != self._length:
            self._drop_graph()
            self._length, self._runs = length, 0
        runs, self._runs = self._runs, 0
        if self._graph is not None:
            self._replay(self._graph)
        elif runs < FIRST_RUNS:
            with self._device.maybe_captured():
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
            # Its handle alone: the traceback of an error would keep the stream alive beyond its context.
            self._graph = self._device.capture(self._enqueue, self._stream.handle)
        except (BackendError, DriverError) as error:
            self.note = f"none ({error})"
            self._enqueue()
        else:
            self.note = "captured"
            self._replay(self._graph)

    def _enqueue(self) -> None:
        with captured_errors(self._engine.trt) as said:
            if not self._context.execute_async_v3(self._stream.handle):
                raise BackendError(f"{self._engine.trt.title} failed on a batch{because(said)}")

    def _drop_graph(self) -> None:
        if self._graph is None:
            return
        graph, self._graph = self._graph, None
        self.note = "none yet"
        try:
            self._stream.synchronize()  # TensorRT knows nothing of the runs of a graph: its next one meets none of them
        finally:
            with self._device.alone:
                graph.close()

    def close(self) -> None:
        """Free the graph; nothing is under way. The context goes with whoever holds it."""
        if self._graph is not None:
            self._graph.close()
        self._graph = self._context = self._stream = None


class EngineSlot:
    """See ``Slot``. The state of a sequence model lies here as well, for it has one slot.

    Args:
        engine: what is run.
        device: where.
        facts: of the engine.
    """

    def __init__(self, engine: LoadedEngine, device: Device, facts: EngineFacts) -> None:
        self._device = device
        self._title = engine.trt.title
        self._image = (*facts.size, facts.spec.channels)
        self._batch = facts.batch
        self._state_bytes = _FLOAT_BYTES * facts.batch * int(np.prod(facts.state_shape or 0))
        self._state_shape = facts.state_shape
        self._memory: list[Any] = []
        self._states: list[Any] = []
        """Of each part of a batch that is longer than the engine takes; of a single part it stays where it is used."""
        self._fresh = True
        self._shaped = 0
        """Frames that the context was told to expect."""
        self._length = 0
        self._host_frames = self._host_labels = _NOTHING
        self._context: Any = None
        self._launch: _Launch | None = None
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
                self._context = engine.context()
                self._launch = _Launch(engine, device, self._context, self._stream)
                self._bind("frames", self._frames)
                self._bind("labels", self._labels)
                if self._state_shape is not None:
                    self._state, self._next_state = (self._allocate(self._state_bytes) for _ in range(2))
                    self._bind("state", self._state)
                    self._bind("next_state", self._next_state)
            unfinished.pop_all()

    @property
    def graph_note(self) -> str:
        """Whether a CUDA graph is replayed, for a report."""
        return self._launch.note if self._launch is not None else "closed"

    def _allocate(self, size: int) -> Any:
        self._memory.append(self._device.memory(size))
        return self._memory[-1]

    def _hold(self, length: int) -> None:
        """Have pinned memory for so many frames, both ways."""
        frames, labels = (self._device.pinned((length, *shape)) for shape in (self._image, self._image[:2]))
        self._host_frames, self._host_labels = frames, labels

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``."""
        with self._device.active():
            if len(frames) > len(self._host_frames):
                self._hold(len(frames))
            np.copyto(self._host_frames[: len(frames)], frames)
            self._length = len(frames)
            parts = -(-len(frames) // self._batch)
            try:
                if self._state_shape is not None:
                    self._prepare_states(parts if parts > 1 else 0)
                for part, first in enumerate(range(0, len(frames), self._batch)):
                    self._run(part, first, min(first + self._batch, len(frames)))
            finally:  # also behind half a batch: the memory is not used again before that is done
                self._done.record(self._stream)

    def _run(self, part: int, first: int, end: int) -> None:
        """Label the frames ``first`` to ``end`` of the batch, which are its ``part``."""
        assert self._launch is not None, "the slot is closed"
        self._device.upload(self._frames, self._host_frames[first:end], self._stream)
        self._expect(end - first)
        if self._states:
            self._device.copy(self._state, self._states[part], self._state_bytes, self._stream)
        self._launch(end - first)
        if self._state_shape is not None:
            kept = self._states[part] if self._states else self._state
            self._device.copy(kept, self._next_state, self._state_bytes, self._stream)
        self._device.download(self._host_labels[first:end], self._labels, self._stream)

    def _expect(self, length: int) -> None:
        if length == self._shaped:
            return
        shapes: dict[str, tuple[int, ...]] = {"frames": (length, *self._image)}
        if self._state_shape is not None:
            shapes["state"] = (length, *self._state_shape)
        self._shaped = 0
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(f"{self._title} refuses {name} of the shape {shape}")
        self._shaped = length

    def _prepare_states(self, kept: int) -> None:
        """Have memory for the states that are kept apart; all are 0 where videos begin, and with another number."""
        while len(self._states) < kept:
            self._states.append(self._allocate(self._state_bytes))
        if not self._fresh:
            return
        for state in (self._state, *self._states):
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
            if self._launch is not None:
                self._launch.close()
                self._launch = None
            # pycuda frees streams and events that nobody refers to, and can only do so where its context is current.
            self._context = self._done = self._stream = None
            self._host_frames = self._host_labels = _NOTHING
            while self._memory:
                self._memory.pop().free()


def because(said: list[str]) -> str:
    """What the runtime complained of, as part of a sentence."""
    return f" ({'; '.join(said[:2])})" if said else ""
