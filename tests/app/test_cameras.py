"""Files of cameras."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.app.cameras import CamerasError, load_cameras, name_cameras
from rtseg.app.options import StreamOptions
from rtseg.errors import OptionError

GOOD = """
[defaults]
model = "icnet-camvid"
view = "side"
output = "out"
only = "Car"
stride = 2

[camera.gate]
source = "demo:1"
propagate = 3
only = ["Road", "Car"]

[camera.yard]
source = "rtsp://me:hunter@192.0.2.7/live"
stride = 5
audio = false
output = "{name}-all.mkv"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("cameras.toml")


def faults_of(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(CamerasError) as caught:
        load_cameras(path)
    return [fault.removeprefix("cameras.toml:") for fault in caught.value.faults]


def test_a_camera_has_the_defaults_and_its_own_options(write: Path) -> None:
    write.write_text(GOOD)
    gate, yard = load_cameras(write)
    assert (gate.name, gate.options.source, gate.options.view) == ("gate", "demo:1", "side")
    assert gate.options.propagation.interval == 3
    assert (gate.options.only, yard.options.only) == (("Road", "Car"), ("Car",))
    assert (gate.options.part.stride, yard.options.part.stride) == (2, 5)
    assert (gate.options.output, yard.options.output) == (("out/gate.mp4",), ("yard-all.mkv",))
    assert (gate.options.audio, yard.options.audio) == (True, False)


def test_what_was_given_on_the_command_line_takes_precedence(write: Path) -> None:
    write.write_text(GOOD)
    gate, yard = load_cameras(write, StreamOptions(view="mask", alpha=0.9), {"view"})
    assert (gate.options.view, yard.options.view) == ("mask", "mask")
    assert gate.options.alpha == 0.5, "a default of the command line is no wish"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[defaults]\n\noutputt = 'x'\n[camera.a]\nsource='demo'", "3: there is no option 'outputt': did you mean"),
        ("[camera.a]\nsource='demo'\nmax_frames = 3", "3: there is no option 'max_frames': did you mean max-frames?"),
        ("[camera.a]\nsource='demo'\nstride = 0", "3: a: --stride must be in 1 .."),
        ("[camera.a]\nsource='demo'\nstride = 'x'", "3: stride must be a whole number, got 'x'"),
        ("[camera.a]\nsource='demo'\nsize = '5'", "3: --size must be HEIGHTxWIDTH in pixels"),
        ("[camera.a]\nsource='no.mp4'", "2: a: there is no file or folder no.mp4"),
        ("[defaults]\nmodel='no'\n[camera.a]\nsource='demo'", "2: a: "),
        ("[camera.a]\nview='side'", "1: a has no source"),
        ("\n[camera.'a/b']\nsource='demo'", "2: the name 'a/b' must be letters"),
        ("[defaults]\nsource='demo'\n[camera.a]\nsource='demo'", "2: each camera has a source of its own"),
        ("[camera.a]\nsource='demo'\nreport='x.json'", "3: report is not for single cameras"),
        ("[camera.a]\nsource='demo'\nmetrics='127.0.0.1:1'", "3: metrics is not for single cameras"),
        ("[cameras.a]\nsource='demo'", "1: there is no table 'cameras'"),
        ("[camera]\nsource='demo'", "1: name each camera"),
        ("camera = 3", "1: name each camera"),
        ("defaults = 3\n[camera.a]\nsource='demo'", "1: [defaults] must be a table"),
        ("", "1: there must be 1 to 256 cameras"),
        ("[camera.a]\nsource = ", "2: this is not TOML (invalid value)"),
        ("[camera.a]\nsource='demo'\n[camera.A]\nsource='demo'", "3: A and a would be one file"),
        (
            "[defaults]\noutput='x.mp4'\n[camera.a]\nsource='demo'",
            "3: a: --output x.mp4 would be written by every source",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write: Path, text: str, fault: str) -> None:
    assert faults_of(write, text)[0].startswith(fault)


def test_all_faults_are_found_at_once_in_the_order_of_the_file(write: Path) -> None:
    text = "[defaults]\nx = 1\n[camera.a]\nsource='no.mp4'\ny = 1\n[camera.b]\nview='none'"
    assert [fault.partition(":")[0] for fault in faults_of(write, text)] == ["2", "4", "5", "6"]


def test_two_cameras_that_write_one_file_are_refused(write: Path) -> None:
    text = (
        "[camera.a]\nsource='demo'\noutput='x/{name}.mp4'\n[camera.b]\nsource='demo'\noutput='x/a-{name}/../../x/a.mp4'"
    )
    own = "[camera.a]\nsource='demo'\noutput='x.mp4'\n[camera.b]\nsource='demo'\noutput='x.mp4'"
    (fault,) = faults_of(write, own)
    assert fault.startswith("4: --output of b x.mp4 is also --output of a")
    (fault,) = faults_of(write, text)
    assert fault.startswith("4: --output of b")


def test_no_fault_shows_a_password(write: Path) -> None:
    text = "[camera.a]\nsource='rtsp://me:hunter@192.0.2.7:99999/live'\nview=['rtsp://me:hunter@192.0.2.7/']"
    faults = faults_of(write, text)
    assert len(faults) == 2
    assert "hunter" not in "".join(faults)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80"])
def test_a_file_that_is_no_text_is_refused(write: Path, content: bytes) -> None:
    write.write_bytes(content)
    with pytest.raises(CamerasError):
        load_cameras(write)


def test_a_file_that_is_missing_is_named(write: Path) -> None:
    with pytest.raises(CamerasError, match=r"cameras.toml cannot be read \(No such file or directory\): give a .toml"):
        load_cameras(write)


class TestSourcesOfACommandLine:
    def test_each_has_a_name_of_its_own(self) -> None:
        cameras = name_cameras(
            ["demo:1", "demo:1", "rtsp://me:hunter@h/Live", "rtsp://h/live"], StreamOptions(masks=Path("m"))
        )
        assert [camera.name for camera in cameras] == ["demo", "demo-2", "h-Live", "h-live-2"]
        assert cameras[1].options.masks == Path("m/demo-2")
        assert [camera.options.source for camera in cameras][2] == "rtsp://me:hunter@h/Live"

    def test_one_alone_keeps_the_name_of_its_file(self) -> None:
        (camera,) = name_cameras(["demo:1"], StreamOptions(output=("x.mp4",)))
        assert camera.options.output == ("x.mp4",)

    def test_one_file_for_all_is_refused(self) -> None:
        with pytest.raises(OptionError, match="would be written by every source"):
            name_cameras(["demo:1", "demo:2"], StreamOptions(output=("x.mp4",)))
