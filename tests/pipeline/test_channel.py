from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread, current_thread

import pytest
from helpers.doubles import WAIT_S, await_event

from rtseg.pipeline.channel import Channel, ChannelEnded, NothingCame


def filling(channel: Channel[int], items: object, **options: object) -> Thread:
    thread = Thread(target=channel.fill, args=(items,), kwargs=options, daemon=True)
    thread.start()
    return thread


def join(thread: Thread) -> None:
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_every_item_is_delivered_once_and_in_order() -> None:
    channel: Channel[int] = Channel(3)
    thread = filling(channel, range(1000))
    assert list(channel) == list(range(1000))
    assert (channel.put_count, channel.dropped, len(channel)) == (1000, 0, 0)
    join(thread)


def test_a_writer_is_never_more_than_the_capacity_ahead() -> None:
    channel: Channel[int] = Channel(2)
    ahead: list[int] = []
    taken = 0

    def items() -> Iterator[int]:
        for number in range(50):
            ahead.append(number - taken)
            yield number

    thread = filling(channel, items())
    for _ in channel:
        taken += 1
    join(thread)
    # Two in the channel, one held by the writer, and one that the reader has not counted yet.
    assert max(ahead) <= 4


def test_a_full_channel_blocks_the_writer_until_an_item_is_taken() -> None:
    channel: Channel[str] = Channel(1)
    assert channel.put("first")
    put = Event()
    thread = Thread(target=lambda: (channel.put("second"), put.set()), daemon=True)
    thread.start()
    assert not put.wait(0.05)
    assert channel.get(WAIT_S) == "first"
    await_event(put)
    assert channel.get(WAIT_S) == "second"
    join(thread)


def test_a_full_channel_with_drop_oldest_drops_and_counts_the_oldest_item() -> None:
    channel: Channel[int] = Channel(2)
    for number in range(10):
        assert channel.put(number, drop_oldest=True)
    channel.end()
    assert list(channel) == [8, 9]
    assert (channel.put_count, channel.dropped) == (10, 8)


def test_drop_oldest_is_called_for_every_item() -> None:
    channel: Channel[int] = Channel(1)
    answers = iter([False, True, True])
    channel.fill(iter([0, 1, 2]), drop_oldest=lambda: next(answers))
    assert list(channel) == [2]
    assert channel.dropped == 2


def test_the_error_of_the_writer_is_raised_after_the_items_before_it() -> None:
    channel: Channel[int] = Channel(5)

    def items() -> Iterator[int]:
        yield from (0, 1, 2)
        raise OSError("the cable is out")

    channel.fill(items())
    got: list[int] = []
    with pytest.raises(OSError, match="the cable is out"):
        got.extend(channel)
    assert got == [0, 1, 2]


def test_an_error_of_iter_is_raised_in_the_reader() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("cannot open")

    channel: Channel[int] = Channel(1)
    thread = filling(channel, Broken())
    with pytest.raises(OSError, match="cannot open"):
        channel.get(WAIT_S)
    join(thread)


def test_an_error_of_close_is_raised_in_the_reader() -> None:
    class Items:
        def __iter__(self) -> Items:
            return self

        def __next__(self) -> int:
            raise StopIteration

        def close(self) -> None:
            raise OSError("cannot close")

    channel: Channel[int] = Channel(1)
    thread = filling(channel, Items())
    with pytest.raises(OSError, match="cannot close"):
        channel.get(WAIT_S)
    join(thread)


def test_a_generator_cleans_up_on_the_thread_that_ran_it() -> None:
    cleaned: list[Thread] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            cleaned.append(current_thread())

    channel: Channel[int] = Channel(1)
    thread = filling(channel, items())
    assert channel.get(WAIT_S) == 1
    channel.close()
    join(thread)
    assert cleaned == [thread]


def test_closing_wakes_a_waiting_writer_and_put_returns_false() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    answers: list[bool] = []
    thread = Thread(target=lambda: answers.append(channel.put(1)), daemon=True)
    thread.start()
    channel.close()
    join(thread)
    assert answers == [False]
    assert channel.put(2) is False
    assert channel.put(3, drop_oldest=True) is False


def test_closing_wakes_a_waiting_reader() -> None:
    channel: Channel[int] = Channel(1)
    read: list[list[int]] = []
    thread = Thread(target=lambda: read.append(list(channel)), daemon=True)
    thread.start()
    channel.close()
    join(thread)
    assert read == [[]]


def test_closing_discards_the_waiting_items_and_the_error() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.end(OSError("not of interest any more"))
    channel.close()
    with pytest.raises(ChannelEnded):
        channel.get()
    assert len(channel) == 0


def test_get_says_that_nothing_came() -> None:
    with pytest.raises(NothingCame, match=r"0\.01"):
        Channel[int](1).get(0.01)


def test_an_ended_channel_raises_on_every_get() -> None:
    channel: Channel[int] = Channel(1)
    channel.end()
    for _ in range(2):
        with pytest.raises(ChannelEnded):
            channel.get()


def test_a_capacity_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        Channel(0)
