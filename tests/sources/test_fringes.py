from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.errors import OptionError
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.synthetic.fringes import CLASSES, expose_surface

SMALL = "fringes:1@160x144"
"""One period of the moving fringes."""


def frames(where: str = SMALL, **options: object) -> list[Frame]:
    return list(open_source(where, SourceOptions(**options)))  # type: ignore[arg-type]


def test_frames_are_grey_and_25_a_second() -> None:
    moving = frames()
    assert {(frame.image.dtype, frame.image.shape) for frame in moving} == {(np.dtype(np.uint8), (144, 160, 1))}
    assert [frame.index for frame in moving] == list(range(25))
    assert moving[10].pts_s == pytest.approx(0.4)
    assert open_source(SMALL).frame_count == 25


def test_fringes_move_and_their_mean_over_a_period_has_none() -> None:
    images = np.stack([frame.image for frame in frames()]).astype(float)
    seen = expose_surface((144, 160), (1, 0, 0, 0))
    bright = np.hypot(seen.cosine, seen.sine) > 25
    assert bright.mean() > 0.2
    assert images.std(0)[bright, 0].min() > 10
    assert np.abs(images.mean(0)[..., 0] - seen.mean)[bright].max() < 3
    assert abs(np.corrcoef(images.mean(0)[bright, 0], seen.cosine[bright])[0, 1]) < 0.3
    assert np.corrcoef(images[0][bright, 0], seen.cosine[bright])[0, 1] > 0.8


def test_frames_are_the_same_from_any_start() -> None:
    whole = frames()
    late = frames(start_s=0.4, max_frames=3)
    for one, other in zip(whole[10:13], late, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_without_seconds_it_never_ends() -> None:
    assert open_source("fringes").frame_count is None
    assert len(frames("fringes:@128x128", max_frames=30)) == 30


@pytest.mark.parametrize(
    "where", ["fringes:", "fringes:soon", "fringes:-1", "fringes:2@10x10", "fringes:2@64", "fringes,2"]
)
def test_malformed_text_is_refused(where: str) -> None:
    with pytest.raises((OptionError, OSError)) as caught:
        open_source(where)
    assert "fringes" in str(caught.value)


def test_four_quarter_steps_recover_phase_and_mean() -> None:
    """The four-bucket formula of phase shifting (Malacara, "Optical Shop Testing", chapter 14)."""
    seen = expose_surface((144, 160), (0, 3, 0, 1))
    quarters: list[NDArray[np.float32]] = [seen.at_phase(step * np.pi / 2) for step in range(4)]
    np.testing.assert_allclose(quarters[0] + quarters[2], 2 * seen.mean, atol=1e-3)
    np.testing.assert_allclose(quarters[3] - quarters[1], 2 * seen.sine, atol=1e-3)
    np.testing.assert_allclose(quarters[0] - quarters[2], 2 * seen.cosine, atol=1e-3)
    assert np.ptp(np.arctan2(seen.sine, seen.cosine)) > 6
    assert set(np.unique(seen.labels)) <= set(range(len(CLASSES)))
