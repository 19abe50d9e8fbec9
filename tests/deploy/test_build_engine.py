from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.fake_tensorrt import FakeTensorRT
from helpers.small_graphs import SIZE, STATE, brightest, convolved, remembering, uncast

from rtseg import backends
from rtseg.backends.base import Backend, BackendOptions
from rtseg.backends.onnxruntime import OnnxRuntimeBackend
from rtseg.backends.tensorrt.engine_file import facts_path, read_engine, read_engine_facts, runtime_cache_path
from rtseg.backends.tensorrt.library import TensorRTLibrary, import_tensorrt
from rtseg.deploy.build_engine import BuiltEngine, build_engine
from rtseg.deploy.options import EngineOptions
from rtseg.errors import ModelError, OptionError, ProofError, SinkError
from rtseg.model_file.activation_ranges import Ranges, default_output, write_ranges
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import record_ranges, to_int8
from rtseg.model_file.spec import file_sha256
from rtseg.system.nvidia import Gpu
from rtseg.weights import bundled_models

ONE = "synthetic:street,frames=1"
TARGETS = ("sm_86", "sm_89", "sm_120")

needs_rtx = pytest.mark.usefixtures("rtx")


@pytest.fixture
def rtx() -> str:
    """Version of TensorRT-RTX, which builds without a GPU."""
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install tensorrt-rtx")
    return import_tensorrt("rtx").version


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, on a machine without a driver."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rtseg.backends.tensorrt.library.driver_version", lambda: None)
    monkeypatch.setattr("rtseg.deploy.build_engine.find_gpu", lambda: None)
    monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: None)
    return tmp_path


@pytest.fixture
def model() -> Path:
    return brightest(Path("brightest.onnx"))


class OnAGpu(OnnxRuntimeBackend):
    """Replaces the tensorrt backend."""

    def __init__(self, model: ModelFile, engine: Path) -> None:
        super().__init__(model, BackendOptions())
        self.model_sha256 = file_sha256(model.path)
        self._engine = engine

    def facts(self) -> dict[str, Any]:
        sha256 = read_engine_facts(self._engine).engine_sha256
        return super().facts() | {"engine": {"file": str(self._engine), "sha256": sha256, "runtime_cache": "written"}}


def build(model: Path | str, **options: Any) -> tuple[BuiltEngine, list[str]]:
    """Build an engine; return it and the messages for the user."""
    messages: list[str] = []
    built = build_engine(EngineOptions(model, **{"data": ONE, "runtime": "rtx"} | options), notify=messages.append)
    return built, messages


