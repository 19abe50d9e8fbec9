"""The same video as a WebRTC stream of aiortc, which encodes for every viewer. For ``page.py``; needs aiortc, aiohttp.

    python benchmarks/_webrtc_server.py OPTIONS.json

Prints ``READY PORT``. Each image bears its number in 16 squares along its upper edge; ``/captured`` maps them to times.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from aiohttp import web
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from rtseg.app.options import StreamOptions
from rtseg.app.stream import StreamRun
from rtseg.frame import Frame, Image, Labels
from rtseg.pipeline.options import PropagationOptions
from rtseg.sinks.base import Sink
from rtseg.sources.options import SourceOptions

SQUARE = 16
PAGE = """<video autoplay muted playsinline></video><script type="module">
const connection = new RTCPeerConnection();
connection.addTransceiver("video", {direction: "recvonly"});
const video = document.querySelector("video");
connection.ontrack = ({streams}) => { video.srcObject = streams[0]; };
await connection.setLocalDescription(await connection.createOffer());
const {type, sdp} = connection.localDescription;
const answer = await fetch("/offer", {method: "POST", body: JSON.stringify({type, sdp})});
await connection.setRemoteDescription(await answer.json());
const canvas = new OffscreenCanvas(256, 16);
const context = canvas.getContext("2d", {willReadFrequently: true});
window.seen = [];
const look = () => {
  context.drawImage(video, 0, 0, 256, 16, 0, 0, 256, 16);
  const pixels = context.getImageData(0, 8, 256, 1).data;
  let number = 0;
  for (let bit = 0; bit < 16; bit += 1) number |= (pixels[4 * (16 * bit + 8)] > 127) << bit;
  window.seen.push([number, performance.timeOrigin + performance.now()]);
  video.requestVideoFrameCallback(look);
};
video.requestVideoFrameCallback(look);
</script>"""


class Newest(Sink):
    """Keeps the newest image, with its number drawn on it."""

    kind, name = "webrtc", "webrtc"

    def __init__(self) -> None:
        self.image: tuple[int, Image] | None = None
        self.captured_ms: dict[int, float] = {}

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Take the image."""
        assert rendered is not None
        image, number = rendered.copy(), frame.index & 0xFFFF
        for bit in range(16):
            image[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 * (number >> bit & 1)
        self.captured_ms[number] = 1e3 * (time.time() - time.monotonic() + frame.captured_s)
        self.image = frame.index, image

    def close(self) -> None:
        """Nothing is open."""


class Track(MediaStreamTrack):
    """One viewer's video: each new image once."""

    kind = "video"

    def __init__(self, newest: Newest) -> None:
        super().__init__()
        self._newest, self._last = newest, -1

    async def recv(self) -> av.VideoFrame:
        """The next image."""
        while (found := self._newest.image) is None or found[0] == self._last:
            await asyncio.sleep(0.002)
        self._last, image = found
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "bgr24")
        frame.pts, frame.time_base = round(90_000 * time.monotonic()), Fraction(1, 90_000)
        return frame


async def serve(newest: Newest) -> None:
    """Serve until the process is ended."""
    connections: set[RTCPeerConnection] = set()

    async def offer(request: web.Request) -> web.Response:
        values = json.loads(await request.text())
        connection = RTCPeerConnection()
        connections.add(connection)
        connection.addTrack(Track(newest))
        await connection.setRemoteDescription(RTCSessionDescription(values["sdp"], values["type"]))
        await connection.setLocalDescription(await connection.createAnswer())
        local = connection.localDescription
        return web.json_response({"type": local.type, "sdp": local.sdp})

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def captured(request: web.Request) -> web.Response:
        return web.json_response(newest.captured_ms)

    app = web.Application()
    app.add_routes([web.post("/offer", offer), web.get("/", page), web.get("/captured", captured)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("READY", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Start the run and serve it."""
    values = json.loads(Path(sys.argv[1]).read_text())
    options = StreamOptions(
        values["source"],
        model=values["model"],
        backend="openvino",
        show=False,
        drop="always",
        part=SourceOptions(loop=True),
        propagation=PropagationOptions("off"),
    )
    newest = Newest()
    run = StreamRun(options, more_sinks=[newest])
    threading.Thread(target=run.run, daemon=True).start()
    asyncio.run(serve(newest))


if __name__ == "__main__":
    main()
