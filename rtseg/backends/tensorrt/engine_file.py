"""TensorRT engine files, and the facts about them: the model, the runtime, the GPUs, and how the labels were verified.

An engine file does not name its model. Only the TensorRT version that built it can load it, on the GPUs that it was
built for. So ``x.engine`` has a file ``x.engine.json`` beside it, and is used only if the two agree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rtseg.errors import ModelError
from rtseg.model_file.background import resolve_backgrounds
from rtseg.model_file.spec import ModelSpec
from rtseg.system.atomic_files import is_part, part_path, sink_errors
from rtseg.system.read_file import read_bytes, read_text

__all__ = [
    "ENGINES",
    "REMEDY",
    "EngineFacts",
    "EngineMatch",
    "EngineRequirements",
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
"""Default folder of engines, below the working folder."""
REMEDY = ": build it again with `rtseg build-engine`"
"""The end of every error message about an engine that cannot be used."""
_FORMAT = 1
_MAX_BYTES = 1 << 34
_NEXT_STEP = "choose another path with --output"
_TARGET = r"sm_\d{2,3}\+?"
_PREFERRED = ("fp16", "int8", "fp32")
"""Precisions by preference: int8 may lose half a point of mIoU, fp16 does not."""
_TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
_CERTIFICATE_KEYS = {"passed", "agreement", "miou", "budget", "data", "judged_by"}
"""The keys of a certificate that rtseg reads."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The facts about an engine, stored as JSON beside it."""

    model: str
    """Name of the model, as in its metadata."""
    model_sha256: str
    """SHA-256 of the ONNX file, as 64 hex digits."""
    engine_sha256: str
    """SHA-256 of the engine file, to detect one that was truncated or changed."""
    runtime: str
    """``tensorrt`` or ``rtx``."""
    runtime_version: str
    """E.g. ``1.7.1.116``: the only version that can load the engine."""
    precision: str
    """``fp16``, ``fp32`` or ``int8``."""
    batch: int
    """Largest batch. With 1 the batch is fixed; otherwise it is 1 to ``batch``, and ``batch`` is the fastest."""
    targets: tuple[str, ...]
    """Compute capabilities that it runs on, e.g. ``sm_86``; ``sm_86+`` means that one and all later ones."""
    gpu: str | None
    """The GPU that it was built on and for; None if it runs on every GPU of ``targets``."""
    driver: str | None
    """Version of the NVIDIA driver on the machine that built it."""
    spec: ModelSpec
    """The metadata of the model, at the size of the engine."""
    state_shape: tuple[int, int, int] | None
    """(D, h, w) of the state of a sequence model; None for every other model."""
    build_seconds: float
    """Duration of the runtime's build, in seconds."""
    built: str
    """Date of the build, e.g. ``2026-07-31``."""
    rtseg: str
    """Version of rtseg that built it."""
    ranges_sha256: str | None
    """SHA-256 of the recorded activation ranges, for an int8 engine of a float model."""
    certificate: dict[str, Any]
    """How its labels were verified, as ``rtseg.deploy.verify.Verdict.to_dict``; empty before that."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the input, in pixels."""
        return self.spec.size

    def to_json(self) -> str:
        """Return the content of the JSON file."""
        facts = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        facts["spec"] = json.loads(self.spec.to_json())
        return json.dumps({"format": _FORMAT, **facts}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineFacts:
        """Parse the result of ``to_json``.

        Raises:
            ModelError: ``text`` is malformed, or another version of rtseg wrote it.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("format")
            if version != _FORMAT:
                raise ModelError(f"it is of format {version!r}, this rtseg reads {_FORMAT}")
            if facts["runtime"] not in _TITLES or facts["precision"] not in _PREFERRED:
                raise ModelError(f"it names {facts['runtime']} and {facts['precision']}, unknown to this rtseg")
            if not _is_certificate(facts["certificate"]):
                raise ModelError("its certificate is incomplete")
            facts["spec"] = ModelSpec.from_json(json.dumps(facts["spec"]))
            facts["targets"] = tuple(str(target) for target in facts["targets"])
            if not all(re.fullmatch(_TARGET, target) for target in facts["targets"]):
                raise ModelError(f"it names an invalid target: {', '.join(facts['targets'])}")
            facts["state_shape"] = tuple(facts["state_shape"]) if facts["state_shape"] is not None else None
            parsed = cls(**facts)
        except ModelError:
            raise
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise ModelError(f"it cannot be read ({type(error).__name__}: {error})") from error
        if type(parsed.batch) is not int or parsed.batch < 1:
            raise ModelError(f"its batch is {parsed.batch!r}")
        return parsed


def _is_certificate(value: Any) -> bool:
    """Return whether ``value`` is a certificate, or empty as for an engine that is not verified yet."""
    if value == {}:
        return True
    return (
        isinstance(value, dict)
        and value.keys() >= _CERTIFICATE_KEYS
        and isinstance(value["budget"], dict)
        and isinstance(value["budget"].get("max_drop"), float | int)
        and (value["miou"] is None or isinstance(value["miou"], dict))
    )


@dataclass(frozen=True, slots=True)
class EngineRequirements:
    """What an engine is needed for."""

    model_sha256: str
    """SHA-256 of the ONNX file that it must be built from."""
    size: tuple[int, int]
    """(H, W) of the input, in pixels."""
    runtime: str
    """``tensorrt`` or ``rtx``."""
    runtime_version: str
    """Version of the installed runtime."""
    targets: tuple[str, ...]
    """Compute capabilities that it must run on, e.g. ``sm_89``."""
    precision: str | None = None
    """None for any."""
    batch: int | None = None
    """None for any."""
    gpu: str | None = None
    """Name of the GPU that it must run on; None for any. An engine that was built for one GPU runs only on that one."""


@dataclass(frozen=True, slots=True)
class EngineMatch:
    """The result of ``find_engine``."""

    path: Path | None
    """File of the matching engine; None if no engine matches."""
    facts: EngineFacts | None
    """Facts about the matching engine."""
    plan: bytes | None
    """Content of the matching engine, see ``read_engine``."""
    reasons: tuple[str, ...]
    """Why other engines of the model do not match, e.g. ``engines/x.engine was built for sm_86, not for sm_89``."""


def facts_path(engine: Path) -> Path:
    """Return the path of the JSON file beside an engine."""
    return engine.with_suffix(".engine.json")


def runtime_cache_path(engine: Path) -> Path:
    """Return the path of the kernels that TensorRT-RTX compiled for an engine. The file may not exist."""
    return engine.with_suffix(".engine.runtime-cache")


def engine_path(folder: Path, model: str, precision: str, runtime: str, targets: Sequence[str]) -> Path:
    """Return the default path of an engine, e.g. ``engines/icnet-camvid-fp16-rtx-sm_86-sm_89.engine``."""
    name = re.sub(r"[^\w.+-]+", "_", f"{model}-{precision}-{runtime}-{'-'.join(targets)}")
    return folder / f"{name}.engine"


def read_engine_facts(engine: Path) -> EngineFacts:
    """Read the facts beside ``engine``.

    Raises:
        ModelError: the engine or its JSON file is missing, or the JSON is damaged or of another format.
    """
    if not engine.is_file():
        raise ModelError(f"no engine at {engine}: make it with `rtseg build-engine`")
    path = facts_path(engine)
    try:
        facts = EngineFacts.from_json(read_text(path))
        return replace(facts, spec=resolve_backgrounds(facts.spec, engine.parent))
    except FileNotFoundError as error:
        raise ModelError(f"{engine} has no {path.name} beside it{REMEDY}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}){REMEDY}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}{REMEDY}") from error


def read_engine(engine: Path, facts: EngineFacts) -> bytes:
    """Read an engine and check its SHA-256. Load the returned bytes, as the file may change meanwhile.

    Raises:
        ModelError: it was truncated or changed, or cannot be read.
    """
    try:
        plan = read_bytes(engine, _MAX_BYTES)
    except OSError as error:
        raise ModelError(f"{engine} cannot be read ({error.strerror}){REMEDY}") from error
    if hashlib.sha256(plan).hexdigest() != facts.engine_sha256:
        raise ModelError(f"{engine} is damaged or was changed{REMEDY}")
    return plan


def mismatch_reason(facts: EngineFacts, needed: EngineRequirements) -> str | None:
    """Return why an engine does not meet requirements, as the rest of a sentence; None if it does."""
    built_by = f"{_TITLES[facts.runtime]} {facts.runtime_version}"
    installed = f"{_TITLES[needed.runtime]} {needed.runtime_version}"
    uncovered = [target for target in needed.targets if not covers(facts.targets, target)]
    reasons = (
        (facts.model_sha256 != needed.model_sha256, "was built from another model file"),
        (built_by != installed, f"was built by {built_by}, this is {installed}"),
        (needed.precision not in (None, facts.precision), f"computes in {facts.precision}, not in {needed.precision}"),
        (facts.size != needed.size, "was built for {}x{}, not for {}x{}".format(*facts.size, *needed.size)),
        (needed.batch not in (None, facts.batch), f"takes batches of up to {facts.batch}, not of {needed.batch}"),
        (bool(uncovered), f"was built for {', '.join(facts.targets)}, not for {', '.join(uncovered)}"),
        (
            None not in (needed.gpu, facts.gpu) and needed.gpu != facts.gpu,
            f"was built for {facts.gpu}, this is {needed.gpu}",
        ),
    )
    return next((reason for applies, reason in reasons if applies), None)


def covers(targets: Sequence[str], target: str) -> bool:
    """Return whether an engine for ``targets`` runs on ``target``, e.g. ``sm_89``. ``sm_86+`` covers ``sm_89``."""
    if target in targets:
        return True
    minimums = [_capability(each) for each in targets if each.endswith("+")]
    return any(_capability(target) >= minimum for minimum in minimums)


def _capability(target: str) -> int:
    return int(target.removeprefix("sm_").removesuffix("+"))


def find_engine(folder: Path, needed: EngineRequirements) -> EngineMatch:
    """Find the best engine in ``folder``, which need not exist.

    fp16 is preferred to int8 and fp32, small batches to large ones, and an engine that was built on this GPU to one for
    all GPUs of its targets. Engines of other models are ignored.
    """
    matches: list[tuple[tuple[int, int, bool], Path, EngineFacts]] = []
    reasons: list[str] = []
    for path in sorted(folder.glob("*.engine")):
        if is_part(path):
            continue
        try:
            facts = read_engine_facts(path)
        except ModelError as error:
            reasons.append(str(error))
            continue
        if facts.model_sha256 != needed.model_sha256:
            continue
        reason = mismatch_reason(facts, needed)
        if reason is None:
            matches.append(((_PREFERRED.index(facts.precision), facts.batch, facts.gpu is None), path, facts))
        else:
            reasons.append(f"{path} {reason}")
    for _, path, facts in sorted(matches, key=lambda entry: entry[0]):
        try:
            plan = read_engine(path, facts)
        except ModelError as error:
            reasons.append(str(error))
        else:
            return EngineMatch(path, facts, plan, tuple(reasons))
    return EngineMatch(None, None, None, tuple(reasons))


@contextlib.contextmanager
def staged(engine: Path) -> Iterator[Path]:
    """Yield a unique temporary path beside ``engine`` to build it at. Remaining temporary files are deleted.

    Two builds of the same engine at once do not interfere before ``install_engine``.
    """
    part = part_path(engine, unique=True)
    try:
        yield part
    finally:
        for path in (part, facts_path(part), runtime_cache_path(part)):
            with contextlib.suppress(OSError):  # e.g. the folder is read-only
                path.unlink(missing_ok=True)


def write_staged(part: Path, plan: bytes | memoryview, facts: EngineFacts) -> None:
    """Write an engine and its facts to the path of ``staged``, and flush them to disk.

    Raises:
        SinkError: they cannot be written, e.g. because the disk is full.
    """
    with sink_errors(part, _NEXT_STEP):
        part.parent.mkdir(parents=True, exist_ok=True)
        _write(part, plan)
        _write(facts_path(part), facts.to_json().encode())


def install_engine(part: Path, facts: EngineFacts, engine: Path) -> None:
    """Rename a staged engine to ``engine``, together with its facts and its compiled kernels.

    An engine without facts is never run, so the facts are deleted before the engine is replaced. After a crash there is
    the old pair, the new pair, or an engine that must be built again. Two installs at once run one after the other.

    Raises:
        SinkError: the files cannot be written.
    """
    with sink_errors(engine, _NEXT_STEP), _locked(engine.parent) as folder:
        _write(facts_path(part), facts.to_json().encode())
        facts_path(engine).unlink(missing_ok=True)
        part.replace(engine)
        with contextlib.suppress(FileNotFoundError):
            runtime_cache_path(part).replace(runtime_cache_path(engine))
        facts_path(part).replace(facts_path(engine))
        os.fsync(folder)  # flushes the new names to disk


def _write(path: Path, data: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Yield the descriptor of a folder, locked against other calls of ``install_engine``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # NFS cannot lock folders: there two installs at once may leave an engine that must be built again.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
