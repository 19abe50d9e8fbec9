"""Check this machine's hardware and software: ``rtseg doctor`` as a Python API.

The probes open no camera and no CUDA context. A probe that fails is reported as a finding.
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
from rtseg.system.cpu import cpu_features, cpu_info, int8_saturates
from rtseg.version import __version__

__all__ = ["PROBES", "Finding", "as_json", "examine"]

_ROOT = Path("/")
_GIB = 1 << 30
_MIN_FREE_MEMORY = 4 * _GIB
"""Large models may fail with less free memory, in bytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    topic: str
    """Topic, e.g. ``runtime``."""
    name: str
    """Name within the topic, e.g. ``openvino``."""
    text: str
    """The result, in one line."""
    good: bool = True
    """False if something is missing or failed."""
    remedy: str = ""
    """What to do about it; empty if nothing."""


Probe = Callable[[Path], Iterator[Finding]]
"""Examines one topic. The argument is the folder that contains ``proc``, ``sys`` and ``dev``."""


def examine(root: Path = _ROOT, probes: dict[str, Probe] | None = None) -> list[Finding]:
    """Run all probes. This takes seconds.

    Args:
        root: Folder that contains ``proc``, ``sys`` and ``dev``; for tests.
        probes: Probe of each topic; ``PROBES`` by default.
    """
    findings: list[Finding] = []
    for topic, probe in (probes or PROBES).items():
        try:
            findings.extend(probe(root))
        except Exception as error:  # noqa: BLE001 - a failing probe must not hide the others
            reason = str(error) if isinstance(error, RtsegError) else f"{type(error).__name__}: {error}"
            findings.append(Finding(topic, "", f"cannot be examined ({reason.splitlines()[0]})", good=False))
    return findings


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return all findings as a dictionary, for ``--json``."""
    return {"rtseg": __version__, "python": platform.python_version(), "findings": [asdict(f) for f in findings]}


def _processor(root: Path) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    info = cpu_info(root)
    if not info:
        raise FileNotFoundError("no proc/cpuinfo")
    name = info.get("model name") or platform.machine()
    yield Finding("processor", "model", f"{name}, {cores} cores for rtseg")
    features = cpu_features(root)
    precision = "bf16" if {"bf16", "amx"} & {*features} else "fp32: int8 helps most"
    int8 = "; int8 takes weights of 7 bits, since products saturate without vnni" if int8_saturates(root) else ""
    text = f"{', '.join(features) or 'none useful'}; OpenVINO computes in {precision}{int8}"
    yield Finding("processor", "features", text, good=bool(features))


def _memory(root: Path) -> Iterator[Finding]:
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE))
    total, free = (1024 * int(kilobytes[key]) for key in ("MemTotal", "MemAvailable"))
    limit = root / "sys/fs/cgroup/memory.max"
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    if allowed != "max" and int(allowed) < total:
        total = int(allowed)
        free = min(free, total)
    remedy = "" if free >= _MIN_FREE_MEMORY else "close other programs: models at 1024x2048 may need more memory"
    text = f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} free"
    yield Finding("memory", "RAM", text, good=free >= _MIN_FREE_MEMORY, remedy=remedy)


def _gpu(_: Path) -> Iterator[Finding]:
    from rtseg.system.nvidia import driver_version, list_gpus

    driver = driver_version()
    if driver is None:
        yield Finding("GPU", "NVIDIA driver", "not found: rtseg runs on the CPU", good=False)
        return
    yield Finding("GPU", "NVIDIA driver", driver)
    for index, gpu in enumerate(list_gpus()):
        memory = f"{gpu.memory / _GIB:.1f} GiB, {gpu.memory_used / _GIB:.1f} used"
        yield Finding("GPU", f"cuda:{index}", f"{gpu.name}, {gpu.target}, {memory}")


def _runtimes(_: Path) -> Iterator[Finding]:
    from rtseg.system.nvidia import driver_version

    has_driver = driver_version() is not None
    yield _package("openvino", "pip install --force-reinstall rtseg")
    yield _package("onnxruntime", "pip install 'rtseg[onnxruntime]' to calibrate for int8")
    yield _package("torch", "pip install 'rtseg[train]' to train and export", note=_cuda_of_torch())
    purpose = "to run models on the GPU" if has_driver else "to build engines for machines with a GPU"
    rtx = _package("tensorrt-rtx", f"pip install 'rtseg[rtx]' {purpose}")
    yield rtx
    # One of the two TensorRT packages is enough.
    yield _package(
        "tensorrt", "pip install 'rtseg[tensorrt]' for data centre GPUs" if has_driver and not rtx.good else ""
    )
    yield _package("pycuda", "pip install 'rtseg[cuda]' to run engines on the GPU" if has_driver else "")


def _package(name: str, remedy: str, note: str = "") -> Finding:
    """Check whether a package is installed, from its metadata: importing all packages would take seconds."""
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding("runtime", name, "not installed", good=False, remedy=remedy)
    return Finding("runtime", name, f"{installed}{note}")


def _cuda_of_torch() -> str:
    """Return the CUDA version that torch was built for, from its ``version.py``: importing torch takes seconds."""
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
    yield Finding("backend", "auto selects", text, good=not choice.notice, remedy=choice.notice)


def _cameras(root: Path) -> Iterator[Finding]:
    from rtseg.image_io.find import natural_order

    devices = sorted((root / "dev").glob("video*"), key=natural_order)
    if not devices:
        yield Finding("camera", "", "none", good=False)
    for device in devices:
        info = root / "sys/class/video4linux" / device.name
        name = (info / "name").read_text().strip() if (info / "name").is_file() else "unnamed"
        # A camera may have further devices without images, for metadata. The kernel numbers them.
        index = (info / "index").read_text().strip() if (info / "index").is_file() else "0"
        note = "" if index == "0" else ", has no images: metadata of the previous device"
        allowed = os.access(device, os.R_OK | os.W_OK)
        remedy = "" if allowed else f"sudo usermod -aG video $USER to get access to {device.name}"
        yield Finding("camera", device.name, f"{name}{note}{'' if allowed else ', permission denied'}", allowed, remedy)


def _display(_: Path) -> Iterator[Finding]:
    from rtseg.system.display import display_available, needs_display_server

    servers = [f"{name}={os.environ[name]}" for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)]
    if not needs_display_server():
        yield Finding("display", "windows", "no display server needed")
    elif display_available():
        yield Finding("display", "windows", f"can be shown ({', '.join(servers)})")
    else:
        reason = f"{', '.join(servers)} does not answer" if servers else "neither DISPLAY nor WAYLAND_DISPLAY is set"
        yield Finding("display", "windows", f"cannot be shown, {reason}: write to a file instead", good=False)


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
"""Probe of each topic."""
