"""Properties of the processor: its name, its instruction sets, and whether its int8 products are exact."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cpu_class", "cpu_features", "cpu_info", "int8_saturates"]

_FLAGS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "bf16"),
    "amx": ("amx_tile",),
    "neon": ("asimd",),
    "i8mm": ("i8mm",),
    "sve": ("sve",),
}
"""Feature -> the kernel's flags for it, any of which is enough."""
_X86 = ("x86_64", "amd64", "i686", "i386")
_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")
"""Values of ``ONEDNN_MAX_CPU_ISA`` below which oneDNN, which OpenVINO computes with, uses no VNNI."""
_ROOT = Path("/")


def cpu_info(root: Path = _ROOT) -> dict[str, str]:
    """The fields of the first processor in ``proc/cpuinfo``; empty where there is no such file."""
    path = root / "proc/cpuinfo"
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.partition(":") for line in reversed(lines))
    return {key.strip(): value.strip() for key, colon, value in fields if colon}


def cpu_features(root: Path = _ROOT) -> tuple[str, ...]:
    """The instruction sets that matter for speed and exactness, e.g. ``("avx2", "avx512", "vnni", "bf16")``."""
    fields = cpu_info(root)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(name for name, words in _FLAGS.items() if not flags.isdisjoint(words))


def int8_saturates(root: Path = _ROOT) -> bool:
    """Whether OpenVINO's int8 kernels may saturate on this processor.

    Without VNNI or AMX an x86 processor adds pairs of products of unsigned and signed bytes in 16 bits
    (``vpmaddubsw``), which saturates: 2 * 255 * 127 is more than 32767. Weights of 7 bits cannot: 2 * 255 * 64 is less.
    Source: oneDNN developer guide, "Nuances of int8 computations".
    """
    if platform.machine().lower() not in _X86:
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_VNNI:
        return True
    return not {"vnni", "amx"} & set(cpu_features(root))


def cpu_class(root: Path = _ROOT) -> str:
    """What int8 results of this processor depend on, e.g. ``x86_64 with VNNI``: equal text, equal arithmetic."""
    if platform.machine().lower() not in _X86:
        return " ".join((platform.machine(), *(name for name in cpu_features(root) if name in ("neon", "i8mm", "sve"))))
    return "x86_64 without VNNI" if int8_saturates(root) else "x86_64 with VNNI"
