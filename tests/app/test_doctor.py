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

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a machine has is read from Linux' own files")

CPUINFO = """processor\t: {0}
model name\t: Fast CPU
flags\t\t: fpu {1}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of files: two processors, 8 GiB, two video devices of one camera."""
    for folder in ("proc/self", "dev", "sys/class/video4linux/video0", "sys/class/video4linux/video1"):
        (tmp_path / folder).mkdir(parents=True)
    write_cpu(tmp_path, "avx2 avx512f avx512_vnni")
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  6291456 kB\n")
    for place in (0, 1):
        (tmp_path / f"dev/video{place}").touch()
        (tmp_path / f"sys/class/video4linux/video{place}/name").write_text("Street Cam\n")
        (tmp_path / f"sys/class/video4linux/video{place}/index").write_text(f"{place}\n")
    return tmp_path


def write_cpu(root: Path, flags: str) -> None:
    other = CPUINFO.format(1, "sse").replace("Fast", "Other")
    (root / "proc/cpuinfo").write_text(f"{CPUINFO.format(0, flags)}\n{other}")


def look(root: Path, topic: str) -> dict[str, Finding]:
    """Name -> finding of one topic."""
    return {finding.name: finding for finding in examine(root, {topic: PROBES[topic]})}


class TestTheWhole:
    def test_this_machine_can_be_examined_and_every_topic_tells_something(self) -> None:
        findings = examine()
        assert {finding.topic for finding in findings} == set(PROBES)
        assert not [finding for finding in findings if "cannot be examined" in finding.text]
        assert all("\n" not in finding.text for finding in findings)
        facts = json.loads(json.dumps(as_json(findings)))
        assert facts["findings"][0].keys() == {"topic", "name", "text", "good", "remedy"}

    def test_a_probe_that_fails_says_so_and_the_others_go_on(self) -> None:
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

    def test_on_an_empty_machine_nothing_is_an_error_but_a_line(self, tmp_path: Path) -> None:
        found = examine(tmp_path)
        assert {finding.topic for finding in found} == set(PROBES)
        assert "cannot be examined (FileNotFoundError" in found[0].text


class TestProcessor:
    def test_the_first_processor_counts_and_its_cores_are_those_that_may_be_used(self, root: Path) -> None:
        text = look(root, "processor")["model"].text
        assert text == f"Fast CPU, {len(os.sched_getaffinity(0))} cores for rtseg"

    @pytest.mark.parametrize(
        ("flags", "text"),
        [
            ("avx2 avx512f avx512_vnni", "avx2, avx512, vnni; OpenVINO computes in fp32"),
            ("avx2 avx512f avx512_bf16", "avx2, avx512, bf16; OpenVINO computes in bf16"),
            ("avx2 amx_tile amx_bf16", "avx2, amx; OpenVINO computes in bf16"),
            ("avx2 avx_vnni", "avx2, vnni; OpenVINO computes in fp32"),
            ("avx2_like", "none that helps; OpenVINO computes in fp32"),
        ],
    )
    def test_what_it_can_do_decides_on_the_precision(self, root: Path, flags: str, text: str) -> None:
        write_cpu(root, flags)
        assert look(root, "processor")["features"].text.startswith(text)


class TestMemory:
    def test_all_and_free(self, root: Path) -> None:
        finding = look(root, "memory")["RAM"]
        assert (finding.text, finding.good, finding.remedy) == ("8.0 GiB, 6.0 free", True, "")

    def test_the_limit_of_a_container_counts(self, root: Path) -> None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(f"{2 << 30}\n")
        finding = look(root, "memory")["RAM"]
        assert finding.text == "2.0 GiB, 2.0 free"
        assert "close other programs" in finding.remedy

    def test_a_container_without_a_limit_has_all_of_it(self, root: Path) -> None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text("max\n")
        assert look(root, "memory")["RAM"].text == "8.0 GiB, 6.0 free"


