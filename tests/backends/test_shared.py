"""One model for many videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Semaphore, Thread

import numpy as np
import pytest
from helpers.doubles import SIZE, WAIT_S, wide_spec
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.backends.shared import SharedBackend, SharedModel
from rtseg.errors import BackendError

pytestmark = pytest.mark.usefixtures("no_thread_left")


class BatchBackend(Backend):
    """Labels pixels with their blue value, and notes the blue values of every batch.

    Args:
        max_batch: see ``Backend``.
        gate: ``wait`` acquires it.
        bad: a blue value that fails every batch it is in.
    """

    name, precision, device, version, model_sha256 = "batches", "fp32", "CPU", "1", "0" * 64

    def __init__(self, max_batch: int = 1, *, depth: int = 1, gate: Semaphore | None = None, bad: int = -1) -> None:
        self.spec = wide_spec()
        self.max_batch, self.depth = max_batch, depth
        self.batches: list[list[int]] = []
        self.started = Event()
        self.closed = 0
        self._gate, self._bad = gate, bad

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        self.batches.append(frames[:, 0, 0, 0].tolist())
        self.started.set()
        return Ticket(None, frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        if self._gate is not None:
            assert self._gate.acquire(timeout=WAIT_S), "the test never released the gate"
        labels = ticket.frames[..., 0].copy()
        if self._bad in labels:
            raise BackendError("this image fails")
        return labels

    def close(self) -> None:
        self.closed += 1


@contextmanager
def shared(backend: BatchBackend) -> Iterator[SharedModel]:
    model = SharedModel(backend)
    try:
        yield model
    finally:
        model.close()


def image(blue: int) -> NDArray[np.uint8]:
    return np.full((1, *SIZE, 3), blue, np.uint8)


def hold(model: SharedModel, backend: BatchBackend) -> tuple[SharedBackend, Ticket]:
    """Keep the model busy with one image, until the gate is released once."""
    first = model.connect()
    ticket = first.submit(image(0))
    assert backend.started.wait(WAIT_S)
    return first, ticket


def test_every_video_gets_its_own_labels() -> None:
    with shared(BatchBackend(4)) as model:
        wrong: list[int] = []

        def read(number: int) -> None:
            member = model.connect()
            for step in range(50):
                blue = (50 * number + step) % 200
                if (member.infer(image(blue)) != blue).any():
                    wrong.append(blue)
            member.close()

        threads = [Thread(target=read, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        assert model.images == 200
        assert model.members == 0


def test_a_video_with_many_images_waits_for_its_turn() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    with shared(backend) as model:
        hold(model, backend)
        greedy, modest = model.connect(depth=4), model.connect()
        tickets = [greedy.submit(image(blue)) for blue in (11, 12, 13, 14)]
        slow = modest.submit(image(21))
        for _ in range(6):
            gate.release()
        assert (modest.wait(slow) == 21).all()
        assert [int(greedy.wait(ticket)[0, 0, 0]) for ticket in tickets] == [11, 12, 13, 14]
        assert backend.batches == [[0], [11], [21], [12], [13], [14]]


def test_a_backend_with_room_gets_another_image_while_it_computes() -> None:
    gate, computed = Semaphore(0), Event()

    class Telling(BatchBackend):
        def is_ready(self, ticket: Ticket, timeout_s: float) -> bool:
            return computed.wait(timeout_s)

    backend = Telling(depth=2, gate=gate)
    with shared(backend) as model:
        first, ticket = hold(model, backend)
        second = model.connect()
        backend.started.clear()
        other = second.submit(image(1))
        assert backend.started.wait(WAIT_S), "it waits for the first image, although the backend has room"
        computed.set()
        gate.release()
        assert (first.wait(ticket) == 0).all()
        gate.release()
        assert (second.wait(other) == 1).all()
        assert backend.batches == [[0], [1]]


def test_what_came_meanwhile_is_one_batch_of_one_image_of_each_video() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(3, gate=gate)
    with shared(backend) as model:
        hold(model, backend)
        greedy, second, third = model.connect(depth=3), model.connect(), model.connect()
        tickets = [greedy.submit(image(blue)) for blue in (11, 12)]
        other, last = second.submit(image(21)), third.submit(image(31))
        for _ in range(3):
            gate.release()
        assert (second.wait(other) == 21).all()
        assert (third.wait(last) == 31).all()
        assert (greedy.wait(tickets[1]) == 12).all()
        assert backend.batches == [[0], [11, 21, 31], [12]]
        assert model.facts()["images_per_batch"] == round(5 / 3, 3)


def test_an_image_that_fails_a_batch_fails_its_own_video_only() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(2, gate=gate, bad=66)
    with shared(backend) as model:
        hold(model, backend)
        good, bad = model.connect(), model.connect()
        tickets = good.submit(image(5)), bad.submit(image(66))
        for _ in range(4):
            gate.release()
        assert (good.wait(tickets[0]) == 5).all()
        with pytest.raises(BackendError, match="this image fails"):
            bad.wait(tickets[1])
        assert (good.facts()["shared"]["failed"], bad.facts()["shared"]["failed"]) == (0, 1)
        gate.release()
        assert (good.infer(image(6)) == 6).all(), "the model goes on"


def test_a_batch_of_a_wrong_shape_is_refused_before_it_can_harm_the_others() -> None:
    backend = BatchBackend(2)
    with shared(backend) as model:
        with pytest.raises(ValueError, match="frames must be uint8"):
            model.connect().submit(np.zeros((1, 3, 3, 3), np.uint8))
        assert backend.batches == []


def test_what_a_video_that_left_had_asked_is_not_computed() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    with shared(backend) as model:
        hold(model, backend)
        leaving, staying = model.connect(), model.connect()
        forgotten = leaving.submit(image(1))
        ticket = staying.submit(image(2))
        leaving.close()
        gate.release()
        gate.release()
        assert (staying.wait(ticket) == 2).all()
        assert backend.batches == [[0], [2]]
        with pytest.raises(BackendError, match="is closed"):
            leaving.wait(forgotten)
        with pytest.raises(BackendError, match="is closed"):
            leaving.submit(image(3))


def test_a_video_that_ends_does_not_wait_for_a_backend_that_hangs() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    with shared(backend) as model:
        first, ticket = hold(model, backend)
        errors: list[BackendError] = []

        def wait() -> None:
            try:
                first.wait(ticket)
            except BackendError as error:
                errors.append(error)

        waiting = Thread(target=wait)
        waiting.start()
        first.stop_waiting()
        waiting.join(WAIT_S)
        assert len(errors) == 1, "it waits for the backend"
        gate.release()
        gate.release()
        assert (first.infer(image(3)) == 3).all(), "what was thrown away has no consequences"
        assert first.facts()["shared"]["requests"] == 2


def test_a_backend_that_answers_nobody_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.backends.shared._ASK_S", 0.01)
    monkeypatch.setattr("rtseg.backends.shared._MOST_SILENT", 3)
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    with shared(backend) as model:
        first, ticket = hold(model, backend)
        with pytest.raises(BackendError, match="batches has not answered for 0 s: try another --backend"):
            first.wait(ticket)
        gate.release()


def test_closing_leaves_a_backend_that_hangs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    model = SharedModel(backend)
    hold(model, backend)
    monkeypatch.setattr(backend, "patience_s", lambda: 0.05)
    model.close()
    assert backend.closed == 0, "its thread still uses it"
    gate.release()
    model.close()
    assert backend.closed == 1


def test_patience_follows_what_the_backend_took_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("rtseg.backends.base.time.monotonic", lambda: now_s[0])

    def label(backend: BatchBackend, seconds: float) -> None:
        ticket = backend.submit(image(1))
        now_s[0] += seconds
        backend.wait(ticket)

    backend = BatchBackend()
    assert backend.patience_s() == 10, "nothing is known yet"
    label(backend, 0.01)
    assert backend.patience_s() == 1
    label(backend, 0.2)
    assert backend.patience_s() == pytest.approx(2)
    ticket = backend.submit(image(1))
    now_s[0] += 0.8
    assert backend.patience_s() == pytest.approx(1.2), "it has been waited for already"
    now_s[0] += 60
    assert backend.patience_s() == pytest.approx(0.5)
    backend.wait(ticket)
    assert backend.patience_s() == 10
    for _ in range(8):
        label(backend, 0.01)
    assert backend.patience_s() == 1, "one slow answer is forgotten"


def test_closing_wakes_everybody_who_waits() -> None:
    gate = Semaphore(0)
    backend = BatchBackend(gate=gate)
    model = SharedModel(backend)
    first, ticket = hold(model, backend)
    waiting = model.connect()
    late = waiting.submit(image(1))
    closing = Thread(target=model.close)
    closing.start()
    gate.release()
    closing.join(WAIT_S)
    assert (first.wait(ticket) == 0).all(), "what was in flight is finished"
    with pytest.raises(BackendError, match="is closed: open it again"):
        waiting.wait(late)
    with pytest.raises(BackendError, match="is closed: open it again"):
        waiting.submit(image(2))
    model.close()
    assert backend.closed >= 1


def test_an_error_that_no_backend_should_raise_reaches_the_video_that_asked() -> None:
    backend = BatchBackend()

    def broken(ticket: Ticket) -> NDArray[np.uint8]:
        raise RuntimeError("not a BackendError")

    with shared(backend) as model, pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "_wait", broken)
        with pytest.raises(RuntimeError, match="not a BackendError"):
            model.connect().infer(image(1))
        patch.undo()
        assert (model.connect().infer(image(2)) == 2).all(), "the model goes on"


def test_a_model_with_a_state_is_not_shared() -> None:
    backend = BatchBackend()
    backend.recurrent = True
    with pytest.raises(ValueError, match="state of one video"):
        SharedModel(backend)
