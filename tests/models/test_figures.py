from __future__ import annotations

import json
import subprocess
import sys
from datetime import date

import pytest

from rtseg.models import MODELS
from rtseg.models.cost import compute_cost
from rtseg.models.figures import CLASSES, FIGURES_FILE, SIZE, load_figures


def test_every_network_has_figures_and_nothing_else_has() -> None:
    assert set(load_figures().networks) == set(MODELS), "run benchmarks/networks.py on a quiet machine"


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_operations_are_those_of_the_network_as_it_is_now(name: str) -> None:
    cost, kept = compute_cost(name, CLASSES, SIZE), load_figures().networks[name]
    assert (kept.parameters, kept.flops) == (cost.parameters, cost.flops)


def test_the_rates_say_what_they_were_measured_with() -> None:
    figures = load_figures()
    assert figures.processor
    assert figures.cores > 0
    assert figures.runtime.startswith("OpenVINO 20")
    assert figures.precision in ("fp32", "bf16")
    dates = [date.fromisoformat(part) for part in figures.date.split(" to ")]
    assert date(2025, 1, 1) <= dates[0] <= dates[-1]


def test_a_rate_is_the_median_of_several_rounds() -> None:
    facts = json.loads(FIGURES_FILE.read_text())
    assert (facts["size"], facts["classes"]) == (list(SIZE), CLASSES)
    for name, kept in load_figures().networks.items():
        rounds = sorted(facts["networks"][name]["fps"]["rounds"])
        assert rounds[0] > 0
        assert rounds[(len(rounds) - 1) // 2] <= kept.fps <= rounds[len(rounds) // 2]


def test_they_are_read_without_torch() -> None:
    program = "import sys; from rtseg.models.figures import load_figures; load_figures(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
