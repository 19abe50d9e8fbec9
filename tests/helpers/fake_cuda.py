"""A simulated machine with a GPU: pycuda, TensorRT-RTX, TensorRT and the driver, as ``rtseg.backends`` uses them.

It is as lazy as a GPU may be: work on a stream runs only when somebody waits for it. And it is stricter than a GPU. A
``Misuse`` is raised for: a call without a context, memory that is used after it was freed or changed during a copy, two
streams that use the same memory, an object that dies where CUDA cannot free it, and memory that is allocated or freed
while another thread captures a CUDA graph. Errors that cannot be raised where they happen are listed in ``faults``.

TensorRT-RTX compiles the kernels of a shape in its first run, unless they are in the runtime cache. It captures a graph
by itself: never in the first run of a context, in the second if it has the same shapes, and again when shapes or
addresses change, at once or one run later. Dynamic shapes that are not specialized eagerly are captured in some later
run. TensorRT captures nothing, and its first run of a shape cannot be captured.

An engine is the ONNX file itself, run by ONNX Runtime, so its labels can be compared with those of other backends.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.engine_file import EngineFacts, engine_path, facts_path
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import VOID, file_sha256

GPU = "Fake GeForce"
TARGET = "sm_86"
RUNTIME_VERSION = "1.7.1.116"
TENSORRT_VERSION = "11.4.0"
DRIVER = "580.65.06"
NON_BLOCKING = 1
OUT_OF_MEMORY, ILLEGAL_ADDRESS, STREAM_CAPTURE_INVALIDATED = 2, 700, 901
_GARBAGE = 0xAB
"""The content of newly allocated memory."""


class Misuse(AssertionError):
    """A use of CUDA whose effect is undefined."""


class CudaError(Exception):
    """``pycuda.driver.Error``."""


class CudaMemoryError(CudaError):
    """``pycuda.driver.MemoryError``."""


@dataclass(eq=False)
class Work:
    """An operation on a stream."""

    what: str
    run: Callable[[], None]
    reads: tuple[Memory | Pinned, ...] = ()
    writes: tuple[Memory | Pinned, ...] = ()
    by: Any = None
    """The execution context, for an inference."""


class Memory:
    """``DeviceAllocation``."""

    def __init__(self, machine: Machine, size: int) -> None:
        self._machine = machine
        self.data = np.full(size, _GARBAGE, np.uint8)
        self.address = next(machine.addresses)
        machine.memory[self.address] = self

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self._machine.check_current("free")
        self._machine.check_quiet("free")
        if self._machine.memory.pop(self.address, None) is None:
            raise Misuse("memory is freed a second time")
        for work in self._machine.pending():
            if self in (*work.reads, *work.writes):
                raise Misuse(f"memory is freed while {work.what} of it is on its way")


class Pinned:
    """Page-locked memory of an array; it is freed with the last view."""

    def __init__(self, machine: Machine, shape: tuple[int, ...]) -> None:
        self._machine = machine
        memory = bytearray([_GARBAGE]) * int(np.prod(shape))
        owner = np.frombuffer(memory, np.uint8)
        self.first = owner.__array_interface__["data"][0]
        self.size = owner.nbytes
        machine.pinned.append(self)
        weakref.finalize(owner, self._gone).atexit = False
        self.made = owner.reshape(shape)

    def take(self) -> NDArray[np.uint8]:
        """Return the array. From now on only its views keep it alive."""
        array = self.made
        del self.made
        return array

    def _gone(self) -> None:
        self._machine.pinned.remove(self)
        if not self._machine.is_current():
            self._machine.faults.append("pinned memory died where no context is current: pycuda leaks it")
        if self._machine.capturing is not None:
            self._machine.faults.append("pinned memory died in the middle of a capture")
        for work in self._machine.pending():
            if self in (*work.reads, *work.writes):
                self._machine.faults.append(f"pinned memory died while {work.what} of it is on its way")


class Stream:
    """``pycuda.driver.Stream``: lazy."""

    machine: Machine

    def __init__(self, flags: int = 0) -> None:
        self.machine = self.machine  # the current one: a traceback may keep the stream alive until there is another
        self.queue: list[Work | Event] = []
        self.machine.check_current("Stream")
        if not flags & NON_BLOCKING:
            raise Misuse("a stream that waits for the default one: work of others there would end a capture")
        self.recorded: list[Work] | None = None
        """Work that was queued since a capture began; None outside of a capture."""
        self.handle = next(self.machine.handles)
        self.machine.streams[self.handle] = self

    def put(self, work: Work) -> None:
        self.machine.check_current(work.what)
        if self.recorded is not None:
            self.recorded.append(work)
            return
        for other in self.machine.streams.values():
            if other is self:
                continue
            for waiting in other.queue:
                if isinstance(waiting, Work):
                    _refuse_race(work, waiting)
        self.queue.append(work)

    def run_to(self, last: Event | None) -> None:
        while self.queue:
            entry = self.queue.pop(0)
            if isinstance(entry, Work):
                entry.run()
            elif entry is last:
                return

    def synchronize(self) -> None:
        self.machine.check_current("synchronize")
        self.machine.check_permitted("a wait")
        self.run_to(None)

    def __del__(self) -> None:
        self.machine.died("a stream")
        if not self.machine.is_broken and any(isinstance(entry, Work) for entry in self.queue):
            self.machine.faults.append("a stream died with work on its way, and nobody waited for it")


def _refuse_race(work: Work, other: Work) -> None:
    if work.by is not None and work.by is other.by:
        raise Misuse("one execution context runs on two streams at once")
    written = {*work.writes} & {*other.reads, *other.writes} | {*work.reads} & {*other.writes}
    if written:
        raise Misuse(f"{work.what} and {other.what} use the same memory on two streams, and nothing orders them")


class Event:
    """``pycuda.driver.Event``."""

    machine: Machine

    def __init__(self, flags: int = 0) -> None:
        self.machine = self.machine  # see ``Stream``
        self.machine.check_current("Event")
        self._stream: weakref.ref[Stream] | None = None

    def record(self, stream: Stream | None = None) -> Event:
        self.machine.check_current("record")
        if stream is None:
            raise Misuse("an event is recorded on the default stream")
        stream.queue = [entry for entry in stream.queue if entry is not self]  # an event marks only the last point
        stream.queue.append(self)
        self._stream = weakref.ref(stream)
        return self

    def synchronize(self) -> Event:
        machine = self.machine
        machine.check_current("synchronize")
        machine.check_permitted("a wait")
        error = machine.failure("synchronize")
        if error is not None:
            del self  # the traceback would keep it alive, unlike that of a call into C++
            raise error
        stream = self._stream() if self._stream is not None else None
        if stream is not None and self in stream.queue:
            stream.run_to(self)
        return self

    def __del__(self) -> None:
        self.machine.died("an event")


class Context:
    """The primary context."""

    machine: ClassVar[Machine]

    def push(self) -> None:
        self.machine.stack().append(self)

    @staticmethod
    def pop() -> None:
        Context.machine.stack().pop()

    def detach(self) -> None: ...


class Machine:
    """The GPU, its memory, and the errors.

    Args:
        room: memory of the GPU, in bytes.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.addresses = count(0x7F0000000000, 0x100000)
        self.handles = count(0x5000)
        self.memory: dict[int, Memory] = {}
        self.pinned: list[Pinned] = []
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self.contexts: weakref.WeakSet[ExecutionContext] = weakref.WeakSet()
        self.engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self.caches: weakref.WeakSet[RuntimeCache] = weakref.WeakSet()
        self.faults: list[str] = []
        self.failures: dict[str, int] = {}
        """Call -> how many more of them succeed before one fails. All other calls succeed."""
        self.inferences = 0
        self.graph_strategies: list[Any] = []
        self.recaptures_late = False
        """Whether TensorRT-RTX captures other shapes or addresses in their second run instead of the first."""
        self.graphs: dict[int, list[Work]] = {}
        """Captured graphs that are not destroyed yet."""
        self.executables: dict[int, list[Work]] = {}
        """Instantiated graphs that are not destroyed yet."""
        self.replays = 0
        self.is_broken = False
        """Whether every call of the driver returns an error of earlier work."""
        self.plans: list[bytes] = []
        """The engines that were loaded, in order."""
        self.captures: list[int] = []
        """Batch lengths of the captured graphs, in order."""
        self.compilations = 0
        self.during_capture: Callable[[], None] = lambda: None
        self.log: Callable[[str], None] = lambda message: None
        self.capturing: int | None = None
        """The thread that captures a graph."""
        self._stacks = threading.local()

    def stack(self) -> list[Context]:
        if not hasattr(self._stacks, "pushed"):
            self._stacks.pushed = []
        pushed: list[Context] = self._stacks.pushed
        return pushed

    def is_current(self) -> bool:
        return bool(self.stack())

    def check_current(self, what: str) -> None:
        if not self.is_current():
            raise Misuse(f"{what} without a current context")

    def is_disturbing(self) -> bool:
        return self.capturing not in (None, threading.get_ident())

    def check_quiet(self, what: str) -> None:
        if self.is_disturbing():
            raise Misuse(f"{what} while another thread captures a CUDA graph: the capture fails")

    def check_permitted(self, what: str) -> None:
        if self.is_disturbing() and self.capture_mode() == 0:
            raise Misuse(f"{what} while another thread captures a CUDA graph: CUDA forbids it")

    def capture_mode(self) -> int:
        """Return the capture mode of this thread."""
        return getattr(self._stacks, "mode", 0)

    def exchange_mode(self, mode: int) -> int:
        """See ``cuThreadExchangeStreamCaptureMode``."""
        before, self._stacks.mode = self.capture_mode(), mode
        return before

    @contextmanager
    def captured(self, length: int) -> Iterator[None]:
        """Capture on this thread in the ``with`` block."""
        self.check_quiet("a capture")
        self.captures.append(length)
        self.capturing = threading.get_ident()
        try:
            self.during_capture()
            yield
        finally:
            self.capturing = None

    def died(self, what: str) -> None:
        if not self.is_current():
            self.faults.append(f"{what} died where no context is current: pycuda leaks it")

    def pending(self) -> Iterator[Work]:
        for stream in list(self.streams.values()):
            yield from (entry for entry in stream.queue if isinstance(entry, Work))

    def failure(self, what: str) -> CudaError | None:
        if what not in self.failures:
            return None
        self.failures[what] -= 1
        if self.failures[what] >= 0:
            return None
        return CudaError(f"{what} failed: an illegal memory access was encountered\nmore lines")

    def pinned_of(self, array: NDArray[np.uint8], what: str) -> Pinned:
        first = array.__array_interface__["data"][0]
        for pinned in self.pinned:
            if pinned.first <= first and first + array.nbytes <= pinned.first + pinned.size:
                return pinned
        raise Misuse(f"{what} of memory that is not pinned: it would wait for the GPU")

    def memory_at(self, address: int, size: int, what: str) -> Memory:
        memory = self.memory.get(address)
        if memory is None:
            raise Misuse(f"{what} at an address where there is no memory (any more)")
        if size > memory.data.nbytes:
            raise Misuse(f"{what} of {size} bytes where there are {memory.data.nbytes}")
        return memory

    def check_alive(self, memory: Memory, what: str) -> None:
        if memory.address not in self.memory:
            raise Misuse(f"{what} with memory that was freed meanwhile")

    def left(self) -> list[str]:
        """Return everything that was not freed."""
        return [
            *(f"{memory.data.nbytes} bytes on the GPU" for memory in self.memory.values()),
            *("a stream" for _ in self.streams),
            *("an execution context" for _ in self.contexts),
            *("an engine" for _ in self.engines),
            *("a runtime cache" for _ in self.caches),
            *("a graph" for _ in (*self.graphs, *self.executables)),
        ]