def files(folder: str = "engines") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@needs_rtx
class TestBuild:
    def test_the_engine_and_its_facts_are_written_under_the_name_that_says_what_it_is(
        self, model: Path, rtx: str
    ) -> None:
        built, messages = build(model)
        assert built.is_new
        assert messages == []
        assert built.path == Path("engines/brightest-fp16-rtx-sm_86+.engine")
        assert files() == [built.path.name, f"{built.path.name}.json"]
        facts = read_engine_facts(built.path)
        assert facts == built.facts
        read_engine(built.path, facts)
        assert (facts.model, facts.model_sha256) == ("brightest", file_sha256(model))
        assert (facts.runtime, facts.runtime_version, facts.precision, facts.batch) == ("rtx", rtx, "fp16", 1)
        assert (facts.targets, facts.gpu, facts.size, facts.state_shape) == (("sm_86+",), None, SIZE, None)
        assert facts.build_seconds > 0

    def test_the_certificate_says_that_the_graph_was_judged_on_the_cpu_and_on_what(self, model: Path) -> None:
        certificate = build(model)[0].facts.certificate
        assert certificate["passed"]
        assert certificate["agreement"] == 1.0
        assert certificate["judged_by"].startswith("the graph on the CPU by ONNX Runtime ")
        assert certificate["judged_by"].endswith(", every value rounded to fp16")
        assert certificate["data"] == "synthetic street val (1 frames)"
        assert certificate["budget"] == {"max_drop": 0.05, "min_agreement": 0.995}

    def test_what_is_not_as_usual_stands_in_the_name(self, tmp_path: Path) -> None:
        built, _ = build(brightest(tmp_path / "b.onnx"), batch=4, precision="fp32", targets=TARGETS)
        assert built.path.name == "brightest-b4-fp32-rtx-sm_86-sm_89-sm_120.engine"
        assert (built.facts.batch, built.facts.targets) == (4, TARGETS)
        assert "rounded" not in built.facts.certificate["judged_by"]

    def test_another_size_is_built_at_that_size_and_told_in_the_name(self, model: Path) -> None:
        built, _ = build(model, size=(64, 96))
        assert built.path.name == "brightest-64x96-fp16-rtx-sm_86+.engine"
        assert built.facts.size == built.facts.spec.size == (64, 96)
        assert not build(model, size=(64, 96))[0].is_new

    def test_the_own_size_of_the_model_is_no_other_size(self, model: Path) -> None:
        assert build(model, size=SIZE)[0].path.name == "brightest-fp16-rtx-sm_86+.engine"

    @pytest.mark.parametrize("batch", [1, 2])
    def test_a_sequence_model_tells_the_shape_of_its_state(self, batch: int) -> None:
        built, _ = build(remembering(Path("remembering.onnx")), batch=batch)
        assert built.facts.state_shape == STATE

    @pytest.mark.parametrize("precision", ["fp16", "fp32"])
    @pytest.mark.parametrize("name", bundled_models())
    def test_a_bundled_model_is_built_for_8_6_8_9_and_12_0_with_a_certificate(self, name: str, precision: str) -> None:
        # With one image the mIoU varies by more than 0.05 points.
        built, _ = build(name, precision=precision, targets=TARGETS, max_drop=1.0)
        found = read_engine_facts(built.path)
        read_engine(built.path, found)
        assert found.targets == TARGETS
        assert found.model == name
        assert found.certificate["passed"]
        assert found.certificate["agreement"] > (0.995 if precision == "fp16" else 0.99999)
        ratio = built.path.stat().st_size / bundled_models()[name].stat().st_size
        assert ratio > 1.5 if precision == "fp32" else ratio < 2.5, "the file holds kernels of two bytes a weight"


