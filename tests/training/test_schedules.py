from __future__ import annotations

import pytest

from rtseg.training.schedules import learning_rate

STEPS, EPOCH = 1000, 20


def rates(kind: str) -> list[float]:
    return [learning_rate(kind, step, STEPS, EPOCH) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["poly", "cosine", "step", "trapezoid"])
def test_the_rate_rises_over_three_percent_of_the_steps_and_never_again(kind: str) -> None:
    values = rates(kind)
    assert values[:30] == sorted(values[:30])
    assert values[0] == pytest.approx(1 / 30, rel=1e-6)
    assert values[29] == pytest.approx(max(values), rel=0.03)
    assert values[29:] == sorted(values[29:], reverse=True)
    assert all(0 < value <= 1 for value in values)


def test_poly_is_a_power_of_what_is_left() -> None:
    assert learning_rate("poly", 500, STEPS, EPOCH) == pytest.approx(0.5**0.9)
    assert learning_rate("poly", 750, STEPS, EPOCH) == pytest.approx(0.25**0.9)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert learning_rate("cosine", 500, STEPS, EPOCH) == pytest.approx(0.5)
    assert learning_rate("cosine", 250, STEPS, EPOCH) == pytest.approx(0.5 + 0.5**1.5)


def test_step_is_halved_every_ten_epochs() -> None:
    found = [learning_rate("step", epoch * EPOCH, STEPS, EPOCH) for epoch in (5, 9, 10, 19, 20, 49)]
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.0625]


def test_trapezoid_is_constant_and_falls_by_a_square_root_over_the_last_fifth() -> None:
    assert learning_rate("trapezoid", 100, STEPS, EPOCH) == learning_rate("trapezoid", 790, STEPS, EPOCH) == 1
    assert learning_rate("trapezoid", 850, STEPS, EPOCH) == pytest.approx(0.5)


def test_a_run_of_one_step_has_the_whole_rate() -> None:
    assert learning_rate("poly", 0, 1, 1) == 1
