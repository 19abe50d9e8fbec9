"""Whether this processor computes an int8 model correctly: checked once for each class of CPU, then remembered.

Ranges are recorded and verified on one machine; int8 kernels of another class of CPU may add up differently, or
saturate.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.openvino import OpenVinoBackend
from rtseg.errors import BackendUnavailable, SinkError
from rtseg.frame import Image, Labels
from rtseg.model_file.activation_ranges import find_ranges
from rtseg.model_file.emulate_int8 import emulate_int8
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import to_int8
from rtseg.preprocess import Prepare, override_steps
from rtseg.synthetic.street import Street
from rtseg.synthetic.variants import VARIANTS, alter_image, with_extra_channel
from rtseg.system.atomic_files import write_text
from rtseg.system.cpu import cpu_class
from rtseg.system.read_file import read_text

__all__ = ["CERTIFICATE", "Int8Check", "check_int8"]

CERTIFICATE = "int8_check"
"""Key in ``ModelSpec.extra`` of a quantized model file: how `rtseg calibrate` compared it with exact arithmetic."""
_MIN_AGREEMENT = 0.975
_FLOOR = 0.9
"""Never less is required, however much the quantization itself changes."""
_STREETS = 4
_STREET_SIZE = (360, 600)
_STREET_INTERVAL_S = 20.0
_FULL_SET_PIXELS = 512 * 1024
"""Up to this input size all images are compared; of larger ones fewer, so that the check takes seconds."""


@dataclass(frozen=True, slots=True)
class Int8Check:
    """What the check found. Shares are in [0, 1]."""

    cpu: str
    """Class of the processor, see ``rtseg.system.cpu.cpu_class``."""
    agreement: float
    """Share of pixels whose int8 label equals that of the quantized graph in exact arithmetic."""
    required: float
    """The least share that passes."""
    images: int

    @property
    def passed(self) -> bool:
        """Whether int8 may be used on this processor."""
        return self.agreement >= self.required


def check_int8(model: ModelFile, candidate: Backend) -> Int8Check:
    """Compare an int8 backend with the quantized graph in exact arithmetic, unless that was done on such a CPU before.

    `rtseg calibrate` does it too: its verdict counts if it is of this class of CPU and this version of the runtime.

    The images are synthetic streets, also blurred, darkened and brightened: no network was calibrated on them. At least
    97.5 % of the pixels must agree; for a network whose labels on such images change more by the quantization itself,
    at least as many as agree between the quantized graph and the float graph.

    Args:
        model: as it was loaded: the float graph, or a quantized one.
        candidate: the backend that runs it in int8.

    Raises:
        BackendUnavailable: too few pixels agree.
    """
    certified = _read_certificate(model, candidate)
    if certified is not None:
        return certified
    quantized = to_int8(model)
    path = _result_path(quantized, candidate)
    check = _read(path)
    if check is None:
        check = _compare(model, quantized, candidate)
        _write(path, check)
    if not check.passed:
        raise BackendUnavailable(
            f"{candidate.name} computes {model.spec.name} wrongly in int8 on this CPU ({check.cpu}): "
            f"{check.agreement:.1%} of the pixels agree with exact arithmetic, at least {check.required:.1%} are "
            "required; use --precision fp32"
        )
    return check


def _read_certificate(model: ModelFile, candidate: Backend) -> Int8Check | None:
    """What `rtseg calibrate` found with the same runtime on this class of CPU."""
    try:
        if is_quantized(model.graph):  # `rtseg calibrate --save-model` wrote it
            verdict = model.spec.extra[CERTIFICATE]
        else:
            verdict = (find_ranges(model).verdict or {})["arithmetic"]
        runtime = (verdict["candidate"]["backend"], verdict["candidate"]["runtime_version"])
        check = Int8Check(
            str(verdict["cpu"]),
            float(verdict["agreement"]),
            float(verdict["budget"]["min_agreement"]),
            verdict["images"],
        )
    except (KeyError, TypeError, ValueError):  # an older file, or not one that rtseg wrote: it certifies nothing
        return None
    if runtime != (candidate.name, candidate.version) or check.cpu != cpu_class():
        return None
    return check if check.passed and check.required >= _MIN_AGREEMENT else None


def _compare(model: ModelFile, quantized: ModelFile, candidate: Backend) -> Int8Check:
    images = _images(model)
    labels = _label(candidate, images)
    exact = _label_in_float(emulate_int8(quantized), images)
    required = _MIN_AGREEMENT
    agreement = float(np.mean(labels == exact))
    if agreement < required and not is_quantized(model.graph):
        by_quantization = float(np.mean(exact == _label_in_float(model, images)))
        required = min(required, max(_FLOOR, by_quantization))
    return Int8Check(cpu_class(), agreement, required, len(images))


def _images(model: ModelFile) -> list[Image]:
    height, width = model.spec.size
    streets = _STREETS if height * width <= _FULL_SET_PIXELS else 1
    images = []
    for seed in range(streets):
        street, _ = Street(_STREET_SIZE, seed=seed).render(_STREET_INTERVAL_S * (seed + 1))
        image = with_extra_channel(street, model.spec.channels)
        images += [alter_image(image, variant) for variant in VARIANTS]
    return images


def _label_in_float(model: ModelFile, images: list[Image]) -> Labels:
    with OpenVinoBackend(model, BackendOptions(precision="fp32", hint="latency")) as backend:
        return _label(backend, images)


def _label(backend: Backend, images: list[Image]) -> Labels:
    prepare = Prepare(override_steps(backend.spec, ()))  # a background of the model would be of other images
    return np.stack([backend.infer(prepare(image)[None])[0].copy() for image in images])


def _result_path(quantized: ModelFile, candidate: Backend) -> Path:
    """The file that keeps the result for this graph, CPU class and runtime."""
    parts = (candidate.name, candidate.version, cpu_class(), str(quantized.spec.size))
    key = hashlib.sha256("\n".join(parts).encode() + quantized.graph.SerializeToString(deterministic=True))
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - never raises
    return folder / "rtseg" / "int8" / f"{key.hexdigest()}.json"


def _read(path: Path) -> Int8Check | None:
    try:
        facts = json.loads(read_text(path))
        return Int8Check(str(facts["cpu"]), float(facts["agreement"]), float(facts["required"]), int(facts["images"]))
    except (OSError, KeyError, ValueError, TypeError):  # missing or damaged: it is made again
        return None


def _write(path: Path, check: Int8Check) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(check), indent=2) + "\n")
    except (OSError, SinkError):  # nothing can be kept here: the next run checks again
        return