class Engine:
    """``ICudaEngine``."""

    def __init__(self, machine: Machine, plan: bytes) -> None:
        self._machine = machine
        header, _, graph = plan.partition(b"\n")
        self._batch: int = json.loads(header)["batch"]
        self._session = _session(hashlib.sha256(graph).hexdigest(), graph)
        self._contexts: weakref.WeakSet[ExecutionContext] = weakref.WeakSet()
        self.caches: weakref.WeakSet[RuntimeCache] = weakref.WeakSet()
        machine.engines.add(self)

    def create_runtime_config(self) -> RuntimeConfig:
        self._machine.check_current("create_runtime_config")
        return RuntimeConfig(self._machine, self)

    def create_execution_context(self, config: RuntimeConfig | None = None) -> ExecutionContext | None:
        self._machine.check_current("create_execution_context")
        self._machine.check_quiet("create_execution_context")
        if "context" in self._machine.failures:
            return None
        self._machine.graph_strategies.append(config.cuda_graph_strategy if config is not None else None)
        context = ExecutionContext(self._machine, self._session, self._batch, config)
        self._contexts.add(context)
        if config is not None and config.cache is not None:
            config.cache.contexts.add(context)
        return context

    def __del__(self) -> None:
        self._machine.died("an engine")
        if self._contexts:
            self._machine.faults.append("an engine died before its execution contexts")
        if self.caches:
            self._machine.faults.append("an engine died before its runtime cache")


