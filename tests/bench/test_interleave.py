from __future__ import annotations

import signal

import pytest

from rtseg.bench.environment import rate, spread
from rtseg.bench.interleave import in_turn, terminable


def test_all_of_it_once_and_then_all_of_it_again() -> None:
    order: list[str] = []

    def run(name: str) -> int:
        order.append(name)
        return len(order)

    told: list[tuple[int, int]] = []
    results, complete = in_turn(
        {"a": lambda: run("a"), "b": lambda: run("b")}, 3, lambda done, total, what: told.append((done, total))
    )
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert results == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert told == [(done, 6) for done in range(6)]
    assert complete


def test_ctrl_c_keeps_what_was_measured_until_then() -> None:
    calls: list[str] = []

    def run(name: str) -> str:
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return name

    results, complete = in_turn({name: lambda name=name: run(name) for name in ("a", "b", "c")}, 2)  # type: ignore[misc]
    assert results == {"a": ["a"], "b": ["b"], "c": ["c"]}
    assert not complete


def test_what_was_never_measured_is_left_out() -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    assert in_turn({"a": lambda: 1, "b": stop, "c": lambda: 3}, 2) == ({"a": [1]}, False)


def test_a_fault_is_no_ctrl_c() -> None:
    with pytest.raises(ZeroDivisionError):
        in_turn({"a": lambda: 1 // 0}, 1)


def test_sigterm_is_like_ctrl_c_and_only_within() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


class TestFigures:
    def test_a_rate_is_of_the_gaps(self) -> None:
        assert rate([10.0, 10.5, 11.0, 12.0]) == 1.5

    @pytest.mark.parametrize("times_s", [[], [1.0], [2.0, 2.0]])
    def test_no_rate_without_two_times(self, times_s: list[float]) -> None:
        with pytest.raises(ValueError, match="two times"):
            rate(times_s)

    def test_quartiles_lie_around_the_median(self) -> None:
        assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
            "median": 3.0,
            "q1": 2.0,
            "q3": 4.0,
            "rounds": [4.0, 1.0, 3.0, 2.0, 5.0],
        }
