"""The networks written from papers have the parameters and operations that the papers report."""

from __future__ import annotations

import pytest

from rtseg.errors import OptionError
from rtseg.models import create_model
from rtseg.models.cost import compute_cost


@pytest.mark.parametrize(
    ("name", "classes", "size", "millions", "multiply_adds"),
    [
        ("ddrnet23-slim", 19, (1024, 2048), 5.7, 36.3e9),
        ("ddrnet23", 19, (1024, 2048), 20.1, 143.1e9),
        ("pidnet-s", 19, (1024, 2048), 7.6, 47.6e9),
        ("sctnet-s", 19, (512, 1024), 4.6, None),  # the paper reports no operations
        ("sctnet-b", 19, (512, 1024), 17.4, None),
        ("seaformer-tiny", 150, (512, 512), 1.7, 0.6e9),
    ],
)
def test_parameters_and_operations_are_those_of_the_paper(
    name: str, classes: int, size: tuple[int, int], millions: float, multiply_adds: float | None
) -> None:
    cost = compute_cost(name, classes, size)
    assert cost.parameters / 1e6 == pytest.approx(millions, abs=0.07)
    if multiply_adds is not None:
        assert cost.flops / 2 == pytest.approx(multiply_adds, rel=0.01, abs=0.05e9)


def test_the_transformer_of_sctnet_is_not_in_the_model_and_may_be_smaller() -> None:
    costs = {compute_cost(f"sctnet-s:transformer={size}", 11, (64, 64)) for size in (0, 2)}
    assert len(costs) == 1
    with pytest.raises(OptionError, match="transformer of SCTNet must be 0 to 3, got 4"):
        create_model("sctnet-s:transformer=4", 11)
