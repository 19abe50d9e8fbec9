from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Semaphore, Thread, Timer
from threading import enumerate as living_threads

import numpy as np
import pytest
from helpers.doubles import CLASSES, SIZE, WAIT_S, FakeBackend, FakeSink, FakeSource, await_event, make_image, wide_spec

from rtseg.backends import open_backend
from rtseg.errors import BackendError, ModelError, OptionError, SinkClosed, SinkError, SourceError
from rtseg.frame import Frame
from rtseg.model_file.spec import VOID
from rtseg.pipeline import runner
from rtseg.pipeline.report import RunReport, Status
from rtseg.pipeline.runner import Pipeline
from rtseg.sources.options import SourceOptions
from rtseg.synthetic.street import Street
from rtseg.visualize.overlay import Overlay, OverlayOptions

pytestmark = pytest.mark.usefixtures("no_thread_left")


def pipeline(source: FakeSource, backend: FakeBackend, *sinks: FakeSink, drop: str = "auto") -> Pipeline:
    return Pipeline(source, backend, sinks, Overlay(backend.spec), drop=drop)


def run(source: FakeSource, backend: FakeBackend, *sinks: FakeSink, drop: str = "auto") -> RunReport:
    """The report of a run that ends by itself."""
    with pipeline(source, backend, *sinks, drop=drop) as running:
        ended = running.run()
    return running.report(ended)


def run_to_error(failure: Exception, source: FakeSource, backend: FakeBackend, *sinks: FakeSink) -> RunReport:
    """The report of a run that must end with ``failure``."""
    with pipeline(source, backend, *sinks) as running, pytest.raises(type(failure)) as caught:
        running.run()
    assert caught.value is failure
    return running.report("error")


def run_and_leave(running: Pipeline) -> None:
    with running:
        running.run()


def sleep_before(seconds: float) -> Callable[[int], None]:
    """A value for ``before`` that makes a source or sink slow."""

    def work(number: int) -> None:
        Event().wait(seconds)

    return work


def assert_labelled_with_their_numbers(sink: FakeSink) -> None:
    for index, labels in zip(sink.indices, sink.labels, strict=True):
        assert (labels == index % CLASSES).all(), f"frame {index} has the labels of another frame"


class TestOrder:
    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_every_frame_of_a_file_is_written_once_in_order_with_its_labels_and_times(self, depth: int) -> None:
        backend, sink = FakeBackend(depth=depth), FakeSink()
        report = run(FakeSource(60), backend, sink)
        assert sink.indices == list(range(60))
        assert sink.times_s == [index / 25 for index in range(60)]
        assert_labelled_with_their_numbers(sink)
        assert report.ended == "end of source"

    @pytest.mark.parametrize("depth", [1, 2, 3, 5])
    def test_exactly_depth_batches_are_in_flight(self, depth: int) -> None:
        backend = FakeBackend(depth=depth)
        run(FakeSource(20), backend, FakeSink())
        assert backend.most_in_flight == depth

    def test_a_source_shorter_than_the_depth_of_the_backend_is_written_completely(self) -> None:
        sink = FakeSink()
        run(FakeSource(3), FakeBackend(depth=8), sink)
        assert sink.indices == [0, 1, 2]
        assert_labelled_with_their_numbers(sink)

    def test_more_batches_are_submitted_before_the_first_is_finished(self) -> None:
        gate = Semaphore(0)
        source, backend, sink = FakeSource(None), FakeBackend(depth=3, gate=gate), FakeSink(awaited=1)
        with pipeline(source, backend, sink) as running:
            thread = Thread(target=running.run, daemon=True)
            thread.start()
            await_event(backend.first_submitted)
            gate.release()
            await_event(sink.full)
            assert backend.submitted >= 3
            running.stop()
            for _ in range(50):
                gate.release()
            thread.join(WAIT_S)

    def test_labels_do_not_change_when_the_backend_reuses_its_buffers(self) -> None:
        # The frames have the size of the model, so nothing between backend and sink copies the labels.
        backend, sink = FakeBackend(depth=2), FakeSink()
        run(FakeSource(40, sizes=[SIZE]), backend, sink)
        assert len(sink.labels) == 40
        assert_labelled_with_their_numbers(sink)
        assert all((labels != VOID).all() for labels in sink.labels)

    def test_every_sink_gets_every_frame(self) -> None:
        sinks = [FakeSink(), FakeSink(needs_rendered=True), FakeSink()]
        run(FakeSource(12), FakeBackend(), *sinks)
        assert [sink.indices for sink in sinks] == [list(range(12))] * 3

    def test_a_run_without_a_sink_still_labels_every_frame(self) -> None:
        report = run(FakeSource(7), FakeBackend())
        assert (report.frames_segmented, report.frames_written) == (7, 7)

    def test_an_empty_source_gives_a_run_without_frames(self) -> None:
        sink = FakeSink()
        report = run(FakeSource(0), FakeBackend(), sink)
        assert (report.frames_read, report.frames_written, report.fps) == (0, 0, 0.0)
        assert report.ended == "end of source"


