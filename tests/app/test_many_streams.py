"""Several sources at once, with one model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import write_clip
from helpers.doubles import FakeSource, blue_graph, wide_spec
from onnx import helper, numpy_helper

from rtseg.app import stream
from rtseg.app.cameras import Camera
from rtseg.app.many_streams import ManyStreams
from rtseg.app.options import StreamOptions
from rtseg.backends import openvino
from rtseg.cli import main
from rtseg.errors import OptionError, SinkError, SourceError
from rtseg.model_file.spec import write_spec

WAIT_S = 60.0
SIZE = (4, 6)

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose class of a pixel is half its blue value."""
    graph = blue_graph()
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    graph.graph.node[-1].input[0] = "low"
    graph.graph.node.insert(3, helper.make_node("Mul", ["plane", "half"], ["low"]))
    write_spec(graph, wide_spec(SIZE))
    path = tmp_path_factory.mktemp("model") / "blue.onnx"
    path.write_bytes(graph.SerializeToString())
    return str(path)


@pytest.fixture
def options(model: str) -> StreamOptions:
    return StreamOptions("demo:0.2@96x64", model=model, output=("null",), show=False)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeSource]:
    """Sources by their names, in place of those of ``open_source``."""
    found: dict[str, FakeSource] = {}
    monkeypatch.setattr(stream, "open_source", lambda where, part: found[where])
    return found


def frames_of(many: ManyStreams) -> dict[str, int]:
    return {status.name: status.status.frames_written for status in many.status()}


def test_every_source_is_written_and_reported_by_one_model(options: StreamOptions) -> None:
    cameras = [
        Camera("a", replace(options, output=("a.mp4",))),
        Camera("b", replace(options, stats=Path("b.jsonl"))),
    ]
    with ManyStreams(cameras, report=Path("all.json")) as many:
        assert many.wait(WAIT_S)
    report = json.loads(Path("all.json").read_text())
    assert {name: each["frames_written"] for name, each in report["sources"].items()} == {"a": 5, "b": 5}
    (shared,) = report["models"]
    assert shared["images"] == 10
    assert Path("a.mp4").stat().st_size > 0
    assert len(Path("b.jsonl").read_text().splitlines()) == 5
    assert [status.state for status in many.status()] == ["ended: end of source"] * 2


