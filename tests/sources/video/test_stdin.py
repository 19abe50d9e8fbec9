from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clips import noise, write_clip

from rtseg.errors import OptionError
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions

READ = """
import sys
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
options = SourceOptions(raw=sys.argv[1] or None)
for frame in open_source("-", options):
    print(f"{frame.pts_s:.2f} {frame.image.shape} {frame.image.mean():.0f}")
"""


def read(data: bytes, raw: str = "") -> subprocess.CompletedProcess[bytes]:
    """Read ``data`` from standard input in a process of its own."""
    return subprocess.run([sys.executable, "-c", READ, raw], input=data, capture_output=True, timeout=60, check=False)


def test_a_container_is_read_from_standard_input(tmp_path: Path) -> None:
    done = read(write_clip(tmp_path / "a.ts", range(12)).read_bytes())
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [f"{number / 10:.2f}" for number in range(12)]


def test_raw_frames_are_read_from_standard_input() -> None:
    images = noise(5)
    done = read(b"".join(image.tobytes() for image in images), "bgr24:64x48@20")
    assert done.stdout.decode().splitlines() == [
        f"{number / 20:.2f} (48, 64, 3) {image.mean():.0f}" for number, image in enumerate(images)
    ]


def test_other_input_is_refused_with_what_to_do() -> None:
    done = read(b"hello")
    assert b"standard input is not a readable video" in done.stderr
    assert b"--raw bgr24:1280x720@30" in done.stderr


@pytest.mark.parametrize("raw", ["bgr24", "bgr24:4x4", "nothing:4x4@5", "bgr24:0.5x4@5"])
def test_a_malformed_description_of_raw_frames_is_refused(raw: str) -> None:
    with pytest.raises(OptionError, match="--raw"):
        open_source("-", SourceOptions(raw=raw))


def test_options_that_need_another_source_are_refused() -> None:
    with pytest.raises(OptionError, match="give - as the source"):
        open_source("a.mp4", SourceOptions(raw="bgr24:4x4@5"))
    with pytest.raises(OptionError, match="only once"):
        open_source("-", SourceOptions(loop=True))
