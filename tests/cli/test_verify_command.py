"""``rtseg verify``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.doubles import blue_graph, wide_spec
from onnx import numpy_helper

from rtseg.app.options import ComparisonOptions
from rtseg.app.verify import Comparison
from rtseg.backends.tensorrt.engine_file import EngineFacts, facts_path
from rtseg.camvid_classes import CLASSES
from rtseg.cli import main
from rtseg.deploy.verify import BUDGETS
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, file_sha256, write_spec

DATA = ("--data", "synthetic:street,frames=2")


def test_ctrl_c_is_told_in_a_line_with_code_130(
    icnet_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Comparison, "run", stop)
    assert main(["verify", str(icnet_file), str(icnet_file), *DATA]) == 130
    assert capsys.readouterr().err == "rtseg: stopped\n"


@pytest.fixture(scope="module")
def spoilt(icnet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with an output layer that has forgotten much."""
    graph = onnx.load(icnet_file)
    head = next(node for node in reversed(graph.graph.node) if node.op_type == "Conv")
    (bias,) = [tensor for tensor in graph.graph.initializer if tensor.name == head.input[2]]
    values = numpy_helper.to_array(bias).copy()
    values[0] += 100
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    path = tmp_path_factory.mktemp("spoilt") / "spoilt.onnx"
    onnx.save(graph, path)
    return path


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A model of many other classes."""
    graph = blue_graph()
    write_spec(graph, wide_spec((4, 6)))
    path = tmp_path / "wide.onnx"
    onnx.save(graph, path)
    return path


@pytest.fixture
def engine(tmp_path: Path, tiny_spec: ModelSpec) -> Path:
    """An engine that no machine can run, and its facts."""
    path = tmp_path / "tiny.engine"
    path.write_bytes(b"plan")
    certificate = {
        "passed": True,
        "agreement": 0.9991,
        "miou": {"reference": 0.61, "candidate": 0.6095},
        "budget": {"max_drop": 0.05, "min_agreement": 0.995},
        "data": "CamVid val (101 images)",
        "judged_by": "the graph on the CPU by ONNX Runtime 1.31",
    }
    facts = EngineFacts(
        model="tiny",
        model_sha256="0" * 64,
        engine_sha256=file_sha256(path),
        runtime="rtx",
        runtime_version="1.0.0.0",
        precision="fp16",
        batch=1,
        targets=("sm_75",),
        gpu=None,
        driver=None,
        spec=tiny_spec,
        state_shape=None,
        build_seconds=1.0,
        built="2026-01-01",
        rtseg="0.1.0",
        ranges_sha256=None,
        certificate=certificate,
    )
    facts_path(path).write_text(facts.to_json())
    return path


class TestExitCodes:
    def test_0_where_the_labels_are_right_and_all_of_it_is_printed_and_written(
        self, icnet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "verdict.json"
        command = ["verify", str(icnet_file), str(icnet_file), *DATA, "--precision", "fp32", "--report", str(output)]
        assert main(command) == 0
        facts = json.loads(output.read_text())
        assert (facts["passed"], facts["agreement"], facts["drop"], facts["images"]) == (True, 1.0, 0.0, 2)
        assert facts["budget"]["min_agreement"] == BUDGETS["fp32"].min_agreement
        said = capsys.readouterr().out
        lines = {line.split("│")[1].strip(): line for line in said.splitlines() if line.count("│") == 5}
        for name in {*CLASSES} & {*facts["iou"]}:
            iou = f"{100 * facts['iou'][name]['candidate']:.2f}"
            assert lines[name].split("│")[2:5] == [f" {iou:>9} ", f" {iou:>9} ", "      +0.00 "]
        assert f"{100 * facts['miou']['candidate']:.2f}" in lines["mean (mIoU)"]
        assert "100.000% of the pixels agree on synthetic street val (2 frames)" in said
        assert said.splitlines()[-1].startswith("passed (judged by the graph on CPU by openvino")

    def test_1_past_the_gate_with_the_reasons_and_the_drawings(
        self, icnet_file: Path, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output, worst = tmp_path / "verdict.json", tmp_path / "worst"
        command = ["verify", str(icnet_file), str(spoilt), *DATA, "--max-drop", "0", "--precision", "fp32"]
        assert main([*command, "--report", str(output), "--worst", str(worst)]) == 1
        facts = json.loads(output.read_text())
        assert facts["passed"] is False
        assert facts["agreement"] < 0.5
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("failed: ")
        assert all(reason in last for reason in facts["reasons"])
        assert len(list(worst.glob("*.png"))) == 2

    def test_options_move_the_gate(self, icnet_file: Path, spoilt: Path) -> None:
        assert main(["verify", str(icnet_file), str(spoilt), *DATA, "--max-drop", "100", "--min-agreement", "0"]) == 0

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ("{tiny} {tiny} --data camvid:nowhere", "no nowhere/val.txt"),
            ("{tiny} {tiny} --max-drop 101", "--max-drop must be points of mIoU"),
            ("{tiny} {tiny} --min-agreement 99", "--min-agreement must be a share, 0 to 1"),
            ("{tiny} {tiny} --frames 0", "--frames must be at least 1"),
            ("{tiny} {wide}", "cannot be compared, their classes differ"),
            ("{wide} {wide} --data synthetic:street", "give --data with the same classes"),
            ("{tiny} nothing", "no model 'nothing'"),
            ("{tiny} nothing.engine", "no engine at nothing.engine"),
            ("some.engine {tiny}", "REFERENCE some.engine is an engine: give the model file"),
            ("{tiny} {tiny} --report none/a.json", "there is no folder none"),
            ("{tiny} {tiny} --worst {tiny}", "is a file: choose another folder"),
        ],
    )
    def test_2_with_one_line_where_nothing_can_be_compared(
        self,
        icnet_file: Path,
        wide: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        options: str,
        told: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = set(tmp_path.iterdir())
        assert main(["verify", *options.format(tiny=icnet_file, wide=wide).split()]) == 2
        said = capfd.readouterr()
        assert told in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""
        assert set(tmp_path.iterdir()) == before


class TestCandidates:
    def test_an_engine_that_cannot_run_here_is_told_with_what_its_certificate_says(
        self, icnet_file: Path, engine: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["verify", str(icnet_file), str(engine), *DATA]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "tiny.engine says: passed with 99.91% agreement, mIoU 61.00% before and 60.95% after" in said
        assert "on CamVid val (101 images), judged by the graph on the CPU by ONNX Runtime 1.31" in said

    def test_a_graph_in_fp16_is_judged_by_the_budget_of_fp16_and_with_its_rounding(
        self, icnet_file: Path, tmp_path: Path
    ) -> None:
        half = tmp_path / "half.onnx"
        onnx.save(to_float16(load_model(icnet_file)).graph, half)
        options = ComparisonOptions(str(icnet_file), str(half), "synthetic:street,frames=2")
        with Comparison(options) as comparison:
            verdict = comparison.run()
        assert verdict.budget == BUDGETS["fp16"]
        assert verdict.judged_by.startswith("the graph on CPU by onnxruntime")
        assert 0.95 < verdict.agreement < 1

    def test_of_two_bounds_the_one_that_is_not_given_is_that_of_the_precision(self, icnet_file: Path) -> None:
        options = ComparisonOptions(str(icnet_file), str(icnet_file), precision="fp32", max_drop=0.0)
        with Comparison(options) as comparison:
            assert comparison.budget == replace(BUDGETS["fp32"], max_drop=0.0)

    def test_the_reference_is_in_fp32_on_the_cpu_unless_told_otherwise(self, icnet_file: Path) -> None:
        with Comparison(ComparisonOptions(str(icnet_file), str(icnet_file))) as comparison:
            assert (comparison.reference.precision, comparison.reference.device) == ("fp32", "CPU")
        options = ComparisonOptions(str(icnet_file), str(icnet_file), reference_backend="onnxruntime", frames=1)
        with Comparison(options) as comparison:
            assert comparison.reference.name == "onnxruntime"
            assert np.isclose(comparison.run().agreement, 1, atol=0.05)
