"""What a viewer gets over the WebSocket."""

from __future__ import annotations

import time
from itertools import pairwise

import av
import av.codec
import numpy as np
import pytest
from helpers.pages import LEFT, RIGHT, SIZE, TIMEOUT_S, Viewer
from websockets.exceptions import ConnectionClosed


def test_the_first_frame_is_a_key_frame_and_the_labels_are_those_of_the_image(page: str) -> None:
    with Viewer(page, "0") as viewer:
        frame = viewer.frame()
    expected = np.full(SIZE, LEFT, np.uint8)
    expected[:, SIZE[1] // 2 :] = RIGHT
    assert frame.is_key
    assert frame.size == SIZE
    np.testing.assert_array_equal(frame.labels, expected)


def test_each_chunk_is_decoded_alone_to_the_image_without_labels(page: str) -> None:
    decoder = av.codec.CodecContext.create("h264", "r")
    decoder.flags |= av.codec.context.Flags.low_delay
    decoder.thread_count = 1
    with Viewer(page, "0") as viewer:
        chunks = [viewer.frame().chunk for _ in range(5)]
    images = [image for chunk in chunks for image in decoder.decode(av.Packet(chunk))]
    assert len(images) >= 4  # this decoder keeps one frame back until the next access unit
    blue = images[-1].to_ndarray(format="bgr24")[:, :, 0].astype(int)
    assert abs(blue[30, 20] - LEFT) < 12
    assert abs(blue[30, 60] - RIGHT) < 12


def test_indices_rise_and_no_frame_is_a_second_after_its_key_frame(page: str) -> None:
    with Viewer(page, "0") as viewer:
        frames = [viewer.frame() for _ in range(40)]
    assert all(after.index > before.index for before, after in pairwise(frames))
    key_pts_s = frames[0].pts_s
    for frame in frames:
        key_pts_s = frame.pts_s if frame.is_key else key_pts_s
        assert frame.pts_s - key_pts_s < 1.0
    assert sum(frame.is_key for frame in frames) >= 2


def test_the_capture_time_is_that_of_the_wall_clock(page: str) -> None:
    with Viewer(page, "0") as viewer:
        captured_ms = viewer.frame().captured_ms
        age_ms = 1e3 * time.time() - captured_ms
    assert 0 < age_ms < 1e3 * TIMEOUT_S


def test_hello_names_the_classes_and_status_their_shares(page: str) -> None:
    with Viewer(page, "0") as viewer:
        (source,) = viewer.text("hello")["sources"]
        viewer.frame()
        while not (status := viewer.text("status")["sources"][0]).get("frames"):
            pass
    assert source["classes"][LEFT] == {"id": LEFT, "name": f"class {LEFT}", "color": "#14eb07"}
    assert status["shares"][LEFT] == status["shares"][RIGHT] == 0.5
    assert status["state"] == "playing"


def test_pong_returns_what_ping_sent_with_the_time_of_the_server(page: str) -> None:
    with Viewer(page) as viewer:
        viewer.send({"type": "ping", "sent": 12.5})
        answer = viewer.text("pong")
    assert answer["sent"] == 12.5
    assert abs(answer["server_ms"] - 1e3 * time.time()) < 1e3 * TIMEOUT_S


def test_a_viewer_gets_no_frames_of_sources_that_he_does_not_watch(page: str) -> None:
    with Viewer(page, "nothing") as viewer:
        viewer.send({"type": "watch", "sources": ["0"]})
        viewer.frame()
        viewer.send({"type": "watch", "sources": []})
        viewer.send({"type": "ping", "sent": 1})
        viewer.text("pong")
        messages = []
        while len(messages) < 2:  # two statuses: a second without a frame, but for those on their way
            message = viewer.socket.recv(TIMEOUT_S)
            messages.append(message) if isinstance(message, str) else messages.clear()
    assert len(messages) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sources": 3}', '"' + 5000 * "x" + '"', "[" * 4000])
def test_a_viewer_who_sends_nonsense_is_dismissed(page: str, text: str) -> None:
    with Viewer(page) as viewer:
        viewer.socket.send(text)
        with pytest.raises(ConnectionClosed):
            viewer.until_closed()
