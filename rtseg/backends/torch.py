"""torch: the reference for all other backends, and the backend for a GPU without TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from rtseg.backends.base import BackendOptions
from rtseg.backends.slots import GPU_DEPTH, SlotBackend, gpu_lock
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import ModelSpec
from rtseg.models import create_model, is_known
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm

__all__ = ["TorchBackend", "TorchNetwork", "build_network", "why_not_on_gpu"]

_PREFIX = "network."
"""Prefix of the names that export gives to the weights of a network."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
_DEFAULT_PRECISION = {"cpu": "fp32", "cuda": "fp16"}
_WARMUP_RUNS = 3
"""Runs before a capture: in the first runs cuDNN chooses its kernels and allocates its workspace."""


class TorchBackend(SlotBackend):
    """Builds the network that the model file names, and loads the weights from the file.

    On the CPU it runs eager torch, in fp32 by default, as the accurate reference. On a GPU it runs in fp16 by default,
    captures a CUDA graph for each batch length, and has as many batches in flight as the TensorRT backend.
    """

    name = "torch"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        self.spec = model.spec
        self.version = str(torch.__version__)
        device = torch.device(_device(options.device))
        self.device = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        self.precision = _precision(device.type, options.precision)
        if not is_known(self.spec.architecture):
            raise BackendUnavailable(
                f"{model.path} names no network that rtseg can build in torch ({self.spec.architecture!r}): "
                "use --backend openvino or onnxruntime"
            )
        self.recurrent = model.state_shape is not None
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        label_network = build_network(model)
        if device.type == "cpu":
            self._add_slots([_EagerSlot(TorchNetwork(label_network, device, self.precision))], warmup_runs=0)
            return
        depth = 1 if self.recurrent else GPU_DEPTH[options.hint]
        with gpu_lock:
            with _torch_errors():
                network, gpu = TorchNetwork(label_network, device, self.precision), Gpu(device)
            self._add_slots((GraphSlot(network, gpu, model.state_shape) for _ in range(depth)), warmup_runs=1)

    def _close(self) -> None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # TensorRT and other programs can use the memory that torch caches.
            with gpu_lock:
                torch.cuda.empty_cache()


def why_not_on_gpu(spec: ModelSpec, precision: str) -> str | None:
    """Return why torch cannot run a model on a GPU of this machine; None if it can."""
    if not torch.cuda.is_available():
        return "torch finds no usable CUDA device"
    if not is_known(spec.architecture):
        return f"{spec.name} names no network that rtseg can build in torch"
    if precision not in ("auto", *_PRECISIONS["cuda"]):
        return f"torch does not compute in {precision}"
    return None


def _device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _precision(device: str, precision: str) -> str:
    if precision == "auto":
        return _DEFAULT_PRECISION[device]
    if precision not in _PRECISIONS[device]:
        supported, device_name = " or ".join(_PRECISIONS[device]), "the CPU" if device == "cpu" else "a GPU"
        raise BackendUnavailable(f"the torch backend computes in {supported} on {device_name}, not in {precision}")
    return precision


def build_network(model: ModelFile) -> LabelNetwork:
    """Build the network that a model file names, with batch norm folded, and load the weights of the file.

    Raises:
        ModelError: the weights or the state do not fit the network.
    """
    spec = model.spec
    network = fuse_batch_norm(create_model(spec.architecture, len(spec.classes)))
    network.fix_size(*spec.size)  # weights may have the shape that belongs to the size
    state_shape = network.state_shape(*spec.size) if network.recurrent else None
    if state_shape != model.state_shape:
        raise ModelError(f"the state in {model.path} is not that of the network {spec.architecture!r} of this rtseg")
    stored = {tensor.name.removeprefix(_PREFIX): tensor for tensor in model.graph.graph.initializer}
    weights: dict[str, Tensor] = {}
    try:
        for name, initial in network.state_dict().items():
            if name in stored:
                weights[name] = torch.from_numpy(numpy_helper.to_array(stored[name]).astype(np.float32))
            elif name.endswith(".bias"):  # the exporter omits a bias of zeros
                weights[name] = torch.zeros_like(initial)
        network.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the weights in {model.path} do not fit the network {spec.architecture!r} of this rtseg"
        ) from error
    network.fix_size(*spec.size)  # otherwise every call makes matrices on the CPU, which cannot be captured
    return LabelNetwork(network).to(memory_format=torch.channels_last)


