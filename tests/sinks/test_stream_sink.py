"""Streams to real servers on loopback; every wait is bounded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import av
import numpy as np
import pytest

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame
from rtseg.sinks import open_sinks
from rtseg.sinks.options import RecordingOptions
from rtseg.sinks.stream import StreamSink

RECORDER = Path(__file__).parents[1] / "helpers" / "rtsp_recorder.py"
LABELS = np.zeros((48, 64), np.uint8)
WAIT_S = 40.0

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Recorder:
    """An RTSP server that accepts a stream, as a process."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(RECORDER), "--port", str(port), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])
        self.keys: list[bool] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.keys.append(line.split()[1] == "1")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.kill()


class Camera:
    """Writes images to a sink as a live source does, until it is stopped."""

    def __init__(self, sink: StreamSink, size: tuple[int, int] = (48, 64)) -> None:
        self.sink = sink
        self.size = size
        self.longest_s = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        index = 0
        while not self._stop.wait(0.02):
            image = np.full((*self.size, 3), 4 * index % 240, np.uint8)
            before_s = time.monotonic()
            self.sink.write(Frame(image, index, index / 50, before_s), LABELS, image)
            self.longest_s = max(self.longest_s, time.monotonic() - before_s)
            index += 1

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(10)


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.02)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_killed_server_gets_the_stream_again_from_a_keyframe_on(recorder: Recorder) -> None:
    sink = StreamSink(f"rtsp://user:geheim@127.0.0.1:{recorder.port}/live", live=True)
    with Camera(sink) as camera:
        wait_until(lambda: len(recorder.keys) > 5)
        recorder.kill()
        wait_until(lambda: "reconnecting" in sink.notice)
        again = Recorder(port=recorder.port)
        try:
            wait_until(lambda: len(again.keys) > 5)
        finally:
            sink.close()
            again.kill()
    assert recorder.keys[0]
    assert again.keys[0]
    assert sink.reconnects >= 1
    assert sink.dropped > 0
    assert camera.longest_s < 1.0
    assert f"{sink.dropped} of {sink.written} images were not sent" in sink.notice
    assert "geheim" not in sink.notice + sink.name


def test_a_server_that_stops_in_mid_stream_neither_holds_the_frames_nor_the_end(recorder: Recorder) -> None:
    sink = StreamSink(f"rtsp://127.0.0.1:{recorder.port}/live", RecordingOptions(crf=0), live=True)
    with Camera(sink) as camera:
        wait_until(lambda: len(recorder.keys) > 2)
        recorder.process.send_signal(signal.SIGSTOP)
        written = sink.written
        wait_until(lambda: sink.written > written + 20)
        before_s = time.monotonic()
        sink.close()
        assert time.monotonic() - before_s < 10.0
    assert camera.longest_s < 1.0
    recorder.process.send_signal(signal.SIGCONT)


def test_images_of_another_size_begin_a_new_connection(recorder: Recorder) -> None:
    sink = StreamSink(f"rtsp://127.0.0.1:{recorder.port}/live", live=True)
    with Camera(sink) as camera:
        wait_until(lambda: len(recorder.keys) > 2)
        camera.size = (64, 96)
        wait_until(lambda: sink.reconnects == 1)
        count = len(recorder.keys)
        wait_until(lambda: len(recorder.keys) > count + 2)
    sink.close()
    assert "reconnecting" not in sink.notice


def test_a_wrong_password_is_said_without_it() -> None:
    server = Recorder("--password", "right")
    sink = StreamSink(f"rtsp://127.0.0.1:{server.port}/live", live=True)
    with Camera(sink):
        wait_until(lambda: "401" in sink.notice or "nauthorized" in sink.notice)
    with pytest.raises(SinkError, match="was never reached"):
        sink.close()
    server.kill()


def test_a_server_that_is_not_there_is_tried_for_ever_and_reported_at_the_end() -> None:
    sink = StreamSink(f"rtsp://me:geheim@127.0.0.1:{free_port()}/live", live=True)
    with Camera(sink):
        wait_until(lambda: "reconnecting: Connection refused" in sink.notice)
    with pytest.raises(SinkError, match=r"stream rtsp://\*\*\*@127.*was never reached \(Connection refused\)"):
        sink.close()
    sink.close()
    assert sink.facts()["sent"] == 0


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_udp_delivers_the_images(codec: str) -> None:
    port = free_port(socket.SOCK_DGRAM)
    sink = StreamSink(f"udp://127.0.0.1:{port}", RecordingOptions(codec), live=True)
    images: list[np.ndarray] = []

    def receive() -> None:
        url = f"udp://127.0.0.1:{port}?timeout={int(WAIT_S * 1e6)}"
        with av.open(url, options={"analyzeduration": "300000"}) as container:
            for frame in container.decode(video=0):
                images.append(frame.to_ndarray(format="bgr24"))
                if len(images) == 12:
                    return

    receiver = Thread(target=receive, daemon=True)
    receiver.start()
    with Camera(sink):
        wait_until(lambda: not receiver.is_alive())
    sink.close()
    assert len(images) == 12
    assert images[0].shape == (48, 64, 3)
    levels = [float(image.mean()) for image in images]
    assert all(0 < after - before < 60 or after < before - 60 for before, after in pairwise(levels))


