"""OpenVINO: the default on a CPU."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from functools import cache
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from rtseg.backends.base import Backend, BackendOptions, Ticket
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.model_file.graph import is_quantised
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import int8_model
from rtseg.model_file.upsample import upsample_by_transposed_conv

__all__ = ["OpenVinoBackend"]

_DEVICE = "CPU"
_MOST_LANES = 4
"""Each holds its own weights, and takes its own time to load."""
_TYPES = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend(Backend):
    """Runs on the CPU; every image of a batch is a request of its own, which suits a CPU best.

    With the throughput hint two or more requests run side by side, one core or a few each: on two cores that gives
    more images a second than one request over both. Outputs are read in place, without a copy. A sequence model gets
    all cores for one frame, whatever the hint, and two buffers for the state of each video: a frame reads the one and
    writes the other, and then they change places.

    A quantised graph (Q/DQ) is computed in int8; what it leaves in float, in bf16 where the CPU has it and nothing
    else is asked for. With the throughput hint it is loaded several times, see ``_lanes``.
    """

    name = "openvino"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        if options.device == "cuda":
            raise BackendUnavailable("the openvino backend runs on the CPU: use --device cpu, or --backend torch")
        self.spec = model.spec
        self.version = ov.__version__.split("-")[0]
        self.device = _DEVICE
        self.recurrent = model.state_shape is not None
        self._state_shape = model.state_shape
        self._states: list[tuple[ov.Tensor, ov.Tensor]] = []
        """Of each image of a batch: the state before it, and room for the one after it. Empty: nothing was seen."""
        hint = "latency" if self.recurrent else options.hint
        core = _core()
        arithmetic = _arithmetic(core, options.precision)
        if options.precision == "int8":
            model = int8_model(model)
        self.precision = "int8" if is_quantised(model.graph) else arithmetic
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _TYPES[arithmetic]}
        if options.threads is not None:
            config["INFERENCE_NUM_THREADS"] = options.threads
        if self.precision == "int8" and hint == "throughput":
            configs = _lanes(config, options.threads or _cores())
        else:
            configs = [config | {"PERFORMANCE_HINT": hint.upper()}]
        try:
            network = core.read_model(upsample_by_transposed_conv(model.graph).SerializeToString(), b"")
            shapes = {"frames": [1, *self.spec.size, self.spec.channels]}
            network.reshape(shapes if self._state_shape is None else shapes | {"state": [1, *self._state_shape]})
            self._compiled = [core.compile_model(network, _DEVICE, config) for config in configs]
            optimal = int(self._compiled[0].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {model.path}: {_first_line(error)}") from error
        # More than runs at a time: the next is ready when one ends, so that no core waits for Python.
        self.depth = 1 if hint == "latency" else optimal + 1 if len(configs) == 1 else 2 * len(configs)
        self._made = 0
        """Requests so far; they are dealt out to the compiled models in turn."""
        self._free: deque[ov.InferRequest] = deque()
        self._lent: deque[Ticket] = deque()
        """Batches whose labels are still promised. Their frames are kept, too: the runtime reads them in place."""

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        while len(self._lent) >= self.depth:
            self._reclaim()
        requests = [self._request() for _ in frames]
        if self._state_shape is not None:
            self._hand_on(requests, self._state_shape)
        for request, frame in zip(requests, frames, strict=True):
            # shared_memory: the runtime reads the caller's image where it lies.
            request.set_tensor("frames", ov.Tensor(frame[None], shared_memory=True))
            request.start_async()
        ticket = Ticket(requests, frames)
        self._lent.append(ticket)
        return ticket

    def _hand_on(self, requests: list[ov.InferRequest], shape: tuple[int, int, int]) -> None:
        """Let each request read the state that the last one on its video wrote, and write into the other buffer."""
        if not self._states:
            self._states = [(_zeros(shape), _zeros(shape)) for _ in requests]
        for request, (before, after) in zip(requests, self._states, strict=True):
            request.set_tensor("state", before)
            request.set_tensor("next_state", after)
        self._states = [(after, before) for before, after in self._states]

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._states = []  # new ones, not zeroed ones: a batch in flight writes into these

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        if not any(ticket is lent for lent in self._lent):
            raise BackendError(
                f"the labels of this batch are gone: wait for them before {self.depth} more batches, and before close"
            )
        try:
            for request in ticket.handle:
                request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on a batch: {_first_line(error)}") from error
        outputs = [np.asarray(request.get_tensor("labels").data) for request in ticket.handle]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _request(self) -> ov.InferRequest:
        if self._free:
            return self._free.popleft()
        self._made += 1
        return self._compiled[self._made % len(self._compiled)].create_infer_request()

    def _reclaim(self) -> None:
        """Take back the requests of the oldest batch: its labels are no longer promised."""
        for request in self._lent.popleft().handle:
            # A failure belongs to whoever holds the ticket: it is raised where the labels are asked for.
            with contextlib.suppress(RuntimeError):
                request.wait()
            self._free.append(request)

    def close(self) -> None:
        """See ``Backend.close``."""
        for ticket in self._lent:
            for request in ticket.handle:
                request.cancel()  # nobody will ask for its labels any more
        while self._lent:
            self._reclaim()
        self._free.clear()


@cache
def _core() -> ov.Core:
    """The one ``Core`` of this process, never freed.

    The CPU plugin of each gives the thread a stack for signals, and takes it back when it goes. Of two that do not go
    in the reverse order of their coming the last leaves the thread a stack that is gone: Ctrl-C is a crash then.
    """
    return ov.Core()


def _zeros(shape: tuple[int, int, int]) -> ov.Tensor:
    return ov.Tensor(np.zeros((1, *shape), np.float32))


def _lanes(config: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """Of each of several models that share the cores, one stream each.

    Not several streams of one model: those share prepared weights, which OpenVINO finds again by the address that they
    were read from (``computeWeightsStringHash`` of its CPU plugin). With quantised weights such an address seems to be
    used twice: one load in twenty of OpenVINO 2026.4 gave wrong labels and no error, none of a hundred with one stream.
    """
    count = min(threads, _MOST_LANES)
    # Each would pin its threads to the first cores.
    lane = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads // count, "ENABLE_CPU_PINNING": False}
    return [config | lane] * count


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _arithmetic(core: ov.Core, wanted: str) -> str:
    """What all that is not int8 is computed in."""
    has_bf16 = "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if wanted in ("auto", "int8"):
        return "bf16" if has_bf16 else "fp32"
    if wanted == "bf16" and not has_bf16:
        raise BackendUnavailable("this CPU has no bf16 arithmetic: use --precision fp32")
    if wanted not in _TYPES:
        raise BackendUnavailable(f"the openvino backend computes in fp32, bf16 or int8 here, not in {wanted}")
    return wanted


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
