"""A small RTSP server: H.264 over interleaved TCP, with sender reports. Run it as a process that can be stopped.

    python rtsp_server.py CLIP.h264 [--host 127.0.0.1] [--port 8554] [--fps 30] [--no-reports] [--clock-error SECONDS]

It prints ``READY PORT START``: frame ``n`` of the clip, which repeats, belongs to ``time.monotonic()`` START + n / fps.
Lines on stdin change what it sends: ``shift S`` moves the timestamps by S seconds, ``hold S`` sends nothing for S
seconds and then all of it at once, ``lose S`` leaves out S seconds.
"""

from __future__ import annotations

import argparse
import base64
import random
import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

MTU = 1400
CLOCK = 90_000
UNIX_TO_NTP = 2_208_988_800


def access_units(stream: bytes) -> list[list[bytes]]:
    """The NAL units of each frame of an Annex B stream."""
    units: list[list[bytes]] = []
    current: list[bytes] = []
    for nal in re.split(b"\0\0\0?\1", stream)[1:]:
        if nal[0] & 31 not in (1, 5):
            current.append(nal)
        elif nal[1] & 0x80:  # first_mb_in_slice is 0: a new frame
            units.append([*current, nal])
            current = []
        else:
            units[-1].append(nal)
    return units


class Stream:
    """The frames of a clip and the clock that they follow."""

    def __init__(self, clip: Path, fps: float, clock_error_s: float | None) -> None:
        self.units = access_units(clip.read_bytes())
        self.fps = fps
        self.clock_error_s = clock_error_s
        """Of the clock in the sender reports; None sends no reports."""
        self.start_s = time.monotonic()
        self.shift_s = self.hold_until_s = self.lose_until_s = 0.0

    def obey(self, line: str) -> None:
        """Change what is sent."""
        command, _, value = line.strip().partition(" ")
        if command == "shift":
            self.shift_s += float(value)
        elif command == "hold":
            self.hold_until_s = time.monotonic() + float(value)
        elif command == "lose":
            self.lose_until_s = time.monotonic() + float(value)

    def describe(self) -> str:
        """The SDP of the stream."""
        sets = [nal for nal in self.units[0] if nal[0] & 31 in (7, 8)]
        sprop = ",".join(base64.b64encode(nal).decode() for nal in sets)
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            f"a=rtpmap:96 H264/{CLOCK}\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={sprop}\r\n"
            "a=control:track1\r\n"
        )


class Connection:
    """One client."""

    def __init__(self, client: socket.socket, stream: Stream) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = client
        self.stream = stream
        self.sending = threading.Lock()
        self.sequence = random.randrange(1 << 16)
        self.offset = random.randrange(1 << 32)
        self.playing = threading.Event()
        self.closed = False

    def serve(self) -> None:
        """Answer requests until the client leaves."""
        try:
            with self.client, self.client.makefile("rb") as lines:
                while first := lines.readline():
                    if first[:1] == b"$":  # a receiver report: skip it
                        header = (first + lines.read(3))[:4]
                        left = struct.unpack(">H", header[2:])[0] - (len(first) - 4 if len(first) > 4 else 0)
                        lines.read(max(0, left))
                        continue
                    fields = {}
                    while line := lines.readline().strip():
                        name, _, value = line.decode().partition(":")
                        fields[name.lower()] = value.strip()
                    self.answer(first.decode("latin-1").split(), fields)
        except OSError:
            pass
        self.closed = True

    def answer(self, request: list[str], fields: dict[str, str]) -> None:
        """Answer one request."""
        if not request:
            return
        method, extra, body = request[0], "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
        elif method == "DESCRIBE":
            body = self.stream.describe()
            extra = f"Content-Type: application/sdp\r\nContent-Base: {request[1]}/\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n"
        elif method == "PLAY":
            extra = "Session: 1\r\nRange: npt=now-\r\n"
        answer = f"RTSP/1.0 200 OK\r\nCSeq: {fields.get('cseq', '0')}\r\n{extra}\r\n{body}".encode()
        with self.sending:
            self.client.sendall(answer)
        if method == "PLAY" and not self.playing.is_set():
            self.playing.set()
            threading.Thread(target=self.play, daemon=True).start()

    def play(self) -> None:
        """Send frames when they are due."""
        stream = self.stream
        index = int((time.monotonic() - stream.start_s) * stream.fps)
        report_s = 0.0
        try:
            while not self.closed:
                due_s = stream.start_s + index / stream.fps
                time.sleep(max(0.0, due_s - time.monotonic(), stream.hold_until_s - time.monotonic()))
                stamp_s = due_s + stream.shift_s
                if stream.clock_error_s is not None and time.monotonic() >= report_s:
                    self.report(due_s, stamp_s)
                    report_s = time.monotonic() + 1
                if time.monotonic() >= stream.lose_until_s:
                    self.send_frame(stream.units[index % len(stream.units)], stamp_s)
                index += 1
        except OSError:
            self.closed = True

    def stamp(self, stamp_s: float) -> int:
        return (self.offset + round(stamp_s * CLOCK)) % (1 << 32)

    def report(self, due_s: float, stamp_s: float) -> None:
        """An RTCP sender report: the wall clock that belongs to the timestamp of the next frame."""
        wall_s = time.time() - time.monotonic() + due_s + UNIX_TO_NTP + (self.stream.clock_error_s or 0.0)
        ntp = int(wall_s * (1 << 32))
        packet = struct.pack(">BBHIQIII", 0x80, 200, 6, 1, ntp, self.stamp(stamp_s), 0, 0)
        self.send(1, packet)

    def send_frame(self, nals: list[bytes], stamp_s: float) -> None:
        for place, nal in enumerate(nals):
            last_nal = place == len(nals) - 1
            if len(nal) <= MTU:
                self.send_rtp(nal, stamp_s, marker=last_nal)
                continue
            parts = [nal[at : at + MTU] for at in range(1, len(nal), MTU)]  # FU-A, RFC 6184, section 5.8
            for number, part in enumerate(parts):
                flags = (0x80 if number == 0 else 0) | (0x40 if number == len(parts) - 1 else 0)
                header = bytes([nal[0] & 0xE0 | 28, flags | nal[0] & 31])
                self.send_rtp(header + part, stamp_s, marker=last_nal and number == len(parts) - 1)

    def send_rtp(self, payload: bytes, stamp_s: float, *, marker: bool) -> None:
        header = struct.pack(">BBHII", 0x80, 96 | marker << 7, self.sequence, self.stamp(stamp_s), 1)
        self.sequence = (self.sequence + 1) % (1 << 16)
        self.send(0, header + payload)

    def send(self, channel: int, packet: bytes) -> None:
        with self.sending:
            self.client.sendall(struct.pack(">cBH", b"$", channel, len(packet)) + packet)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clip", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--no-reports", action="store_true")
    parser.add_argument("--clock-error", type=float, default=0.0)
    options = parser.parse_args()
    stream = Stream(options.clip, options.fps, None if options.no_reports else options.clock_error)
    with socket.create_server((options.host, options.port)) as listener:
        print("READY", listener.getsockname()[1], stream.start_s, flush=True)

        def accept() -> None:
            while True:
                client, _ = listener.accept()
                threading.Thread(target=Connection(client, stream).serve, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        for line in sys.stdin:
            stream.obey(line)
        threading.Event().wait()


if __name__ == "__main__":
    main()
