from __future__ import annotations

import signal

import pytest

from rtseg.bench.environment import rate, spread
from rtseg.bench.interleave import run_interleaved, sigterm_as_interrupt


def test_all_runs_are_made_once_per_round() -> None:
    order: list[str] = []

    def run(name: str) -> int:
        order.append(name)
        return len(order)

    progress: list[tuple[int, int]] = []
    results, complete = run_interleaved(
        {"a": lambda: run("a"), "b": lambda: run("b")}, 3, lambda done, total, what: progress.append((done, total))
    )
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert results == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert progress == [(done, 6) for done in range(6)]
    assert complete


def test_ctrl_c_keeps_the_results_so_far() -> None:
    calls: list[str] = []

    def run(name: str) -> str:
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return name

    results, complete = run_interleaved({name: lambda name=name: run(name) for name in ("a", "b", "c")}, 2)  # type: ignore[misc]
    assert results == {"a": ["a"], "b": ["b"], "c": ["c"]}
    assert not complete


def test_runs_without_a_result_are_left_out() -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    assert run_interleaved({"a": lambda: 1, "b": stop, "c": lambda: 3}, 2) == ({"a": [1]}, False)


def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run_interleaved({"a": lambda: 1 // 0}, 1)


def test_sigterm_interrupts_only_within_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


class TestFigures:
    def test_a_rate_counts_the_gaps_between_times(self) -> None:
        assert rate([10.0, 10.5, 11.0, 12.0]) == 1.5

    @pytest.mark.parametrize("times_s", [[], [1.0], [2.0, 2.0]])
    def test_a_rate_needs_two_times(self, times_s: list[float]) -> None:
        with pytest.raises(ValueError, match="two different times"):
            rate(times_s)

    def test_spread_gives_median_and_quartiles(self) -> None:
        assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
            "median": 3.0,
            "q1": 2.0,
            "q3": 4.0,
            "rounds": [4.0, 1.0, 3.0, 2.0, 5.0],
        }
