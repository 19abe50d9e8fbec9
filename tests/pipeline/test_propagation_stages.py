"""Runs in which the network labels some of the frames. An image's colour is its number, see ``helpers.doubles``."""

from __future__ import annotations

from threading import Event, Semaphore, Thread

import pytest
from helpers.doubles import WAIT_S, FakeBackend, FakeSink, FakeSource, await_event

from rtseg.errors import BackendError, OptionError, SourceError
from rtseg.model_file.spec import VOID
from rtseg.pipeline.options import PropagationOptions
from rtseg.pipeline.report import RunReport
from rtseg.pipeline.runner import Pipeline
from rtseg.visualize.overlay import Overlay

pytestmark = pytest.mark.usefixtures("no_thread_left")


def pipeline(
    source: FakeSource, backend: FakeBackend, sink: FakeSink, drop: str = "auto", **options: object
) -> Pipeline:
    propagation = PropagationOptions(**options)  # type: ignore[arg-type]
    return Pipeline(source, backend, [sink], Overlay(backend.spec), drop=drop, propagation=propagation)


def run(source: FakeSource, backend: FakeBackend, sink: FakeSink, **options: object) -> RunReport:
    with pipeline(source, backend, sink, **options) as running:  # type: ignore[arg-type]
        ended = running.run()
    return running.report(ended)


def shown(sink: FakeSink) -> list[int]:
    """The label of each frame, which is the number of the frame that the network saw."""
    assert all((labels == labels[0, 0]).all() for labels in sink.labels)
    return [int(labels[0, 0]) for labels in sink.labels]