class RuntimeConfig:
    """``IRuntimeConfig``."""

    def __init__(self, machine: Machine, engine: Engine) -> None:
        self._machine = machine
        self._engine = weakref.ref(engine)
        self.cuda_graph_strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None
        self.cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        self._machine.check_current("create_runtime_cache")
        cache = RuntimeCache(self._machine)
        engine = self._engine()
        if engine is None:
            raise Misuse("a runtime cache is made of an engine that is gone")
        engine.caches.add(cache)
        return cache

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        if "cache" in self._machine.failures:
            return False
        self.cache = cache
        return True

    def __del__(self) -> None:
        self._machine.died("a runtime config")


class RuntimeCache:
    """``IRuntimeCache``: the shapes whose kernels are compiled."""

    HEAD = f"kernels for {GPU}: ".encode()

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.compiled: set[int] = set()
        self.contexts: weakref.WeakSet[ExecutionContext] = weakref.WeakSet()
        machine.caches.add(self)

    def deserialize(self, blob: bytes) -> bool:
        self._machine.check_current("deserialize")
        if self.contexts:
            raise Misuse("a runtime cache is filled when contexts have it already")
        if not blob.startswith(self.HEAD):
            return False
        self.compiled = set(json.loads(blob.removeprefix(self.HEAD)))
        return True

    def serialize(self) -> bytes:
        self._machine.check_current("serialize")
        error = self._machine.failure("serialize")
        if error is not None:
            del self  # see ``Event.synchronize``
            raise error
        return self.HEAD + json.dumps(sorted(self.compiled)).encode()

    def __del__(self) -> None:
        self._machine.died("a runtime cache")
        if self.contexts:
            self._machine.faults.append("a runtime cache died before its execution contexts")


