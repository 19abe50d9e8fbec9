"""Viewers of a page without a browser, in a process of their own: they read all frames, or none.

    python benchmarks/_page_viewers.py ADDRESS READING STALLED

Ends when its standard input does. Prints ``READY`` once all are connected, and at the end one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time

from websockets.asyncio.client import ClientConnection, connect


async def watch_all(viewer: ClientConnection) -> None:
    """Ask for the frames of all sources."""
    hello = json.loads(await viewer.recv())
    await viewer.send(json.dumps({"type": "watch", "sources": [source["id"] for source in hello["sources"]]}))


async def read(address: str, counts: list[int], number: int, ready: asyncio.Event) -> None:
    """Watch and count the frames."""
    async with connect(address, compression=None, max_size=None) as viewer:
        await watch_all(viewer)
        async for message in viewer:
            if isinstance(message, bytes):
                counts[number] += 1
                ready.set()


async def stall(address: str) -> None:
    """Watch, and never read."""
    host, port = address.split("/")[2].split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.setblocking(False)
    viewer = await connect(address, sock=connection, compression=None, max_queue=1, ping_interval=None).__aenter__()
    await watch_all(viewer)
    viewer.transport.pause_reading()
    await asyncio.Event().wait()


async def main(address: str, reading: int, stalled: int) -> None:
    """Run until standard input ends."""
    counts, ready = [0] * reading, [asyncio.Event() for _ in range(reading)]
    loop, end = asyncio.get_running_loop(), asyncio.Event()

    def await_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(end.set)

    threading.Thread(target=await_end, daemon=True).start()
    viewers = [asyncio.create_task(stall(address)) for _ in range(stalled)]
    viewers += [asyncio.create_task(read(address, counts, number, ready[number])) for number in range(reading)]
    await asyncio.gather(*(each.wait() for each in ready))
    print("READY", flush=True)
    before, started_s = list(counts), time.monotonic()
    await end.wait()
    span_s = time.monotonic() - started_s
    print(json.dumps({"fps": [round((now - then) / span_s, 2) for now, then in zip(counts, before, strict=True)]}))
    for each in viewers:
        each.cancel()


if __name__ == "__main__":
    os.nice(19)  # real viewers have a machine of their own
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
