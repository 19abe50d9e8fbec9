"""torch: the reference that every other backend is compared with, and the way to a GPU without TensorRT."""

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
from rtseg.backends.gpu_slots import DEPTH, SlotBackend, alone
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import ModelSpec
from rtseg.models import create_model, is_known
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm

__all__ = ["TorchBackend", "why_not_on_a_gpu"]

_PREFIX = "network."
"""Of the names that export gives to the weights of a network."""
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
_AUTO = {"cpu": "fp32", "cuda": "fp16"}
_WARM_UPS = 3
"""Runs before a capture: cuDNN picks its kernels in the first ones, and allocates what it works in."""


class TorchBackend(SlotBackend):
    """Builds the network that the model file names, and takes the weights out of the file.

    On the CPU it is eager torch in fp32 unless told otherwise: there it is to be right. On a GPU it is fp16 unless told
    otherwise, recorded as a CUDA graph for each length of a batch, with as many batches in flight as TensorRT has.
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
        labels = _build(model)
        if device.type == "cpu":
            self._use([_EagerSlot(_Network(labels, device, self.precision))], warm_runs=0)
            return
        depth = 1 if self.recurrent else DEPTH[options.hint]
        with alone:
            with _errors_told():
                network, gpu = _Network(labels, device, self.precision), Gpu(device)
            self._use((RecordedSlot(network, gpu, model.state_shape) for _ in range(depth)), warm_runs=1)

    def _close(self) -> None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # What torch keeps for later is of use to TensorRT and to other programs.
            with alone:
                torch.cuda.empty_cache()


def why_not_on_a_gpu(spec: ModelSpec, precision: str) -> str | None:
    """Why torch cannot run a model on a GPU of this machine; None if it can."""
    if not torch.cuda.is_available():
        return "torch finds no usable CUDA device"
    if not is_known(spec.architecture):
        return f"{spec.name} names no network that rtseg can build in torch"
    if precision not in ("auto", *_PRECISIONS["cuda"]):
        return f"torch does not compute in {precision}"
    return None


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _precision(device: str, wanted: str) -> str:
    if wanted == "auto":
        return _AUTO[device]
    if wanted not in _PRECISIONS[device]:
        known, where = " or ".join(_PRECISIONS[device]), "the CPU" if device == "cpu" else "a GPU"
        raise BackendUnavailable(f"the torch backend computes in {known} on {where}, not in {wanted}")
    return wanted


def _build(model: ModelFile) -> LabelNetwork:
    spec = model.spec
    network = fuse_batch_norm(create_model(spec.architecture, len(spec.classes)))
    state_shape = network.state_shape(*spec.size) if network.recurrent else None
    if state_shape != model.state_shape:
        raise ModelError(f"the state in {model.path} is not that of the network {spec.architecture!r} of this rtseg")
    stored = {tensor.name.removeprefix(_PREFIX): tensor for tensor in model.graph.graph.initializer}
    weights: dict[str, Tensor] = {}
    try:
        for name, blank in network.state_dict().items():
            if name in stored:
                weights[name] = torch.from_numpy(numpy_helper.to_array(stored[name]).astype(np.float32))
            elif name.endswith(".bias"):  # the exporter leaves out a bias that is zero
                weights[name] = torch.zeros_like(blank)
        network.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the weights in {model.path} do not fit the network {spec.architecture!r} of this rtseg"
        ) from error
    network.fix_size(*spec.size)  # matrices that it would else make on the CPU at every call: no graph can hold that
    return LabelNetwork(network).to(memory_format=torch.channels_last)


class _Network:
    """Frames and state to labels and next state, on a device and in a precision."""

    def __init__(self, labels: LabelNetwork, device: torch.device, precision: str) -> None:
        self._type = _TYPES[precision]
        self._device = device
        # Rounded once, so that nothing rounds them for every frame. Those of a sequence model stay: its gates and its
        # state are of the precision of its weights, and need fp32.
        if device.type == "cuda" and not labels.network.recurrent:
            labels.network.to(self._type)
        self._labels = labels.to(device)
        self.recurrent = labels.network.recurrent

    def __call__(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """uint8 (N, H, W, C) -> uint8 (N, H, W), and the state of a sequence model; None as the state: zeros."""
        low = self._type is not torch.float32
        # No cache: it lives as long as the context, and a recorded graph longer.
        amp = torch.autocast(self._device.type, self._type if low else None, enabled=low, cache_enabled=False)
        with torch.no_grad(), amp:
            if self.recurrent:
                labels, next_state = self._labels(frames, state)
                return labels, next_state
            return self._labels(frames), None


class _EagerSlot:
    """See ``Slot``: on the CPU, where the labels are there when ``start`` returns."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._state: Tensor | None = None
        self._result: Tensor | None = None

    def start(self, frames: NDArray[np.uint8]) -> None:
        with _errors_told():
            self._result, self._state = self._network(torch.from_numpy(frames), self._state)

    def finish(self) -> None: ...

    def labels(self) -> NDArray[np.uint8]:
        assert self._result is not None, "labels() is for after start()"
        return np.asarray(self._result.numpy(), dtype=np.uint8)

    def reset(self) -> None:
        self._state = None

    def close(self) -> None: ...


