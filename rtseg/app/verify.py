"""Compare a model with its reference: ``rtseg verify`` as a Python API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnx import TensorProto

from rtseg.app.options import ComparisonOptions
from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.tensorrt.engine_file import read_engine_facts
from rtseg.deploy.verify import BUDGETS, Budget, Verdict, open_verification_data, verify
from rtseg.errors import BackendUnavailable, OptionError
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.load import ModelFile, load_model
from rtseg.system.atomic_files import check_folder_writable
from rtseg.weights import find_model

__all__ = ["Comparison"]

_ENGINE = ".engine"


class Comparison:
    """Opens both models and the data. Use it as a context manager.

    Raises:
        RtsegError: An option, a model, the data or the folder for drawings cannot be used.
        BackendUnavailable: The candidate is an engine that cannot run here. The message quotes its certificate.
    """

    def __init__(self, options: ComparisonOptions) -> None:
        self.options = options
        # Check the user's limits before loading anything.
        limits = Budget(options.max_drop or 0.0, options.min_agreement)
        if options.worst is not None:
            check_folder_writable(options.worst, f"--worst {options.worst}")
        with ExitStack() as opened:
            self.reference = opened.enter_context(_open_reference(options))
            self.data = open_verification_data(self.reference.spec, options.data, options.split)
            self._candidate = _open_candidate(options)
            self.candidate = opened.enter_context(self._candidate.backend)
            self._opened = opened.pop_all()
        defaults = BUDGETS[self._candidate.precision]
        self.budget = Budget(
            defaults.max_drop if options.max_drop is None else limits.max_drop,
            defaults.min_agreement if limits.min_agreement is None else limits.min_agreement,
        )

    def run(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Verdict:
        """Compare the models. See ``rtseg.deploy.verify.verify`` for the errors."""
        return verify(
            self.reference,
            self.candidate,
            self.data,
            self.budget,
            worst_dir=self.options.worst,
            frames=self.options.frames,
            judged_by=self._candidate.judged_by,
            on_progress=on_progress,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _Candidate:
    backend: Backend
    precision: str
    """Selects the default limits, see ``BUDGETS``."""
    judged_by: str = ""
    """See ``Verdict.judged_by``."""


def _open_reference(options: ComparisonOptions) -> Backend:
    if Path(options.reference).suffix == _ENGINE:
        raise OptionError(f"REFERENCE {options.reference} is an engine: give the model file it was built from")
    return open_backend(
        options.reference_backend,
        options.reference,
        precision=options.reference_precision,
        device="cpu",
        hint="latency",
    )


def _open_candidate(options: ComparisonOptions) -> _Candidate:
    backend_options: dict[str, Any] = {"precision": options.precision, "device": options.device, "hint": "latency"}
    if Path(options.candidate).suffix == _ENGINE:
        return _open_engine(Path(options.candidate), options.backend, backend_options)
    model = load_model(find_model(options.candidate))
    if not _computes_in_float16(model):
        backend = open_backend(options.backend, options.candidate, **backend_options)
        return _Candidate(backend, backend.precision)
    precision = "int8" if is_quantized(model.graph) else "fp16"
    if options.backend != "auto":
        return _Candidate(open_backend(options.backend, options.candidate, **backend_options), precision)
    # A CPU has no fp16 arithmetic: every value is rounded to fp16, as on a GPU.
    return _Candidate(open_backend("onnxruntime", emulate_float16(model)), precision)


def _open_engine(path: Path, backend: str, backend_options: dict[str, Any]) -> _Candidate:
    facts = read_engine_facts(path)
    try:
        opened = open_backend("tensorrt" if backend == "auto" else backend, path, **backend_options)
    except BackendUnavailable as error:
        raise BackendUnavailable(
            f"{error}; the certificate of {path} says: {_describe_certificate(facts.certificate)}"
        ) from error
    return _Candidate(opened, facts.precision, f"the engine on {opened.device}")


def _computes_in_float16(model: ModelFile) -> bool:
    """Return whether a graph computes in fp16, not only stores its weights in fp16 as `rtseg export` does."""
    casts = (node for node in model.graph.graph.node if node.op_type == "Cast")
    return any(attr.name == "to" and attr.i == TensorProto.FLOAT16 for cast in casts for attr in cast.attribute)


def _describe_certificate(certificate: dict[str, Any]) -> str:
    """Summarise a certificate, see ``Verdict.to_dict``."""
    results = [f"{certificate['agreement']:.2%} agreement"]
    if certificate["miou"] is not None:
        results.append("mIoU {reference:.2%} before and {candidate:.2%} after".format(**certificate["miou"]))
    verdict = "passed" if certificate["passed"] else "failed"
    return f"{verdict} with {', '.join(results)} on {certificate['data']}, judged by {certificate['judged_by']}"
