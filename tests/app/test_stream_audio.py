"""What happens to the audio of a file in a whole run."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from helpers.audio_clips import tone_changes, write_audio_clip

from rtseg.app.options import StreamOptions
from rtseg.app.stream import StreamRun
from rtseg.app.terminal import run_to_the_end
from rtseg.cli import main
from rtseg.sources.options import SourceOptions

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio_clip(tmp_path_factory.mktemp("clips") / "clip.mkv", "libopus", length_s=3, change_s=2)


def audio_codecs(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams.audio]


def test_the_recording_has_the_audio_of_the_file_in_step(clip: Path, icnet_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    part = SourceOptions(start_s=1.0, duration_s=1.6)
    run = StreamRun(
        StreamOptions(source=str(clip), model=str(icnet_file), output=(str(output),), part=part, show=False)
    )
    assert run.run().frames_written == 40
    assert audio_codecs(output) == ["opus"]
    assert tone_changes(output) == pytest.approx([1.0], abs=0.025)


@pytest.mark.parametrize(("flags", "codecs"), [((), ["opus"]), (("--no-audio",), [])])
def test_the_command_copies_audio_unless_told_not_to(
    flags: tuple[str, ...], codecs: list[str], clip: Path, icnet_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    command = ["stream", str(clip), "--model", str(icnet_file), "--output", str(output), "--quiet", "--no-show"]
    assert main([*command, *flags]) == 0
    assert audio_codecs(output) == codecs


def test_audio_that_the_format_cannot_hold_is_reported_before_the_run(
    clip: Path, icnet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mov"
    assert (
        run_to_the_end(StreamOptions(source=str(clip), model=str(icnet_file), output=(str(output),), show=False)) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "has no audio" in line] == [
        f"video {output} has no audio: .mov cannot hold opus; write .mkv to keep it"
    ]
    assert audio_codecs(output) == []


def test_masks_without_a_video_leave_the_audio_alone(
    clip: Path, icnet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.sources.video.source.AudioReader", None)
    options = StreamOptions(source=str(clip), model=str(icnet_file), masks=tmp_path / "masks", show=False)
    assert StreamRun(options).run().frames_written == 75
