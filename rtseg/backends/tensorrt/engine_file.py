"""What stands beside a TensorRT engine: whose it is, what built it, where it runs, and the proof of its labels.

An engine is a plan without a name on it, which only the very TensorRT that built it reads, on the GPUs that it was
built for. So ``x.engine`` comes with ``x.engine.json``, and is trusted only where the two agree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rtseg.errors import ModelError
from rtseg.model_file.spec import ModelSpec
from rtseg.system.atomic_files import is_part, part_path, sink_errors

__all__ = [
    "ENGINES",
    "REMEDY",
    "EngineFacts",
    "FoundEngine",
    "covers",
    "engine_path",
    "facts_path",
    "find_engine",
    "install_engine",
    "mismatch_reason",
    "read_engine",
    "read_engine_facts",
    "runtime_cache_path",
    "staged",
    "write_staged",
]

ENGINES = Path("engines")
"""Where engines are written and looked for unless told otherwise: below the current folder."""
REMEDY = ": build it again with `rtseg build-engine`"
"""How the sentences about an engine that cannot be used end."""
_FORMAT = 1
_NEXT_STEP = "give another place with --output"
_TARGET = r"sm_\d{2,3}\+?"
_PREFERRED = ("fp16", "int8", "fp32")
"""Order in which a precision is taken where none is asked for: int8 may cost half a point of mIoU, fp16 does not."""
_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
_PROOF = {"passed", "agreement", "miou", "budget", "data", "judged_by"}
"""What a certificate must have."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """All that is known of an engine; the JSON beside it."""

    model: str
    """Name of the model, as in its metadata."""
    model_sha256: str
    """Of the ONNX file, as 64 hex digits."""
    engine_sha256: str
    """Of the engine itself: tells one that was cut off or changed."""
    runtime: str
    """``tensorrt`` or ``rtx``."""
    runtime_version: str
    """E.g. ``1.7.1.116``: the only one that reads the engine."""
    precision: str
    """``fp16``, ``fp32`` or ``int8``."""
    batch: int
    """Most frames of a batch: 1 is fixed in the engine, with more it takes 1 to ``batch`` (optimised for the most)."""
    targets: tuple[str, ...]
    """Compute capabilities that it runs on, e.g. ``sm_86``; ``sm_86+`` means that one and all after it."""
    gpu: str | None
    """The GPU that it was built on and for; None where it was built for ``targets`` on any machine."""
    driver: str | None
    """Version of the NVIDIA driver of the machine that built it."""
    spec: ModelSpec
    """The metadata of the model, at the size of the engine."""
    state_shape: tuple[int, int, int] | None
    """(D, h, w) of the state of a sequence model; None for every other model."""
    build_seconds: float
    """Of the runtime's build alone."""
    built: str
    """Date, as ``2026-07-31``."""
    rtseg: str
    """Version of rtseg that built it."""
    ranges_sha256: str | None
    """Of the recorded ranges that an int8 engine of a float model was quantised with."""
    certificate: dict[str, Any]
    """The proof of its labels, as ``rtseg.deploy.verify.Verdict.to_dict`` gives it."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the input, in pixels."""
        return self.spec.size

    def to_json(self) -> str:
        """The text beside the engine."""
        facts = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        facts["spec"] = json.loads(self.spec.to_json())
        return json.dumps({"format": _FORMAT, **facts}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineFacts:
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is not such a text, or another rtseg wrote it.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("format")
            if version != _FORMAT:
                raise ModelError(f"it is of format {version!r}, this rtseg reads {_FORMAT}")
            if facts["runtime"] not in _TITLES or facts["precision"] not in _PREFERRED:
                raise ModelError(f"it tells of {facts['runtime']} and {facts['precision']}, unknown to this rtseg")
            if not _is_certificate(facts["certificate"]):
                raise ModelError("its certificate is not whole")
            facts["spec"] = ModelSpec.from_json(json.dumps(facts["spec"]))
            facts["targets"] = tuple(str(target) for target in facts["targets"])
            if not all(re.fullmatch(_TARGET, target) for target in facts["targets"]):
                raise ModelError(f"it names a target that is none: {', '.join(facts['targets'])}")
            facts["state_shape"] = tuple(facts["state_shape"]) if facts["state_shape"] is not None else None
            found = cls(**facts)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ModelError(f"it cannot be read ({type(error).__name__}: {error})") from error
        if type(found.batch) is not int or found.batch < 1:
            raise ModelError(f"its batch is {found.batch!r}")
        return found


def _is_certificate(found: Any) -> bool:
    """Whether it has what is read of it; that of a staged engine is empty."""
    if found == {}:
        return True
    return (
        isinstance(found, dict)
        and found.keys() >= _PROOF
        and isinstance(found["budget"], dict)
        and isinstance(found["budget"].get("max_drop"), float | int)
        and (found["miou"] is None or isinstance(found["miou"], dict))
    )


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """What ``find_engine`` found."""

    path: Path | None
    """The engine that fits; None if none does."""
    facts: EngineFacts | None
    """Of that engine."""
    plan: bytes | None
    """The engine itself, as ``read_engine`` gives it."""
    reasons: tuple[str, ...]
    """Why each other engine of the model does not fit, e.g. ``engines/x.engine was built for sm_86, not for sm_89``."""


def facts_path(engine: Path) -> Path:
    """The JSON beside an engine."""
    return engine.with_suffix(".engine.json")


def runtime_cache_path(engine: Path) -> Path:
    """What TensorRT-RTX compiled of an engine for the GPU that is here. It lies beside it, and need not be there."""
    return engine.with_suffix(".engine.runtime-cache")


def engine_path(folder: Path, model: str, precision: str, runtime: str, targets: Sequence[str]) -> Path:
    """Where an engine is written unless told otherwise, e.g. ``engines/icnet-camvid-fp16-rtx-sm_86-sm_89.engine``."""
    name = re.sub(r"[^\w.+-]+", "_", f"{model}-{precision}-{runtime}-{'-'.join(targets)}")
    return folder / f"{name}.engine"


def read_engine_facts(engine: Path) -> EngineFacts:
    """The facts beside ``engine``.

    Raises:
        ModelError: there is no such engine or no JSON beside it, or it is damaged or of another format.
    """
    if not engine.is_file():
        raise ModelError(f"no engine at {engine}: make it with `rtseg build-engine`")
    path = facts_path(engine)
    try:
        return EngineFacts.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{engine} has no {path.name} beside it{REMEDY}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}){REMEDY}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}{REMEDY}") from error


