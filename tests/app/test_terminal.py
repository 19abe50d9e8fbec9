from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from rtseg.app.terminal import panel
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.report import Status

SPEC = ModelSpec("tiny", ("Road", "Car"), ((128, 64, 128), (0, 0, 142)), (64, 96))
STATUS = Status(
    fps=23.4,
    latency_ms=56.7,
    frames_read=130,
    frames_written=120,
    frames_dropped=7,
    frames_damaged=2,
    queues={"read": 3, "infer": 1},
    shares=np.array([0.75, 0.25]),
    pts_s=4.8,
    wall_s=5.0,
)


def shown(status: Status, frame_count: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(panel(status, SPEC, frame_count))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("figure", ["23.4 fps", "57 ms", "120, at 4.8 s", "read 3  infer 1", "tiny"])
def test_the_panel_shows_rate_latency_frames_and_queues(figure: str) -> None:
    assert figure in shown(STATUS)


def test_the_panel_shows_what_was_lost() -> None:
    lines = {line.split()[1]: line for line in shown(STATUS).splitlines() if len(line.split()) > 2}
    assert " 7 " in lines["dropped"]
    assert " 2 " in lines["damaged"]


def test_every_class_has_its_share() -> None:
    lines = {line.split()[1]: line for line in shown(STATUS).splitlines() if len(line.split()) > 2}
    assert "75.0 %" in lines["Road"]
    assert "25.0 %" in lines["Car"]
    assert lines["Road"].count("█") > 2 * lines["Car"].count("█") > 0


def test_where_the_length_is_known_it_is_shown() -> None:
    assert "120 of about 221" in shown(STATUS, 221)


def test_before_the_first_frame_all_is_zero() -> None:
    empty = replace(STATUS, fps=0.0, frames_written=0, pts_s=0.0, shares=np.zeros(2), queues={})
    assert "0.0 fps" in shown(empty)
    assert "█" not in shown(empty)


def test_of_many_classes_the_largest_come_first_and_the_rest_is_one_row() -> None:
    shares = np.arange(150) / np.arange(150).sum()
    spec = ModelSpec("many", tuple(f"class {i}" for i in range(150)), ((1, 2, 3),) * 150, (64, 96))
    console = Console(file=io.StringIO(), width=100)
    console.print(panel(replace(STATUS, shares=shares), spec))
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if "%" in line]
    assert [line.split()[1:3] for line in lines[:2]] == [["class", "149"], ["class", "148"]]
    assert "137 others" in lines[-1]
    assert f"{100 * shares[:137].sum():.1f} %" in lines[-1]
    assert len(console.file.getvalue().splitlines()) <= 24


def test_the_age_of_carried_labels_is_shown_where_labels_are_carried() -> None:
    assert "133 ms old" in shown(replace(STATUS, label_age_ms=133.3))
    assert "ms old" not in shown(STATUS)
