from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.system import cpu

AVX2 = "sse4_2 avx avx2 fma"
VNNI = f"{AVX2} avx512f avx512_vnni avx512_bf16"


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def write_cpuinfo(root: Path, flags: str, key: str = "flags") -> Path:
    (root / "proc").mkdir()
    one = f"processor\t: 0\nmodel name\t: A {{}} CPU\n{key}\t\t: {flags}\n\n"
    (root / "proc/cpuinfo").write_text(one.format("first") + one.format("second"))
    return root


def test_the_first_processor_is_the_one_described(tmp_path: Path) -> None:
    assert cpu.cpu_info(write_cpuinfo(tmp_path, AVX2))["model name"] == "A first CPU"


def test_without_cpuinfo_nothing_is_known_and_int8_is_not_trusted(tmp_path: Path) -> None:
    assert (cpu.cpu_info(tmp_path), cpu.cpu_features(tmp_path)) == ({}, ())
    assert cpu.int8_saturates(tmp_path)


@pytest.mark.parametrize(
    ("flags", "features", "saturates"),
    [
        (AVX2, ("avx2",), True),
        (f"{AVX2} avx512f", ("avx2", "avx512"), True),
        (VNNI, ("avx2", "avx512", "vnni", "bf16"), False),
        (f"{AVX2} avx_vnni", ("avx2", "vnni"), False),
        (f"{AVX2} avx512f amx_tile", ("avx2", "avx512", "amx"), False),
    ],
)
def test_int8_saturates_on_x86_without_vnni_and_amx(
    tmp_path: Path, flags: str, features: tuple[str, ...], saturates: bool
) -> None:
    root = write_cpuinfo(tmp_path, flags)
    assert cpu.cpu_features(root) == features
    assert cpu.int8_saturates(root) is saturates
    assert cpu.cpu_class(root) == f"x86_64 {'without' if saturates else 'with'} VNNI"


def test_a_limit_on_the_instruction_set_of_onednn_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_cpuinfo(tmp_path, VNNI)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert cpu.int8_saturates(root)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert not cpu.int8_saturates(root)


def test_arm_does_not_saturate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    root = write_cpuinfo(tmp_path, "fp asimd i8mm", "Features")
    assert not cpu.int8_saturates(root)
    assert cpu.cpu_class(root) == "aarch64 neon i8mm"
