from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

from rtseg import SourceOptions, StreamOptions, StreamRun
from rtseg.pipeline.report import Status


def make_clip(path: Path, frames: int) -> Path:
    """Write a clip of 960x540, large enough that leaked frames show in the size of the process."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 960, 540, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((540, 960, 3), index % 255, np.uint8), "bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_memory_does_not_grow_while_a_looped_clip_is_recorded(tmp_path: Path) -> None:
    # The ten-minute version is benchmarks/memory.py.
    options = StreamOptions(
        source=str(make_clip(tmp_path / "clip.mp4", 60)),
        size=(64, 96),
        part=SourceOptions(loop=True, max_frames=900),
        output=(str(tmp_path / "out.mp4"),),
        show=False,
    )
    sizes: list[tuple[int, float]] = []
    run = StreamRun(options)

    def on_progress(status: Status) -> None:
        sizes.append((status.frames_written, psutil.Process().memory_info().rss / 1e6))

    report = run.run(on_progress)
    settled = [size for frames, size in sizes if frames >= 200]
    assert report.frames_written == 900
    assert len(settled) >= 2
    assert settled[-1] - settled[0] < 50
