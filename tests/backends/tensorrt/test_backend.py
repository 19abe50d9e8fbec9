"""The TensorRT backend on a simulated GPU that is lazy and strict; see ``fake_cuda``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import count, permutations
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest
from helpers.counting_models import SIZE, blue_file, blues_in, counting_file, frames_of
from helpers.fake_cuda import (
    DRIVER,
    GPU,
    ILLEGAL_ADDRESS,
    OUT_OF_MEMORY,
    TARGET,
    TENSORRT_VERSION,
    Machine,
    RuntimeCache,
    installed,
    missing,
    write_engine,
    write_for_tensorrt,
)

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.tensorrt.cuda import Device, Driver, open_device
from rtseg.backends.tensorrt.engine_file import facts_path, runtime_cache_path
from rtseg.errors import BackendError, BackendUnavailable, ModelError, OptionError
from rtseg.model_file.load import ModelFile
from rtseg.system.nvidia import driver_version, find_gpu
from rtseg.system.read_file import read_bytes


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The fake GPU, with ``tmp_path`` as the working folder. Anything that is not freed at the end is an error."""
    monkeypatch.chdir(tmp_path)
    with installed(Machine()) as made:
        yield made
    assert not made.faults
    assert not made.left()
    assert made.capture_mode() == 0, "of this thread, as it was before"


@pytest.fixture
def blue(tmp_path: Path) -> ModelFile:
    return blue_file(tmp_path)


@pytest.fixture
def counting(tmp_path: Path) -> ModelFile:
    return counting_file(tmp_path)


def opened(engine: Path, **options: Any) -> Backend:
    return open_backend("tensorrt", engine, **options)


