from __future__ import annotations

from rtseg.image_io.memory_budget import MemoryBudget


def test_the_whole_budget_is_reserved_until_the_first_size_is_known() -> None:
    budget = MemoryBudget(1000)
    assert budget.estimate == 1000
    assert budget.has_room
    budget.change(0, 1)
    assert not budget.has_room


def test_the_estimate_rises_at_once_and_falls_slowly() -> None:
    budget = MemoryBudget(1000)
    estimates = []
    for size in (100, 400, 100, 100, 0):
        budget.record(size)
        estimates.append(budget.estimate)
    assert estimates == [100, 400, 360, 324, 324]


def test_bytes_are_counted_and_their_peak_kept() -> None:
    budget = MemoryBudget(1000)
    assert budget.unused
    budget.change(0, 700)
    budget.change(0, 400)
    assert budget.exceeded
    budget.change(700, 100)
    assert not budget.exceeded
    budget.change(100, 0)
    budget.change(400, 0)
    assert budget.unused
    assert budget.peak_bytes == 1100
