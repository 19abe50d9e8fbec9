"""How the builder calls TensorRT, with a fake TensorRT: order of calls, targets, timing cache, Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fake_tensorrt import FakeTensorRT
from helpers.small_graphs import SIZE, brightest, uncast

from rtseg.backends.tensorrt.library import TensorRTLibrary, captured_errors
from rtseg.deploy.tensorrt_builder import BuildTarget, build_plan, resolve_target
from rtseg.errors import BackendError, BackendUnavailable, ModelError, OptionError
from rtseg.model_file.load import load_model
from rtseg.system.nvidia import Gpu

HERE = BuildTarget(("sm_89",), "NVIDIA L4")
_MEMBERS = {"NONE": 0, "CURRENT": 1, "SM75": 75, "SM80": 80, "SM86": 86, "SM89": 89, "SM120": 120}
RTX = TensorRTLibrary(
    SimpleNamespace(ComputeCapability=SimpleNamespace(__members__=_MEMBERS, **_MEMBERS)), "rtx", "1.7"
)


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return load_model(brightest(tmp_path / "brightest.onnx"))


class TestBuild:
    def test_the_network_is_strongly_typed_and_fp32_is_not_rounded_to_tf32(self, model: Any) -> None:
        fake = FakeTensorRT()
        phases: list[str] = []
        plan = build_plan(fake.trt(), model, HERE, on_progress=phases.append)
        assert (plan.data, plan.timing_cache) == (b"plan", None)
        assert fake.flags == 1 << 1
        assert fake.cleared == ["TF32"]
        assert fake.begun_with is None
        assert phases == ["Building engine"]

    def test_one_frame_is_fixed_in_the_graph_and_the_model_is_left_as_it_was(self, model: Any) -> None:
        fake = FakeTensorRT()
        before = model.graph.SerializeToString()
        build_plan(fake.trt(), model, HERE)
        shapes = [
            [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*fake.graph.graph.input, *fake.graph.graph.output)
        ]
        assert shapes == [[1, *SIZE, 3], [1, *SIZE]]
        assert fake.profiles == []
        assert model.graph.SerializeToString() == before

    def test_with_more_it_takes_one_to_so_many_and_is_best_at_the_most(self, model: Any) -> None:
        fake = FakeTensorRT()
        build_plan(fake.trt(), model, HERE, batch=4)
        assert fake.profiles == [{"frames": ((1, *SIZE, 3), (4, *SIZE, 3), (4, *SIZE, 3))}]

    @pytest.mark.parametrize(("known", "begun_with"), [(b"", b""), (b"known", b"known"), (b"of another GPU", b"")])
    def test_a_timing_cache_is_used_if_it_is_of_this_gpu_and_version(
        self, model: Any, known: bytes, begun_with: bytes
    ) -> None:
        fake = FakeTensorRT()
        plan = build_plan(fake.trt(), model, HERE, timing_cache=known)
        assert fake.begun_with == begun_with
        assert plan.timing_cache == begun_with + b" and more"

    def test_without_a_driver_it_is_said_what_to_do(self, model: Any) -> None:
        with pytest.raises(BackendUnavailable, match=r"no usable NVIDIA driver: .*--runtime rtx"):
            build_plan(FakeTensorRT(driver=False).trt(), model, HERE)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ("false", "Det 'det': this operator is not supported"),
            (
                'creator && "Plugin not found, are the names correct?"',
                "Det 'det': Plugin not found, are the names correct?",
            ),
            (
                "Invalid Node - det\nITensor::f: Error Code 4: Shape Error (3 is not 4. In g at /a.cpp:3)\n"
                "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (none)",
                "Det 'det': 3 is not 4",
            ),
        ],
    )
    def test_what_the_parser_refuses_is_told_in_its_words(self, model: Any, error: str, reason: str) -> None:
        with pytest.raises(ModelError) as caught:
            build_plan(FakeTensorRT(refuses=error).trt(), model, HERE)
        assert str(caught.value) == f"TensorRT 11.4.0.1 rejects the graph of {model.path}: {reason}"

    def test_a_build_that_fails_tells_why(self, model: Any) -> None:
        fails = "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 7 bytes.)"
        with pytest.raises(BackendError, match=r"cannot build brightest for sm_89: Requested size was 7 bytes$"):
            build_plan(FakeTensorRT(fails=fails).trt(), model, HERE)

    def test_ctrl_c_makes_the_runtime_stop(self, model: Any, hears_ctrl_c: None, no_thread_left: None) -> None:
        fake = FakeTensorRT()
        steps = 0

        def work(monitor: Any) -> None:
            nonlocal steps
            os.kill(os.getpid(), signal.SIGINT)
            while monitor.step_complete("Building engine", steps):  # forever, unless it is cancelled
                steps += 1

        fake.work = work
        with pytest.raises(KeyboardInterrupt):
            build_plan(fake.trt(), model, HERE)

    def test_a_build_that_nobody_stops_is_let_on(self, model: Any) -> None:
        fake = FakeTensorRT()
        answers: list[bool] = []
        fake.work = lambda monitor: answers.append(monitor.step_complete("Building engine", 0))
        build_plan(fake.trt(), model, HERE)
        assert answers == [True]


class TestTarget:
    def found(self, monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
        monkeypatch.setattr("rtseg.deploy.tensorrt_builder.find_gpu", lambda: gpu)

    def test_tensorrt_builds_for_the_gpu_that_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found(monkeypatch, Gpu("NVIDIA H200", "sm_90"))
        assert resolve_target(FakeTensorRT().trt(), ()) == BuildTarget(("sm_90",), "NVIDIA H200")
        assert resolve_target(FakeTensorRT().trt(), ("sm_90",)) == BuildTarget(("sm_90",), "NVIDIA H200")

    def test_and_for_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found(monkeypatch, Gpu("NVIDIA H200", "sm_90"))
        with pytest.raises(OptionError, match=r"NVIDIA H200 \(sm_90\), not for sm_86: leave --target out"):
            resolve_target(FakeTensorRT().trt(), ("sm_86",))

    @pytest.mark.parametrize(
        ("here", "target"),
        [(None, "sm_86+"), ("sm_80", "sm_80"), ("sm_89", "sm_86+"), ("sm_90", "sm_86+"), ("sm_70", "sm_86+")],
    )
    def test_rtx_builds_for_8_6_and_later_or_an_older_gpu_that_is_here(
        self, monkeypatch: pytest.MonkeyPatch, here: str | None, target: str
    ) -> None:
        self.found(monkeypatch, None if here is None else Gpu("NVIDIA", here))
        assert resolve_target(RTX, ()) == BuildTarget((target,), None)

    def test_rtx_builds_for_the_gpu_that_is_here_alone_where_it_is_told_to(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.found(monkeypatch, Gpu("NVIDIA L4", "sm_89"))
        assert resolve_target(RTX, ("current",)) == HERE
        assert resolve_target(FakeTensorRT().trt(), ("current",)) == HERE
        with pytest.raises(OptionError, match="--target current cannot be combined"):
            resolve_target(RTX, ("sm_86", "current"))
        self.found(monkeypatch, None)
        with pytest.raises(BackendUnavailable, match="there is no usable one: name its compute capability"):
            resolve_target(RTX, ("current",))

    @pytest.mark.parametrize(
        ("target", "asked"),
        [
            (BuildTarget(("sm_86+",), None), {}),
            (BuildTarget(("sm_89", "sm_120"), None), {0: 89, 1: 120}),
            (BuildTarget(("sm_89",), None), {0: 89}),
            (HERE, {0: _MEMBERS["CURRENT"]}),
        ],
    )
    def test_rtx_is_asked_for_just_that(self, model: Any, target: BuildTarget, asked: dict[int, int]) -> None:
        fake = FakeTensorRT()
        trt = TensorRTLibrary(fake, "rtx", "1.7")
        fake.ComputeCapability = RTX.module.ComputeCapability  # type: ignore[attr-defined]
        build_plan(trt, model, target)
        assert fake.capabilities == asked
        assert fake.num_compute_capabilities == len(asked)

    def test_without_a_gpu_it_builds_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found(monkeypatch, None)
        with pytest.raises(BackendUnavailable, match=r"no usable NVIDIA driver: .*--runtime rtx"):
            resolve_target(FakeTensorRT().trt(), ())


def test_a_graph_that_rtx_refuses_is_told_the_same_way(tmp_path: Path) -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    trt = TensorRTLibrary(module, "rtx", module.__version__)
    rejected = pytest.raises(ModelError, match=r"Slice '': Found unsupported input type of UINT8$")
    with captured_errors(trt) as errors, rejected:
        build_plan(trt, load_model(uncast(tmp_path / "uncast.onnx")), BuildTarget(("sm_86+",), None))
    assert errors
