"""How ``benchmarks/backends.py`` merges runs, and the reference for its rows on a GPU."""

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
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


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
    results: dict[str, Any] = RUNS.merge(RUNS.EMPTY, run("monday"), rows, [score("torch fp32", 0.5)])
    return results


def test_a_repeated_case_is_replaced_as_a_whole_and_all_others_are_kept(first: dict[str, Any]) -> None:
    second = RUNS.merge(first, run("tuesday"), [row("torch fp32", 9)], [])
    assert [(entry["row"], entry["batch"], entry["fps"], entry["run"]) for entry in second["rows"]] == [
        ("torch fp32", 4, 3, "monday"),
        ("torch fp16 cuda", 1, 4, "monday"),
        ("torch fp32", 1, 9, "tuesday"),
    ]
    assert second["accuracy"] == first["accuracy"]
    assert [entry["date"] for entry in second["runs"]] == ["monday", "tuesday"]
    assert [RUNS.find_run(second, entry)["date"] for entry in second["rows"]] == ["monday", "monday", "tuesday"]


def test_a_new_case_is_added(first: dict[str, Any]) -> None:
    second = RUNS.merge(first, run("tuesday"), [row("torch fp32", 9, model="deeplab")], [])
    assert second["rows"][:4] == first["rows"]
    assert second["rows"][4]["run"] == "tuesday"


def test_a_repeated_score_is_replaced_alone(first: dict[str, Any]) -> None:
    second = RUNS.merge(first, run("tuesday"), [], [score("torch fp32", 0.6), score("openvino int8", 0.55)])
    assert [(entry["miou"], entry["run"]) for entry in second["accuracy"]] == [(0.6, "tuesday"), (0.55, "tuesday")]
    assert second["rows"] == first["rows"]


def test_a_run_without_entries_is_removed(first: dict[str, Any]) -> None:
    second = RUNS.merge(first, run("tuesday"), first["rows"], [score("torch fp32", 0.6)])
    assert [entry["date"] for entry in second["runs"]] == ["tuesday"]


def test_the_earlier_results_are_not_modified(first: dict[str, Any]) -> None:
    before = json.dumps(first)
    RUNS.merge(first, run("tuesday"), [row("torch fp32", 9)], [])
    assert json.dumps(first) == before
    assert RUNS.EMPTY == {"runs": [], "rows": [], "accuracy": []}


def test_every_published_entry_belongs_to_a_published_run() -> None:
    published = json.loads((BENCHMARKS / "results" / "backends.json").read_text())
    assert published["rows"]
    for entry in (*published["rows"], *published["accuracy"]):
        assert {"date", "commit", "load", "machine", "versions"} <= RUNS.find_run(published, entry).keys()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_eager_torch_gives_the_labels_of_the_torch_backend(icnet_file: Path, precision: str) -> None:
    with (
        module("_eager").EagerTorch(icnet_file, size=(64, 96), precision=precision, device="cpu") as eager,
        open_backend("torch", icnet_file, precision=precision, device="cpu") as reference,
    ):
        frames = np.random.default_rng(0).integers(0, 256, (2, *reference.spec.size, 3), dtype=np.uint8)
        assert (eager.infer(frames) == reference.infer(frames)).all()
        assert eager.facts()["backend"] == "torch-eager"
        assert eager.facts()["model_sha256"] == reference.facts()["model_sha256"]


@pytest.mark.slow
def test_compiled_torch_gives_the_labels_of_the_torch_backend(icnet_file: Path) -> None:
    with (
        module("_eager").CompiledTorch(icnet_file, size=(64, 96), precision="fp32", device="cpu") as compiled,
        open_backend("torch", icnet_file, precision="fp32", device="cpu") as reference,
    ):
        frames = np.random.default_rng(0).integers(0, 256, (1, *reference.spec.size, 3), dtype=np.uint8)
        assert (compiled.infer(frames) == reference.infer(frames)).mean() >= 0.999