def read_engine(engine: Path, facts: EngineFacts) -> bytes:
    """The engine that its facts are about: the very bytes that were checked, whatever happens to the file meanwhile.

    Raises:
        ModelError: it was cut off or changed, or cannot be read.
    """
    try:
        plan = engine.read_bytes()
    except OSError as error:
        raise ModelError(f"{engine} cannot be read ({error.strerror}){REMEDY}") from error
    if hashlib.sha256(plan).hexdigest() != facts.engine_sha256:
        raise ModelError(f"{engine} is damaged or was changed{REMEDY}")
    return plan


def mismatch_reason(
    facts: EngineFacts,
    *,
    model_sha256: str,
    size: tuple[int, int],
    runtime: str,
    runtime_version: str,
    targets: Sequence[str],
    precision: str | None = None,
    batch: int | None = None,
    gpu: str | None = None,
) -> str | None:
    """Why an engine does not fit what is wanted, in words; None if it fits.

    Args:
        facts: of the engine.
        model_sha256: of the ONNX file whose labels it is to give.
        size: (H, W) of the input, in pixels.
        runtime: ``tensorrt`` or ``rtx``.
        runtime_version: of the runtime that is here.
        targets: the compute capabilities that it must run on.
        precision: any unless given.
        batch: any unless given.
        gpu: name of the GPU that it must run on; an engine that was built for one GPU runs on that one.
    """
    title, wanted_title = f"{_TITLES[facts.runtime]} {facts.runtime_version}", f"{_TITLES[runtime]} {runtime_version}"
    uncovered = [target for target in targets if not covers(facts.targets, target)]
    reasons = (
        (facts.model_sha256 != model_sha256, "was built from another model file"),
        (title != wanted_title, f"was built by {title}, this is {wanted_title}"),
        (precision not in (None, facts.precision), f"computes in {facts.precision}, not in {precision}"),
        (facts.size != size, f"was built for {_times(facts.size)}, not for {_times(size)}"),
        (batch not in (None, facts.batch), f"takes batches of up to {facts.batch}, not of {batch}"),
        (bool(uncovered), f"was built for {', '.join(facts.targets)}, not for {', '.join(uncovered)}"),
        (None not in (gpu, facts.gpu) and gpu != facts.gpu, f"was built for {facts.gpu}, this is {gpu}"),
    )
    return next((reason for wrong, reason in reasons if wrong), None)


