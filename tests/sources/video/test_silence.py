"""A connection that stays silent after its server was away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from threading import enumerate as living_threads

import pytest

from rtseg.sources.read_thread import NothingRead, ReadThread
from rtseg.sources.video import silence
from rtseg.sources.video.silence import SilenceWatch

LONG_S = 60.0
"""Nobody waits for so long."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_QUIET_S", "_EVERY_S", "_GRACE_S", "_LOOK_S"):
        monkeypatch.setattr(silence, name, 0.01)
    yield
    for thread in living_threads():
        if thread.name == "rtseg-silence":
            thread.join(20)
            assert not thread.is_alive()


class Connection:
    """One item, which comes when ``resumed`` is set."""

    def __init__(self) -> None:
        self.resumed = Event()
        self.reader = ReadThread(self._items, name="test-reader", capacity=9)

    def _items(self, closing: Event) -> Iterator[str]:
        assert self.resumed.wait(20), "the test never resumed it"
        yield "item"

    def close(self) -> None:
        self.resumed.set()
        self.reader.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    opened = Connection()
    yield opened
    opened.close()


def test_a_server_that_was_away_and_is_back_ends_the_wait(connection: Connection) -> None:
    answers = iter([False, False, True])
    began_s = time.monotonic()
    watch = SilenceWatch(lambda: next(answers))
    with pytest.raises(NothingRead):
        watch.get(connection.reader, LONG_S, 0.001)
    assert watch.is_back
    assert time.monotonic() - began_s < LONG_S / 2, "it was the timeout"
    assert next(answers, None) is None, "it was not asked"


@pytest.mark.parametrize("answer", [True, None])
def test_a_server_that_was_never_away_may_be_silent(connection: Connection, answer: bool | None) -> None:
    asked = Event()

    def probe() -> bool | None:
        asked.set()
        return answer

    watch = SilenceWatch(probe)
    with pytest.raises(NothingRead):
        watch.get(connection.reader, 0.2, 0.001)
    assert asked.is_set()
    assert not watch.is_back
    connection.resumed.set()
    assert watch.get(connection.reader, LONG_S, 0.001) == "item"


def test_a_connection_that_goes_on_by_itself_is_kept(connection: Connection) -> None:
    def probe() -> bool:
        connection.resumed.set()
        return False

    assert SilenceWatch(probe).get(connection.reader, LONG_S, 0.001) == "item"


@pytest.mark.parametrize("step_s", [None, 10.0])
def test_pauses_that_are_usual_are_not_watched(connection: Connection, step_s: float | None) -> None:
    asked: list[None] = []
    with pytest.raises(NothingRead):
        SilenceWatch(lambda: asked.append(None)).get(connection.reader, 0.1, step_s)
    assert not asked
