"""OpenVINO: the default backend on a CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray

from rtseg.backends.base import BackendOptions, Ticket
from rtseg.backends.slots import SlotBackend
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.load import ModelFile
from rtseg.model_file.margin import add_margin
from rtseg.model_file.quantize import to_int8
from rtseg.model_file.quantized_concat import separate_quantized_concats
from rtseg.model_file.upsample import upsample_by_transposed_conv
from rtseg.model_file.upsample_candidates import upsample_candidates
from rtseg.model_file.weight_range import reduce_weight_range
from rtseg.system.cpu import int8_saturates

__all__ = ["OpenVinoBackend"]

_DEVICE = "CPU"
_MAX_COPIES = 4
"""Compiled copies of an int8 model. Each copy holds its own weights and takes its own time to load."""
_TYPES = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend(SlotBackend):
    """Runs on the CPU. Every image of a batch is a separate inference request, which suits a CPU best.

    With the throughput hint two or more requests run in parallel, on one or a few cores each. On two cores this gives
    more images per second than one request on both. Frames and labels are used in place, without a copy. A sequence
    model gets all cores for one frame, whatever the hint.

    A quantized graph (Q/DQ) is computed in int8. Its float nodes are computed in bf16 if the CPU supports it, unless
    another precision is requested. Where the CPU's int8 products would saturate, weights are reduced to 7 bits. With
    the throughput hint the graph is compiled several times, see ``_copy_configs``.
    """

    name = "openvino"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        if options.device == "cuda":
            raise BackendUnavailable("the openvino backend runs on the CPU: use --device cpu, or --backend torch")
        self.spec = model.spec
        self.version = ov.__version__.split("-")[0]
        self.device = _DEVICE
        self.recurrent = model.state_shape is not None
        self.has_margins = options.margin
        hint = "latency" if self.recurrent else options.hint
        core = _core()
        float_precision = _float_precision(core, options.precision)
        if options.precision == "int8":
            model = to_int8(model)
        if is_quantized(model.graph):
            model = separate_quantized_concats(model)
            if int8_saturates():
                model = reduce_weight_range(model)
        self.precision = "int8" if is_quantized(model.graph) else float_precision
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _TYPES[float_precision]}
        if options.threads is not None:
            config["INFERENCE_NUM_THREADS"] = options.threads
        if self.precision == "int8" and hint == "throughput":
            configs = _copy_configs(config, options.threads or _count_cores())
        else:
            configs = [config | {"PERFORMANCE_HINT": hint.upper()}]
        try:
            graph = add_margin(model.graph) if options.margin else model.graph
            network = core.read_model(_fast_tail(graph).SerializeToString(), b"")
            shapes = {"frames": [1, *self.spec.size, self.spec.channels]}
            if model.state_shape is not None:
                shapes["state"] = [1, *model.state_shape]
            network.reshape(shapes)
            compiled = [core.compile_model(network, _DEVICE, config) for config in configs]
            optimal = int(compiled[0].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {model.path}: {_last_line(error)}") from error
        # One more than run at a time: the next request starts when one ends, without waiting for Python.
        depth = 1 if hint == "latency" else optimal + 1 if len(configs) == 1 else 2 * len(configs)
        copies = cycle(compiled)
        slots = (_RequestSlot(lambda: next(copies).create_infer_request(), model.state_shape) for _ in range(depth))
        self._add_slots(slots, warmup_runs=0)

    def is_ready(self, ticket: Ticket, timeout_s: float) -> bool:
        """See ``Backend.is_ready``."""
        slot: _RequestSlot = ticket.handle
        return slot.is_finished(timeout_s)

    def margins(self, ticket: Ticket) -> NDArray[np.uint8] | None:
        """See ``Backend.margins``."""
        slot: _RequestSlot = ticket.handle
        return slot.output("margin") if self.has_margins else None

    def close(self) -> None:
        """See ``Backend.close``."""
        for ticket in self._lent:
            ticket.handle.cancel()  # nobody will read its labels
        super().close()


class _RequestSlot:
    """See ``Slot``: one inference request for each image of a batch.

    A sequence model has two state buffers for each video. A frame reads one and writes the other, and then they swap.

    Args:
        new_request: makes an ``ov.InferRequest``; called when a batch is longer than all before.
        state_shape: (D, h, w) of a sequence model.
    """

    def __init__(self, new_request: Callable[[], Any], state_shape: tuple[int, int, int] | None) -> None:
        self._new_request = new_request
        self._state_shape = state_shape
        self._requests: list[Any] = []
        self._length = 0
        self._states: list[tuple[ov.Tensor, ov.Tensor]] = []
        """For each video: the state that the next frame reads, and the buffer it writes. Empty before the first."""

    def start(self, frames: NDArray[np.uint8]) -> None:
        """See ``Slot.start``. The runtime reads ``frames`` in place."""
        self._length = len(frames)
        while len(self._requests) < self._length:
            self._requests.append(self._new_request())
        if self._state_shape is not None:
            self._swap_states(self._state_shape)
        for request, frame in zip(self._requests, frames, strict=False):
            request.set_tensor("frames", ov.Tensor(frame[None], shared_memory=True))
            request.start_async()

    def _swap_states(self, shape: tuple[int, int, int]) -> None:
        if not self._states:
            self._states = [(_zeros(shape), _zeros(shape)) for _ in range(self._length)]
        for request, (state, next_state) in zip(self._requests, self._states, strict=False):
            request.set_tensor("state", state)
            request.set_tensor("next_state", next_state)
        self._states = [(next_state, state) for state, next_state in self._states]

    def finish(self) -> None:
        """See ``Slot.finish``."""
        try:
            for request in self._requests[: self._length]:
                request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on a batch: {_last_line(error)}") from error

    def is_finished(self, timeout_s: float) -> bool:
        """Whether the last batch is computed within ``timeout_s``."""
        deadline_s = time.monotonic() + timeout_s
        return all(
            request.wait_for(max(0, round(1e3 * (deadline_s - time.monotonic()))))
            for request in self._requests[: self._length]
        )

    def labels(self) -> NDArray[np.uint8]:
        """See ``Slot.labels``."""
        return self.output("labels")

    def output(self, name: str) -> NDArray[np.uint8]:
        """Return an output of the last finished batch."""
        outputs = [np.asarray(request.get_tensor(name).data) for request in self._requests[: self._length]]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def cancel(self) -> None:
        """Stop the batch in flight."""
        for request in self._requests[: self._length]:
            request.cancel()

    def reset(self) -> None:
        """See ``Slot.reset``."""
        self._states = []  # not set to zero in place: a batch in flight still writes to the old buffers

    def close(self) -> None:
        """See ``Slot.close``."""
        self._requests.clear()
        self._length = 0


@cache
def _core() -> ov.Core:
    """Return the only ``Core`` of this process, which is never freed.

    The CPU plugin of every ``Core`` sets an alternate signal stack for the thread and restores the previous one when
    the ``Core`` is freed. If two are freed in the order they were made, the thread is left with a freed stack, and
    Ctrl-C crashes.
    """
    return ov.Core()


def _zeros(shape: tuple[int, int, int]) -> ov.Tensor:
    return ov.Tensor(np.zeros((1, *shape), np.float32))


def _fast_tail(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with a faster way from scores to labels, for few classes or for many."""
    return upsample_candidates(upsample_by_transposed_conv(graph))


def _copy_configs(config: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """Return a configuration for each of several compiled copies of a model that share the cores, one stream each.

    Several streams of one compiled model would share prepared weights, which OpenVINO looks up by the address they
    were read from (``computeWeightsStringHash`` of its CPU plugin). With quantized weights such an address seems to be
    used twice: one load in twenty of OpenVINO 2026.4 gave wrong labels without an error, and none of a hundred with
    one stream.
    """
    count = min(threads, _MAX_COPIES)
    # With pinning, every copy would pin its threads to the same cores.
    copy = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads // count, "ENABLE_CPU_PINNING": False}
    return [config | copy] * count


def _count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _float_precision(core: ov.Core, precision: str) -> str:
    """Return the precision of everything that is not int8."""
    has_bf16 = "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision in ("auto", "int8"):
        return "bf16" if has_bf16 else "fp32"
    if precision == "bf16" and not has_bf16:
        raise BackendUnavailable("this CPU has no bf16 arithmetic: use --precision fp32")
    if precision not in _TYPES:
        raise BackendUnavailable(f"the openvino backend computes in fp32, bf16 or int8, not in {precision}")
    return precision


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
