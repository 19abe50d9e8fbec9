"""ONNX Runtime on the CPU: on every platform, in fp32."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rtseg.backends import Backend, BackendOptions, Ticket
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.spec import ModelFile

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
    """Labels a batch within ``submit``: ONNX Runtime spreads one batch over all cores, more would only share them."""

    name = "onnxruntime"
    device = "CPU"
    precision = "fp32"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        if options.precision not in ("auto", "fp32"):
            raise BackendUnavailable(f"the onnxruntime backend computes in fp32, not in {options.precision}")
        if options.device == "cuda":
            raise BackendUnavailable("the onnxruntime backend runs on the CPU: use --device cpu, or --backend torch")
        self.spec = model.spec
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
        try:
            (labels,) = self._session.run(["labels"], {"frames": frames})
        except _FAILURES as error:
            raise BackendError(f"ONNX Runtime failed on a batch: {str(error).splitlines()[0]}") from error
        return Ticket(np.asarray(labels, dtype=np.uint8), frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels: NDArray[np.uint8] = ticket.handle
        return labels
