"""OpenVINO: the default on a CPU."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from rtseg.backends import Backend, BackendOptions, Ticket
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.spec import ModelFile

__all__ = ["OpenVinoBackend"]

_DEVICE = "CPU"
_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoBackend(Backend):
    """Runs on the CPU; every picture of a batch is a request of its own, which suits a CPU best.

    With the throughput hint two or more requests run side by side, one core or a few each: on two cores that gives
    more pictures a second than one request over both. Outputs are read in place, without a copy. A sequence model gets
    all cores for one frame, whatever the hint, and two buffers for the state of each video: a frame reads the one and
    writes the other, and then they change places.
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
        """Of each picture of a batch: the state before it, and room for the one after it. Empty: nothing was seen."""
        hint = "latency" if self.recurrent else options.hint
        core = ov.Core()
        self.precision = _precision(core, options.precision)
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": hint.upper(),
            "INFERENCE_PRECISION_HINT": _TYPES[self.precision],
        }
        if options.threads is not None:
            config["INFERENCE_NUM_THREADS"] = options.threads
        try:
            network = core.read_model(model.graph.SerializeToString(), b"")
            shapes = {"frames": [1, *self.spec.size, self.spec.channels]}
            network.reshape(shapes if self._state_shape is None else shapes | {"state": [1, *self._state_shape]})
            self._compiled = core.compile_model(network, _DEVICE, config)
            optimal = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {model.path}: {_first_line(error)}") from error
        # One more than runs at a time: the next is ready when one ends, so that no core waits for Python.
        self.depth = optimal + 1 if hint == "throughput" else 1
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
            # shared_memory: the runtime reads the caller's picture where it lies.
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
        return self._free.popleft() if self._free else self._compiled.create_infer_request()

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


def _zeros(shape: tuple[int, int, int]) -> ov.Tensor:
    return ov.Tensor(np.zeros((1, *shape), np.float32))


def _precision(core: ov.Core, wanted: str) -> str:
    has_bf16 = "BF16" in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if wanted == "auto":
        return "bf16" if has_bf16 else "fp32"
    if wanted == "bf16" and not has_bf16:
        raise BackendUnavailable("this CPU has no bf16 arithmetic: use --precision fp32")
    if wanted not in _TYPES or wanted == "fp16":
        raise BackendUnavailable(f"the openvino backend computes in fp32 or bf16 here, not in {wanted}")
    return wanted


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