_graphs: dict[str, bytes] = {}


def _session(digest: str, graph: bytes) -> ort.InferenceSession:
    _graphs[digest] = graph
    return _cached_session(digest)


@cache
def _cached_session(digest: str) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    return ort.InferenceSession(_graphs.pop(digest), settings, providers=["CPUExecutionProvider"])


_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class ExecutionContext:
    """``IExecutionContext``: reads shapes and addresses when it is queued, and memory when it runs."""

    def __init__(
        self, machine: Machine, session: ort.InferenceSession, batch: int, config: RuntimeConfig | None
    ) -> None:
        self._machine = machine
        self._session = session
        self._batch = batch
        self._cache = weakref.ref(config.cache) if config is not None and config.cache is not None else lambda: None
        self._captures = config is not None and config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        strategy = getattr(config, "dynamic_shapes_kernel_specialization_strategy", None)
        self._is_lazy = batch > 1 and getattr(strategy, "name", "") != "EAGER"
        self._runs = 0
        self._shape_runs: Counter[int] = Counter()
        self._settled: tuple[Any, ...] = ()
        """Shapes and addresses of the last run, or of the graph if there is one."""
        self._settled_runs = 0
        self._inputs = {entry.name: entry for entry in session.get_inputs()}
        self._outputs = {entry.name: entry for entry in session.get_outputs()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        if batch == 1:
            self._shapes = {name: (1, *entry.shape[1:]) for name, entry in self._inputs.items()}
        self._addresses: dict[str, int] = {}
        machine.contexts.add(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._machine.check_current("set_input_shape")
        good = name in self._inputs and 1 <= shape[0] <= self._batch
        if good and list(shape[1:]) == list(self._inputs[name].shape[1:]):
            self._shapes[name] = shape
            return True
        return False

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._machine.check_current("set_tensor_address")
        if name not in self._inputs and name not in self._outputs:
            return False
        self._machine.memory_at(address, 0, f"set_tensor_address({name})")
        if address % 256:
            raise Misuse(f"the address of {name} is not a multiple of 256")
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        machine = self._machine
        machine.check_current("execute_async_v3")
        if stream_handle not in machine.streams:
            raise Misuse("execute_async_v3 on the default stream, or on one that is gone")
        machine.inferences += 1
        if "execute in a capture" in machine.failures and machine.streams[stream_handle].recorded is not None:
            return False
        if "execute" in machine.failures:
            machine.failures["execute"] -= 1
            if machine.failures["execute"] < 0:
                return False
        missing = {*self._inputs, *self._outputs} - {*self._addresses} | {*self._inputs} - {*self._shapes}
        if missing:
            raise Misuse(f"no address or no shape for {', '.join(sorted(missing))}")
        length = self._shapes["frames"][0]
        if any(shape[0] != length for shape in self._shapes.values()):
            raise Misuse("inputs of different lengths")
        first = (length, *self._addresses.values()) != self._settled
        if machine.streams[stream_handle].recorded is not None and first:
            machine.log("IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (operation not permitted)")
            return False
        if machine.streams[stream_handle].recorded is not None:
            machine.captures[-1] = length
        shapes = self._shapes | {name: (length, *entry.shape[1:]) for name, entry in self._outputs.items()}
        at: dict[str, Memory] = {}
        for name, entry in (self._inputs | self._outputs).items():
            size = int(np.prod(shapes[name])) * np.dtype(_TYPES[entry.type]).itemsize
            at[name] = machine.memory_at(self._addresses[name], size, f"inference ({name})")

        def run() -> None:
            for memory in at.values():
                machine.check_alive(memory, "an inference")
            inputs = {}
            for name, entry in self._inputs.items():
                kind = np.dtype(_TYPES[entry.type])
                size = int(np.prod(shapes[name])) * kind.itemsize
                inputs[name] = at[name].data[:size].view(kind).reshape(shapes[name])
            for name, result in zip(self._outputs, self._session.run(list(self._outputs), inputs), strict=True):
                flat = np.ascontiguousarray(result).view(np.uint8).reshape(-1)
                at[name].data[: flat.size] = flat

        self._compile(length)
        self._capture(length)
        reads, writes = (tuple(at[name] for name in names) for names in (self._inputs, self._outputs))
        machine.streams[stream_handle].put(Work("an inference", run, reads, writes, by=self))
        return True

    def _compile(self, length: int) -> None:
        """Compile the kernels of a shape before its first run."""
        cache = self._cache()
        self._shape_runs[length] += 1
        if self._shape_runs[length] == 1 and (cache is None or length not in cache.compiled):
            self._machine.compilations += 1
            if cache is not None:
                cache.compiled.add(length)

    def _capture(self, length: int) -> None:
        self._runs += 1
        key = (length, *self._addresses.values())
        self._settled_runs = self._settled_runs + 1 if key == self._settled else 1
        self._settled = key
        at = 4 if self._is_lazy else 2 if self._machine.recaptures_late or self._runs <= 2 else 1
        if self._captures and self._settled_runs == at:
            with self._machine.captured(length):
                pass

    def __del__(self) -> None:
        self._machine.died("an execution context")


def _pycuda(machine: Machine) -> dict[str, ModuleType]:
    driver, package = ModuleType("pycuda.driver"), ModuleType("pycuda")
    package.__spec__, package.__path__, package.driver = ModuleSpec("pycuda", None), [], driver  # type: ignore[attr-defined]
    for kind in (Stream, Event, Context):
        kind.machine = machine  # type: ignore[attr-defined]

    def mem_alloc(size: int) -> Memory:
        machine.check_current("mem_alloc")
        machine.check_permitted("mem_alloc")
        machine.check_quiet("mem_alloc")
        if sum(memory.data.nbytes for memory in machine.memory.values()) + size > machine.room:
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        return Memory(machine, size)

    def pagelocked_empty(shape: tuple[int, ...], dtype: type) -> NDArray[np.uint8]:
        machine.check_current("pagelocked_empty")
        machine.check_permitted("pagelocked_empty")
        machine.check_quiet("pagelocked_empty")
        assert dtype is np.uint8
        return Pinned(machine, shape).take()

    def memset_d8_async(address: int, value: int, size: int, stream: Stream) -> None:
        memory = machine.memory_at(address, size, "memset_d8_async")

        def run() -> None:
            machine.check_alive(memory, "memset_d8_async")
            memory.data[:size] = value

        stream.put(Work("a memset", run, writes=(memory,)))

    def memcpy_htod_async(address: int, source: NDArray[np.uint8], stream: Stream) -> None:
        assert source.flags.c_contiguous
        memory = machine.memory_at(address, source.nbytes, "an upload")
        pinned = machine.pinned_of(source, "an upload")
        as_queued, first, size = source.copy(), source.__array_interface__["data"][0], source.nbytes
        # By address, like a GPU: a reference to the array would keep the memory alive.
        there = (ctypes.c_uint8 * size).from_address(first)

        def run() -> None:
            machine.check_alive(memory, "an upload")
            if pinned not in machine.pinned:
                raise Misuse("an upload of memory that is gone")
            now = np.frombuffer(there, np.uint8)
            if not np.array_equal(now, as_queued.reshape(-1)):
                raise Misuse("pinned memory was written to before its upload was done")
            memory.data[:size] = now

        stream.put(Work("an upload", run, (pinned,), (memory,)))

    def memcpy_dtoh_async(target: NDArray[np.uint8], address: int, stream: Stream) -> None:
        assert target.flags.c_contiguous
        memory = machine.memory_at(address, target.nbytes, "a download")
        pinned = machine.pinned_of(target, "a download")
        first, size = target.__array_interface__["data"][0], target.nbytes
        there = (ctypes.c_uint8 * size).from_address(first)
        target[...] = VOID  # the content is undefined until the download is done

        def run() -> None:
            machine.check_alive(memory, "a download")
            if pinned not in machine.pinned:
                raise Misuse("a download to memory that is gone")
            there[:] = memory.data[:size].tobytes()  # type: ignore[assignment]

        stream.put(Work("a download", run, (memory,), (pinned,)))

    def memcpy_dtod_async(target: int, source: int, size: int, stream: Stream) -> None:
        to, of = (machine.memory_at(address, size, "a copy") for address in (target, source))

        def run() -> None:
            machine.check_alive(to, "a copy")
            machine.check_alive(of, "a copy")
            to.data[:size] = of.data[:size]

        stream.put(Work("a copy", run, (of,), (to,)))

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def name(self) -> str:
            return GPU

        def retain_primary_context(self) -> Context:
            return Context()

    driver.__dict__.update(
        {
            "Error": CudaError,
            "MemoryError": CudaMemoryError,
            "Context": Context,
            "Stream": Stream,
            "Event": Event,
            "Device": Device,
            "init": lambda: None,
            "event_flags": enum.IntFlag("event_flags", {"DEFAULT": 0, "BLOCKING_SYNC": 1, "DISABLE_TIMING": 2}),
            "mem_get_info": lambda: (machine.room // 4, machine.room),
            **{
                call.__name__: call
                for call in (
                    *(mem_alloc, pagelocked_empty, memset_d8_async),
                    *(memcpy_htod_async, memcpy_dtoh_async, memcpy_dtod_async),
                )
            },
        }
    )
    return {"pycuda": package, "pycuda.driver": driver}


def _tensorrt(machine: Machine, name: str) -> ModuleType:
    """``tensorrt`` or ``tensorrt_rtx``."""
    module = ModuleType(name)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger
            machine.log = lambda message: logger.log(ILogger.ERROR, message)

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            machine.check_current("deserialize_cuda_engine")
            machine.check_quiet("deserialize_cuda_engine")
            machine.plans.append(plan)
            if not plan.startswith(b"{"):
                self._logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: it is no engine")
                return None
            return Engine(machine, plan)

    module.__dict__.update({"__version__": TENSORRT_VERSION, "ILogger": ILogger, "Runtime": Runtime})
    if name == "tensorrt_rtx":
        module.__dict__.update(
            {
                "__version__": RUNTIME_VERSION,
                "CudaGraphStrategy": enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"]),
                "DynamicShapesKernelSpecializationStrategy": enum.Enum("Strategy", ["LAZY", "EAGER", "NONE"]),
            }
        )
    return module


class _Nvml:
    """``libnvidia-ml.so.1``."""

    nvmlInit_v2 = nvmlShutdown = staticmethod(lambda: 0)  # noqa: N815

    @staticmethod
    def nvmlSystemGetDriverVersion(text: Any, size: Any) -> int:  # noqa: N802
        text.value = DRIVER.encode()
        return 0


class _Libcuda:
    """``libcuda.so.1``: the functions that pycuda lacks."""

    cuInit = cuDeviceGet = staticmethod(lambda *arguments: 0)  # noqa: N815

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._capture: Any = None

    def cuThreadExchangeStreamCaptureMode(self, mode: Any) -> int:  # noqa: N802
        if self._machine.is_broken:
            return ILLEGAL_ADDRESS
        mode._obj.value = self._machine.exchange_mode(mode._obj.value)
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:  # noqa: N802
        self._machine.check_current("cuStreamBeginCapture")
        if mode.value != 1:
            raise Misuse("a capture that forbids other threads to go on")
        self._machine.streams[stream.value].recorded = []
        self._capture = self._machine.captured(0)
        self._capture.__enter__()
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:  # noqa: N802
        capture, self._capture = self._capture, None
        capture.__exit__(None, None, None)
        recorded, self._machine.streams[stream.value].recorded = self._machine.streams[stream.value].recorded, None
        if not recorded or "capture" in self._machine.failures:
            return STREAM_CAPTURE_INVALIDATED
        graph._obj.value = next(self._machine.handles)
        self._machine.graphs[graph._obj.value] = recorded
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:  # noqa: N802
        self._machine.check_quiet("cuGraphInstantiate")
        if "instantiate" in self._machine.failures:
            return OUT_OF_MEMORY
        executable._obj.value = next(self._machine.handles)
        self._machine.executables[executable._obj.value] = self._machine.graphs[graph.value]
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:  # noqa: N802
        if "launch" in self._machine.failures:
            return self._machine.failures["launch"]
        self._machine.replays += 1
        for work in self._machine.executables[executable.value]:
            self._machine.streams[stream.value].put(work)
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:  # noqa: N802
        del self._machine.graphs[graph.value]
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:  # noqa: N802
        self._machine.check_current("cuGraphExecDestroy")
        self._machine.check_quiet("cuGraphExecDestroy")
        del self._machine.executables[executable.value]
        return ILLEGAL_ADDRESS if self._machine.is_broken else 0

    @staticmethod
    def cuGetErrorString(result: Any, text: Any) -> int:  # noqa: N802
        text._obj.value = {STREAM_CAPTURE_INVALIDATED: b"operation failed due to a previous error"}.get(result.value)
        return 0

    @staticmethod
    def cuDeviceGetName(text: Any, size: Any, device: Any) -> int:  # noqa: N802
        text.value = GPU.encode()
        return 0

    @staticmethod
    def cuDeviceGetAttribute(number: Any, attribute: Any, device: Any) -> int:  # noqa: N802
        number._obj.value = {75: 8, 76: 6}[attribute.value]
        return 0


@contextmanager
def missing(package: str) -> Iterator[None]:
    """Make the import of ``package`` fail in the ``with`` block.

    The fixture ``monkeypatch`` cannot be used: it may be undone after the fake machine is removed, and would restore
    its modules for all later tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        yield


@contextmanager
def installed(machine: Machine, package: str = "tensorrt_rtx") -> Iterator[Machine]:
    """Let this process find the GPU, the driver and the packages of ``machine`` in the ``with`` block."""
    from rtseg.backends.tensorrt.cuda import _device

    libraries: dict[str | None, Any] = {"libnvidia-ml.so.1": _Nvml(), "libcuda.so.1": _Libcuda(machine)}
    load = ctypes.CDLL

    class Loader:
        def __new__(cls, name: str | None, *arguments: Any, **options: Any) -> Any:
            return libraries[name] if name in libraries else load(name, *arguments, **options)

    _device.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in _pycuda(machine).items():
            patch.setitem(sys.modules, name, module)
        for name in ("tensorrt", "tensorrt_rtx"):
            patch.setitem(sys.modules, name, _tensorrt(machine, name) if name == package else None)
        patch.setattr("rtseg.system.nvidia.ctypes.CDLL", Loader)
        yield machine
    _device.cache_clear()


def write_engine(
    model: ModelFile,
    folder: Path = Path("engines"),
    *,
    plan: bytes | None = None,
    precision: str = "fp32",
    batch: int = 1,
    runtime: str = "rtx",
    runtime_version: str = RUNTIME_VERSION,
    targets: tuple[str, ...] = ("sm_86+",),
    gpu: str | None = None,
) -> Path:
    """Write an engine of ``model`` and its facts. The fake runtime can run it, unless ``plan`` is given."""
    path = engine_path(folder, f"{model.spec.name}-{batch}", precision, runtime, targets)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plan or json.dumps({"batch": batch}).encode() + b"\n" + model.graph.SerializeToString())
    facts = EngineFacts(
        model=model.spec.name,
        model_sha256=file_sha256(model.path),
        engine_sha256=file_sha256(path),
        runtime=runtime,
        runtime_version=runtime_version,
        precision=precision,
        batch=batch,
        targets=targets,
        gpu=gpu,
        driver=None,
        spec=model.spec,
        state_shape=model.state_shape,
        build_seconds=0.5,
        built="2026-11-20",
        rtseg="0",
        ranges_sha256=None,
        certificate={},
    )
    facts_path(path).write_text(facts.to_json())
    return path


def write_for_tensorrt(model: ModelFile, **facts: Any) -> Path:
    """Write an engine of TensorRT (not TensorRT-RTX) for the GPU of the fake machine."""
    return write_engine(
        model, runtime="tensorrt", runtime_version=TENSORRT_VERSION, targets=(TARGET,), gpu=GPU, **facts
    )


def open_with_engine(model: ModelFile, options: BackendOptions) -> Backend:
    """Write the engine for a model and open it. It can replace the ``tensorrt`` entry of ``BACKENDS``."""
    from rtseg.backends.tensorrt.backend import open_tensorrt

    if options.precision in ("auto", "fp32", "fp16"):
        for path in Path("engines").glob("*"):
            path.unlink()
        write_engine(model, precision="fp16" if options.precision == "auto" else options.precision)
    return open_tensorrt(model, options)
