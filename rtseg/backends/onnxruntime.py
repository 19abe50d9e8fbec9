"""ONNX Runtime: runs on every CPU, in fp32 and int8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rtseg.backends.base import Backend, BackendOptions, Ticket
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.load import ModelFile
from rtseg.model_file.margin import add_margin
from rtseg.model_file.quantize import to_int8

__all__ = ["OnnxRuntimeBackend"]

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)


class OnnxRuntimeBackend(Backend):
    """Labels a batch in ``submit``, on all cores. Several batches in flight would only share the cores.

    An fp16 graph runs too: weights and activations are rounded to fp16, the arithmetic is fp32.
    """

    name = "onnxruntime"
    device = "CPU"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        if options.precision not in ("auto", "fp32", "int8"):
            raise BackendUnavailable(f"the onnxruntime backend computes in fp32 or int8, not in {options.precision}")
        if options.device == "cuda":
            raise BackendUnavailable("the onnxruntime backend runs on the CPU: use --device cpu, or --backend torch")
        if options.precision == "int8":
            model = to_int8(model)
        self.precision = "int8" if is_quantized(model.graph) else "fp32"
        self.spec = model.spec
        self._state_shape = model.state_shape
        self.recurrent = self._state_shape is not None
        self._outputs = ["labels", "next_state"] if self.recurrent else ["labels"]
        if options.margin:
            model = replace(model, graph=add_margin(model.graph))
            self._outputs.append("margin")
        self.has_margins = options.margin
        self._state: ort.OrtValue | None = None
        self.version = ort.__version__
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        try:
            self._session = ort.InferenceSession(
                model.graph.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
        except _FAILURES as error:
            raise ModelError(f"ONNX Runtime cannot load {model.path}: {str(error).splitlines()[0]}") from error

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        if self.spec.batch is None:
            return Ticket(self._run(frames), frames)
        length = self.spec.batch
        parts = [self._run(frames[first : first + length]) for first in range(0, len(frames), length)]
        return Ticket([np.concatenate(outputs) for outputs in zip(*parts, strict=True)], frames)

    def _run(self, frames: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Return the labels, and with ``BackendOptions.margin`` the margins."""
        # With OrtValues instead of arrays, the state is not copied between frames.
        inputs = {"frames": ort.OrtValue.ortvalue_from_numpy(frames)}
        if self._state_shape is not None:
            inputs["state"] = _zeros(len(frames), self._state_shape) if self._state is None else self._state
        try:
            labels, *others = self._session.run_with_ort_values(self._outputs, inputs)
        except _FAILURES as error:
            raise BackendError(f"ONNX Runtime failed on a batch: {str(error).splitlines()[0]}") from error
        margins = [others.pop().numpy()] if self.has_margins else []
        self._state = others[0] if others else None
        return [labels.numpy(), *margins]  # not converted: ``wait`` refuses another type

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._state = None

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels: NDArray[np.uint8] = ticket.handle[0]
        return labels

    def margins(self, ticket: Ticket) -> NDArray[np.uint8] | None:
        """See ``Backend.margins``."""
        return ticket.handle[1] if self.has_margins else None


def _zeros(length: int, shape: tuple[int, int, int]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.zeros((length, *shape), np.float32))