class TorchNetwork:
    """Computes labels and the next state from frames and a state, on a device and in a precision."""

    def __init__(self, label_network: LabelNetwork, device: torch.device, precision: str) -> None:
        self._dtype = _DTYPES[precision]
        self._device = device
        # Convert the weights once instead of for every frame. A sequence model keeps fp32 weights: its gates and its
        # state have the precision of its weights, and need fp32.
        if device.type == "cuda" and not label_network.network.recurrent:
            label_network.network.to(self._dtype)
        self._label_network = label_network.to(device)
        self.recurrent = label_network.network.recurrent

    def __call__(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Label frames.

        Args:
            frames: uint8 (N, H, W, C).
            state: of a sequence model; zeros by default.

        Returns:
            Labels, uint8 (N, H, W), and the next state of a sequence model.
        """
        is_reduced = self._dtype is not torch.float32
        # No weight cache: it lives only as long as the context, but a captured graph lives longer.
        dtype = self._dtype if is_reduced else None
        autocast = torch.autocast(self._device.type, dtype, enabled=is_reduced, cache_enabled=False)
        with torch.no_grad(), autocast:
            if self.recurrent:
                labels, next_state = self._label_network(frames, state)
                return labels, next_state
            return self._label_network(frames), None


class _EagerSlot:
    """See ``Slot``: on the CPU, where ``start`` returns when the labels are done."""

    def __init__(self, network: TorchNetwork) -> None:
        self._network = network
        self._state: Tensor | None = None
        self._result: Tensor | None = None

    def start(self, frames: NDArray[np.uint8]) -> None:
        with _torch_errors():
            self._result, self._state = self._network(torch.from_numpy(frames), self._state)

    def finish(self) -> None: ...

    def labels(self) -> NDArray[np.uint8]:
        assert self._result is not None, "call start() before labels()"
        return np.asarray(self._result.numpy(), dtype=np.uint8)

    def reset(self) -> None:
        self._state = None

    def close(self) -> None: ...


class Gpu:
    """The CUDA functions that ``GraphSlot`` needs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> Any:
        """Make a stream: a queue of work, done in order and independently of other streams."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def event(self) -> Any:
        """Make an event: ``record(stream)`` marks a point in a stream, ``synchronize()`` waits for it."""
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def pool(self) -> Any:
        """Make a memory pool for graphs that never run at the same time."""
        return torch.cuda.graph_pool_handle()

    def on(self, stream: Any) -> Any:
        """Return a context in which torch uses ``stream``."""
        return torch.cuda.stream(stream)

    def pinned(self, shape: tuple[int, ...]) -> Tensor:
        """Allocate page-locked host memory, uint8, which the GPU copies from and to asynchronously."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def capture(self, run: Callable[[], None], stream: Any, pool: Any) -> Callable[[], None]:
        """Call ``run`` to warm up, capture it as a CUDA graph, and return a function that replays it.

        Hold ``gpu_lock``. See "CUDA Graphs" in torch's notes: the warm-up must use the stream of the capture, which
        must not be the default stream. Other threads may use other streams meanwhile (``thread_local``).
        """
        # TF32 rounds the mantissa to 10 bits, which is not fp32.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            stream.wait_stream(torch.cuda.current_stream(self.device))  # the upload of the weights may be unfinished
            with torch.cuda.stream(stream):
                for _ in range(_WARMUP_RUNS):
                    run()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
        return graph.replay


@dataclass(frozen=True, slots=True, eq=False)
class _Capture:
    """A captured graph for batches of one length, and the memory that it reads and writes."""

    replay: Callable[[], None]
    frames: Tensor
    labels: Tensor
    state: Tensor | None
    host_frames: Tensor
    host_labels: Tensor


class GraphSlot:
    """See ``Slot``: a stream, and a CUDA graph of the network for each batch length.

    Args:
        network: the network to capture.
        gpu: the GPU to run it on.
        state_shape: (D, h, w) of a sequence model.
    """

    def __init__(self, network: TorchNetwork, gpu: Gpu, state_shape: tuple[int, int, int] | None) -> None:
        self._network = network
        self._gpu = gpu
        self._state_shape = state_shape
        with _torch_errors():
            self._stream, self._done, self._pool = gpu.stream(), gpu.event(), gpu.pool()
        self._captures: dict[int, _Capture] = {}
        self._last: _Capture | None = None
        self._must_reset = True

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``."""
        with _torch_errors():
            capture = self._captures.get(len(frames))
            if capture is None:
                with gpu_lock:
                    capture = self._capture(frames.shape)
            self._last = capture
            np.copyto(capture.host_frames.numpy(), frames)
            try:
                with self._gpu.on(self._stream):
                    capture.frames.copy_(capture.host_frames, non_blocking=True)
                    if capture.state is not None and self._must_reset:
                        capture.state.zero_()
                        self._must_reset = False
                    capture.replay()
                    capture.host_labels.copy_(capture.labels, non_blocking=True)
            finally:  # even after an error: ``finish`` must wait for whatever was queued
                self._done.record(self._stream)

    def _capture(self, shape: tuple[int, ...]) -> _Capture:
        device, length = self._gpu.device, shape[0]
        with self._gpu.on(self._stream):  # torch ties memory to the stream on which it was allocated
            frames = torch.zeros(shape, dtype=torch.uint8, device=device)
            labels = torch.zeros(shape[:3], dtype=torch.uint8, device=device)
            state = None if self._state_shape is None else torch.zeros((length, *self._state_shape), device=device)

        def run() -> None:
            predicted, next_state = self._network(frames, state)
            labels.copy_(predicted)
            if state is not None and next_state is not None:
                state.copy_(next_state)

        replay = self._gpu.capture(run, self._stream, self._pool)
        host_frames, host_labels = self._gpu.pinned(shape), self._gpu.pinned(shape[:3])
        capture = _Capture(replay, frames, labels, state, host_frames, host_labels)
        self._captures[length] = capture
        return capture

    def finish(self) -> None:
        """See ``Slot.finish``."""
        with _torch_errors():
            self._done.synchronize()

    def labels(self) -> NDArray[np.uint8]:
        """See ``Slot.labels``."""
        assert self._last is not None, "call start() before labels()"
        return np.asarray(self._last.host_labels.numpy(), dtype=np.uint8)

    def reset(self) -> None:
        """See ``Slot.reset``."""
        self._must_reset = True

    def close(self) -> None:
        """See ``Slot.close``."""
        self._captures.clear()
        self._last = None


@contextmanager
def _torch_errors() -> Iterator[None]:
    """Turn torch's errors into a ``BackendError`` of one line."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise BackendError(
            "the GPU has too little free memory for torch: close other programs that use it, or give a smaller --size"
        ) from error
    except RuntimeError as error:
        raise BackendError(f"torch failed: {str(error).splitlines()[0]}") from error
