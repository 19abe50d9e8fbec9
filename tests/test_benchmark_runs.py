"""What ``benchmarks/backends.py`` keeps of earlier runs, and what its rows of a GPU are compared with."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rtseg.backends import open_backend

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


RUNS = module("_runs")


def run(date: str) -> dict[str, Any]:
    return {"date": date, "commit": "abc1234", "load": 0.25}


def row(title: str, fps: float, *, batch: int = 1, model: str = "icnet") -> dict[str, Any]:
    return {"model": model, "size": [64, 96], "batch": batch, "row": title, "fps": fps}


def score(title: str, miou: float) -> dict[str, Any]:
    return {"model": "icnet", "row": title, "miou": miou}


@pytest.fixture
def first() -> dict[str, Any]:
    rows = [row("torch fp32", 1), row("openvino int8", 2), row("torch fp32", 3, batch=4), row("torch fp16 cuda", 4)]
    found: dict[str, Any] = RUNS.merged(RUNS.EMPTY, run("monday"), rows, [score("torch fp32", 0.5)])
    return found


def test_a_case_that_is_measured_again_is_replaced_as_a_whole_and_every_other_one_stays(first: dict[str, Any]) -> None:
    second = RUNS.merged(first, run("tuesday"), [row("torch fp32", 9)], [])
    assert [(entry["row"], entry["batch"], entry["fps"], entry["run"]) for entry in second["rows"]] == [
        ("torch fp32", 4, 3, "monday"),
        ("torch fp16 cuda", 1, 4, "monday"),
        ("torch fp32", 1, 9, "tuesday"),
    ]
    assert second["accuracy"] == first["accuracy"]
    assert [entry["date"] for entry in second["runs"]] == ["monday", "tuesday"]
    assert [RUNS.run_of(second, entry)["date"] for entry in second["rows"]] == ["monday", "monday", "tuesday"]


def test_a_case_that_is_new_is_added(first: dict[str, Any]) -> None:
    second = RUNS.merged(first, run("tuesday"), [row("torch fp32", 9, model="deeplab")], [])
    assert second["rows"][:4] == first["rows"]
    assert second["rows"][4]["run"] == "tuesday"


def test_a_score_that_is_judged_again_is_replaced_alone(first: dict[str, Any]) -> None:
    second = RUNS.merged(first, run("tuesday"), [], [score("torch fp32", 0.6), score("openvino int8", 0.55)])
    assert [(entry["miou"], entry["run"]) for entry in second["accuracy"]] == [(0.6, "tuesday"), (0.55, "tuesday")]
    assert second["rows"] == first["rows"]


def test_a_run_of_which_nothing_is_left_is_forgotten(first: dict[str, Any]) -> None:
    second = RUNS.merged(first, run("tuesday"), first["rows"], [score("torch fp32", 0.6)])
    assert [entry["date"] for entry in second["runs"]] == ["tuesday"]


def test_what_was_there_before_is_not_changed_itself(first: dict[str, Any]) -> None:
    before = json.dumps(first)
    RUNS.merged(first, run("tuesday"), [row("torch fp32", 9)], [])
    assert json.dumps(first) == before
    assert RUNS.EMPTY == {"runs": [], "rows": [], "accuracy": []}


def test_all_that_is_published_names_a_run_that_is_published_too() -> None:
    published = json.loads((BENCHMARKS / "results" / "backends.json").read_text())
    assert published["rows"]
    for entry in (*published["rows"], *published["accuracy"]):
        assert {"date", "commit", "load", "machine", "versions"} <= RUNS.run_of(published, entry).keys()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_eager_torch_labels_as_the_torch_backend_does(icnet_file: Path, precision: str) -> None:
    with (
        module("_eager").EagerTorch(icnet_file, size=(64, 96), precision=precision, device="cpu") as eager,
        open_backend("torch", icnet_file, precision=precision, device="cpu") as wanted,
    ):
        frames = np.random.default_rng(0).integers(0, 256, (2, *wanted.spec.size, 3), dtype=np.uint8)
        assert (eager.infer(frames) == wanted.infer(frames)).all()
        assert eager.facts()["backend"] == "torch-eager"
        assert eager.facts()["model_sha256"] == wanted.facts()["model_sha256"]