def test_sources_with_other_models_do_not_share(options: StreamOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    init = openvino.OpenVinoBackend.__init__

    def count(self: openvino.OpenVinoBackend, *arguments: object) -> None:
        opened.append(arguments[0])
        init(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(openvino.OpenVinoBackend, "__init__", count)
    cameras = [Camera("a", options), Camera("b", options), Camera("c", replace(options, precision="fp32"))]
    with ManyStreams(cameras) as many:
        assert many.wait(WAIT_S)
    assert len(opened) == 2
    assert sorted(each["images"] for each in many.report()["models"]) == [5, 10]


def test_a_sequence_model_is_opened_for_each_source(options: StreamOptions, sequence_file: Path) -> None:
    each = replace(options, model=str(sequence_file))
    with ManyStreams([Camera("a", each), Camera("b", each)]) as many:
        assert many.wait(WAIT_S)
    assert frames_of(many) == {"a": 5, "b": 5}
    assert many.report()["models"] == []


def test_a_source_that_fails_ends_alone(options: StreamOptions, sources: dict[str, FakeSource]) -> None:
    sources |= {"bad": FakeSource(2, error=SourceError("it broke")), "good": FakeSource(40)}
    with ManyStreams([Camera(name, replace(options, source=name)) for name in sources]) as many:
        assert many.wait(WAIT_S)
    bad, good = many.status()
    assert (bad.error, bad.state, good.error) == ("it broke", "ended: it broke", "")
    assert frames_of(many) == {"bad": 2, "good": 40}
    assert many.events == ["bad: ended: it broke"]
    assert many.report()["sources"]["bad"]["ended"] == "error: it broke"


def test_a_source_that_stalls_holds_up_nobody(options: StreamOptions, sources: dict[str, FakeSource]) -> None:
    sources |= {"stuck": FakeSource(1, stalls=True), "good": FakeSource(60)}
    with ManyStreams([Camera(name, replace(options, source=name)) for name in sources]) as many:
        assert many.streams["good"].join(WAIT_S)
        assert not many.has_ended
        many.stop()
        assert many.wait(WAIT_S)
    assert frames_of(many) == {"stuck": 1, "good": 60}


def test_a_model_that_fails_on_one_source_labels_the_other(
    options: StreamOptions, sources: dict[str, FakeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources |= {"a": FakeSource(None, live=True), "b": FakeSource(30)}
    with ManyStreams([Camera(name, replace(options, source=name)) for name in sources]) as many:
        many.streams["a"].run.backend.close()
        assert many.wait(WAIT_S)
    assert "is closed" in many.streams["a"].status().error
    assert frames_of(many)["b"] == 30


def test_a_live_source_that_is_away_at_the_start_is_waited_for(options: StreamOptions) -> None:
    cameras = [Camera("away", replace(options, source="rtsp://127.0.0.1:9/live")), Camera("there", options)]
    with ManyStreams(cameras) as many:
        assert many.streams["there"].join(WAIT_S)
        assert not many.streams["away"].has_ended
        away = many.streams["away"].status()
        many.stop()
        assert many.wait(WAIT_S)
    assert away.state.startswith(("connecting", "reconnecting"))
    assert any("away: " in event and "reconnecting" in event for event in many.events)


def test_sources_come_and_go_while_others_run(options: StreamOptions, sources: dict[str, FakeSource]) -> None:
    sources |= {"a": FakeSource(None, live=True), "b": FakeSource(20)}
    with ManyStreams([Camera("a", replace(options, source="a"))]) as many:
        added = many.add(Camera("b", replace(options, source="b")))
        with pytest.raises(OptionError, match="there is a source a already"):
            many.add(Camera("a", options))
        assert added.join(WAIT_S)
        many.remove("b")
        assert [*many.streams] == ["a"]
        assert not many.has_ended
        many.stop()
        assert many.wait(WAIT_S)


def test_where_one_cannot_be_opened_nothing_starts(options: StreamOptions, folder: Path) -> None:
    taken = folder / "b.mp4"
    taken.write_text("x")
    cameras = [Camera("a", replace(options, output=("a.mp4",))), Camera("b", replace(options, output=(str(taken),)))]
    with pytest.raises(SinkError, match=r"^b: video .*b.mp4"):
        ManyStreams(cameras, report=Path("all.json"))
    assert {path.name for path in folder.iterdir()} == {"b.mp4"}


def test_before_the_start_it_can_be_closed(options: StreamOptions, folder: Path) -> None:
    ManyStreams([Camera("a", replace(options, output=("a.mp4",)))]).close()
    assert [*folder.iterdir()] == []


def test_a_bug_in_one_source_is_raised_after_all_have_ended(
    options: StreamOptions, sources: dict[str, FakeSource]
) -> None:
    sources |= {"bug": FakeSource(1, error=ZeroDivisionError("a bug")), "good": FakeSource(10)}
    many = ManyStreams([Camera(name, replace(options, source=name)) for name in sources])
    with pytest.raises(ZeroDivisionError, match="a bug"), many:
        assert many.wait(WAIT_S)
    assert frames_of(many)["good"] == 10


class TestCommand:
    @pytest.fixture
    def config(self, model: str) -> Path:
        path = Path("cameras.toml")
        path.write_text(
            f"[defaults]\nmodel = '{model}'\noutput = 'rec'\n[camera.gate]\nsource = 'demo:0.2@96x64'\n"
            "[camera.yard]\nsource = 'demo:0.4@96x64'\noutput = 'null'\n"
        )
        return path

    def test_sources_of_a_file_run_together(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["stream", "--config", str(config), "--report", "all.json"]) == 0
        said = capsys.readouterr().out
        assert "gate: end of source: 5 frames" in said
        assert "yard: end of source: 10 frames" in said
        assert "wrote video rec/gate.mp4" in said
        assert [*json.loads(Path("all.json").read_text())["sources"]] == ["gate", "yard"]

    def test_several_sources_of_the_command_line_run_together(
        self, model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["stream", "demo:0.2@96x64", "-s", "demo:0.4@96x64", "--model", model, "--output", "{name}.mp4"]
        assert main(words) == 0
        assert "demo-2: end of source: 10 frames" in capsys.readouterr().out
        assert Path("demo-2.mp4").exists()

    def test_a_source_that_fails_makes_the_code_2(
        self, model: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_clip(folder / "good.mp4", range(3))
        (folder / "bad.mp4").write_bytes(b"no video")
        assert main(["stream", "good.mp4", "bad.mp4", "--model", model, "--output", "null"]) == 2
        said = capsys.readouterr().out
        assert "good: end of source: 3 frames" in said
        assert "bad: ended: " in said

    def test_a_grid_shows_all_in_one_video(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["stream", "demo:0.4@96x64", "demo:0.4@96x64", "--model", model, "--grid", "all.mp4"]
        assert main(words) == 0
        assert "wrote video all.mp4" in capsys.readouterr().out
        assert Path("all.mp4").stat().st_size > 0
        assert {path.name for path in Path().iterdir()} == {"all.mp4"}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--config", "cameras.toml", "demo"], "names the sources: leave SOURCE and --source out"),
            (["--config", "none.toml"], "none.toml cannot be read"),
            (["demo", "demo:1", "--preset", "fringes"], "--preset is for one source"),
            (["a.mp4", "demo", "--grid", "a.mp4"], "--grid a.mp4 is also the source a"),
            (["demo", "demo:1", "--output", "x.mp4"], "would be written by every source"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_a_line(
        self, config: Path, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
    ) -> None:
        (folder / "a.mp4").write_bytes(b"")
        assert main(["stream", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert message in said

    def test_a_file_is_checked_without_running_it(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["config", "check", str(config)]) == 0
        assert capsys.readouterr().out == "cameras.toml: 2 cameras: gate, yard\n"
        config.write_text("[camera.a]\nsource = 'demo'\nx = 1\ny = 2\n")
        assert main(["config", "check", str(config)]) == 2
        assert [line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()] == [
            "cameras.toml:3:",
            "cameras.toml:4:",
        ]
