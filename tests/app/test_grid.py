from __future__ import annotations

import numpy as np
import pytest
from helpers.doubles import FakeSink, make_image

from rtseg.app import grid
from rtseg.app.grid import GridView
from rtseg.errors import SinkClosed, SinkError
from rtseg.frame import Frame

LABELS = np.zeros((32, 48), np.uint8)


def show(view: GridView, name: str, blue: int) -> None:
    image = make_image(blue)
    view.cells[name].write(Frame(image, 0, 0.0, 0.0), LABELS, image)


def test_a_new_image_of_any_source_makes_a_new_image_of_all() -> None:
    view, sink = GridView(["a", "b"]), FakeSink(needs_rendered=True)
    view.sinks = [sink]
    show(view, "a", 100)
    view.update([])
    view.update([])
    assert sink.written == 1, "nothing is new"
    show(view, "b", 50)
    view.update([])
    assert sink.indices == [0, 1]
    image = sink.rendered[-1]
    assert image is not None
    assert [int(image[400, x, 0]) for x in (300, 900)] == [100, 50]


def test_an_image_that_is_old_is_not_shown_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    view = GridView(["a"])
    show(view, "a", 100)
    assert view.cells["a"].newest() is not None
    monkeypatch.setattr(grid, "_STALE_S", 0.0)
    assert view.cells["a"].newest() is None


def test_an_output_that_fails_ends_alone() -> None:
    view, good = GridView(["a"]), FakeSink()
    bad = FakeSink(fails_at=0, error=SinkError("the disk is full"))
    view.sinks = [bad, good]
    show(view, "a", 1)
    view.update([])
    assert (view.failures, good.written) == (["the disk is full. The sources go on"], 1)
    view.close()
    assert good.closed == 1


def test_a_closed_window_is_told() -> None:
    view = GridView(["a"])
    view.sinks = [FakeSink(fails_at=0, error=SinkClosed("closed"))]
    show(view, "a", 1)
    with pytest.raises(SinkClosed):
        view.update([])
