from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.doubles import FakeBackend, FakeSource

from rtseg.bench.pipeline import ClipOptions, measure_clip
from rtseg.bench.report import make_result
from rtseg.bench.schema import check_result
from rtseg.bench.stage_costs import Run, bottleneck, busy_shares, cpu_costs, limit_facts, run_pipeline
from rtseg.errors import OptionError, SourceError
from rtseg.pipeline.report import RunReport
from rtseg.preprocess import Prepare

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, FakeBackend]]:
    """Name, hint and object of every opened backend."""
    backends: list[tuple[str, str, FakeBackend]] = []

    def open_fake(name: str, model: str, *, hint: str, **options: Any) -> FakeBackend:
        backend = FakeBackend(depth=2)
        backends.append((name, hint, backend))
        return backend

    monkeypatch.setattr("rtseg.bench.pipeline.open_backend", open_fake)
    return backends


@pytest.fixture
def clip(tmp_path: Path) -> str:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 48, 3), number, np.uint8))
    return str(tmp_path)


class TestClip:
    def test_every_backend_runs_in_both_modes_in_turn(self, opened: list[Any], clip: str) -> None:
        progress: list[str] = []
        options = ClipOptions(source=clip, backends=("one", "two"), frames=5, rounds=2)
        sections = measure_clip(options, lambda done, total, what: progress.append(what))
        once = ["one file", "one live", "two file", "two live", "one alone", "two alone"]
        assert progress == [f"round {round_}: {what}" for round_ in (1, 2) for what in once]
        assert [(name, hint) for name, hint, _ in opened] == [
            ("one", "throughput"),
            ("one", "latency"),
            ("two", "throughput"),
            ("two", "latency"),
        ]
        assert all(backend.closed == 1 for _, _, backend in opened)
        check_result(make_result("pipeline", sections, {}, 0.1))
        assert [(row["asked_for"], row["state"]) for row in sections["pipeline"]] == [
            ("one", "file"),
            ("one", "live"),
            ("two", "file"),
            ("two", "live"),
        ]
        for row in sections["pipeline"]:
            # A clip of three frames is repeated. A live run may drop frames, but counts them.
            assert row["frames"] + row["dropped"] == 2 * 5
            assert row["state"] == "live" or row["dropped"] == 0
            assert len(row["fps"]["rounds"]) == 2
            assert set(row["stages"]) == {"read", "prepare", "infer", "render", "null"}
            assert (row["limit_fps"] is None) == (row["state"] == "live")

    def test_other_preprocessing_steps_are_used_and_reported(self, opened: list[Any], clip: str) -> None:
        sections = measure_clip(ClipOptions(source=clip, preprocess=("clahe:clip=2,tiles=8",), frames=3, rounds=1))
        check_result(make_result("pipeline", sections, {}, 0.1))
        for row in sections["pipeline"]:
            assert (row["preprocess"], row["preprocess_of_model"]) == (["clahe:clip=2,tiles=8"], [])

    def test_a_missing_background_is_reported_before_the_first_run(self, opened: list[Any], clip: str) -> None:
        options = ClipOptions(source=clip, preprocess=("background:missing.png",), frames=3)
        with pytest.raises(OptionError, match=r"background image missing\.png"):
            measure_clip(options, lambda done, total, what: pytest.fail("it went on"))

    def test_ctrl_c_keeps_the_measurements(self, opened: list[Any], clip: str) -> None:
        def on_progress(done: int, total: int, what: str) -> None:
            if done == 1:
                raise KeyboardInterrupt

        sections = measure_clip(ClipOptions(source=clip, frames=3), on_progress)
        assert not sections["complete"]
        assert [row["state"] for row in sections["pipeline"]] == ["file"]
        assert all(backend.closed == 1 for _, _, backend in opened)
        check_result(make_result("pipeline", sections, {}, 0.1))

    def test_a_camera_is_refused(self) -> None:
        with pytest.raises(OptionError, match="is live: give a clip"):
            measure_clip(ClipOptions(source="camera:0"))

    @pytest.mark.parametrize("more", [{"frames": 1}, {"rounds": 0}, {"backends": ("a", "a")}, {"backends": ("",)}])
    def test_wrong_options_are_refused(self, more: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match="--"):
            ClipOptions(**more)


