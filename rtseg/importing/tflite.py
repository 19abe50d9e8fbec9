"""Makes a model file of a TFLite file: tf2onnx converts it to ONNX, and OpenVINO, which reads TFLite, checks that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rtseg.errors import ModelError, ProofError
from rtseg.importing.import_onnx import ImportedModel, Origin, import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.importing.runtime import Session
from rtseg.system.read_file import read_bytes

__all__ = ["import_tflite"]

_MAGIC = b"TFL3"
_MAX_BYTES = 1 << 31
_OPSET = 17
_TIMEOUT_S = 600.0
_TOLERANCE = 0.02
"""Largest difference of two values that count as equal, as a share of the range of the output: a quantized network
rounds to steps."""
_MIN_EQUAL = 0.999


def import_tflite(
    path: Path, options: ImportOptions | None = None, *, on_progress: Callable[[str], None] = lambda phase: None
) -> ImportedModel:
    """Make a model file of a TFLite file; see ``import_onnx``.

    Raises:
        ModelError: it is no TFLite file, tf2onnx is not installed or cannot convert it; or see ``import_onnx``.
        ProofError: the converted graph computes something else than OpenVINO does with the file.
        OptionError, SinkError, MissingExtra: see ``import_onnx``.
    """
    options = options or ImportOptions()
    _check(path)
    options = replace(options, name=options.name or path.stem, output=options.output or Path(f"{path.stem}-rtseg.onnx"))
    with TemporaryDirectory(prefix="rtseg-import-") as folder:
        converted = Path(folder) / f"{path.stem}.onnx"
        on_progress("converting to ONNX")
        _convert(path, converted)
        share = _equal_share(path, converted)
        if share < _MIN_EQUAL:
            raise ProofError(
                f"tf2onnx converts {path} wrongly: only {share:.2%} of the values are those of OpenVINO; nothing was "
                "written, export the network to ONNX itself"
            )
        done = import_onnx(converted, options, origin=Origin(source=path.name), on_progress=on_progress)
    return replace(done, changes=(f"TFLite to ONNX, {share:.2%} of the values are OpenVINO's", *done.changes))


def _check(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"no model at {path}: give a .tflite file")
    if read_bytes(path, _MAX_BYTES)[4:8] != _MAGIC:
        raise ModelError(f"{path} is not a TFLite file or is damaged: export it again")
    missing = [name for name in ("tf2onnx", "tensorflow") if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{path} is a TFLite file, and converting it needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )


def _convert(path: Path, output: Path) -> None:
    command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(path), "--output", str(output)]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(
            [*command, "--opset", str(_OPSET)],
            capture_output=True,
            env=quiet,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"tf2onnx does not end with {path}: export the network to ONNX itself") from error
    if done.returncode or not output.is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ModelError(f"tf2onnx cannot convert {path} ({lines[-1][:200]}): export the network to ONNX itself")


def _equal_share(path: Path, converted: Path) -> float:
    """Return which share of the outputs' values is the same in OpenVINO, for noise.

    Raises:
        ModelError: OpenVINO cannot read the file.
    """
    import openvino as ov

    core = ov.Core()
    try:
        network = core.read_model(str(path))
        for each in network.inputs:
            each.get_node().set_partial_shape(
                ov.PartialShape([dim.get_length() if dim.is_static else 1 for dim in each.partial_shape])
            )
        network.validate_nodes_and_infer_types()
        compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        feed = [_noise(each) for each in compiled.inputs]
        expected = [np.asarray(value) for value in compiled(feed).values()]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise ModelError(f"OpenVINO cannot read {path} ({reason}): export the network to ONNX itself") from error
    model = onnx.load(converted)
    session = Session(model, str(path))
    values = list(session.run(dict(zip((value.name for value in model.graph.input), feed, strict=True))).values())
    if [value.shape for value in values] != [value.shape for value in expected]:
        return 0.0
    return min(_equal(value, other) for value, other in zip(values, expected, strict=True))


def _noise(value: Any) -> NDArray[Any]:
    shape, kind = tuple(value.shape), value.element_type.to_dtype()
    random = np.random.default_rng(1)
    if np.issubdtype(kind, np.integer):
        return random.integers(0, 127, shape).astype(kind)
    return random.uniform(-1, 1, shape).astype(kind)


def _equal(value: NDArray[Any], expected: NDArray[Any]) -> float:
    expected = expected.astype(np.float64)
    spread = max(float(np.ptp(expected)), 1e-6)
    return float((np.abs(value.astype(np.float64) - expected) <= _TOLERANCE * spread).mean())
