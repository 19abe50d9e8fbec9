from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from rtseg.app.doctor import PROBES, Finding, as_json, examine
from rtseg.backends.select import Choice
from rtseg.errors import SinkError
from rtseg.system.nvidia import GpuState

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the probes read Linux system files")

CPUINFO = """processor\t: {0}
model name\t: Fast CPU
flags\t\t: fpu {1}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """System files of a machine with two processors, 8 GiB and one camera with two video devices."""
    for folder in ("proc/self", "dev", "sys/class/video4linux/video0", "sys/class/video4linux/video1"):
        (tmp_path / folder).mkdir(parents=True)
    write_cpu(tmp_path, "avx2 avx512f avx512_vnni")
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  6291456 kB\n")
    for index in (0, 1):
        (tmp_path / f"dev/video{index}").touch()
        (tmp_path / f"sys/class/video4linux/video{index}/name").write_text("Street Cam\n")
        (tmp_path / f"sys/class/video4linux/video{index}/index").write_text(f"{index}\n")
    return tmp_path


def write_cpu(root: Path, flags: str) -> None:
    other = CPUINFO.format(1, "sse").replace("Fast", "Other")
    (root / "proc/cpuinfo").write_text(f"{CPUINFO.format(0, flags)}\n{other}")


def run_probe(root: Path, topic: str) -> dict[str, Finding]:
    """Return the findings of one topic by name."""
    return {finding.name: finding for finding in examine(root, {topic: PROBES[topic]})}


class TestExamine:
    def test_every_topic_has_a_finding_on_this_machine(self) -> None:
        findings = examine()
        assert {finding.topic for finding in findings} == set(PROBES)
        assert not [finding for finding in findings if "cannot be examined" in finding.text]
        assert all("\n" not in finding.text for finding in findings)
        facts = json.loads(json.dumps(as_json(findings)))
        assert facts["findings"][0].keys() == {"topic", "name", "text", "good", "remedy"}

    def test_a_failing_probe_is_reported_and_the_others_continue(self) -> None:
        def breaks(_: Path) -> Iterator[Finding]:
            yield Finding("a", "first", "seen")
            raise ZeroDivisionError("no\nnumber")

        def complains(_: Path) -> Iterator[Finding]:
            yield from ()
            raise SinkError("there is no encoder: install one")

        def works(_: Path) -> Iterator[Finding]:
            yield Finding("c", "x", "fine")

        assert examine(probes={"a": breaks, "b": complains, "c": works}) == [
            Finding("a", "first", "seen"),
            Finding("a", "", "cannot be examined (ZeroDivisionError: no)", good=False),
            Finding("b", "", "cannot be examined (there is no encoder: install one)", good=False),
            Finding("c", "x", "fine"),
        ]

    def test_missing_system_files_are_reported_not_raised(self, tmp_path: Path) -> None:
        findings = examine(tmp_path)
        assert {finding.topic for finding in findings} == set(PROBES)
        assert "cannot be examined (FileNotFoundError" in findings[0].text


class TestProcessor:
    def test_the_first_processor_is_reported_with_the_available_cores(self, root: Path) -> None:
        text = run_probe(root, "processor")["model"].text
        assert text == f"Fast CPU, {len(os.sched_getaffinity(0))} cores for rtseg"

    @pytest.mark.parametrize(
        ("flags", "text"),
        [
            ("avx2 avx512f avx512_vnni", "avx2, avx512, vnni; OpenVINO computes in fp32"),
            ("avx2 avx512f avx512_bf16", "avx2, avx512, bf16; OpenVINO computes in bf16"),
            ("avx2 amx_tile amx_bf16", "avx2, amx; OpenVINO computes in bf16"),
            ("avx2 avx_vnni", "avx2, vnni; OpenVINO computes in fp32"),
            ("avx2_like", "none useful; OpenVINO computes in fp32"),
        ],
    )
    def test_the_cpu_features_determine_the_precision(self, root: Path, flags: str, text: str) -> None:
        write_cpu(root, flags)
        assert run_probe(root, "processor")["features"].text.startswith(text)


class TestMemory:
    def test_total_and_free_memory(self, root: Path) -> None:
        finding = run_probe(root, "memory")["RAM"]
        assert (finding.text, finding.good, finding.remedy) == ("8.0 GiB, 6.0 free", True, "")

    def test_the_memory_limit_of_a_container_is_respected(self, root: Path) -> None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(f"{2 << 30}\n")
        finding = run_probe(root, "memory")["RAM"]
        assert finding.text == "2.0 GiB, 2.0 free"
        assert "close other programs" in finding.remedy

    def test_a_container_without_a_limit_has_all_memory(self, root: Path) -> None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text("max\n")
        assert run_probe(root, "memory")["RAM"].text == "8.0 GiB, 6.0 free"


class TestGpu:
    def test_without_a_driver_the_cpu_is_used(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.system.nvidia.driver_version", lambda: None)
        assert run_probe(root, "GPU") == {
            "NVIDIA driver": Finding("GPU", "NVIDIA driver", "not found: rtseg runs on the CPU", good=False)
        }

    def test_every_gpu_has_a_finding(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus = [GpuState("NVIDIA L4", "sm_89", 24 << 30, 6 << 30), GpuState("NVIDIA A2", "sm_86", 16 << 30, 0)]
        monkeypatch.setattr("rtseg.system.nvidia.driver_version", lambda: "580.65.06")
        monkeypatch.setattr("rtseg.system.nvidia.list_gpus", lambda: gpus)
        assert {name: finding.text for name, finding in run_probe(root, "GPU").items()} == {
            "NVIDIA driver": "580.65.06",
            "cuda:0": "NVIDIA L4, sm_89, 24.0 GiB, 6.0 used",
            "cuda:1": "NVIDIA A2, sm_86, 16.0 GiB, 0.0 used",
        }


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that only these packages are installed, in version 1."""

    def fake(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("rtseg.app.doctor.version", fake)


class TestRuntimes:
    def test_installed_packages_have_versions_and_torch_its_cuda_version(self, root: Path) -> None:
        pytest.importorskip("torch")
        found = run_probe(root, "runtime")
        assert found["openvino"].text == version("openvino")
        assert found["torch"].text.startswith(f"{version('torch')}, built ")

    def test_a_missing_package_has_an_install_command(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_installed(monkeypatch, "openvino")
        monkeypatch.setattr("rtseg.system.nvidia.driver_version", lambda: None)
        found = run_probe(root, "runtime")
        assert (found["openvino"].good, found["openvino"].remedy) == (True, "")
        assert "pip install 'rtseg[onnxruntime]'" in found["onnxruntime"].remedy
        assert "pip install 'rtseg[train]'" in found["torch"].remedy
        assert "pip install 'rtseg[rtx]' to build engines" in found["tensorrt-rtx"].remedy

    @pytest.mark.parametrize(
        ("driver", "packages", "expected"),
        [
            (None, (), {"tensorrt-rtx"}),
            ("580", (), {"tensorrt-rtx", "tensorrt", "pycuda"}),
            ("580", ("tensorrt-rtx",), {"pycuda"}),
            ("580", ("tensorrt-rtx", "pycuda"), set()),
        ],
    )
    def test_gpu_runtimes_are_suggested_if_there_is_a_driver(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        driver: str | None,
        packages: tuple[str, ...],
        expected: set[str],
    ) -> None:
        pretend_installed(monkeypatch, "openvino", "onnxruntime", "torch", *packages)
        monkeypatch.setattr("rtseg.system.nvidia.driver_version", lambda: driver)
        assert {name for name, finding in run_probe(root, "runtime").items() if finding.remedy} == expected


class TestBackend:
    def test_the_automatic_backend_is_reported_with_its_reason(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rtseg.backends.select.driver_version", lambda: None)
        finding = run_probe(root, "backend")["auto selects"]
        assert (finding.text, finding.good) == ("openvino, for icnet-camvid: no NVIDIA driver", True)

    def test_an_unused_gpu_is_reported(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        choice = Choice("openvino", "no engine fits", notice="the GPU stays idle, for no engine fits")
        monkeypatch.setattr("rtseg.backends.select.choose", lambda model, options: choice)
        finding = run_probe(root, "backend")["auto selects"]
        assert (finding.good, finding.remedy) == (False, choice.notice)


class TestCameras:
    def test_cameras_have_the_names_from_the_kernel(self, root: Path) -> None:
        found = run_probe(root, "camera")
        assert found["video0"].text == "Street Cam"
        assert found["video1"].text.startswith("Street Cam, has no images")

    def test_no_camera_is_reported(self, root: Path) -> None:
        for index in (0, 1):
            (root / f"dev/video{index}").unlink()
        assert [finding.text for finding in run_probe(root, "camera").values()] == ["none"]

    def test_a_camera_without_permission_has_a_remedy(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "video0")
        found = run_probe(root, "camera")
        assert not found["video0"].good
        assert found["video0"].remedy == "sudo usermod -aG video $USER to get access to video0"
        assert found["video1"].good


class TestDisplay:
    @pytest.fixture(autouse=True)
    def _no_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)

    def test_a_missing_display_is_reported(self, root: Path) -> None:
        finding = run_probe(root, "display")["windows"]
        assert not finding.good
        assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in finding.text

    def test_a_display_that_does_not_answer_is_named(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", ":4711")
        assert "DISPLAY=:4711 does not answer" in run_probe(root, "display")["windows"].text

    def test_an_available_display_is_named(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", ":4711")
        monkeypatch.setattr("rtseg.system.display.display_available", lambda: True)
        assert run_probe(root, "display")["windows"].text == "can be shown (DISPLAY=:4711)"


def test_both_folders_are_reported_with_free_space(root: Path) -> None:
    found = run_probe(root, "storage")
    assert set(found) == {"working folder", "temporary files"}
    assert all(finding.text.endswith("GiB free") for finding in found.values())


def test_the_video_encoder_is_reported(root: Path) -> None:
    assert run_probe(root, "video")["encoder"].text.startswith("H.264 by libx264, FFmpeg ")
