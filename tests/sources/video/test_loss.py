from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import Server, noise

from rtseg.errors import SourceError
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.sources.video import loss

MakeClip = Callable[..., Path]

FRAMES, GOP = 60, 10
PACKET = 188
"""Bytes of a packet of MPEG-TS."""


def lose(path: Path, numbers: list[int], packets: int = 3) -> None:
    """Remove ``packets`` packets of MPEG-TS around the end of each frame in ``numbers`` (in the order of decoding)."""
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    parts = [data[start : start + PACKET] for start in range(0, len(data), PACKET)]
    lost = {starts[number + 1] // PACKET - 1 - back for number in numbers for back in range(packets - 1)}
    lost |= {starts[number + 1] // PACKET for number in numbers}
    path.write_bytes(b"".join(part for place, part in enumerate(parts) if place not in lost))


def received(server: Server, path: Path, *, show: bool = False) -> tuple[list[Frame], Source]:
    options = SourceOptions(open_timeout_s=5, read_timeout_s=5, max_downtime_s=0, show_damaged=show)
    source = open_source(f"http://127.0.0.1:{server.server_port}/live/{path.name}", options)
    source.may_drop = False
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="disconnected"):
        frames.extend(source)
    assert source.live
    return frames, source


def visibly_wrong(frames: list[Frame], truth: list[Frame]) -> int:
    sent = {round(frame.pts_s, 3): frame.image for frame in truth}
    return sum(
        np.abs(frame.image.astype(int) - sent[round(frame.pts_s, 3)]).reshape(6, 8, 8, 8, 3).mean((1, 3)).max() > 8
        for frame in frames
    )


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("lost", [[13], [13, 31, 33], [19], [20], [12, 29, 40]])
def test_no_frame_from_a_loss_to_the_next_key_frame_is_delivered(
    server: Server, make_clip: MakeClip, codec: str, b_frames: str, lost: list[int]
) -> None:
    options = {"g": str(GOP), "bf": b_frames, "sc_threshold": "0"}
    path = make_clip("a.ts", range(FRAMES), rate=25, codec=codec, options=options, images=noise(FRAMES))
    truth = list(open_source(path))
    lose(path, lost)
    frames, source = received(server, path)
    assert visibly_wrong(frames, truth) == 0
    assert FRAMES - 2 * GOP * len(lost) <= len(frames) < FRAMES
    assert source.damaged > 0
    assert "data was lost on the way" in source.notice
    assert "--show-damaged shows them" in source.notice
    shown, showing = received(server, path, show=True)
    assert len(shown) > len(frames)
    assert showing.damaged == source.damaged
    assert "may be damaged and are shown" in showing.notice


def test_a_stream_without_loss_keeps_every_frame(server: Server, make_clip: MakeClip) -> None:
    path = make_clip("a.ts", range(FRAMES), rate=25, options={"g": str(GOP), "bf": "2"}, images=noise(FRAMES))
    frames, source = received(server, path)
    assert (len(frames), source.damaged) == (FRAMES, 0)
    assert "lost" not in source.notice


def test_a_stream_without_key_frames_is_trusted_again(
    server: Server, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(
        "a.ts", range(FRAMES), rate=25, options={"g": "999", "bf": "0", "sc_threshold": "0"}, images=noise(FRAMES)
    )
    lose(path, [13])
    assert len(received(server, path)[0]) < 20
    monkeypatch.setattr(loss, "_LONGEST_S", 0.0)
    assert len(received(server, path)[0]) > 50


def test_a_file_keeps_its_frames_after_damage(make_clip: MakeClip) -> None:
    path = make_clip("a.ts", range(FRAMES), rate=25, options={"g": str(GOP), "bf": "0"}, images=noise(FRAMES))
    lose(path, [13])
    assert len(list(open_source(path))) > FRAMES - 4
