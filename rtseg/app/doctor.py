"""What this machine has for rtseg, and what to install for more: what ``rtseg doctor`` tells.

Nothing is opened for long: no camera, no CUDA context. A probe that fails is a finding of its own.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rtseg.errors import RtsegError
from rtseg.version import __version__

__all__ = ["PROBES", "Finding", "as_json", "examine"]

_ROOT = Path("/")
_GIB = 1 << 30
_ROOM = 4 * _GIB
"""Free memory, in bytes, below which large models may fail."""

_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "bf16"),
    "amx": ("amx_tile",),
    "neon": ("asimd",),
    "i8mm": ("i8mm",),
    "sve": ("sve",),
}
"""Feature -> the kernel's words for it, of which one is enough."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report."""

    topic: str
    """What it is about, e.g. ``runtime``."""
    name: str
    """E.g. ``openvino``."""
    text: str
    """What was found, in one line."""
    good: bool = True
    """False where something is missing or failed."""
    remedy: str = ""
    """What to do for more; empty where there is nothing to be done."""


Probe = Callable[[Path], Iterator[Finding]]
"""Looks at one topic, given the folder in which ``proc``, ``sys`` and ``dev`` are."""


def examine(root: Path = _ROOT, probes: dict[str, Probe] | None = None) -> list[Finding]:
    """Look at everything, in seconds.

    Args:
        root: where ``proc``, ``sys`` and ``dev`` are, for tests.
        probes: topic -> what looks at it; ``PROBES`` unless given.
    """
    found: list[Finding] = []
    for topic, probe in (probes or PROBES).items():
        try:
            found.extend(probe(root))
        except Exception as error:  # noqa: BLE001 - whatever breaks one probe must not hide what the others see
            why = str(error) if isinstance(error, RtsegError) else f"{type(error).__name__}: {error}"
            found.append(Finding(topic, "", f"cannot be examined ({why.splitlines()[0]})", good=False))
    return found


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """All findings, for ``--json``."""
    return {"rtseg": __version__, "python": platform.python_version(), "findings": [asdict(f) for f in findings]}


def _processor(root: Path) -> Iterator[Finding]:
    lines = (root / "proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    allowed = len(os.sched_getaffinity(0))
    yield Finding("processor", "model", f"{fields.get('model name') or platform.machine()}, {allowed} cores for rtseg")
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    has = [name for name, words in _FEATURES.items() if not flags.isdisjoint(words)]
    fast = "bf16" in has or "amx" in has
    effect = "OpenVINO computes in bf16" if fast else "OpenVINO computes in fp32: int8 helps most"
    yield Finding("processor", "features", f"{', '.join(has) or 'none that helps'}; {effect}", good=bool(has))


def _memory(root: Path) -> Iterator[Finding]:
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE))
    total, free = (1024 * int(kilobytes[key]) for key in ("MemTotal", "MemAvailable"))
    limit = root / "sys/fs/cgroup/memory.max"
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    if allowed != "max" and int(allowed) < total:
        total = int(allowed)
        free = min(free, total)
    remedy = "" if free >= _ROOM else "close other programs: models at 1024x2048 may need more memory"
    text = f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} free"
    yield Finding("memory", "RAM", text, good=free >= _ROOM, remedy=remedy)


def _gpu(_: Path) -> Iterator[Finding]:
    from rtseg.system.nvidia import find_driver, list_gpus

    driver = find_driver()
    if driver is None:
        yield Finding("GPU", "NVIDIA driver", "none answers: rtseg runs on the processor", good=False)
        return
    yield Finding("GPU", "NVIDIA driver", driver)
    for place, gpu in enumerate(list_gpus()):
        used = f"{gpu.memory / _GIB:.1f} GiB, {gpu.memory_used / _GIB:.1f} taken"
        yield Finding("GPU", f"cuda:{place}", f"{gpu.name}, {gpu.target}, {used}")