@needs_rtx
class TestProofOnTheGpu:
    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Engines that the tensorrt backend opens, on a machine with an L4. ONNX Runtime replaces the backend."""
        paths: list[Path] = []

        def open_backend(name: str, model: Path, **options: Any) -> Backend:
            if name != "tensorrt":
                return backends.open_backend(name, model, **options)
            read_engine(model, read_engine_facts(model))
            paths.append(model)
            runtime_cache_path(model).write_text("compiled")
            return OnAGpu(load_model(Path("brightest.onnx")), model)

        monkeypatch.setattr("rtseg.deploy.build_engine.find_gpu", lambda: Gpu("NVIDIA L4", "sm_89"))
        monkeypatch.setattr("rtseg.deploy.build_engine.find_spec", lambda package: package == "pycuda")
        monkeypatch.setattr("rtseg.deploy.build_engine.open_backend", open_backend)
        return paths

    def test_the_engine_itself_is_judged_where_it_can_run(self, model: Path, opened: list[Path]) -> None:
        built, _ = build(model, targets=("sm_86", "sm_89"))
        assert built.facts.certificate["judged_by"] == "the engine on NVIDIA L4"
        assert [path.match("engines/brightest-fp16-rtx-sm_86-sm_89.*.part.engine") for path in opened] == [True]
        assert files() == [built.path.name, f"{built.path.name}.json", f"{built.path.name}.runtime-cache"]

    def test_the_certificate_names_the_engine_as_it_is_called_from_then_on(
        self, model: Path, opened: list[Path]
    ) -> None:
        built, _ = build(model, targets=("sm_86", "sm_89"))
        for facts in (built.facts, read_engine_facts(built.path)):
            judged = facts.certificate["candidate"]["engine"]
            assert judged == {"file": str(built.path), "sha256": facts.engine_sha256}
        assert ".part" not in facts_path(built.path).read_text()

    def test_what_the_proof_compiled_is_installed_with_the_engine(self, model: Path, opened: list[Path]) -> None:
        built, _ = build(model, targets=("sm_86", "sm_89"))
        assert runtime_cache_path(built.path).read_text() == "compiled"

    def test_its_graph_where_it_is_for_another_gpu(self, model: Path, opened: list[Path]) -> None:
        built, _ = build(model, targets=("sm_86",))
        assert built.facts.certificate["judged_by"].startswith("the graph on the CPU")
        assert opened == []


@needs_rtx
class TestFit:
    def test_an_engine_that_fits_is_left_as_it_is(self, model: Path) -> None:
        first, _ = build(model)
        before = first.path.stat()
        again, messages = build(model)
        assert not again.is_new
        assert messages == []
        assert again.facts == first.facts
        assert (again.path.stat().st_ino, again.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_one_of_more_targets_than_are_wanted_fits(self, model: Path) -> None:
        build(model, targets=TARGETS, output=Path("x.engine"))
        again, _ = build(model, targets=("sm_89",), output=Path("x.engine"))
        assert not again.is_new

    def test_force_builds_it_all_the_same(self, model: Path) -> None:
        first, _ = build(model)
        inode = first.path.stat().st_ino
        again, messages = build(model, force=True)
        assert again.is_new
        assert messages == []
        assert again.path.stat().st_ino != inode

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"precision": "fp32"}, "computes in fp16, not in fp32"),
            ({"batch": 2}, "takes batches of up to 1, not of 2"),
            ({"targets": ("sm_89",)}, "was built for sm_86, not for sm_89"),
            ({"targets": ("sm_86+",)}, "was built for sm_86, not for sm_86+"),
            ({"max_drop": 0.01}, "was verified to lose at most 0.05 points of mIoU, 0.01 are allowed"),
        ],
    )
    def test_an_engine_that_was_built_otherwise_is_built_again_and_the_reason_is_told(
        self, model: Path, options: dict[str, Any], reason: str
    ) -> None:
        place = {"output": Path("x.engine"), "targets": ("sm_86",)}
        build(model, **place)
        built, messages = build(model, **place | options)
        assert messages == [f"building again: x.engine {reason}"]
        assert built.is_new

    def test_another_model_file_under_the_same_name_is_built_again(self, model: Path) -> None:
        build(model)
        brightest(model, gain=0.25)
        built, messages = build(model)
        assert built.facts.model_sha256 == file_sha256(model)
        assert messages == [f"building again: {built.path} was built from another model file"]

    def test_another_size_under_the_same_name_is_built_again(self, model: Path) -> None:
        build(model, output=Path("x.engine"))
        other = brightest(Path("other.onnx"), size=(64, 32))
        facts_path(Path("x.engine")).write_text(
            replace(read_engine_facts(Path("x.engine")), model_sha256=file_sha256(other)).to_json()
        )
        _, messages = build(other, output=Path("x.engine"))
        assert messages == ["building again: x.engine was built for 32x64, not for 64x32"]

    def test_an_engine_of_another_version_is_built_again(self, model: Path, rtx: str) -> None:
        built, _ = build(model)
        text = json.loads(facts_path(built.path).read_text()) | {"runtime_version": "1.0.0.21"}
        facts_path(built.path).write_text(json.dumps(text))
        again, messages = build(model)
        assert messages == [
            f"building again: {built.path} was built by TensorRT-RTX 1.0.0.21, this is TensorRT-RTX {rtx}"
        ]
        assert read_engine_facts(again.path).runtime_version == rtx

    def test_a_truncated_engine_is_built_again(self, model: Path) -> None:
        built, _ = build(model)
        built.path.write_bytes(built.path.read_bytes()[:1000])
        again, messages = build(model)
        assert messages == [f"building again: {built.path} is damaged or was changed"]
        read_engine(again.path, again.facts)

    def test_an_engine_without_its_json_is_built_again(self, model: Path) -> None:
        built, _ = build(model)
        facts_path(built.path).unlink()
        again, messages = build(model)
        assert messages == [f"building again: {built.path} has no {built.path.name}.json beside it"]
        assert again.is_new


@needs_rtx
class TestInt8:
    @pytest.fixture
    def model(self) -> Path:
        return convolved(Path("convolved.onnx"))

    def calibrate(self, model: Path, highest: float = 0.0) -> None:
        loaded = load_model(model)
        images = [np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)]
        tensors = record_ranges(loaded, images, "minmax")
        assert tensors
        tensors = {name: (low, max(high, highest)) for name, (low, high) in tensors.items()}
        write_ranges(Ranges("convolved", file_sha256(model), "minmax", "noise", 1, tensors), default_output(loaded))

    def test_it_is_quantized_with_the_recorded_ranges_and_follows_them(self, model: Path) -> None:
        self.calibrate(model)
        built, _ = build(model, precision="int8", max_drop=100.0)
        assert built.path.name == "convolved-int8-rtx-sm_86+.engine"
        assert built.facts.certificate["agreement"] > 0.9
        assert not build(model, precision="int8", max_drop=100.0)[0].is_new
        self.calibrate(model, highest=1000.0)
        again, messages = build(model, precision="int8", max_drop=100.0)
        assert again.is_new
        assert messages == [f"building again: {built.path} was quantized with other ranges than those recorded now"]

    def test_a_file_that_is_quantized_already_needs_no_ranges(self, model: Path) -> None:
        self.calibrate(model)
        quantized = to_int8(load_model(model))
        onnx.save(quantized.graph, "quantized.onnx")
        default_output(quantized).unlink()
        built, _ = build(Path("quantized.onnx"), precision="int8")
        assert built.facts.ranges_sha256 is None
        assert built.facts.certificate["agreement"] > 0.99

    @pytest.mark.parametrize("precision", ["fp16", "fp32"])
    def test_and_is_refused_in_another_precision(self, model: Path, precision: str) -> None:
        self.calibrate(model)
        onnx.save(to_int8(load_model(model)).graph, "quantized.onnx")
        with pytest.raises(OptionError, match=r"quantized\.onnx is quantized: use --precision int8"):
            build(Path("quantized.onnx"), precision=precision)


@needs_rtx
class TestRefusal:
    def test_an_engine_whose_labels_are_wrong_is_not_installed(self) -> None:
        model = brightest(Path("hot.onnx"), gain=1000.0)
        with pytest.raises(ProofError, match=r"is not written, .*only .* of the pixels agree, at least 99\.500%"):
            build(model)
        assert files() == []

    def test_and_the_one_that_was_there_before_stays(self, model: Path) -> None:
        built, _ = build(model)
        before = built.path.read_bytes()
        brightest(model, gain=1000.0)
        with pytest.raises(ProofError):
            build(model)
        assert built.path.read_bytes() == before
        assert read_engine_facts(built.path) == built.facts

    def test_the_same_model_passes_in_fp32_which_has_the_range(self) -> None:
        built, _ = build(brightest(Path("hot.onnx"), gain=1000.0), precision="fp32")
        assert built.facts.certificate["agreement"] == 1.0

    def test_a_graph_that_the_parser_refuses_is_told_with_its_reasons(self) -> None:
        with pytest.raises(ModelError) as caught:
            build(uncast(Path("uncast.onnx")), precision="fp32")
        message = str(caught.value)
        assert "rejects the graph of uncast.onnx: Slice" in message
        assert "Found unsupported input type of UINT8" in message
        assert "\n" not in message
        assert "cpp" not in message
        assert not Path("engines").exists()

    def test_int8_without_ranges_says_how_to_make_them(self, model: Path) -> None:
        with pytest.raises(ModelError, match="rtseg calibrate"):
            build(model, precision="int8")
        assert not Path("engines").exists()

    def test_a_full_disk_is_told_and_nothing_is_left(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(SinkError, match=r"cannot write engines/.*: No space left on device; choose another path"):
            build(model)
        assert files() == []

    def test_a_folder_in_the_place_of_the_engine_is_told_before_the_work(self, model: Path) -> None:
        Path("x.engine").mkdir()
        options = EngineOptions(model, runtime="rtx", output=Path("x.engine"))
        with pytest.raises(SinkError, match=r"--output x\.engine is a folder"):
            build_engine(options, on_progress=lambda phase: pytest.fail(phase))

    def test_an_engine_is_no_model_file(self, model: Path) -> None:
        built, _ = build(model)
        with pytest.raises(OptionError, match=r"\.engine is an engine already: give the model file"):
            build(built.path)

    def test_a_sequence_model_is_not_sent_to_be_calibrated(self) -> None:
        with pytest.raises(ModelError, match="is a sequence model, which rtseg does not quantize: use another"):
            build(remembering(Path("remembering.onnx")), precision="int8")

    def test_a_folder_that_cannot_be_made_is_told_before_the_work(self, model: Path) -> None:
        Path("engines").write_text("a file")
        with pytest.raises(SinkError, match=r"--output engines/.* cannot be written, .*engines is a file"):
            build_engine(EngineOptions(model, runtime="rtx"), on_progress=lambda phase: pytest.fail(phase))

    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            (("sm_90",), r"does not build for sm_90: use sm_75, .*sm_120.*or sm_86\+"),
            (("sm_89+",), r"does not build for sm_89\+"),
            (("sm_86+", "sm_120"), r"--target sm_86\+ cannot be combined"),
        ],
    )
    def test_a_target_that_the_runtime_does_not_know_is_refused(
        self, model: Path, targets: tuple[str, ...], message: str
    ) -> None:
        with pytest.raises(OptionError, match=message):
            build(model, targets=targets)

    def test_a_timing_cache_is_refused_for_it_would_stay_empty(self, model: Path) -> None:
        with pytest.raises(OptionError, match="--timing-cache is for TensorRT"):
            build(model, timing_cache=Path("cache"))

    def test_ctrl_c_leaves_nothing_but_what_was_there(
        self, model: Path, hears_ctrl_c: None, no_thread_left: None
    ) -> None:
        build(model, output=Path("out/x.engine"))
        before = Path("out/x.engine").read_bytes()

        def press(phase: str) -> None:
            if phase.endswith("Building engine"):
                os.kill(os.getpid(), signal.SIGINT)

        options = EngineOptions(model, data=ONE, runtime="rtx", output=Path("out/x.engine"), force=True)
        with pytest.raises(KeyboardInterrupt):
            build_engine(options, press)
        assert files("out") == ["x.engine", "x.engine.json"]
        assert Path("out/x.engine").read_bytes() == before

    def test_ctrl_c_in_the_proof_leaves_nothing_either(self, model: Path) -> None:
        def press(phase: str) -> None:
            if phase.startswith("checking"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_engine(EngineOptions(model, data=ONE, runtime="rtx"), press)
        assert files() == []


class TestTensorRt:
    def test_it_builds_for_the_gpu_here_and_keeps_what_it_measured(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = FakeTensorRT(cache=b" and more")
        monkeypatch.setattr("rtseg.deploy.build_engine.import_tensorrt", lambda expected: fake.trt())
        monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: Gpu("NVIDIA L4", "sm_89"))
        built, _ = build(model, runtime="tensorrt", timing_cache=Path("measured"))
        assert built.path == Path("engines/brightest-fp16-tensorrt-sm_89.engine")
        assert (built.facts.gpu, built.facts.targets) == ("NVIDIA L4", ("sm_89",))
        assert built.path.read_bytes() == b"plan"
        assert Path("measured").read_bytes() == b" and more"
        build(model, runtime="tensorrt", timing_cache=Path("measured"), force=True)
        assert fake.begun_with == b" and more"

    def test_an_engine_of_another_gpu_of_the_same_capability_is_built_again(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rtseg.deploy.build_engine.import_tensorrt", lambda expected: FakeTensorRT().trt())
        for name in ("NVIDIA L4", "NVIDIA L40S"):
            monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda name=name: Gpu(name, "sm_89"))
            built, messages = build(model, runtime="tensorrt")
        assert messages == [f"building again: {built.path} was built for NVIDIA L4, this is NVIDIA L40S"]

    def test_an_engine_of_rtx_for_the_gpu_here_stands_beside_one_for_all_of_its_kind(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = FakeTensorRT()
        members = {"CURRENT": 1, "SM89": 89}
        fake.ComputeCapability = SimpleNamespace(__members__=members, **members)  # type: ignore[attr-defined]
        monkeypatch.setattr(
            "rtseg.deploy.build_engine.import_tensorrt", lambda expected: TensorRTLibrary(fake, "rtx", "1.7")
        )
        monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: Gpu("NVIDIA L4", "sm_89"))
        one, _ = build(model, runtime="rtx", targets=("sm_89",))
        other, messages = build(model, runtime="rtx", targets=("current",))
        assert (one.path.name, one.facts.gpu) == ("brightest-fp16-rtx-sm_89.engine", None)
        assert (other.path.name, other.facts.gpu) == ("brightest-fp16-rtx-sm_89-current.engine", "NVIDIA L4")
        assert (other.facts.targets, messages) == (("sm_89",), [])
        _, messages = build(model, runtime="rtx", targets=("current",), output=one.path)
        assert messages == [f"building again: {one.path} was built for any sm_89, not for NVIDIA L4 only"]
        _, messages = build(model, runtime="rtx", targets=("sm_89",), output=one.path)
        assert messages == [f"building again: {one.path} was built for NVIDIA L4, not for any sm_89"]

    @pytest.mark.parametrize(
        ("cache", "message"), [("folder", "folder is a folder"), ("none/cache", "there is no folder none")]
    )
    def test_a_timing_cache_that_cannot_be_kept_is_told_before_the_work(
        self, model: Path, monkeypatch: pytest.MonkeyPatch, cache: str, message: str
    ) -> None:
        monkeypatch.setattr("rtseg.deploy.build_engine.import_tensorrt", lambda expected: FakeTensorRT().trt())
        monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: Gpu("NVIDIA L4", "sm_89"))
        Path("folder").mkdir()
        options = EngineOptions(model, runtime="tensorrt", timing_cache=Path(cache))
        with pytest.raises(SinkError, match=f"--timing-cache {cache} .*{message}|--timing-cache {message}"):
            build_engine(options, on_progress=lambda phase: pytest.fail(phase))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"precision": "bf16"}, "--precision must be one of fp16, fp32, int8, got 'bf16'"),
            ({"runtime": "cuda"}, "--runtime must be one of auto, tensorrt, rtx, got 'cuda'"),
            ({"batch": 0}, "--batch must be 1 to 64 frames, got 0"),
            ({"batch": 65}, "--batch must be 1 to 64 frames, got 65"),
            ({"targets": ("8.6",)}, "--target must be compute capabilities .* got '8.6'"),
            ({"targets": ("",)}, "--target must be compute capabilities"),
            ({"targets": ("sm_86", "sm_86")}, "--target names one twice"),
            ({"output": Path("x.plan")}, r"--output must end in \.engine"),
            ({"output": Path("x.part.engine")}, r"--output must end in \.engine"),
            ({"max_drop": -0.1}, "--max-drop must be points of mIoU"),
            ({"max_drop": float("nan")}, "--max-drop must be points of mIoU"),
        ],
    )
    def test_a_value_out_of_range_is_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            EngineOptions("icnet-camvid", **options)
