from __future__ import annotations

import numpy as np
import pytest
from helpers.doubles import FakeBackend, wide_spec
from numpy.typing import NDArray

from rtseg.backends.base import Ticket
from rtseg.bench import network_speed as speed
from rtseg.bench.network_speed import frames_per_second, measure
from rtseg.models.cost import compute_cost
from rtseg.models.figures import CLASSES, SIZE

FIRST_S, OTHER_S = 5.0, 0.25


class Clock:
    """A clock that only moves when a backend works."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


class Timed(FakeBackend):
    """Takes ``FIRST_S`` for the first image, like a cold machine, and ``OTHER_S`` for every other."""

    def __init__(self, clock: Clock, depth: int, channels: int = 3) -> None:
        super().__init__(wide_spec(channels=channels), depth=depth)
        self.clock = clock
        self.done = 0

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        self.clock.now_s += OTHER_S if self.done else FIRST_S
        self.done += 1
        return super()._wait(ticket)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(speed, "time", made)
    return made


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("seconds", [0.0, 4.0, 30.0])
def test_the_rate_leaves_out_the_warm_up(clock: Clock, depth: int, seconds: float) -> None:
    backend = Timed(clock, depth)
    assert frames_per_second(backend, seconds) == pytest.approx(1 / OTHER_S)
    assert clock.now_s >= 100 + FIRST_S + seconds
    assert backend.most_in_flight == depth
    assert backend.done == backend.submitted, "nothing is left in flight"


def test_images_have_the_channels_of_the_model(clock: Clock) -> None:
    assert frames_per_second(Timed(clock, 2, channels=4), 1.0) == pytest.approx(1 / OTHER_S)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["icnet:width=4", "icnet:width=4,channels=2"])
def test_a_network_is_measured_on_this_machine(architecture: str) -> None:
    figures, cost = measure(architecture), compute_cost(architecture, CLASSES, SIZE)
    assert (figures.parameters, figures.flops) == (cost.parameters, cost.flops)
    assert figures.fps > 0
