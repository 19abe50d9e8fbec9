from __future__ import annotations

import numpy as np
import pytest

from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.stages import render
from rtseg.regions.masks import Regions
from rtseg.regions.region import Region
from rtseg.visualize.effects import Blur
from rtseg.visualize.overlay import Overlay, OverlayOptions

SPEC = ModelSpec("two", ("Road", "Person"), ((0, 0, 0), (255, 0, 0)), (64, 64))


@pytest.mark.parametrize("overlay", [None, Overlay(SPEC, OverlayOptions("side"))])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_an_effect_hides_reaches_no_sink_also_outside_of_the_regions(
    overlay: Overlay | None, channels: int
) -> None:
    image: Image = np.random.default_rng(0).integers(0, 256, (80, 120, channels), np.uint8)
    labels: Labels = np.zeros((80, 120), np.uint8)
    labels[20:60, 10:50] = 1
    gate = Regions([Region(((70, 0), (120, 0), (120, 80), (70, 80)))])
    before = image.copy()
    (result,) = render([(Frame(image, 3, 0.12, 0.0), labels)], overlay, Durations(), gate, [Blur([1])])
    assert np.array_equal(image, before)
    assert (result.frame.index, result.frame.pts_s) == (3, 0.12)
    assert (result.labels[:, :70] == 255).all()
    shown = [result.frame.image] if result.rendered is None else [result.frame.image, result.rendered[:, :120]]
    for each in shown:
        assert np.abs(np.diff(each[20:60, 10:50].astype(int), axis=0)).max() <= 30
        assert np.array_equal(each[:, 80:, 0], image[:, 80:, 0])