class TestRun:
    def test_one_frame_has_no_rate(self) -> None:
        with pytest.raises(SourceError, match="gave 1 frames"):
            run_pipeline(FakeSource(1), FakeBackend())

    def test_the_run_and_its_limit_use_the_given_preprocessing(self) -> None:
        class Noting(FakeBackend):
            def __init__(self) -> None:
                super().__init__()
                self.seen: list[int] = []

            def _submit(self, frames: Any) -> Any:
                self.seen.append(int(frames.max()))
                return super()._submit(frames)

        class Dark(Prepare):
            def __call__(self, image: Any) -> Any:
                return np.zeros_like(super().__call__(image))

        run_in, limited = Noting(), Noting()
        run_pipeline(FakeSource(4), run_in, Dark(run_in.spec))
        cpu_costs(lambda: FakeSource(10), limited, Dark(limited.spec))
        assert run_in.seen == 4 * [0]
        assert len(limited.seen) >= 8
        assert set(limited.seen) == {0}

    def test_images_are_rendered(self) -> None:
        run = run_pipeline(FakeSource(6), FakeBackend())
        assert run.report.frames_written == 6
        assert run.report.stages["render"]["mean_ms"] > 0

    def test_a_sequence_model_is_reset(self) -> None:
        backend = FakeBackend(recurrent=True)
        run_pipeline(FakeSource(3), backend)
        run_pipeline(FakeSource(3), backend)
        assert {0, 3} <= set(backend.resets)

    def test_every_stage_has_a_cost(self) -> None:
        backend = FakeBackend(depth=2)
        costs = cpu_costs(lambda: FakeSource(10), backend)
        assert set(costs) == {"read", "prepare", "infer", "render"}
        assert all(cost >= 0 for cost in costs.values())
        assert backend.submitted >= 8


class TestBottleneck:
    def run_of(self, fps: float, depth: int = 1, **mean_ms: float) -> Run:
        stages = {stage: {"mean_ms": mean} for stage, mean in mean_ms.items()}
        report = RunReport("end of source", 9, 9, 9, 0, 0, fps, {}, stages, 1.0)
        return Run(report, {}, depth)

    def test_shares_refer_to_the_time_between_two_frames(self) -> None:
        shares = busy_shares(self.run_of(20.0, read=5.0, infer=45.0))
        assert shares == pytest.approx({"read": 0.1, "infer": 0.9})
        assert bottleneck(shares) == "infer"

    def test_parallel_batches_count_once(self) -> None:
        shares = busy_shares(self.run_of(20.0, depth=4, read=45.0, infer=100.0))
        assert shares == pytest.approx({"read": 0.9, "infer": 0.5})
        assert bottleneck(shares) == "read"

    def test_the_limit_is_cores_divided_by_the_sum_of_the_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.bench.stage_costs.cores", lambda: 4)
        costs = [{"read": 0.01, "infer": infer} for infer in (0.03, 0.01, 0.09)]
        facts = limit_facts([self.run_of(fps) for fps in (90.0, 80.0, 97.0)], costs)
        assert facts["limit_fps"] == pytest.approx(100.0)
        assert facts["share_of_limit"] == pytest.approx(0.9)
        assert facts["cpu_ms"] == pytest.approx({"read": 10.0, "infer": 30.0})

    def test_there_is_no_limit_without_costs(self) -> None:
        facts = limit_facts([self.run_of(90.0)], [])
        assert facts == {"cpu_ms": None, "limit_fps": None, "share_of_limit": None}