class TestLabels:
    @pytest.mark.parametrize("hint", ["throughput", "latency"])
    def test_hundred_batches_with_all_slots_in_flight_have_their_own_labels_in_order(
        self, machine: Machine, blue: ModelFile, hint: str
    ) -> None:
        got: list[int] = []
        in_flight: deque[Any] = deque()
        with opened(write_engine(blue), hint=hint) as backend:
            for number in range(100):
                in_flight.append(backend.submit(frames_of(number)))
                if len(in_flight) == backend.depth:
                    got += blues_in(backend.wait(in_flight.popleft()))
            while in_flight:
                got += blues_in(backend.wait(in_flight.popleft()))
        assert got == list(range(100))

    def test_tickets_are_waited_for_in_any_order(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)) as backend:
            for order in permutations(range(backend.depth)):
                tickets = [backend.submit(frames_of(number)) for number in range(backend.depth)]
                assert [blues_in(backend.wait(tickets[place])) for place in order] == [[place] for place in order]

    def test_the_array_is_the_callers_again_as_soon_as_submit_returns(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)) as backend:
            frames = frames_of(50)
            ticket = backend.submit(frames)
            frames[...] = 99
            assert blues_in(backend.wait(ticket)) == [50]

    def test_submit_waits_for_nothing_until_all_slots_are_in_flight(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)) as backend:
            assert backend.depth == 3
            tickets = []
            for number in range(3):
                tickets.append(backend.submit(frames_of(number)))
                works = [work.what for work in machine.pending()]
                assert works == ["an upload", "an inference", "a download"] * (number + 1)
            assert len([stream for stream in machine.streams.values() if stream.queue]) == 3
            backend.wait(tickets[1])
            assert len(list(machine.pending())) == 6, "waiting for one batch is no wait for the others"

    def test_a_batch_that_nobody_waits_for_is_done_before_its_slot_is_used_again(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        with opened(write_engine(blue)) as backend:
            tickets = [backend.submit(frames_of(number)) for number in range(10)]
            assert blues_in(backend.wait(tickets[-1])) == [9]
            with pytest.raises(BackendError, match="are gone: wait for them before 3 more batches"):
                backend.wait(tickets[0])

    @pytest.mark.parametrize("batch", [1, 4])
    def test_a_batch_of_any_length_goes_through_an_engine_of_any_batch(
        self, machine: Machine, blue: ModelFile, batch: int
    ) -> None:
        with opened(write_engine(blue, batch=batch)) as backend:
            for length in (1, 3, 4, 9, 2):
                blues = list(range(10, 10 + length))
                before = machine.inferences
                assert blues_in(backend.infer(frames_of(*blues))) == blues
                assert machine.inferences - before == -(-length // batch)

    def test_the_networks_of_tensorrt_rtx_are_replayed_as_cuda_graphs(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)):
            assert [strategy.name for strategy in machine.graph_strategies] == ["WHOLE_GRAPH_CAPTURE"] * 3

    def test_when_it_is_open_everything_was_run_compiled_captured_and_replayed(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        with opened(write_engine(blue)) as backend:
            assert machine.inferences == 3 * backend.depth
            assert machine.captures == [1] * backend.depth
            assert not list(machine.pending())
            for _ in range(2 * backend.depth):
                backend.infer(frames_of(5))
            assert machine.captures == [1] * backend.depth


def is_alone(thread: ThreadPoolExecutor) -> bool:
    """Return whether another thread would wait for the lock of the device."""
    taken = thread.submit(open_device().lock.acquire, blocking=False).result()
    if taken:
        thread.submit(open_device().lock.release).result()
    return not taken


class TestCapture:
    """TensorRT-RTX captures within the first two runs of shapes and addresses: no other thread allocates then."""

    @pytest.mark.parametrize("late", [False, True], ids=["at once", "one run later"])
    def test_whatever_is_captured_is_captured_alone(self, machine: Machine, blue: ModelFile, late: bool) -> None:
        machine.recaptures_late = late
        alone: list[bool] = []
        with ThreadPoolExecutor(1) as thread:
            machine.during_capture = lambda: alone.append(is_alone(thread))
            with opened(write_engine(blue, batch=4)) as backend:
                assert machine.captures == [1] * 3
                for _ in range(9):
                    backend.infer(frames_of(1, 2, 3))
                assert machine.captures == [1] * 3 + [3] * 3
                for _ in range(9):
                    assert blues_in(backend.infer(frames_of(1, 2, 3, 4, 5, 6))) == [1, 2, 3, 4, 5, 6]
                # In parts of four and two frames: two consecutive parts always differ.
                assert machine.captures[6:] == ([] if late else [4, 2] * 9)
            assert alone == [True] * len(machine.captures)
            assert not is_alone(thread)

    def test_a_length_that_was_run_twice_waits_for_nobody(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue, batch=4), hint="latency") as backend, ThreadPoolExecutor(1) as thread:
            backend.infer(frames_of(1, 2))
            backend.infer(frames_of(1, 2))
            with open_device().lock:  # as if another engine were being opened
                assert blues_in(thread.submit(backend.infer, frames_of(6, 7)).result(60)) == [6, 7]

    def test_other_threads_wait_for_their_labels_and_label_while_one_captures(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue)
        with opened(engine) as running, ThreadPoolExecutor(1) as thread:
            ticket = running.submit(frames_of(7))
            seen: list[list[int]] = []

            def go_on() -> None:
                machine.during_capture = lambda: None
                seen.append(blues_in(thread.submit(running.wait, ticket).result(60)))
                seen.append(blues_in(thread.submit(running.infer, frames_of(8)).result(60)))

            machine.during_capture = go_on
            opened(engine).close()
        assert seen == [[7], [8]]

    def test_other_threads_take_and_give_back_memory_before_or_after_a_capture(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue, batch=4)
        one, other = opened(engine, hint="latency"), opened(engine, hint="latency")
        labels = [other.infer(frames_of(9))]
        with ThreadPoolExecutor(3) as threads:
            meanwhile: list[Any] = []

            def disturb() -> None:
                machine.during_capture = lambda: None
                meanwhile.append(threads.submit(opened, engine))
                meanwhile.append(threads.submit(other.infer, frames_of(1, 2, 3)))
                meanwhile.append(threads.submit(labels.clear))
                done, _ = wait(meanwhile, timeout=0.2)  # long enough for those that do not wait
                assert meanwhile[0] not in done
                assert meanwhile[1] not in done

            machine.during_capture = disturb
            assert blues_in(one.infer(frames_of(4, 5))) == [4, 5]
            assert blues_in(meanwhile[1].result()) == [1, 2, 3]
            for backend in (one, other, meanwhile[0].result()):
                backend.close()

    def test_a_run_that_failed_is_the_first_one_again(self, machine: Machine, blue: ModelFile) -> None:
        with ThreadPoolExecutor(1) as thread, opened(write_engine(blue), hint="latency") as backend:
            machine.failures["execute"] = 0
            with pytest.raises(BackendError, match="failed on a batch"):
                backend.infer(frames_of(1))
            machine.failures.clear()
            with open_device().lock:  # the next two runs wait for it, but not the third
                running = thread.submit(backend.infer, frames_of(2))
                assert not wait([running], timeout=0.2).done
            assert blues_in(running.result(60)) == [2]
            backend.infer(frames_of(3))
            with open_device().lock:
                assert blues_in(thread.submit(backend.infer, frames_of(4)).result(60)) == [4]

    def test_memory_that_nobody_sees_any_more_is_given_back_after_a_capture(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue)
        with opened(engine) as backend:
            held = [backend.infer(frames_of(9))]
        assert len(machine.pinned) == 1
        machine.during_capture = held.clear  # like the garbage collector, on the capturing thread
        with opened(engine):
            assert len(machine.pinned) == 6


class TestGraphsOfTensorRt:
    """TensorRT does not capture by itself: the slot captures the second run, and replays the graph afterwards."""

    @pytest.fixture
    def machine(self, machine: Machine) -> Iterator[Machine]:
        with installed(machine, "tensorrt"):
            yield machine

    def test_when_it_is_open_every_slot_replays_its_graph(self, machine: Machine, blue: ModelFile) -> None:
        alone: list[bool] = []
        with ThreadPoolExecutor(1) as thread:
            machine.during_capture = lambda: alone.append(is_alone(thread))
            with opened(write_for_tensorrt(blue)) as backend:
                assert (backend.facts()["runtime_version"], backend.depth) == (TENSORRT_VERSION, 3)
                assert backend.facts()["engine"]["cuda_graph"] == "captured"
                assert (machine.inferences, machine.captures, alone) == (6, [1] * 3, [True] * 3)
                before = machine.replays
                tickets = [backend.submit(frames_of(number)) for number in range(3)]
                assert [blues_in(backend.wait(ticket)) for ticket in tickets] == [[0], [1], [2]]
                assert (machine.inferences, machine.replays - before) == (6, 3)

    def test_hundred_batches_of_changing_length_have_their_own_labels(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_for_tensorrt(blue, batch=4)) as backend:
            for number in range(100):
                blues = list(range(number, number + 1 + number // 10))
                assert blues_in(backend.infer(frames_of(*blues))) == blues
        assert 1 < len({*machine.captures}) <= 4
        assert machine.replays > 50

    def test_the_parts_of_a_batch_share_one_graph_where_they_are_as_long(
        self, machine: Machine, counting: ModelFile
    ) -> None:
        with opened(write_for_tensorrt(counting)) as backend:
            before = machine.replays
            for number in range(5):
                assert blues_in(backend.infer(frames_of(10, 20, 30))) == [10 + number, 20 + number, 30 + number]
            assert machine.replays - before == 15

    def test_a_graph_of_another_length_is_freed_alone(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_for_tensorrt(blue, batch=4), hint="latency") as backend, ThreadPoolExecutor(1) as thread:
            assert len(machine.executables) == 1
            with open_device().lock:
                running = thread.submit(backend.infer, frames_of(1, 2, 3, 4, 5))
                assert not wait([running], timeout=0.2).done
                assert len(machine.executables) == 1
            assert blues_in(running.result(60)) == [1, 2, 3, 4, 5]
            assert len(machine.executables) == 0
            assert backend.facts()["engine"]["cuda_graph"] == "none yet"

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            (OUT_OF_MEMORY, f"{GPU} has too little free memory"),
            (ILLEGAL_ADDRESS, f"CUDA failed on {GPU}: cuGraphLaunch failed: error 700"),
        ],
    )
    def test_a_graph_that_cannot_be_launched_is_told_and_captured_anew(
        self, machine: Machine, blue: ModelFile, result: int, message: str
    ) -> None:
        with opened(write_for_tensorrt(blue), hint="latency") as backend:
            machine.failures["launch"] = result
            with pytest.raises(BackendError, match=f"^{message}"):
                backend.infer(frames_of(1))
            machine.failures.clear()
            assert [blues_in(backend.infer(frames_of(number))) for number in range(4)] == [[n] for n in range(4)]
            assert machine.captures == [1, 1]
            assert backend.facts()["engine"]["cuda_graph"] == "captured"

    @pytest.mark.parametrize("batch", [1, 2, 4])
    def test_every_frame_of_a_video_sees_what_the_one_before_left(
        self, machine: Machine, counting: ModelFile, batch: int
    ) -> None:
        with opened(write_for_tensorrt(counting, batch=batch)) as backend:
            for _ in range(2):
                assert [blues_in(backend.infer(frames_of(10, 20, 30))) for _ in range(5)] == [
                    [10 + number, 20 + number, 30 + number] for number in range(5)
                ]
                assert [blues_in(backend.infer(frames_of(10))) for _ in range(5)] == [[10], [11], [12], [13], [14]]

    @pytest.mark.parametrize(
        ("failing", "message"),
        [
            ("capture", "cuStreamEndCapture failed: operation failed due to a previous error"),
            ("instantiate", "cuGraphInstantiateWithFlags failed: error 2"),
            ("execute in a capture", "TensorRT 11.4.0 failed on a batch"),
        ],
    )
    def test_where_no_graph_can_hold_the_network_it_runs_without_and_the_facts_say_why(
        self, machine: Machine, blue: ModelFile, failing: str, message: str
    ) -> None:
        machine.failures[failing] = 0
        with opened(write_for_tensorrt(blue)) as backend:
            assert backend.facts()["engine"]["cuda_graph"] == f"none ({message})"
            assert [blues_in(backend.infer(frames_of(number))) for number in range(9)] == [[n] for n in range(9)]
            assert machine.replays == 0
            assert len(machine.captures) == backend.depth, "it is tried once"

    def test_a_batch_that_fails_in_a_capture_and_without_one_is_a_sentence(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_for_tensorrt(blue)
        machine.failures["execute"] = 1  # the second run of the first slot, and all after it
        with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 failed on a batch"):
            opened(engine)
        assert not machine.left()


class TestRuntimeCache:
    """The kernels that TensorRT-RTX compiles are saved beside the engine."""

    @staticmethod
    def note(backend: Backend) -> str:
        message: str = backend.facts()["engine"]["runtime_cache"]
        return message

    def test_the_second_opening_compiles_nothing(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with opened(engine) as backend:
            assert self.note(backend) == "written"
        assert machine.compilations == 1, "the slots share what is compiled"
        before = runtime_cache_path(engine).stat()
        with opened(engine) as backend:
            assert self.note(backend) == "read"
            assert blues_in(backend.infer(frames_of(5))) == [5]
        assert machine.compilations == 1
        after = runtime_cache_path(engine).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "it did not grow"

    def test_what_was_compiled_later_is_kept_when_it_is_closed(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue, batch=4)
        with opened(engine) as backend:
            backend.infer(frames_of(1, 2, 3))
        assert machine.compilations == 2
        with opened(engine) as backend:
            backend.infer(frames_of(1, 2, 3))
        assert machine.compilations == 2
        assert sorted(path.name for path in engine.parent.iterdir()) == sorted(
            (engine.name, facts_path(engine).name, runtime_cache_path(engine).name)
        )

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""])
    def test_a_damaged_one_is_ignored_and_written_anew(
        self, machine: Machine, blue: ModelFile, damage: Callable[[bytes], bytes]
    ) -> None:
        engine = write_engine(blue)
        opened(engine).close()
        kept = runtime_cache_path(engine)
        whole = kept.read_bytes()
        kept.write_bytes(damage(whole))
        with opened(engine) as backend:
            assert self.note(backend) == "written"
        assert machine.compilations == 2
        assert kept.read_bytes() == whole

    def test_one_of_another_engine_is_ignored_and_written_anew(
        self, machine: Machine, blue: ModelFile, counting: ModelFile
    ) -> None:
        engine, other = write_engine(blue), write_engine(counting, Path("others"))
        opened(other).close()
        runtime_cache_path(other).replace(runtime_cache_path(engine))
        with opened(engine) as backend:
            assert self.note(backend) == "written"
        assert machine.compilations == 2

    def test_one_that_another_driver_compiled_is_ignored_and_written_anew(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = write_engine(blue)
        opened(engine).close()
        monkeypatch.setattr("rtseg.backends.tensorrt.backend.driver_version", lambda: "575.1")
        with opened(engine) as backend:
            assert self.note(backend) == "written"

    def test_one_that_the_runtime_does_not_give_stops_nobody(self, machine: Machine, blue: ModelFile) -> None:
        machine.failures["serialize"] = 0
        with opened(write_engine(blue)) as backend:
            assert self.note(backend).startswith(f"not saved (CUDA failed on {GPU}: serialize failed")
            assert blues_in(backend.infer(frames_of(5))) == [5]

    def test_one_that_the_runtime_refuses_is_ignored_and_written_anew(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = write_engine(blue)
        opened(engine).close()
        monkeypatch.setattr(RuntimeCache, "HEAD", b"other driver: ")
        with opened(engine) as backend:
            assert self.note(backend) == "written"
        assert machine.compilations == 2

    def test_where_it_cannot_be_kept_the_engine_runs_and_the_facts_say_why(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue)
        kept = runtime_cache_path(engine)
        kept.mkdir()
        with opened(engine) as backend:
            assert self.note(backend) == f"{kept} cannot be written (Is a directory)"
            assert blues_in(backend.infer(frames_of(5))) == [5]
        assert [path.name for path in engine.parent.glob("*.part*")] == []

    def test_a_runtime_without_one_does_without(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = write_engine(blue)
        machine.failures["cache"] = 0
        with opened(engine) as backend:
            assert self.note(backend) == "not saved"
            assert blues_in(backend.infer(frames_of(5))) == [5]
        monkeypatch.delattr(sys.modules["tensorrt_rtx"], "CudaGraphStrategy")
        with opened(engine) as backend:
            assert self.note(backend) == "not saved"
        assert not runtime_cache_path(engine).exists()


class TestState:
    def test_every_frame_of_a_video_sees_what_the_one_before_left(self, machine: Machine, counting: ModelFile) -> None:
        with opened(write_engine(counting)) as backend:
            assert (backend.recurrent, backend.depth) == (True, 1)
            assert [blues_in(backend.infer(frames_of(10))) for _ in range(4)] == [[10], [11], [12], [13]]
            backend.reset()
            assert blues_in(backend.infer(frames_of(10))) == [10]

    def test_a_reset_does_not_touch_the_frame_in_flight(self, machine: Machine, counting: ModelFile) -> None:
        with opened(write_engine(counting)) as backend:
            backend.infer(frames_of(10))
            ticket = backend.submit(frames_of(10))
            backend.reset()
            assert blues_in(backend.wait(ticket)) == [11]
            assert blues_in(backend.infer(frames_of(10))) == [10]

    @pytest.mark.parametrize("batch", [1, 2, 8])
    def test_every_image_of_a_batch_has_a_state_of_its_own(
        self, machine: Machine, counting: ModelFile, batch: int
    ) -> None:
        with opened(write_engine(counting, batch=batch)) as backend:
            assert blues_in(backend.infer(frames_of(10, 20, 30))) == [10, 20, 30]
            assert blues_in(backend.infer(frames_of(10, 20, 30))) == [11, 21, 31]
            assert blues_in(backend.infer(frames_of(10))) == [10], "a batch of another length begins anew"
            assert blues_in(backend.infer(frames_of(10, 20, 30))) == [10, 20, 30]

    def test_the_state_never_leaves_the_gpu(self, machine: Machine, counting: ModelFile) -> None:
        with opened(write_engine(counting)) as backend:
            backend.infer(frames_of(10))
            backend.submit(frames_of(10))
            assert [work.what for work in machine.pending()] == ["an upload", "an inference", "a copy", "a download"]


class TestLife:
    def test_it_is_opened_used_and_closed_on_three_threads(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two, ThreadPoolExecutor(1) as three:
            backend = one.submit(opened, engine).result()
            assert blues_in(two.submit(backend.infer, frames_of(8)).result()) == [8]
            three.submit(backend.close).result()

    def test_closing_waits_for_what_is_in_flight_and_frees_everything(self, machine: Machine, blue: ModelFile) -> None:
        backend = opened(write_engine(blue))
        tickets = [backend.submit(frames_of(number)) for number in range(3)]
        backend.close()
        assert not machine.left()
        backend.close()
        with pytest.raises(BackendError, match="are gone"):
            backend.wait(tickets[0])
        with pytest.raises(BackendError, match="the tensorrt backend is closed: open it again"):
            backend.submit(frames_of(1))

    def test_labels_in_a_callers_hands_outlive_the_backend(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)) as backend:
            labels = backend.infer(frames_of(8))
        assert blues_in(labels) == [8]
        assert len(machine.pinned) == 1
        with ThreadPoolExecutor(1) as elsewhere:  # pycuda could not free its memory there
            held = [labels]
            del labels
            elsewhere.submit(held.clear).result()
        assert not machine.pinned

    def test_two_threads_that_are_the_first_to_open_one_share_the_device(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = Barrier(2)

        def open_slowly() -> Driver:
            with suppress(BrokenBarrierError):  # the other thread waits for the lock
                both.wait(0.2)
            return Driver()

        monkeypatch.setattr("rtseg.backends.tensorrt.cuda.Driver", open_slowly)
        with ThreadPoolExecutor(2) as threads:
            first, second = (threads.submit(open_device) for _ in range(2))
            assert first.result() is second.result()

    def test_when_the_process_ends_the_context_is_released(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at_exit: list[Any] = []
        monkeypatch.setattr("rtseg.backends.tensorrt.cuda.atexit.register", at_exit.append)
        device = open_device()
        assert at_exit == [device.release_context]

    def test_two_at_once_do_not_disturb_each_other(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with opened(engine) as one, opened(engine) as other:
            tickets = [
                (one.submit(frames_of(number)), other.submit(frames_of(100 + number))) for number in range(one.depth)
            ]
            for number, (first, second) in enumerate(tickets):
                assert (blues_in(one.wait(first)), blues_in(other.wait(second))) == ([number], [100 + number])

    def test_an_engine_is_changed_for_another_while_frames_go_through(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        old = opened(engine)
        ticket = old.submit(frames_of(1))
        with opened(write_engine(blue, precision="fp16")) as new:
            later = new.submit(frames_of(2))
            assert blues_in(old.wait(ticket)) == [1]
            old.close()
            assert blues_in(new.wait(later)) == [2]
            assert new.precision == "fp16"

    def test_it_says_what_it_is(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with opened(engine) as backend:
            facts = backend.facts()
        assert (driver_version(), find_gpu().target) == (DRIVER, TARGET)  # type: ignore[union-attr]
        assert (facts["backend"], facts["precision"], facts["device"]) == ("tensorrt", "fp32", GPU)
        assert facts["engine"]["file"] == str(engine)
        assert facts["size"] == list(SIZE)
        assert len(facts["model_sha256"]) == 64


class TestFailures:
    def test_no_room_on_the_gpu_is_a_sentence_and_what_was_taken_is_given_back(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue)
        machine.room = 200  # each slot needs 96 bytes, so the third does not fit
        with pytest.raises(BackendError, match=rf"^{GPU} has too little free memory \(0 of 0 MiB are free\): close"):
            opened(engine)
        assert not machine.left()

    def test_a_context_that_cannot_be_made_is_a_sentence(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        machine.failures["context"] = 0
        with pytest.raises(BackendError, match=r"TensorRT-RTX 1\.7\.1\.116 cannot run the engine: close other"):
            opened(engine)
        assert not machine.left()

    @pytest.mark.parametrize("package", ["tensorrt", "tensorrt_rtx"])
    def test_an_error_that_stays_is_told_and_everything_is_freed(
        self, machine: Machine, blue: ModelFile, package: str
    ) -> None:
        write = write_for_tensorrt if package == "tensorrt" else write_engine
        with installed(machine, package):
            backend = opened(write(blue))
            ticket = backend.submit(frames_of(1))
            machine.failures["synchronize"] = machine.failures["serialize"] = 0
            machine.is_broken = True
            with pytest.raises(BackendError, match="illegal memory access"), backend:
                backend.wait(ticket)
            assert not machine.left()

    def test_pinned_memory_that_is_not_to_be_had_is_a_sentence_and_later_batches_are_whole(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with opened(write_engine(blue), hint="latency") as backend:
            pinned = Device.pinned
            calls = count()

            def scarce(device: Device, shape: tuple[int, ...]) -> Any:
                if next(calls) == 1:  # of the labels
                    raise BackendError("no pinned memory")
                return pinned(device, shape)

            monkeypatch.setattr(Device, "pinned", scarce)
            with pytest.raises(BackendError, match="no pinned memory"):
                backend.infer(frames_of(1, 2, 3))
            assert blues_in(backend.infer(frames_of(1, 2, 3))) == [1, 2, 3]

    def test_a_first_run_that_fails_is_a_sentence_and_what_was_taken_is_given_back(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        engine = write_engine(blue)
        machine.failures["execute"] = 1  # the second slot's
        with pytest.raises(BackendError, match="failed on a batch"):
            opened(engine)
        assert not machine.left()

    def test_a_batch_that_fails_is_a_sentence_and_the_next_one_works(self, machine: Machine, blue: ModelFile) -> None:
        with opened(write_engine(blue)) as backend:
            for _ in range(5):
                machine.failures["execute"] = 0
                with pytest.raises(BackendError, match=r"TensorRT-RTX 1\.7\.1\.116 failed on a batch"):
                    backend.submit(frames_of(1))
                machine.failures.clear()
                assert blues_in(backend.infer(frames_of(2))) == [2]

    def test_half_a_batch_that_failed_is_done_before_its_memory_is_used_again(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        with opened(write_engine(blue), hint="latency") as backend:
            machine.failures["execute"] = 1
            with pytest.raises(BackendError, match="failed on a batch"):
                backend.submit(frames_of(1, 2))
            machine.failures.clear()
            assert not list(machine.pending())
            assert blues_in(backend.infer(frames_of(3, 4))) == [3, 4]

    def test_an_error_of_cuda_is_told_in_a_line_where_the_labels_are_asked_for(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        with opened(write_engine(blue)) as backend:
            ticket = backend.submit(frames_of(1))
            machine.failures["synchronize"] = 0
            with pytest.raises(BackendError, match=f"^CUDA failed on {GPU}: .* illegal memory access .*$") as caught:
                backend.wait(ticket)
            assert "\n" not in str(caught.value)
            machine.failures.clear()


class TestEngines:
    def test_a_model_file_is_run_by_the_engine_that_fits_it(self, machine: Machine, blue: ModelFile) -> None:
        write_engine(blue, precision="fp32")
        write_engine(blue, precision="fp16")
        for precision, expected in (("auto", "fp16"), ("fp32", "fp32")):
            with open_backend("tensorrt", blue.path, precision=precision) as backend:
                assert backend.precision == expected
                assert blues_in(backend.infer(frames_of(3))) == [3]

    def test_without_an_engine_it_says_how_to_build_one(self, machine: Machine, blue: ModelFile) -> None:
        message = rf"no engine for wide at 4x6 in engines/: build one with `rtseg build-engine {blue.path}`"
        with pytest.raises(BackendUnavailable, match=message):
            open_backend("tensorrt", blue.path)

    def test_engines_that_do_not_fit_are_named_with_why(self, machine: Machine, blue: ModelFile) -> None:
        write_engine(blue, runtime_version="1.0")
        write_engine(blue, precision="int8", targets=("sm_89",))
        with pytest.raises(BackendUnavailable) as caught:
            open_backend("tensorrt", blue.path)
        assert "wide-1-fp32-rtx-sm_86+.engine was built by TensorRT-RTX 1.0, this is TensorRT-RTX 1.7" in str(
            caught.value
        )
        assert "wide-1-int8-rtx-sm_89.engine was built for sm_89, not for sm_86" in str(caught.value)

    @pytest.mark.parametrize(
        ("facts", "options", "message"),
        [
            ({"runtime_version": "1.0"}, {}, "was built by TensorRT-RTX 1.0, this is TensorRT-RTX 1.7.1.116"),
            ({"targets": ("sm_89", "sm_120")}, {}, "was built for sm_89, sm_120, not for sm_86"),
            ({"gpu": "Other"}, {}, f"was built for Other, this is {GPU}"),
            ({}, {"precision": "fp16"}, "computes in fp32, not in fp16"),
            ({}, {"size": (32, 64)}, "was built for 4x6, not for 32x64"),
        ],
    )
    def test_an_engine_that_does_not_fit_is_refused_before_it_is_loaded(
        self, machine: Machine, blue: ModelFile, facts: dict[str, Any], options: dict[str, Any], message: str
    ) -> None:
        engine = write_engine(blue, **facts)
        with pytest.raises(BackendUnavailable) as caught:
            opened(engine, **options)
        assert str(caught.value) == f"{engine} {message}: build one that fits with `rtseg build-engine`"

    def test_an_engine_that_was_cut_off_is_refused(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        engine.write_bytes(engine.read_bytes()[:-1])
        with pytest.raises(ModelError, match="is damaged or was changed"):
            opened(engine)

    @pytest.mark.parametrize("by_model", [False, True])
    def test_what_was_checked_is_what_is_loaded_whatever_the_file_is_meanwhile(
        self, machine: Machine, blue: ModelFile, monkeypatch: pytest.MonkeyPatch, by_model: bool
    ) -> None:
        engine = write_engine(blue)
        whole = engine.read_bytes()

        def read_and_swap(path: Path, max_bytes: int) -> bytes:
            data = read_bytes(path, max_bytes)
            if path.name == engine.name:
                path.write_bytes(b"{another engine")
            return data

        monkeypatch.setattr("rtseg.backends.tensorrt.engine_file.read_bytes", read_and_swap)
        with open_backend("tensorrt", blue.path if by_model else engine) as backend:
            assert blues_in(backend.infer(frames_of(5))) == [5]
        assert machine.plans == [whole]
        assert engine.read_bytes() == b"{another engine"

    def test_an_engine_without_its_facts_is_refused(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        facts_path(engine).unlink()
        with pytest.raises(ModelError, match=r"has no .*json beside it"):
            opened(engine)

    def test_what_tensorrt_itself_refuses_is_told_with_its_reason(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue, plan=b"no engine")
        with pytest.raises(BackendError, match=r"cannot load .*\.engine \(.*it is no engine\): build it again"):
            opened(engine)

    def test_an_engine_that_is_not_there_is_told(self, machine: Machine) -> None:
        with pytest.raises(ModelError, match=r"no engine at nope\.engine: build one with `rtseg build-engine`"):
            opened(Path("nope.engine"))

    def test_no_other_backend_runs_an_engine(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with pytest.raises(OptionError, match="is an engine, which only TensorRT runs: leave --backend openvino out"):
            open_backend("openvino", engine)
        with open_backend("auto", engine) as backend:
            assert (backend.name, backend.chosen) == ("tensorrt", "the model is an engine")

    def test_the_cpu_is_refused(self, machine: Machine, blue: ModelFile) -> None:
        with pytest.raises(BackendUnavailable, match="runs on an NVIDIA GPU: use --device cuda, or run the"):
            opened(write_engine(blue), device="cpu")

    def test_a_missing_pycuda_is_told_with_the_command_that_brings_it(self, machine: Machine, blue: ModelFile) -> None:
        engine = write_engine(blue)
        with (
            missing("pycuda"),
            pytest.raises(BackendUnavailable, match=r"needs 'pycuda': pip install 'rtseg\[cuda\]'"),
        ):
            opened(engine)

    def test_a_missing_tensorrt_is_told_with_the_command_that_brings_it(
        self, machine: Machine, blue: ModelFile
    ) -> None:
        for model in (write_engine(blue), blue.path):
            with (
                missing("tensorrt_rtx"),
                pytest.raises(
                    BackendUnavailable, match=r"needs the package 'tensorrt_rtx': pip install 'rtseg\[rtx\]'"
                ),
            ):
                open_backend("tensorrt", model)


def test_without_a_driver_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(tmp_path)
    model = blue_file(tmp_path)
    for path in (write_engine(model), model.path):
        with pytest.raises(
            BackendUnavailable, match=r"no NVIDIA driver found: install one, or run the \.onnx file with --backend"
        ):
            open_backend("tensorrt", path)


def test_labels_are_views_of_one_slot_each(machine: Machine, blue: ModelFile) -> None:
    with opened(write_engine(blue)) as backend:
        results = [backend.infer(frames_of(number)) for number in range(3)]
        assert [blues_in(labels) for labels in results] == [[0], [1], [2]]
        assert not any(np.shares_memory(one, other) for one, other in permutations(results, 2))