class GivenFrames(FakeSource):
    """Yields given frames."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self._frame_list = frames

    def _read(self) -> Iterator[Frame]:
        yield from self._frame_list


class TestMemory:
    def test_a_sequence_model_is_reset_before_the_first_frame_and_at_a_cut(self) -> None:
        backend = FakeBackend(recurrent=True)
        sink = FakeSink()
        run(FakeSource(CLASSES + 5), backend, sink)  # the images change gradually, then start again
        assert backend.resets == [0, CLASSES]
        assert_labelled_with_their_numbers(sink)

    def test_it_is_reset_after_a_gap_of_more_than_a_second_but_not_after_dropped_frames(self) -> None:
        moments_s = (0.0, 0.04, 0.9, 2.0, 2.04)
        frames = [Frame(make_image(0), round(25 * moment_s), moment_s, time.monotonic()) for moment_s in moments_s]
        backend = FakeBackend(recurrent=True)
        run(GivenFrames(frames), backend, FakeSink())
        assert backend.resets == [0, 3]

    def test_it_is_reset_at_every_image_of_a_folder(self) -> None:
        frames = [Frame(make_image(0), number, number / 25, time.monotonic(), f"{number}.png") for number in range(3)]
        backend = FakeBackend(recurrent=True)
        run(GivenFrames(frames), backend, FakeSink())
        assert backend.resets == [0, 1, 2]

    def test_it_is_reset_for_a_second_source(self) -> None:
        backend = FakeBackend(recurrent=True)
        for _ in range(2):
            run(FakeSource(3), backend, FakeSink())
        assert backend.resets == [0, 3]

    def test_two_videos_in_one_source_get_the_labels_of_two_separate_videos(self, sequence_file: Path) -> None:
        streets = [Street((64, 96), seed=seed) for seed in (1, 4)]
        videos = [[street.render(10 + number / 25)[0] for number in range(4)] for street in streets]
        frames = [Frame(image, n, n / 25, time.monotonic()) for n, image in enumerate([*videos[0], *videos[1]])]
        sink = FakeSink()
        with open_backend("openvino", sequence_file, precision="fp32", hint="throughput") as backend:
            with Pipeline(GivenFrames(frames), backend, [sink], Overlay(backend.spec)) as running:
                running.run()
            expected = []
            for video in videos:
                backend.reset()
                expected += [backend.infer(image[None])[0].copy() for image in video]
            backend.reset()
            without_memory = backend.infer(videos[0][3][None])[0]
        for streamed, labels in zip(sink.labels, expected, strict=True):
            np.testing.assert_array_equal(streamed, labels)
        assert (without_memory != expected[3]).any(), "the test needs a model whose labels depend on its memory"

    def test_a_model_of_single_images_is_never_reset(self) -> None:
        backend = FakeBackend()
        run(FakeSource(CLASSES + 5), backend, FakeSink())
        assert backend.resets == []


class TestImages:
    def test_labels_and_images_follow_the_frame_size_when_it_changes(self) -> None:
        sizes = [(32, 48), (64, 40), SIZE, (33, 47)]
        sink = FakeSink(needs_rendered=True)
        run(FakeSource(12, sizes=sizes), FakeBackend(depth=2), sink)
        assert sink.sizes == [sizes[number % 4] for number in range(12)]
        assert [labels.shape for labels in sink.labels] == sink.sizes
        assert [rendered.shape[:2] for rendered in sink.rendered if rendered is not None] == sink.sizes
        assert_labelled_with_their_numbers(sink)

    def test_rendered_images_have_the_colours_of_the_classes(self) -> None:
        sink, backend = FakeSink(needs_rendered=True), FakeBackend()
        with Pipeline(FakeSource(5), backend, [sink], Overlay(backend.spec, OverlayOptions("mask"))) as running:
            running.run()
        for index, rendered in enumerate(sink.rendered):
            assert rendered is not None
            assert (rendered == backend.spec.palette[index][::-1]).all()

    def test_nothing_is_rendered_if_no_sink_needs_it(self) -> None:
        sink = FakeSink(needs_rendered=False)
        run(FakeSource(3), FakeBackend(), sink)
        assert sink.rendered == [None] * 3

    def test_the_preprocessing_steps_of_the_model_are_applied(self) -> None:
        backend, sink = FakeBackend(wide_spec(preprocess=("clahe:clip=4,tiles=2",))), FakeSink()
        run(FakeSource(5), backend, sink)
        # CLAHE changes the blue value, which encodes the number: without it, the labels would be the numbers.
        assert [int(labels[0, 0]) for labels in sink.labels] != list(range(5))

    def test_an_unknown_preprocessing_step_is_refused_before_anything_starts(self) -> None:
        source = FakeSource()
        with pytest.raises(ModelError, match="unknown preprocessing step 'blur'"):
            pipeline(source, FakeBackend(wide_spec(preprocess=("blur",))))
        assert source.closed == 0


class TestDropping:
    def run_with_a_stalled_model(self, frames: int, *, live: bool, drop: str = "auto") -> tuple[FakeSink, RunReport]:
        """A run whose model takes the first frame, then stalls until the source has ended."""
        gate, ended = Semaphore(0), Event()
        sink, backend = FakeSink(), FakeBackend(gate=gate)

        def before(number: int) -> None:
            if number == 1:
                await_event(backend.first_submitted)
            if number == frames - 1:
                ended.set()

        source, reports = FakeSource(frames, live=live, before=before), []
        with pipeline(source, backend, sink, drop=drop) as running:
            thread = Thread(target=lambda: reports.append(running.report(running.run())), daemon=True)
            thread.start()
            await_event(ended)
            while running.status().frames_read < frames and thread.is_alive():
                Event().wait(0.001)
            for _ in range(frames):
                gate.release()
            thread.join(WAIT_S)
        return sink, reports[0]

    def test_a_camera_ahead_of_the_model_drops_the_oldest_frames_and_counts_them(self) -> None:
        sink, report = self.run_with_a_stalled_model(100, live=True)
        assert sink.indices[0] == 0
        assert sink.indices[-1] == 99
        assert report.frames_dropped == 100 - len(sink.indices) > 80
        assert sink.indices == sorted(set(sink.indices))
        assert_labelled_with_their_numbers(sink)

    def test_at_most_one_frame_of_a_camera_waits_per_stage(self) -> None:
        sink, _ = self.run_with_a_stalled_model(100, live=True)
        # In the model, before it, in prepare, before prepare.
        assert len(sink.indices) <= 4

    def test_drop_never_keeps_every_frame_of_a_live_source(self) -> None:
        sink = FakeSink()
        report = run(FakeSource(50, live=True), FakeBackend(depth=2), sink, drop="never")
        assert sink.indices == list(range(50))
        assert report.frames_dropped == 0

    def test_drop_always_plays_a_file_at_its_own_speed(self) -> None:
        sink, begun_s = FakeSink(), time.monotonic()
        report = run(FakeSource(10), FakeBackend(), sink, drop="always")
        for captured_s, pts_s in zip(sink.captured_s, sink.times_s, strict=True):
            assert captured_s >= begun_s + pts_s, "a frame came too early"
        assert sink.indices[-1] == 9
        assert report.frames_read == 10
        assert report.frames_written + report.frames_dropped == 10

    def test_drop_always_drops_frames_of_a_file_if_the_model_is_too_slow(self) -> None:
        sink, report = self.run_with_a_stalled_model(10, live=False, drop="always")
        assert report.frames_dropped == 10 - len(sink.indices) > 0
        assert sink.indices[-1] == 9

    def test_an_unknown_drop_mode_is_refused(self) -> None:
        with pytest.raises(OptionError, match="--drop must be one of auto, always, never, got 'some'"):
            pipeline(FakeSource(), FakeBackend(), drop="some")


class TestErrors:
    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_the_error_of_a_source_reaches_the_caller_after_every_frame_before_it_was_written(self, depth: int) -> None:
        failure, sink = SourceError("the peer is gone"), FakeSink()
        report = run_to_error(failure, FakeSource(11, error=failure), FakeBackend(depth=depth), sink)
        assert sink.indices == list(range(11))
        assert report.frames_read == report.frames_segmented == report.frames_written == 11

    def test_the_error_of_a_source_without_frames_reaches_the_caller(self) -> None:
        failure = SourceError("cannot open")
        report = run_to_error(failure, FakeSource(0, error=failure), FakeBackend(), FakeSink())
        assert report.frames_read == 0

    @pytest.mark.parametrize("where", ["submit", "wait"])
    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_the_error_of_a_backend_reaches_the_caller_after_the_frames_before_it(self, where: str, depth: int) -> None:
        failure, sink = BackendError("out of memory"), FakeSink()
        backend = FakeBackend(depth=depth, fails_at=(where, 6), error=failure)
        report = run_to_error(failure, FakeSource(30), backend, sink)
        assert sink.indices == list(range(6))
        assert report.frames_segmented == report.frames_written == 6
        assert_labelled_with_their_numbers(sink)

    def test_an_unexpected_error_reaches_the_caller(self) -> None:
        failure = ZeroDivisionError("a bug")
        run_to_error(failure, FakeSource(5), FakeBackend(fails_at=("wait", 2), error=failure), FakeSink())

    @pytest.mark.parametrize("where", ["source", "submit", "wait", "draw", "sink"])
    def test_a_timeout_error_is_an_error_and_not_a_frame_that_has_not_come(self, where: str) -> None:
        failure = TimeoutError("the server of the model did not answer")
        backend = FakeBackend(fails_at=(where, 1), error=failure)
        source = FakeSource(3, error=failure if where == "source" else None)

        class Failing(Overlay):
            def draw(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
                if where == "draw":
                    raise failure
                return super().draw(image, labels)

        def fail(number: int) -> None:
            if where == "sink":
                raise failure

        sink = FakeSink(needs_rendered=True, before=fail)
        with Pipeline(source, backend, [sink], Failing(backend.spec)) as running:
            guard = Timer(WAIT_S, running.stop)
            guard.start()
            with pytest.raises(TimeoutError) as caught:
                running.run()
            guard.cancel()
            guard.join()
        assert caught.value is failure

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_sink_that_fails_ends_alone_while_others_go_on(self, position: int) -> None:
        others = [FakeSink(), FakeSink()]
        failing = FakeSink(fails_at=3, error=SinkError("the disk is full"))
        sinks = [*others]
        sinks.insert(position, failing)
        with pipeline(FakeSource(9), FakeBackend(), *sinks) as running:
            ended = running.run()
        assert (ended, failing.written) == ("end of source", 3)
        assert [sink.indices for sink in others] == [list(range(9))] * 2
        assert running.failures == running.notices == ["the disk is full. The other outputs go on"]
        assert running.report(ended).frames_written == 9

    def test_a_run_ends_when_its_last_sink_fails(self) -> None:
        failures = [SinkError("no room"), SinkError("no room here either"), SinkError("and none at all")]
        sinks = [FakeSink(fails_at=number, error=failure) for number, failure in zip((2, 5, 5), failures, strict=True)]
        with pipeline(FakeSource(None), FakeBackend(), *sinks) as running, pytest.raises(SinkError) as caught:
            running.run()
        assert caught.value is failures[2]
        assert running.failures == ["no room. The other outputs go on", "no room here either"]
        assert running.report("error").frames_written == 5

    def test_the_error_of_a_sink_reaches_the_caller_and_the_frames_before_it_are_written(self) -> None:
        failure = SinkError("the disk is full")
        sink = FakeSink(fails_at=4, error=failure)
        source = FakeSource(None)
        report = run_to_error(failure, source, FakeBackend(depth=2), sink)
        assert sink.indices == [0, 1, 2, 3]
        assert report.frames_written == 4
        assert source.closed == 1

    def test_an_error_while_drawing_reaches_the_caller(self) -> None:
        backend = FakeBackend()
        too_small = wide_spec()
        sink = FakeSink(needs_rendered=True)

        class Failing(Overlay):
            def draw(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
                raise MemoryError("no room for an image")

        with (
            Pipeline(FakeSource(5), backend, [sink], Failing(too_small)) as running,
            pytest.raises(MemoryError, match="no room"),
        ):
            running.run()
        assert sink.indices == []

    def test_the_source_is_closed_once_however_the_run_ends(self) -> None:
        for backend, sink in (
            (FakeBackend(), FakeSink()),
            (FakeBackend(fails_at=("submit", 1), error=BackendError("x")), FakeSink()),
            (FakeBackend(), FakeSink(fails_at=1, error=SinkError("x"))),
            (FakeBackend(), FakeSink(fails_at=1, error=SinkClosed("x"))),
        ):
            source = FakeSource(20)
            with pipeline(source, backend, sink) as running:
                try:
                    running.run()
                except (BackendError, SinkError):
                    assert sink.written < 20
            assert source.closed == 1


class TestStopping:
    def stopped(self, source: FakeSource, backend: FakeBackend, sink: FakeSink, ready: Event) -> RunReport:
        """A run that another thread stops once ``ready`` is set."""
        with pipeline(source, backend, sink) as running:

            def stop() -> None:
                await_event(ready)
                running.stop()

            thread = Thread(target=stop, daemon=True)
            thread.start()
            ended = running.run()
            thread.join(WAIT_S)
        return running.report(ended)

    @pytest.mark.parametrize("depth", [1, 3])
    def test_another_thread_stops_an_endless_run_and_the_frames_in_flight_are_written(self, depth: int) -> None:
        sink = FakeSink(awaited=8)
        report = self.stopped(FakeSource(None), FakeBackend(depth=depth), sink, sink.full)
        assert report.ended == "stopped"
        assert report.frames_read == report.frames_segmented == report.frames_written == len(sink.indices) >= 8
        assert sink.indices == list(range(len(sink.indices)))
        assert_labelled_with_their_numbers(sink)

    def test_a_run_can_be_stopped_while_no_frame_comes(self) -> None:
        source, sink = FakeSource(3, stalls=True), FakeSink()
        report = self.stopped(source, FakeBackend(depth=2), sink, source.stalling)
        assert report.ended == "stopped"
        assert sink.indices == [0, 1, 2]
        assert source.closed == 1

    def test_a_run_can_be_stopped_while_a_frame_waits_for_its_time(self) -> None:
        source, sink = FakeSource(3), FakeSink(awaited=1)
        source.options = SourceOptions()
        frames = [Frame(make_image(n), n, 3600.0 * n, 0.0) for n in range(3)]
        source._read = lambda: iter(frames)  # type: ignore[method-assign]
        with pipeline(source, FakeBackend(), sink, drop="always") as running:
            timer = Thread(target=lambda: (await_event(sink.full), running.stop()), daemon=True)
            timer.start()
            assert running.run() == "stopped"
            timer.join(WAIT_S)
        assert sink.indices[0] == 0

    def test_a_run_stopped_before_it_starts_reads_nothing(self) -> None:
        source, sink = FakeSource(None), FakeSink()
        with pipeline(source, FakeBackend(), sink) as running:
            running.stop()
            assert running.run() == "stopped"
        assert sink.indices == []

    def test_stopping_twice_is_the_same_as_once(self) -> None:
        sink = FakeSink(awaited=2)
        source = FakeSource(None)
        with pipeline(source, FakeBackend(), sink) as running:

            def stop() -> None:
                await_event(sink.full)
                running.stop()
                running.stop()

            thread = Thread(target=stop, daemon=True)
            thread.start()
            assert running.run() == "stopped"
            thread.join(WAIT_S)

    def test_a_model_that_hangs_does_not_block_a_stopped_run(self) -> None:
        gate, begun = Semaphore(0), Event()
        backend = FakeBackend(gate=gate)
        source = FakeSource(None)
        with pipeline(source, backend, FakeSink()) as running:
            results = []

            def work() -> None:
                begun.set()
                results.append(running.run())

            thread = Thread(target=work, daemon=True)
            thread.start()
            await_event(begun)
            await_event(backend.first_submitted)
            running.stop()
            thread.join(WAIT_S)
            assert results == ["stopped"]
            gate.release()  # only now, because leaving the block joins the thread that waits for the model
        assert source.closed == 1

    def test_leaving_does_not_wait_forever_for_a_model_that_never_answers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "_LEAVE_S", 0.1)
        gate = Semaphore(0)
        backend = FakeBackend(gate=gate)
        running = pipeline(FakeSource(None), backend, FakeSink())
        guard = Thread(target=lambda: (await_event(backend.first_submitted), running.stop()), daemon=True)
        guard.start()
        with pytest.raises(BackendError, match=r"backend fake does not answer: .*written is kept"):
            run_and_leave(running)
        guard.join(WAIT_S)
        assert running.backend_hangs
        gate.release()
        for thread in living_threads():
            if thread.name == "rtseg-infer":
                thread.join(WAIT_S)

    def test_closing_the_window_ends_the_run_without_an_error(self) -> None:
        source, sink = FakeSource(None), FakeSink(fails_at=5, error=SinkClosed("the window was closed"))
        report = run(source, FakeBackend(depth=2), sink)
        assert report.ended == "window closed"
        assert sink.indices == [0, 1, 2, 3, 4]
        assert report.frames_written == 5
        assert source.closed == 1

    @pytest.mark.parametrize("position", [0, 1])
    def test_the_other_sinks_get_the_frame_at_which_the_window_is_closed(self, position: int) -> None:
        other = FakeSink()
        sinks = [other]
        sinks.insert(position, FakeSink(fails_at=5, error=SinkClosed("the window was closed")))
        report = run(FakeSource(None), FakeBackend(), *sinks)
        assert other.indices == [0, 1, 2, 3, 4, 5]
        assert report.frames_written == other.written == 6


class TestProgress:
    def first_status(
        self, source: FakeSource, backend: FakeBackend, sink: FakeSink, condition: Callable[[Status], bool]
    ) -> Status:
        """The first status that meets ``condition``. The run is stopped there."""
        seen: list[Status] = []
        with pipeline(source, backend, sink) as running:

            def on_progress(status: Status) -> None:
                if condition(status):
                    seen.append(status)
                    running.stop()

            guard = Timer(WAIT_S, running.stop)
            guard.start()
            running.run(on_progress)
            guard.cancel()
            guard.join()
        return seen[0]

    def test_it_gets_the_status_of_the_run(self) -> None:
        sink = FakeSink(before=sleep_before(0.01))
        status = self.first_status(
            FakeSource(None), FakeBackend(depth=2), sink, lambda status: status.frames_written > 5
        )
        assert status.frames_read >= status.frames_written > 5
        assert status.fps > 0
        assert status.latency_ms > 0
        assert status.wall_s > 0
        assert set(status.queues) == {"read", "prepare", "infer", "render"}
        assert all(0 <= waiting <= 3 for waiting in status.queues.values())
        number = round(status.pts_s * 25)
        assert status.shares[number % CLASSES] == 1.0
        assert status.shares.sum() == 1.0

    def test_it_is_called_while_no_frame_comes_and_gets_zeros(self) -> None:
        source = FakeSource(0, stalls=True)
        status = self.first_status(source, FakeBackend(), FakeSink(), lambda status: True)
        assert (status.frames_written, status.fps, status.latency_ms, status.pts_s) == (0, 0.0, 0.0, 0.0)
        assert not status.shares.any()

    def test_its_error_reaches_the_caller(self) -> None:
        def on_progress(status: Status) -> None:
            raise ZeroDivisionError("a bug in the panel")

        with (
            pipeline(FakeSource(1, stalls=True), FakeBackend(), FakeSink()) as running,
            pytest.raises(ZeroDivisionError, match="panel"),
        ):
            running.run(on_progress)


class TestReport:
    def test_its_counts_add_up(self) -> None:
        sink = FakeSink()
        report = run(FakeSource(25), FakeBackend(depth=2), sink)
        assert report.frames_read == report.frames_segmented == report.frames_written == sink.written == 25
        assert (report.frames_dropped, report.frames_damaged) == (0, 0)
        assert report.fps > 0

    def test_frames_that_the_source_could_not_decode_are_in_it(self) -> None:
        source = FakeSource(5)
        source.damaged = 3
        assert run(source, FakeBackend(), FakeSink()).frames_damaged == 3

    def test_it_has_statistics_of_every_stage_and_sink(self) -> None:
        report = run(FakeSource(10), FakeBackend(), FakeSink())
        assert set(report.stages) == {"read", "prepare", "infer", "render", "memory"}
        for figures in report.stages.values():
            assert set(figures) == {"mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"}
            assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["max_ms"]
        assert set(report.latency_ms) == {"p50", "p95", "p99", "max"}
        assert 0 < report.latency_ms["p50"] <= report.latency_ms["max"]

    def test_a_run_of_one_frame_has_no_rate(self) -> None:
        report = run(FakeSource(1), FakeBackend(), FakeSink())
        assert (report.frames_written, report.fps) == (1, 0.0)

    def test_the_waiting_time_of_a_stage_is_not_counted(self) -> None:
        # More frames than fit into the channels, so that every stage waits for the sink.
        report = run(FakeSource(20), FakeBackend(), FakeSink(before=sleep_before(0.03)))
        for stage in ("read", "prepare", "render"):
            assert report.stages[stage]["p50_ms"] < report.stages["memory"]["p50_ms"]