def _runtimes(_: Path) -> Iterator[Finding]:
    from rtseg.system.nvidia import find_driver

    has_driver = find_driver() is not None
    yield _package("openvino", "pip install --force-reinstall rtseg")
    yield _package("onnxruntime", "pip install 'rtseg[onnxruntime]' calibrates for int8")
    yield _package("torch", "pip install 'rtseg[train]' trains and exports", note=_cuda_of_torch())
    use = "runs models on the GPU" if has_driver else "builds engines, for machines with a GPU"
    rtx = _package("tensorrt-rtx", f"pip install 'rtseg[rtx]' {use}")
    yield rtx
    # One of the two is enough.
    yield _package(
        "tensorrt", "pip install 'rtseg[tensorrt]' for data centre GPUs" if has_driver and not rtx.good else ""
    )
    yield _package("pycuda", "pip install 'rtseg[cuda]' runs engines on the GPU" if has_driver else "")


def _package(name: str, remedy: str, note: str = "") -> Finding:
    """Whether a package is installed, from what its installation wrote down: importing them all would take seconds."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding("runtime", name, "not installed", good=False, remedy=remedy)
    return Finding("runtime", name, f"{found}{note}")


def _cuda_of_torch() -> str:
    """For which CUDA the installed torch was built, from its own file: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    text = Path(spec.origin).with_name("version.py").read_text()
    built = re.search(r"^cuda\b[^=]*= *'([^']+)'", text, re.MULTILINE)
    return f", built for CUDA {built[1]}" if built else ", built without CUDA"


def _backend(_: Path) -> Iterator[Finding]:
    from rtseg.backends.base import BackendOptions
    from rtseg.backends.select import choose
    from rtseg.weights import DEFAULT_MODEL, find_model

    choice = choose(find_model(DEFAULT_MODEL), BackendOptions())
    text = f"{choice.name}, for {DEFAULT_MODEL}: {choice.reason}"
    yield Finding("backend", "auto takes", text, good=not choice.notice, remedy=choice.notice)


def _cameras(root: Path) -> Iterator[Finding]:
    from rtseg.image_io.find import natural_order

    devices = sorted((root / "dev").glob("video*"), key=natural_order)
    if not devices:
        yield Finding("camera", "", "none", good=False)
    for device in devices:
        facts = root / "sys/class/video4linux" / device.name
        name = (facts / "name").read_text().strip() if (facts / "name").is_file() else "unnamed"
        # A camera has further devices that give no image: the kernel counts them.
        place = (facts / "index").read_text().strip() if (facts / "index").is_file() else "0"
        kind = "" if place == "0" else ", gives no image: metadata of the one before"
        allowed = os.access(device, os.R_OK | os.W_OK)
        remedy = "" if allowed else f"sudo usermod -aG video $USER lets you use {device.name}"
        yield Finding("camera", device.name, f"{name}{kind}{'' if allowed else ', not for you'}", allowed, remedy)


def _display(_: Path) -> Iterator[Finding]:
    from rtseg.system.display import asks_a_server, display_answers

    named = [f"{name}={os.environ[name]}" for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)]
    if not asks_a_server():
        yield Finding("display", "windows", "shown by the system")
    elif display_answers():
        yield Finding("display", "windows", f"can be shown ({', '.join(named)})")
    else:
        why = f"{', '.join(named)} does not answer" if named else "neither DISPLAY nor WAYLAND_DISPLAY is set"
        yield Finding("display", "windows", f"cannot be shown, {why}: stream into a file instead", good=False)


def _storage(root: Path) -> Iterator[Finding]:
    from rtseg.image_io.storage_kind import find_storage

    for name, folder in (("working folder", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        storage = find_storage(folder, root=root)
        free = shutil.disk_usage(folder).free / _GIB
        yield Finding("storage", name, f"{storage.kind} ({storage.why}), {free:.1f} GiB free")


def _opencv(_: Path) -> Iterator[Finding]:
    from rtseg.system.opencv import cv2

    yield Finding("images", "OpenCV", str(cv2.__version__))


def _encoder(_: Path) -> Iterator[Finding]:
    from rtseg.sinks.video import describe_encoder

    yield Finding("video", "encoder", describe_encoder())


PROBES: dict[str, Probe] = {
    "processor": _processor,
    "memory": _memory,
    "GPU": _gpu,
    "runtime": _runtimes,
    "backend": _backend,
    "camera": _cameras,
    "display": _display,
    "storage": _storage,
    "video": _encoder,
    "images": _opencv,
}
"""Topic -> what looks at it."""
