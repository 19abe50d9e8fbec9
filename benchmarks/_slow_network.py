"""A network of this machine with itself that delays packets, loses some, and can be cut off. Needs root on Linux.

    python _slow_network.py [--delay-ms 50] [--jitter-ms 10] [--loss 2]

A TUN device: what is sent to ``PEER`` comes back as sent by it, so a server that listens on all addresses is reached
there. It prints ``READY``. Lines on stdin: ``cut`` drops all packets, ``join`` no longer.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import itertools
import os
import random
import struct
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

PEER = "10.99.0.2"
_DEVICE = "rtseg-slow"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class SlowNetwork:
    """Runs this file as a process. Use it in ``with``.

    Args:
        delay_ms: of each packet, in either direction; a round trip takes twice as long.
        jitter_ms: by which this varies; packets stay in order.
        loss_percent: of the packets in either direction.
    """

    def __init__(self, delay_ms: float, jitter_ms: float, loss_percent: float) -> None:
        options = ("--delay-ms", delay_ms, "--jitter-ms", jitter_ms, "--loss", loss_percent)
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "READY\n":
            raise SystemExit("there is no TUN device: run it as root, with /dev/net/tun")

    def tell(self, line: str) -> None:
        """Send a command; see above."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


class _Wire:
    """Both directions: the packets on their way, by the time at which they arrive."""

    def __init__(self, device: int, options: argparse.Namespace) -> None:
        self._device, self._options = device, options
        self._on_the_way: list[tuple[float, int, bytes]] = []
        self._changed = threading.Condition()
        self._last_s: dict[bytes, float] = {}
        self.is_cut = False

    def take(self) -> None:
        """Take what is sent."""
        options, numbers = self._options, itertools.count()
        while True:
            packet = os.read(self._device, 65536)
            if packet[0] >> 4 != 4 or self.is_cut or random.random() < options.loss / 100:
                continue
            wait_s = max(0.0, options.delay_ms + random.uniform(-1, 1) * options.jitter_ms) / 1e3
            way = packet[20:24]  # the ports
            due_s = self._last_s[way] = max(time.monotonic() + wait_s, self._last_s.get(way, 0.0))
            swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]  # the checksums stay right
            with self._changed:
                heapq.heappush(self._on_the_way, (due_s, next(numbers), swapped))
                self._changed.notify()

    def deliver(self) -> None:
        """Deliver what is due."""
        while True:
            with self._changed:
                while not self._on_the_way or (left_s := self._on_the_way[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left_s if self._on_the_way else None)
                packet = heapq.heappop(self._on_the_way)[2]
            if not self.is_cut:
                os.write(self._device, packet)


def main() -> None:
    """Make the device, and obey the lines on stdin until it is closed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-ms", type=float, default=50.0)
    parser.add_argument("--jitter-ms", type=float, default=10.0)
    parser.add_argument("--loss", type=float, default=2.0)
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    subprocess.run(["ip", "address", "add", "10.99.0.1/24", "dev", _DEVICE], check=True)
    subprocess.run(["ip", "link", "set", _DEVICE, "up"], check=True)
    wire = _Wire(device, parser.parse_args())
    for work in (wire.take, wire.deliver):
        threading.Thread(target=work, daemon=True).start()
    print("READY", flush=True)
    for line in sys.stdin:
        wire.is_cut = line.strip() == "cut"


if __name__ == "__main__":
    main()