class Gpu:
    """What ``RecordedSlot`` asks of CUDA."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> Any:
        """A queue of work, done in order, beside what other streams do."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def event(self) -> Any:
        """What ``record(stream)`` puts behind the work of a stream, and ``synchronize()`` waits for."""
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def pool(self) -> Any:
        """Memory of graphs that never run at the same time."""
        return torch.cuda.graph_pool_handle()

    def on(self, stream: Any) -> Any:
        """Within it, torch works on ``stream``."""
        return torch.cuda.stream(stream)

    def pinned(self, shape: tuple[int, ...]) -> Tensor:
        """Memory of this machine that the GPU copies from and to by itself, uint8."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def record(self, run: Callable[[], None], stream: Any, pool: Any) -> Callable[[], None]:
        """Run it, capture it as a CUDA graph, and return what replays it on the stream that is then current.

        Call it ``alone``. See "CUDA Graphs" in the notes of torch: warmed up on the stream of the capture, which must
        not be the default one. Threads that feed other streams meanwhile do not disturb it (``thread_local``).
        """
        # TF32 rounds fp32 to 10 bits: not what somebody who asks for fp32 expects.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            stream.wait_stream(torch.cuda.current_stream(self.device))  # the weights may still be on their way
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    run()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
        return graph.replay


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """The network for batches of one length, with the memory that it reads and writes."""

    replay: Callable[[], None]
    frames: Tensor
    labels: Tensor
    state: Tensor | None
    host_frames: Tensor
    host_labels: Tensor


class RecordedSlot:
    """See ``Slot``: a stream, and the network as a CUDA graph for each length of a batch.

    Args:
        network: what is recorded.
        gpu: where.
        state_shape: (D, h, w) of a sequence model.
    """

    def __init__(self, network: _Network, gpu: Gpu, state_shape: tuple[int, int, int] | None) -> None:
        self._network = network
        self._gpu = gpu
        self._state_shape = state_shape
        with _errors_told():
            self._stream, self._done, self._pool = gpu.stream(), gpu.event(), gpu.pool()
        self._recordings: dict[int, _Recording] = {}
        self._last: _Recording | None = None
        self._fresh = True

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``."""
        with _errors_told():
            recording = self._recordings.get(len(frames))
            if recording is None:
                with alone:
                    recording = self._record(frames.shape)
            self._last = recording
            np.copyto(recording.host_frames.numpy(), frames)
            try:
                with self._gpu.on(self._stream):
                    recording.frames.copy_(recording.host_frames, non_blocking=True)
                    if recording.state is not None and self._fresh:
                        recording.state.zero_()
                        self._fresh = False
                    recording.replay()
                    recording.host_labels.copy_(recording.labels, non_blocking=True)
            finally:  # also behind half of it: the memory is not used again before that is done
                self._done.record(self._stream)

    def _record(self, shape: tuple[int, ...]) -> _Recording:
        device, length = self._gpu.device, shape[0]
        with self._gpu.on(self._stream):  # memory belongs to the stream that it was allocated on
            frames = torch.zeros(shape, dtype=torch.uint8, device=device)
            labels = torch.zeros(shape[:3], dtype=torch.uint8, device=device)
            state = None if self._state_shape is None else torch.zeros((length, *self._state_shape), device=device)

        def run() -> None:
            found, next_state = self._network(frames, state)
            labels.copy_(found)
            if state is not None and next_state is not None:
                state.copy_(next_state)

        replay = self._gpu.record(run, self._stream, self._pool)
        host_frames, host_labels = self._gpu.pinned(shape), self._gpu.pinned(shape[:3])
        recording = _Recording(replay, frames, labels, state, host_frames, host_labels)
        self._recordings[length] = recording
        return recording

    def finish(self) -> None:
        """See ``Slot.finish``."""
        with _errors_told():
            self._done.synchronize()

    def labels(self) -> NDArray[np.uint8]:
        """See ``Slot.labels``."""
        assert self._last is not None, "labels() is for after start()"
        return np.asarray(self._last.host_labels.numpy(), dtype=np.uint8)

    def reset(self) -> None:
        """See ``Slot.reset``."""
        self._fresh = True

    def close(self) -> None:
        """See ``Slot.close``."""
        self._recordings.clear()
        self._last = None


@contextmanager
def _errors_told() -> Iterator[None]:
    """torch's errors as a sentence."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise BackendError(
            "the GPU has not enough free memory for torch: close what else runs on it, or give a smaller --size"
        ) from error
    except RuntimeError as error:
        raise BackendError(f"torch failed: {str(error).splitlines()[0]}") from error
