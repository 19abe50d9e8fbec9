from __future__ import annotations

from threading import Event, Thread

from helpers.doubles import WAIT_S, FakeBackend, FakeSink, FakeSource, await_event

from rtseg.pipeline.runner import Pipeline
from rtseg.visualize.overlay import Overlay


class IdleSink(FakeSink):
    def __init__(self) -> None:
        super().__init__()
        self.idled = Event()

    def idle(self) -> None:
        if self.written == 3:
            self.idled.set()


def test_sinks_are_called_while_a_source_sends_nothing() -> None:
    sink, backend = IdleSink(), FakeBackend()
    with Pipeline(
        FakeSource(3, live=True, stalls=True), backend, [sink], Overlay(backend.spec), drop="never"
    ) as running:
        thread = Thread(target=running.run, daemon=True)
        thread.start()
        await_event(sink.idled)
        running.stop()
        thread.join(WAIT_S)
    assert not thread.is_alive()