def covers(targets: Sequence[str], wanted: str) -> bool:
    """Whether an engine for ``targets`` runs on ``wanted``, e.g. ``sm_89``; ``sm_86+`` covers it."""
    if wanted in targets:
        return True
    open_ended = [_capability(target) for target in targets if target.endswith("+")]
    return any(_capability(wanted) >= least for least in open_ended)


def _capability(target: str) -> int:
    return int(target.removeprefix("sm_").removesuffix("+"))


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def find_engine(
    folder: Path,
    *,
    model_sha256: str,
    size: tuple[int, int],
    runtime: str,
    runtime_version: str,
    target: str,
    precision: str | None = None,
    gpu: str | None = None,
) -> FoundEngine:
    """The engine of a model among those in ``folder`` that runs here.

    fp16 goes before int8 and fp32, small batches before large ones, and what was built on this GPU before what was
    built for all of its kind.

    Args:
        folder: need not be there.
        model_sha256, size, runtime, runtime_version, precision, gpu: see ``mismatch_reason``.
        target: compute capability of the GPU that is here, e.g. ``sm_89``.

    Returns:
        The engine, and why the others do not fit. Engines of other models are passed over in silence.
    """
    fitting: list[tuple[tuple[int, int, bool], Path, EngineFacts]] = []
    reasons: list[str] = []
    for path in sorted(folder.glob("*.engine")):
        if is_part(path):
            continue
        try:
            facts = read_engine_facts(path)
        except ModelError as error:
            reasons.append(str(error))
            continue
        if facts.model_sha256 != model_sha256:
            continue
        reason = mismatch_reason(
            facts,
            model_sha256=model_sha256,
            size=size,
            runtime=runtime,
            runtime_version=runtime_version,
            targets=(target,),
            precision=precision,
            gpu=gpu,
        )
        if reason is None:
            fitting.append(((_PREFERRED.index(facts.precision), facts.batch, facts.gpu is None), path, facts))
        else:
            reasons.append(f"{path} {reason}")
    for _, path, facts in sorted(fitting, key=lambda entry: entry[0]):
        try:
            plan = read_engine(path, facts)
        except ModelError as error:
            reasons.append(str(error))
        else:
            return FoundEngine(path, facts, plan, tuple(reasons))
    return FoundEngine(None, None, None, tuple(reasons))


@contextlib.contextmanager
def staged(engine: Path) -> Iterator[Path]:
    """A name beside ``engine`` under which it can be made; what is left there afterwards is removed.

    It is another one every time: two builds of one engine at once do not meet before ``install_engine``.
    """
    part = part_path(engine, unique=True)
    try:
        yield part
    finally:
        for path in (part, facts_path(part), runtime_cache_path(part)):
            with contextlib.suppress(OSError):  # what the folder does not allow to write, it may not allow to remove
                path.unlink(missing_ok=True)


def write_staged(part: Path, plan: bytes | memoryview, facts: EngineFacts) -> None:
    """Write an engine and its facts under the name that ``staged`` gave, down to the disk.

    Raises:
        SinkError: they cannot be written: the disk is full, say.
    """
    with sink_errors(part, _NEXT_STEP):
        part.parent.mkdir(parents=True, exist_ok=True)
        _write(part, plan)
        _write(facts_path(part), facts.to_json().encode())


def install_engine(part: Path, facts: EngineFacts, engine: Path) -> None:
    """Give a staged engine its name, and ``facts`` and what its proof on a GPU compiled theirs.

    An engine without facts is never run, so there are none while the engine changes: whenever the machine stops,
    what is found afterwards is the old pair, the new pair, or an engine that has to be built again. Of two that are
    installed at once one waits for the other.

    Raises:
        SinkError: they cannot be written.
    """
    with sink_errors(engine, _NEXT_STEP), _locked(engine.parent) as folder:
        _write(facts_path(part), facts.to_json().encode())
        facts_path(engine).unlink(missing_ok=True)
        part.replace(engine)
        with contextlib.suppress(FileNotFoundError):
            runtime_cache_path(part).replace(runtime_cache_path(engine))
        facts_path(part).replace(facts_path(engine))
        os.fsync(folder)  # names are on the disk only when their folder is


def _write(path: Path, data: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder, opened, with no other ``install_engine`` in it."""
    number = os.open(folder, os.O_RDONLY)
    try:
        # NFS locks no folder: there two builds of one engine at once may leave one that has to be built again.
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        yield number
    finally:
        os.close(number)