class TestGpu:
    def test_without_a_driver_it_is_told_what_runs_instead(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.system.nvidia.find_driver", lambda: None)
        assert look(root, "GPU") == {
            "NVIDIA driver": Finding("GPU", "NVIDIA driver", "none answers: rtseg runs on the processor", good=False)
        }

    def test_every_card_has_a_line(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cards = [GpuState("NVIDIA L4", "sm_89", 24 << 30, 6 << 30), GpuState("NVIDIA A2", "sm_86", 16 << 30, 0)]
        monkeypatch.setattr("rtseg.system.nvidia.find_driver", lambda: "580.65.06")
        monkeypatch.setattr("rtseg.system.nvidia.list_gpus", lambda: cards)
        assert {name: finding.text for name, finding in look(root, "GPU").items()} == {
            "NVIDIA driver": "580.65.06",
            "cuda:0": "NVIDIA L4, sm_89, 24.0 GiB, 6.0 taken",
            "cuda:1": "NVIDIA A2, sm_86, 16.0 GiB, 0.0 taken",
        }


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let just these packages be installed, in version 1."""

    def fake(name: str) -> str:
        if name not in names:
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("rtseg.app.doctor.version", fake)


class TestRuntimes:
    def test_versions_are_those_of_the_packages_and_torch_tells_its_cuda(self, root: Path) -> None:
        pytest.importorskip("torch")
        found = look(root, "runtime")
        assert found["openvino"].text == version("openvino")
        assert found["torch"].text.startswith(f"{version('torch')}, built ")

    def test_what_is_missing_comes_with_the_command_that_brings_it(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed(monkeypatch, "openvino")
        monkeypatch.setattr("rtseg.system.nvidia.find_driver", lambda: None)
        found = look(root, "runtime")
        assert (found["openvino"].good, found["openvino"].remedy) == (True, "")
        assert "pip install 'rtseg[onnxruntime]'" in found["onnxruntime"].remedy
        assert "pip install 'rtseg[train]'" in found["torch"].remedy
        assert "pip install 'rtseg[rtx]' builds engines" in found["tensorrt-rtx"].remedy

    @pytest.mark.parametrize(
        ("driver", "packages", "wanted"),
        [
            (None, (), {"tensorrt-rtx"}),
            ("580", (), {"tensorrt-rtx", "tensorrt", "pycuda"}),
            ("580", ("tensorrt-rtx",), {"pycuda"}),
            ("580", ("tensorrt-rtx", "pycuda"), set()),
        ],
    )
    def test_runtimes_for_gpus_are_asked_for_where_there_is_one(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        driver: str | None,
        packages: tuple[str, ...],
        wanted: set[str],
    ) -> None:
        installed(monkeypatch, "openvino", "onnxruntime", "torch", *packages)
        monkeypatch.setattr("rtseg.system.nvidia.find_driver", lambda: driver)
        assert {name for name, finding in look(root, "runtime").items() if finding.remedy} == wanted


class TestBackend:
    def test_the_choice_of_auto_is_told_with_its_reason(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.backends.select.find_driver", lambda: None)
        finding = look(root, "backend")["auto takes"]
        assert (finding.text, finding.good) == ("openvino, for icnet-camvid: no NVIDIA driver", True)

    def test_a_gpu_that_stays_idle_is_told(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        choice = Choice("openvino", "no engine fits", notice="the GPU stays idle, for no engine fits")
        monkeypatch.setattr("rtseg.backends.select.choose", lambda model, options: choice)
        finding = look(root, "backend")["auto takes"]
        assert (finding.good, finding.remedy) == (False, choice.notice)


class TestCameras:
    def test_they_have_the_names_that_the_kernel_gives_them(self, root: Path) -> None:
        found = look(root, "camera")
        assert found["video0"].text == "Street Cam"
        assert found["video1"].text.startswith("Street Cam, gives no image")

    def test_none_is_told(self, root: Path) -> None:
        for place in (0, 1):
            (root / f"dev/video{place}").unlink()
        assert [finding.text for finding in look(root, "camera").values()] == ["none"]

    def test_one_that_the_user_may_not_open_is_told_with_the_remedy(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "video0")
        found = look(root, "camera")
        assert not found["video0"].good
        assert found["video0"].remedy == "sudo usermod -aG video $USER lets you use video0"
        assert found["video1"].good


class TestDisplay:
    @pytest.fixture(autouse=True)
    def _no_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)

    def test_without_any_it_is_told(self, root: Path) -> None:
        finding = look(root, "display")["windows"]
        assert not finding.good
        assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in finding.text

    def test_one_that_does_not_answer_is_named(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", ":4711")
        assert "DISPLAY=:4711 does not answer" in look(root, "display")["windows"].text

    def test_one_that_answers_is_named(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPLAY", ":4711")
        monkeypatch.setattr("rtseg.system.display.display_answers", lambda: True)
        assert look(root, "display")["windows"].text == "can be shown (DISPLAY=:4711)"


def test_storage_of_both_folders_is_told_with_what_is_free(root: Path) -> None:
    found = look(root, "storage")
    assert set(found) == {"working folder", "temporary files"}
    assert all(finding.text.endswith("GiB free") for finding in found.values())


def test_the_encoder_of_recordings_is_told(root: Path) -> None:
    assert look(root, "video")["encoder"].text.startswith("H.264 by libx264, FFmpeg ")