def test_rtmp_delivers_the_images_of_a_file_at_its_own_speed() -> None:
    port = free_port()
    received: list[float] = []
    listening = Event()

    def receive() -> None:
        listening.set()
        url = f"rtmp://127.0.0.1:{port}/app/key"
        with suppress(av.error.OSError), av.open(url, options={"listen": "1", "timeout": "30"}) as container:
            # FFmpeg's server ends with an error.
            received.extend(float(frame.time) for frame in container.decode(video=0))

    receiver = Thread(target=receive, daemon=True)
    receiver.start()
    listening.wait(10)
    wait_until(lambda: _listens(port))
    sink = StreamSink(f"rtmp://127.0.0.1:{port}/app/key")
    before_s = time.monotonic()
    for index in range(25):
        image = np.full((48, 64, 3), index, np.uint8)
        sink.write(Frame(image, index, index / 25, 0.0), LABELS, image)
    took_s = time.monotonic() - before_s
    sink.close()
    receiver.join(WAIT_S)
    assert took_s > 0.9
    assert len(received) >= 23
    assert np.allclose(np.diff(received), 0.04, atol=0.002)


def _listens(port: int) -> bool:
    """Whether a server listens; connecting would take the only connection of FFmpeg's."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def test_the_process_that_sends_ends_with_the_run_that_is_killed(recorder: Recorder) -> None:
    script = """
import os, sys, time
import numpy as np
from rtseg.frame import Frame
from rtseg.sinks.stream import StreamSink
image = np.zeros((48, 64, 3), np.uint8)
sink = StreamSink(sys.argv[1], live=True)
index = 0
while "connected" not in sink.notice:
    sink.write(Frame(image, index, index / 50, 0.0), image[..., 0], image)
    index += 1
    time.sleep(0.02)
print(sink._process._process.pid)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""
    url = f"rtsp://127.0.0.1:{recorder.port}/live"
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    child = int(done.stdout)
    wait_until(lambda: not _runs(child))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:1]
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("rtsp://me:geheim@/live", {}, r"--output rtsp://\*\*\*@/live names no host"),
        ("udp://127.0.0.1", {}, "names no host and port: write e.g. udp://"),
        ("rtsp://127.0.0.1/live", {"codec": "av1"}, "--codec av1 cannot be sent by rtsp: use h264 or hevc"),
        ("ftp://me:geheim@host/x", {}, r"--output ftp://\*\*\*@host/x: unknown scheme ftp://; known are rtsp://, "),
        ("rtsp://127.0.0.1:99999/live", {}, "is not a valid URL"),
    ],
)
def test_what_cannot_be_sent_is_refused(url: str, options: dict[str, str], said: str, tiny_spec: object) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        open_sinks(tiny_spec, outputs=[url], recording=RecordingOptions(**options))  # type: ignore[arg-type]
    assert "geheim" not in str(caught.value)


def test_srt_is_refused_where_pyav_lacks_it() -> None:
    try:
        av.open("srt://127.0.0.1:1", timeout=0.1)
    except av.error.ProtocolNotFoundError:
        with pytest.raises(SinkError, match="this PyAV was built without SRT: send rtsp://"):
            StreamSink("srt://127.0.0.1:5000")
    except av.error.FFmpegError:
        pytest.skip("this PyAV has SRT")


def test_pixels_that_are_not_square_are_sent_as_they_are(recorder: Recorder) -> None:
    sink = StreamSink(f"rtsp://127.0.0.1:{recorder.port}/live", live=True)
    image = np.zeros((48, 64, 3), np.uint8)
    for index in range(3):
        frame = Frame(image, index, index / 25, 0.0, pixel_aspect=Fraction(16, 11))
        sink.write(frame, LABELS, image[:, ::-1])
        wait_until(lambda wanted=index: len(recorder.keys) > wanted)
    sink.close()
