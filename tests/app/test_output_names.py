from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from rtseg.app.options import StreamOptions
from rtseg.app.output_names import SUFFIXES, name_outputs, refuse_shared_outputs
from rtseg.errors import OptionError


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"output": ("out",)}, {"output": ("out/gate.mp4",)}),
        ({"output": ("{name}/video.mkv",)}, {"output": ("gate/video.mkv",)}),
        ({"output": ("null",)}, {"output": ("null",)}),
        ({"output": ("a", "rtsp://h/{name}")}, {"output": ("a/gate.mp4", "rtsp://h/gate")}),
        ({"stats": Path("s-{name}.jsonl")}, {"stats": Path("s-gate.jsonl")}),
        ({"masks": Path("m")}, {"masks": Path("m/gate")}),
    ],
)
def test_every_source_has_results_of_its_own_name(given: dict[str, Any], named: dict[str, Any]) -> None:
    assert name_outputs("gate", StreamOptions(**given)) == StreamOptions(**named)


def test_a_folder_with_a_dot_in_its_name_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "of.today"
    folder.mkdir()
    assert name_outputs("gate", StreamOptions(output=(str(folder),))).output == (str(folder / "gate.mp4"),)


def test_one_file_for_all_is_refused_with_a_way_out() -> None:
    with pytest.raises(OptionError, match=r"give a folder, or a name with \{name\}, e.g. out-\{name\}.mp4"):
        name_outputs("gate", StreamOptions(output=("out.mp4",)))
    assert name_outputs("gate", StreamOptions(output=("out.mp4",)), is_only_one=True).output == ("out.mp4",)


def test_a_name_that_one_source_has_for_itself_is_taken_as_it_is() -> None:
    options = StreamOptions(output=("out.mp4", "folder"), masks=Path("m"), stats=Path("s.csv"))
    named = name_outputs("gate", options, own={"output", "masks", "stats"})
    assert named == replace(options, output=("out.mp4", "folder/gate.mp4"))


def test_two_that_send_to_one_address_are_refused() -> None:
    address = "rtsp://me:word@host/live"
    named = {name: name_outputs(name, StreamOptions(output=(address,))) for name in ("gate", "yard")}
    with pytest.raises(OptionError, match=r"rtsp://\*\*\*@host/live of yard is also that of gate: give each its own"):
        refuse_shared_outputs(named, {})
    refuse_shared_outputs({"gate": named["gate"], "yard": StreamOptions(output=("udp://host:5000", "null"))}, {})


def test_two_that_write_one_file_are_refused() -> None:
    cameras = {"a": StreamOptions(output=("x.mp4",)), "b": StreamOptions(stats=Path("./x.mp4"))}
    with pytest.raises(OptionError, match=r"--stats of b x\.mp4 is also --output of a"):
        refuse_shared_outputs(cameras, {})


def test_what_one_reads_no_other_writes() -> None:
    cameras = {"a": StreamOptions("x.mp4"), "b": StreamOptions("y.mp4", output=("x.mp4",))}
    with pytest.raises(OptionError, match=r"--output of b x\.mp4 is also the source a"):
        refuse_shared_outputs(cameras, {})
    with pytest.raises(OptionError, match=r"--report x\.mp4 is also the source a"):
        refuse_shared_outputs({"a": StreamOptions("x.mp4")}, {"--report": Path("x.mp4")})


def test_all_results_of_a_source_are_known() -> None:
    hints = get_type_hints(StreamOptions, include_extras=True)
    outputs = {
        name
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if mark.__class__.__name__ == "Option" and mark.panel == "Output" and ("Path" in str(hint) or name == "output")
    }
    assert outputs == set(SUFFIXES)
