"""Two models, opened and checked, to be proven alike: what ``rtseg verify`` does, for programs too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from onnx import TensorProto

from rtseg.backends import open_backend
from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.tensorrt.engine_file import read_engine_facts
from rtseg.deploy.verify import BUDGETS, Budget, Verdict, proof_data, verify
from rtseg.errors import BackendUnavailable, OptionError
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.graph import is_quantised
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import file_sha256
from rtseg.system.atomic_files import check_folder_writable
from rtseg.weights import find_model

__all__ = ["Comparison", "ComparisonOptions"]

_ENGINE = ".engine"


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """What is compared with what, on which images, and what may be lost."""

    reference: str
    """A model file, or the name of a bundled model."""
    candidate: str
    """The same, or a TensorRT engine."""
    data: str | None = None
    """``KIND:PATH``; drawn streets unless given."""
    split: str = "val"
    max_drop: float | None = None
    """Points of mIoU; what ``BUDGETS`` has for the candidate's precision unless given."""
    min_agreement: float | None = None
    """Share of pixels, in [0, 1]; as ``max_drop``."""
    reference_backend: str = "openvino"
    reference_precision: str = "fp32"
    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    frames: int | None = None
    """How many images; all unless given."""
    worst: Path | None = None
    """Folder for drawings of the images that agree least."""


class Comparison:
    """Both models and the images, ready; use it in ``with``.

    Raises:
        RtsegError: an option, a model, the data or the folder for the drawings cannot be used.
        BackendUnavailable: the candidate is an engine that cannot run here; the text says what its certificate says.
    """

    def __init__(self, options: ComparisonOptions) -> None:
        self.options = options
        # Bounds that are out of range are told before anything is loaded.
        own = Budget(options.max_drop or 0.0, options.min_agreement)
        if options.worst is not None:
            check_folder_writable(options.worst, f"--worst {options.worst}")
        with ExitStack() as opened:
            self.reference = opened.enter_context(_open_reference(options))
            self.data = proof_data(self.reference.spec, options.data, options.split)
            self._candidate = _open_candidate(options)
            self.candidate = opened.enter_context(self._candidate.backend)
            self._opened = opened.pop_all()
        usual = BUDGETS[self._candidate.precision]
        self.budget = Budget(
            usual.max_drop if options.max_drop is None else own.max_drop,
            usual.min_agreement if own.min_agreement is None else own.min_agreement,
        )

    def run(self, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Verdict:
        """See ``verify``, whose errors these are."""
        return verify(
            self.reference,
            self.candidate,
            self.data,
            self.budget,
            worst=self.options.worst,
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
    """Whose budget holds."""
    judged_by: str = ""
    """See ``Verdict.judged_by``."""


def _open_reference(options: ComparisonOptions) -> Backend:
    if Path(options.reference).suffix == _ENGINE:
        raise OptionError(f"REFERENCE {options.reference} is an engine: give the model file that it was made of")
    return open_backend(
        options.reference_backend,
        options.reference,
        precision=options.reference_precision,
        device="cpu",
        hint="latency",
    )


def _open_candidate(options: ComparisonOptions) -> _Candidate:
    wanted: dict[str, Any] = {"precision": options.precision, "device": options.device, "hint": "latency"}
    if Path(options.candidate).suffix == _ENGINE:
        return _open_engine(Path(options.candidate), options.backend, wanted)
    model = load_model(find_model(options.candidate))
    if not _is_half(model):
        backend = open_backend(options.backend, options.candidate, **wanted)
        return _Candidate(backend, backend.precision)
    precision = "int8" if is_quantised(model.graph) else "fp16"
    if options.backend != "auto":
        return _Candidate(open_backend(options.backend, options.candidate, **wanted), precision)
    return _Candidate(_open_rounded(model), precision)


def _open_engine(path: Path, backend: str, wanted: dict[str, Any]) -> _Candidate:
    facts = read_engine_facts(path)
    try:
        opened = open_backend("tensorrt" if backend == "auto" else backend, path, **wanted)
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{error}; the certificate of {path} says: {_sentence(facts.certificate)}") from error
    return _Candidate(opened, facts.precision, f"the engine on {opened.device}")


def _open_rounded(model: ModelFile) -> Backend:
    """An fp16 graph on the CPU, which has no fp16: every value rounded as a GPU would."""
    try:
        from rtseg.backends.onnxruntime import OnnxRuntimeBackend
    except ImportError as error:
        raise BackendUnavailable("to judge an fp16 graph on a CPU: pip install 'rtseg[onnxruntime]'") from error
    backend = OnnxRuntimeBackend(emulate_float16(model), BackendOptions())
    backend.model_sha256 = file_sha256(model.path)
    return backend


def _is_half(model: ModelFile) -> bool:
    """Whether a graph computes in fp16; to keep weights in it, as `rtseg export` does, is another matter."""
    casts = (node for node in model.graph.graph.node if node.op_type == "Cast")
    return any(kind.name == "to" and kind.i == TensorProto.FLOAT16 for cast in casts for kind in cast.attribute)


def _sentence(certificate: dict[str, Any]) -> str:
    """What a certificate, made by ``Verdict.to_dict``, says."""
    found = [f"{certificate['agreement']:.2%} agreement"]
    if certificate["miou"] is not None:
        found.append("mIoU {reference:.2%} before and {candidate:.2%} after".format(**certificate["miou"]))
    verdict = "passed" if certificate["passed"] else "failed"
    return f"{verdict} with {', '.join(found)} on {certificate['data']}, judged by {certificate['judged_by']}"
