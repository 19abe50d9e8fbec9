from __future__ import annotations

import threading
from threading import Event as Flag

from rtseg.events.event import Event
from rtseg.events.outbox import Destination, Outbox, SendFailed

WAIT_S = 20.0


class Recorder(Destination):
    """Keeps the events; fails as often as told; blocks until ``gate`` is set."""

    name = "recorder"

    def __init__(self, failures: list[SendFailed] | None = None, gate: Flag | None = None, awaited: int = 1) -> None:
        self.rules: list[str] = []
        self.done, self.began = Flag(), Flag()
        self.closed = 0
        self.aborted = False
        self.opened_after = 0
        self._failures, self._gate, self._awaited = failures or [], gate, awaited

    def open(self) -> None:
        if self.opened_after:
            self.opened_after -= 1
            raise SendFailed("nobody is there")

    def send(self, event: Event) -> None:
        self.began.set()
        if self._gate is not None:
            assert self._gate.wait(WAIT_S)
            if self.aborted:
                raise SendFailed("aborted")
        if self._failures:
            raise self._failures.pop(0)
        self.rules.append(event.rule)
        if len(self.rules) >= self._awaited:
            self.done.set()

    def abort(self) -> None:
        self.aborted = True
        if self._gate is not None:
            self._gate.set()

    def close(self) -> None:
        self.closed += 1


def event(number: int) -> Event:
    return Event("start", "cam", "2026-01-02T03:04:05+00:00", rule=str(number))


def test_events_are_sent_in_order_and_closing_waits_for_them() -> None:
    recorder = Recorder()
    before = set(threading.enumerate())
    outbox = Outbox(recorder)
    for number in range(50):
        outbox.put(event(number))
    own = set(threading.enumerate()) - before
    outbox.close(WAIT_S)
    outbox.close(WAIT_S)
    assert recorder.rules == [str(number) for number in range(50)]
    assert (outbox.sent, outbox.dropped, recorder.closed) == (50, 0, 1)
    assert [thread.name for thread in own] == ["rtseg-events"]
    assert not own & set(threading.enumerate())


def test_a_failure_is_tried_again_and_said_once() -> None:
    recorder = Recorder([SendFailed("busy"), SendFailed("busy")])
    outbox = Outbox(recorder)
    outbox.put(event(1))
    assert recorder.done.wait(WAIT_S)
    outbox.close(WAIT_S)
    assert (recorder.rules, outbox.sent, outbox.dropped) == (["1"], 1, 0)
    assert outbox.notices == ["recorder: busy: trying again"]


def test_a_final_failure_drops_that_event_alone() -> None:
    recorder = Recorder([SendFailed("not found", final=True)])
    outbox = Outbox(recorder)
    outbox.put(event(1))
    outbox.put(event(2))
    outbox.close(WAIT_S)
    assert (recorder.rules, outbox.sent, outbox.dropped) == (["2"], 1, 1)


def test_a_destination_that_blocks_delays_nobody_and_the_oldest_events_are_dropped() -> None:
    gate = Flag()
    recorder = Recorder(gate=gate, awaited=256)
    outbox = Outbox(recorder)
    outbox.put(event(0))
    assert recorder.began.wait(WAIT_S)
    for number in range(1, 300):
        outbox.put(event(number))
    gate.set()
    outbox.close(WAIT_S)
    assert recorder.rules[-1] == "299"
    assert outbox.sent + outbox.dropped == 300
    assert outbox.dropped in (43, 44), "256 wait, and one of them may be on its way"


def test_closing_gives_up_a_destination_that_blocks() -> None:
    recorder = Recorder(gate=Flag())
    outbox = Outbox(recorder)
    outbox.put(event(1))
    outbox.put(event(2))
    assert recorder.began.wait(WAIT_S)
    outbox.close(0.1)
    assert (outbox.sent, outbox.dropped) == (0, 2)
    assert "2 events were not sent" in outbox.notices[-1]
    assert not any(thread.name == "rtseg-events" for thread in threading.enumerate())


def test_a_destination_that_cannot_be_opened_is_tried_again_and_does_not_delay_the_end() -> None:
    recorder = Recorder()
    recorder.opened_after = 10**6
    outbox = Outbox(recorder)
    outbox.put(event(1))
    outbox.close(0.1)
    assert (outbox.sent, outbox.dropped, recorder.closed) == (0, 1, 1)
