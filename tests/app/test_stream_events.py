from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.doubles import FakeBackend

from rtseg.app.options import StreamOptions
from rtseg.app.stream import StreamRun
from rtseg.errors import OptionError
from rtseg.events.options import EventOptions
from rtseg.sources.options import SourceOptions


def options(folder: Path, *roi: str, **fields: object) -> StreamOptions:
    """Three frames of 96x64, all of class 5."""
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 96, 3), (5, 90, 160), np.uint8))
    events = EventOptions(roi, ("x: class 5 >= 50% in left",), (str(folder / "ev.jsonl"),))
    source = str(folder / "*.png")
    return StreamOptions(source=source, stats=folder / "s.jsonl", masks=folder / "masks", events=events, **fields)  # type: ignore[arg-type]


def run(wanted: StreamOptions) -> StreamRun:
    running = StreamRun(wanted, open_model=lambda options, hint: FakeBackend())
    running.run()
    return running


def test_regions_limit_labels_and_have_shares_and_events(tmp_path: Path) -> None:
    run(options(tmp_path, "0,0,48,32", "left=0,0,48,64"))
    mask = cv2.imread(str(tmp_path / "masks" / "0.png"), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYCOLOR)
    stats = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0])
    assert stats["classes"]["class 5"] == stats["regions"]["left"]["class 5"] == 1.0
    begin, end = map(json.loads, (tmp_path / "ev.jsonl").read_text().splitlines())
    assert (begin["rule"], begin["region"], begin["value"]) == ("x", "left", 100.0)
    assert end["reason"] == "the run ended"
    snapshot = cv2.imread(str(tmp_path / begin["snapshot"]))
    assert snapshot.shape == (64, 96, 3)
    assert mask is not None
    inside = np.zeros((64, 96), bool)
    inside[:32, :48] = True
    colours = {tuple(colour) for colour in mask[inside].reshape(inside.sum(), -1).tolist()}
    others = {tuple(colour) for colour in mask[~inside].reshape((~inside).sum(), -1).tolist()}
    assert len(colours) == len(others) == 1
    assert colours != others


def test_a_region_beyond_the_frame_ends_the_run_with_the_size_of_the_frame(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--roi left reaches to 100,64, but the frame has 96x64 pixels"):
        run(options(tmp_path, "left=0,0,100,64"))


def test_a_rule_without_its_region_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="give --roi left="):
        run(options(tmp_path))
    assert not (tmp_path / "ev.jsonl").exists()
    assert not list(tmp_path.glob("*.part*"))


def test_events_do_not_replace_the_result_of_another_option(tmp_path: Path) -> None:
    wanted = options(tmp_path, "left=0,0,48,64")
    events = EventOptions(wanted.events.roi, wanted.events.rules, (str(tmp_path / "s.jsonl"),))
    with pytest.raises(OptionError, match=r"s\.jsonl is --stats itself"):
        run(StreamOptions(source=wanted.source, stats=wanted.stats, events=events, part=SourceOptions(max_frames=1)))