class TestFiles:
    @pytest.mark.parametrize("depth", [1, 2, 5])
    @pytest.mark.parametrize("interval", [1, 2, 3, 7])
    def test_the_network_runs_on_every_kth_frame_and_all_are_written_in_order(self, depth: int, interval: int) -> None:
        sink, backend = FakeSink(), FakeBackend(depth=depth)
        report = run(FakeSource(20), backend, sink, propagate=str(interval))
        assert sink.indices == list(range(20))
        assert shown(sink) == [number - number % interval for number in range(20)]
        assert report.frames_segmented == backend.submitted == -(-20 // interval)
        assert backend.most_in_flight == min(depth, backend.submitted)

    def test_the_report_names_key_frames_and_the_age_of_the_labels(self) -> None:
        report = run(FakeSource(9), FakeBackend(), FakeSink(), propagate="3")
        assert report.propagation is not None
        assert report.propagation["key_frames"] == {"first frame": 1, "interval": 2}
        assert report.propagation["label_age_ms"]["max"] == pytest.approx(80)
        assert {"flow", "carry"} <= report.stages.keys()

    def test_off_and_auto_run_the_network_on_every_frame_of_a_file(self) -> None:
        for mode in ("off", "auto"):
            sink = FakeSink()
            report = run(FakeSource(6), FakeBackend(), sink, propagate=mode)
            assert shown(sink) == list(range(6))
            assert report.propagation is None
            assert "flow" not in report.stages

    def test_smoothing_shows_a_label_that_the_network_said_twice(self) -> None:
        # Each image has another colour, so the network never says the same twice: the first labels stay.
        sink = FakeSink()
        run(FakeSource(5), FakeBackend(), sink, propagate="off", smooth=True)
        assert shown(sink) == [0] * 5

    def test_a_sequence_model_is_reset_at_the_first_frame_only(self) -> None:
        backend = FakeBackend(recurrent=True)
        run(FakeSource(9), backend, FakeSink(), propagate="2")
        assert backend.resets == [0]

    def test_frames_before_an_error_of_the_source_are_written(self) -> None:
        sink, failure = FakeSink(), SourceError("the cable was pulled")
        running = pipeline(FakeSource(8, error=failure), FakeBackend(depth=2), sink, propagate="3")
        with running, pytest.raises(SourceError) as caught:
            running.run()
        assert caught.value is failure
        assert sink.indices == list(range(8))

    def test_frames_before_an_error_of_the_backend_are_written(self) -> None:
        sink, failure = FakeSink(), BackendError("out of memory")
        backend = FakeBackend(fails_at=("wait", 2), error=failure)
        with pipeline(FakeSource(20), backend, sink, propagate="3") as running, pytest.raises(BackendError):
            running.run()
        assert sink.indices == list(range(6))

    def test_a_target_frame_rate_is_reached_by_running_the_network_less_often(self) -> None:
        pause = Event()

        class SlowBackend(FakeBackend):
            def _wait(self, ticket):  # type: ignore[no-untyped-def]
                pause.wait(0.02)
                return super()._wait(ticket)

        sink = FakeSink()
        report = run(FakeSource(120), SlowBackend(), sink, target_fps=120.0)
        assert sink.indices == list(range(120))
        assert report.frames_segmented < 80


class TestLive:
    def test_every_frame_is_shown_while_the_network_still_works_on_the_first(self) -> None:
        gate, sink, reports = Semaphore(0), FakeSink(awaited=30), []
        backend = FakeBackend(gate=gate)

        def wait_for_sink(number: int) -> None:  # so that no frame is dropped because the test runs on a busy machine
            for _ in range(2000):
                if sink.written >= number:
                    return
                Event().wait(0.005)

        source = FakeSource(60, live=True, before=wait_for_sink)
        with pipeline(source, backend, sink, propagate="auto") as running:
            thread = Thread(target=lambda: reports.append(running.report(running.run())), daemon=True)
            thread.start()
            await_event(sink.full)  # 30 frames without a single answer
            assert {int(labels.max()) for labels in sink.labels[:30]} == {VOID}
            for _ in range(200):
                gate.release()
            thread.join(WAIT_S)
        assert reports[0].frames_dropped == 0
        assert sink.indices == list(range(60))
        labels = shown(sink)
        first = next(number for number, label in enumerate(labels) if label != VOID)
        assert labels[first] == 0, "the first answer was for the first frame"
        carried = labels[first:]
        assert carried == sorted(carried), "labels went back to those of an older frame"
        assert all(label <= number for number, label in enumerate(labels) if label != VOID)
        assert reports[0].propagation["frames_without_labels"] == first
        age_ms = running.status().label_age_ms
        assert age_ms is not None
        assert 0 <= age_ms <= 59 * 40

    def test_a_quick_network_labels_every_frame_itself(self) -> None:
        sink = FakeSink()
        source = FakeSource(10, live=True, before=lambda number: Event().wait(0.03) and None)
        run(source, FakeBackend(), sink, propagate="auto")
        assert shown(sink) == sink.indices

    def test_drop_never_labels_every_frame_of_a_live_source_itself(self) -> None:
        sink = FakeSink()
        run(FakeSource(30, live=True), FakeBackend(), sink, propagate="auto", drop="never")
        assert shown(sink) == list(range(30))

    def test_an_error_of_the_network_ends_the_run(self) -> None:
        failure = BackendError("out of memory")
        backend = FakeBackend(fails_at=("wait", 3), error=failure)
        running = pipeline(FakeSource(None, live=True), backend, FakeSink(), propagate="auto")
        with running, pytest.raises(BackendError) as caught:
            running.run()
        assert caught.value is failure

    def test_an_error_of_the_source_ends_the_run(self) -> None:
        failure = SourceError("the cable was pulled")
        running = pipeline(FakeSource(5, live=True, error=failure), FakeBackend(), FakeSink(), propagate="auto")
        with running, pytest.raises(SourceError) as caught:
            running.run()
        assert caught.value is failure

    def test_stop_ends_a_run_whose_network_is_busy(self) -> None:
        gate, sink = Semaphore(0), FakeSink(awaited=3)
        with pipeline(FakeSource(None, live=True), FakeBackend(gate=gate), sink, propagate="auto") as running:
            thread = Thread(target=running.run, daemon=True)
            thread.start()
            await_event(sink.full)
            running.stop()
            thread.join(WAIT_S)
            assert not thread.is_alive()
            gate.release()


class TestOptions:
    @pytest.mark.parametrize("text", ["", "0", "-1", "on", "1.5", "1001", "٣", "9" * 400])
    def test_other_values_are_refused(self, text: str) -> None:
        with pytest.raises(OptionError, match="--propagate must be auto, off or a number of frames from 1 to 1000"):
            PropagationOptions(text)

    @pytest.mark.parametrize("fps", [0.0, -3.0, float("nan"), float("inf"), 1e9])
    def test_a_target_that_is_no_frame_rate_is_refused(self, fps: float) -> None:
        with pytest.raises(OptionError, match="--target-fps must be above 0"):
            PropagationOptions(target_fps=fps)

    def test_a_target_and_an_interval_contradict_each_other(self) -> None:
        with pytest.raises(OptionError, match="leave one of the two options out"):
            PropagationOptions("3", target_fps=30.0)

    @pytest.mark.parametrize(("live", "drop"), [(True, "auto"), (False, "always")])
    def test_a_target_is_refused_where_the_source_sets_the_rate(self, live: bool, drop: str) -> None:
        with pytest.raises(OptionError, match="--target-fps is for files: fake sets its own frame rate"):
            pipeline(FakeSource(live=live), FakeBackend(), FakeSink(), drop=drop, target_fps=30.0)
