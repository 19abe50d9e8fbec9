"""Frames on their way to one viewer, who may be too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest import mock

import pytest

from rtseg.sinks.broadcast import Listener, LiveFrame
from rtseg.web.frame_hub import FrameHub
from rtseg.web.viewer_queue import ViewerQueue

TIMEOUT_S = 20


def frame(index: int, *, key: bool = False) -> LiveFrame:
    return LiveFrame(index, index / 25, 0.0, key, b"", (2, 2), b"", (2, 2))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    opened = asyncio.new_event_loop()
    yield opened
    opened.close()


class Reader:
    """A queue for the sources 0 and 1, and the one who reads it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self.loop = loop
        self.queue = ViewerQueue(capacity)
        for source in (0, 1):
            self.queue.start(source)

    def read(self, count: int) -> list[tuple[int, int]]:
        """Source and index of the next frames."""

        async def get() -> list[tuple[int, int]]:
            items = [await asyncio.wait_for(self.queue.get(), TIMEOUT_S) for _ in range(count)]
            return [(source, each.index) for source, each in items]

        return self.loop.run_until_complete(get())


def test_frames_before_the_first_key_frame_are_left_out(loop: asyncio.AbstractEventLoop) -> None:
    reader = Reader(loop, 3)
    queue = reader.queue
    for each in (frame(0), frame(1, key=True), frame(2)):
        queue.put(0, each)
    assert reader.read(2) == [(0, 1), (0, 2)]
    assert queue.dropped == 1


def test_a_viewer_who_falls_behind_goes_on_with_the_next_key_frame(loop: asyncio.AbstractEventLoop) -> None:
    reader = Reader(loop, 3)
    queue = reader.queue
    for index in range(8):
        queue.put(0, frame(index, key=index % 5 == 0))
    assert reader.read(3) == [(0, 5), (0, 6), (0, 7)]
    assert queue.dropped == 5


def test_a_full_queue_takes_a_key_frame_at_once(loop: asyncio.AbstractEventLoop) -> None:
    reader = Reader(loop, 3)
    queue = reader.queue
    for index in range(3):
        queue.put(0, frame(index, key=index == 0))
    queue.put(0, frame(3, key=True))
    assert reader.read(1) == [(0, 3)]


def test_falling_behind_with_one_source_loses_nothing_of_another(loop: asyncio.AbstractEventLoop) -> None:
    reader = Reader(loop, 2)
    queue = reader.queue
    queue.put(1, frame(100, key=True))
    for index in range(3):
        queue.put(0, frame(index, key=index == 0))
    queue.put(1, frame(101))
    assert reader.read(2) == [(1, 100), (1, 101)]


class FakeSource:
    """A source that is its own sink."""

    number = 0

    def __init__(self) -> None:
        self.sink = self
        self.listeners: list[Listener] = []
        self.keys_wanted = 0

    def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)
        self.keys_wanted += 1

    def remove_listener(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def want_key_frame(self) -> None:
        self.keys_wanted += 1


def test_a_waiting_reader_is_woken_from_another_thread(loop: asyncio.AbstractEventLoop) -> None:
    source, hub, queue = FakeSource(), FrameHub(loop), ViewerQueue(3)

    async def get_while_another_thread_puts() -> int:
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        hub.watch(source, queue)  # type: ignore[arg-type]
        await asyncio.to_thread(source.listeners[0], frame(7, key=True))
        return (await asyncio.wait_for(waiting, TIMEOUT_S))[1].index

    assert loop.run_until_complete(get_while_another_thread_puts()) == 7


def test_one_frame_wakes_all_viewers_at_once_until_they_leave(loop: asyncio.AbstractEventLoop) -> None:
    source, hub = FakeSource(), FrameHub(loop)
    queues = [ViewerQueue(3) for _ in range(4)]

    async def run() -> list[int]:
        for queue in queues:
            hub.watch(source, queue)  # type: ignore[arg-type]
        assert source.keys_wanted == 4  # each of them begins with a key frame
        (listener,) = source.listeners
        hub.leave(source, queues[3])  # type: ignore[arg-type]
        waiting = [asyncio.create_task(queue.get()) for queue in queues]
        await asyncio.sleep(0)
        with mock.patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as wake:
            listener(frame(7, key=True))
        assert wake.call_count == 1
        found = [(await asyncio.wait_for(each, TIMEOUT_S))[1].index for each in waiting[:3]]
        assert not waiting[3].done()
        waiting[3].cancel()
        return found

    assert loop.run_until_complete(run()) == [7, 7, 7]
    for queue in queues[:3]:
        hub.leave(source, queue)  # type: ignore[arg-type]
    assert source.listeners == []
