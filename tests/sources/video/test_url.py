from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.clips import Server, noise

from rtseg.errors import OptionError, SourceDenied, SourceError, SourceNotFound
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions

MakeClip = Callable[..., Path]

QUICK = SourceOptions(open_timeout_s=0.5, read_timeout_s=0.5, max_downtime_s=0)
PASSWORD = "s.3%40cret"


def url(server: Server, path: str, user: str = "") -> str:
    return f"http://{user}127.0.0.1:{server.server_port}/{path}"


def failure_of(source: Source) -> SourceError:
    """The error that ends ``source``. It must come within three seconds."""
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        list(source)
    assert time.monotonic() - began < 3
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_file_on_a_server_is_read_like_one_on_disk(server: Server, make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", range(12), options={"bf": "2"})
    source = open_source(url(server, "good/a.mp4"), QUICK)
    frames = list(source)
    local = list(open_source(path))
    assert [f.pts_s for f in frames] == [f.pts_s for f in local]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, local, strict=True))
    assert not source.live


def test_a_file_on_a_server_can_be_read_from_a_start_time(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.mp4", range(40), options={"g": "10"})
    frames = list(open_source(url(server, "good/a.mp4"), SourceOptions(start_s=2.5)))
    assert [f.pts_s for f in frames] == pytest.approx([i / 10 for i in range(25, 40)])


def test_a_stream_without_length_is_live_and_its_end_is_a_disconnection(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.ts", range(12))
    source = open_source(url(server, "live/a.ts"), QUICK)
    seen = []
    with pytest.raises(SourceError, match="disconnected"):
        seen.extend(source)
    assert source.live


def test_the_frames_before_a_disconnection_are_delivered_first(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.ts", range(12), options={"bf": "2"})
    source = open_source(url(server, "live/a.ts"), QUICK)
    source.may_drop = False
    frames = iter(source)
    assert [next(frames).index for _ in range(12)] == list(range(12))
    with pytest.raises(SourceError, match="disconnected"):
        next(frames)


def _send_slowly(listener: socket.socket, parts: list[bytes], every_s: float) -> None:
    connection, _ = listener.accept()
    with connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(every_s)


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_live_video_without_timestamps_is_stamped_by_its_arrival(codec: str, make_clip: MakeClip) -> None:
    name, options = ("a.mjpeg", {"strict": "unofficial"}) if codec == "mjpeg" else ("a.h264", {"tune": "zerolatency"})
    data = make_clip(name, range(12), codec=codec, rate=50, images=noise(12), options=options).read_bytes()
    start = b"\xff\xd8" if codec == "mjpeg" else b"\0\0\0\1\x41"
    first, *rest = data.split(start)
    parts = [first, *(start + part for part in rest)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = threading.Thread(target=_send_slowly, args=(listener, parts, 0.1), name="sender")
        sender.start()
        source = open_source(
            f"tcp://127.0.0.1:{listener.getsockname()[1]}", SourceOptions(read_timeout_s=2, max_downtime_s=0)
        )
        source.may_drop = False
        frames: list[Frame] = []
        with pytest.raises(SourceError):
            frames.extend(source)
        sender.join(5)
    times = [frame.pts_s for frame in frames]
    assert len(times) >= 11
    assert times == sorted(times)
    # FFmpeg assumes 25 per second, which would be 0.44 s; the stream itself says 50.
    assert times[0] == 0.0
    assert times[-1] > 0.8
    assert "frames per second are assumed" not in source.notice


@pytest.mark.parametrize("boundary", ["frame", "--myboundary", "a=b c"])
def test_mjpeg_in_parts_is_read_with_any_boundary(boundary: str, server: Server, tmp_path: Path) -> None:
    parts = b"".join(
        f"--{boundary}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
        + cv2.imencode(".jpg", image)[1].tobytes()
        + b"\r\n"
        for image in noise(6)
    )
    (tmp_path / "camera.mjpg").write_bytes(parts)
    source = open_source(url(server, "live/camera.mjpg"), QUICK)
    source.may_drop = False
    seen: list[Frame] = []
    with pytest.raises(SourceError, match="disconnected"):
        seen.extend(source)
    assert len(seen) >= 5
    assert source.live


def test_fps_of_live_video_is_refused() -> None:
    with pytest.raises(OptionError, match="frame rate of its own"):
        open_source("rtsp://127.0.0.1/a", SourceOptions(fps=5))


def test_fps_gives_the_rate_of_a_raw_file_on_a_server(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.h264", range(6))
    frames = list(open_source(url(server, "good/a.h264"), SourceOptions(fps=2)))
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 2 for index in range(6)])
    make_clip("a.mp4")
    with pytest.raises(OptionError, match="frame rate of its own"):
        list(open_source(url(server, "good/a.mp4"), SourceOptions(fps=2)))


@pytest.mark.parametrize("query", ["", "?user=me&pwd=hunter2"])
def test_the_address_of_one_image_gives_one_frame(query: str, server: Server, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6, 3), 7, np.uint8))
    (frame,) = open_source(url(server, f"good/a.png{query}"))
    assert frame.image.shape == (4, 6, 3)
    assert frame.name == "a.png"


def test_an_image_without_a_suffix_is_named_as_such(server: Server, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "snapshot")
    error = failure_of(open_source(url(server, "good/snapshot"), QUICK))
    assert "is an image (PNG), not a video" in str(error)
    assert "playlist" not in str(error)


def test_a_server_that_stops_sending_is_an_error_after_the_frames(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.ts", range(200), images=noise(200), options={"g": "10"})
    source = open_source(url(server, "stalls/a.ts"), QUICK)
    seen: list[Frame] = []
    with pytest.raises(SourceError, match=r"no frame for 0\.5 s"):
        seen.extend(source)
    assert len(seen) > 20


def test_a_server_that_disconnects_early_is_an_error(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.mp4", range(200), images=noise(200), container_options={"movflags": "faststart"})
    source = open_source(url(server, "breaks/a.mp4"), QUICK)
    seen: list[Frame] = []
    with pytest.raises(SourceError, match="disconnected"):
        seen.extend(source)
    assert len(seen) > 20


def test_a_server_that_never_answers_is_an_error_within_the_timeout(server: Server) -> None:
    assert "no video within 0.5 s" in str(failure_of(open_source(url(server, "silent/a.mp4"), QUICK)))


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp", "tcp"])
def test_a_server_that_ignores_requests_is_an_error_within_the_timeout(scheme: str, deaf: int) -> None:
    error = failure_of(open_source(f"{scheme}://127.0.0.1:{deaf}/a", QUICK))
    assert "no video within 0.5 s" in str(error)


def test_a_udp_port_without_data_is_an_error_within_the_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no video within" in str(failure_of(open_source(f"udp://127.0.0.1:{port}", QUICK)))


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp", "tcp"])
def test_a_closed_port_is_an_immediate_error(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure_of(open_source(f"{scheme}://127.0.0.1:{port}/a"))
    assert "refuses the connection" in str(error) or scheme == "rtmp"


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("404/a.mp4", SourceNotFound, "does not exist"),
        ("401/a.mp4", SourceDenied, "check user name and password"),
        ("500/a.mp4", SourceError, "cannot be opened"),
    ],
)
def test_http_errors_become_sentences(path: str, kind: type[SourceError], text: str, server: Server) -> None:
    error = failure_of(open_source(url(server, path), QUICK))
    assert type(error) is kind
    assert text in str(error)


def test_an_unknown_host_is_named() -> None:
    error = failure_of(open_source("rtsp://no.such.host.invalid/a", QUICK))
    assert "there is no host no.such.host.invalid" in str(error)


def test_a_playlist_from_a_server_loads_nothing_unless_allowed(
    server: Server, make_clip: MakeClip, tmp_path: Path
) -> None:
    make_clip("a.ts")
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    (tmp_path / "list.m3u8").write_text(f"{head}a.ts\n#EXT-X-ENDLIST\n")
    error = failure_of(open_source(url(server, "good/list.m3u8"), QUICK))
    assert "playlist" in str(error)
    assert "/good/a.ts" not in server.requests
    allowed = SourceOptions(open_timeout_s=2, read_timeout_s=2, max_downtime_s=0, allow_playlists=True)
    assert len(list(open_source(url(server, "good/list.m3u8"), allowed))) == 10


def test_a_playlist_without_an_end_is_live_and_keeps_all_frames(
    server: Server, make_clip: MakeClip, tmp_path: Path
) -> None:
    make_clip("a.ts", range(60), rate=30)
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    (tmp_path / "list.m3u8").write_text(f"{head}a.ts\n")
    options = SourceOptions(allow_playlists=True, max_frames=10)
    source = open_source(url(server, "good/list.m3u8"), options)
    assert [frame.index for frame in source] == list(range(10))
    assert source.live
    assert source.dropped == 0


def test_a_playlist_from_a_server_never_reads_local_files(server: Server, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("a.ts")
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    (tmp_path / "list.m3u8").write_text(f"{head}file://{clip}\n#EXT-X-ENDLIST\n")
    allowed = SourceOptions(open_timeout_s=1, read_timeout_s=1, max_downtime_s=0, allow_playlists=True)
    failure_of(open_source(url(server, "good/list.m3u8"), allowed))


@pytest.mark.parametrize("path", ["silent/a.mp4", "404/a.mp4", "401/a.mp4", "stalls/a.ts", "live/a.ts"])
def test_a_password_appears_neither_in_the_error_nor_in_its_causes(
    path: str, server: Server, make_clip: MakeClip
) -> None:
    make_clip("a.ts", range(60))
    source = open_source(url(server, f"{path}?pwd=hunter2", user=f"al.ice:{PASSWORD}@"), QUICK)
    error = failure_of(source)
    shown = "".join(traceback.format_exception(error)) + repr(error) + source.name + repr(source)
    context: BaseException | None = error
    while context is not None:
        shown += repr(context)
        context = context.__context__
    for secret in (PASSWORD, "s.3@cret", "al.ice", "hunter2"):
        assert secret not in shown


def test_stop_ends_a_stream_without_data_within_the_timeout(server: Server, make_clip: MakeClip) -> None:
    make_clip("a.ts", range(200))
    source = open_source(url(server, "stalls/a.ts"), QUICK)
    seen: list[int] = []
    errors: list[SourceError] = []

    def read() -> None:
        try:
            seen.extend(frame.index for frame in source)
        except SourceError as error:
            errors.append(error)

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    source.stop()
    reader.join(3)
    assert not reader.is_alive()
    assert not errors


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("rtsp://user:pw@10.0.0.5:554/live/ch1", "10.0.0.5-ch1"),
        ("rtsp://user:p@w@cam.lan/", "cam.lan"),
        ("http://[::1]:80/a b/c.mp4?token=x", "1-c.mp4"),
        ("udp://@:5004", "udp-5004"),
        ("http://h/" + "x" * 300, "h-" + "x" * 78),
    ],
)
def test_the_name_is_host_and_last_part_of_the_path(where: str, name: str) -> None:
    source = open_source(where)
    assert source.name == name
    assert not set(source.name) & set("/\\:@?*\"'<>| ")
