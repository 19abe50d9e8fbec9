"""Runs foreign graphs in ONNX Runtime, the reference of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rtseg.errors import MissingExtra, ModelError

__all__ = ["Session"]


class Session:
    """A graph in ONNX Runtime on the CPU, in the precision of the file.

    Raises:
        ModelError: ONNX Runtime cannot load it.
        MissingExtra: ONNX Runtime is not installed.
    """

    def __init__(self, model: onnx.ModelProto, title: str) -> None:
        try:
            import onnxruntime as ort
        except ModuleNotFoundError as error:
            raise MissingExtra.for_feature("import", error.name, "onnxruntime") from error
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        self._title = title
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot load {title}: {_first_line(error)}") from error
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return all outputs.

        Raises:
            ModelError: ONNX Runtime fails on this input.
        """
        try:
            values = self._session.run(None, feed)
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot run {self._title}: {_first_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
