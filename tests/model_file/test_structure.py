"""Graphs that would make a runtime fail, use all memory or never end are refused when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from helpers.doubles import blue_graph
from onnx import TensorProto, helper

from rtseg.errors import ModelError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.weights import bundled_models

SPEC = ModelSpec("tiny", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (4, 6))


def make_cycle(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if "labels" in node.output:
            node.output[0] = "one"
    model.graph.node.append(helper.make_node("Identity", ["two"], ["labels"]))
    model.graph.node.append(helper.make_node("Cast", ["labels"], ["two"], to=TensorProto.UINT8))


def remove_inputs(operator: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if "labels" in node.output:
                node.op_type = operator
                del node.input[:]

    return change


def add_expanding_functions(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("bomb", 1)]
    for level in range(60):
        callee, domain = (f"f{level + 1}", "bomb") if level < 59 else ("Identity", "")
        nodes = [
            helper.make_node(callee, ["x"], ["y"], domain=domain),
            helper.make_node(callee, ["y"], ["z"], domain=domain),
        ]
        model.functions.append(helper.make_function("bomb", f"f{level}", ["x"], ["z"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.node.append(helper.make_node("f0", ["frames"], ["unused"], domain="bomb"))


def add_recursive_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("bomb", 1)]
    node = helper.make_node("f", ["x"], ["y"], domain="bomb")
    model.functions.append(helper.make_function("bomb", "f", ["x"], ["y"], [node], opsets))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.node.append(helper.make_node("f", ["frames"], ["unused"], domain="bomb"))


def add_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["unused"], body=body))


def add_unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Magic", ["frames"], ["unused"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (make_cycle, "reads 'two' before it exists, or in a cycle"),
        (remove_inputs("Cast"), "('Cast') with 0 inputs"),
        (remove_inputs("Conv"), "('Conv') with 0 inputs"),
        (remove_inputs("ArgMax"), "('ArgMax') with 0 inputs"),
        (add_expanding_functions, "has more than 100000 nodes if its functions are expanded"),
        (add_recursive_function, "has a function 'f' that calls itself"),
        (add_loop, "may run for ever"),
        (add_unknown_operator, "('Magic') that ONNX"),
    ],
)
def test_it_is_refused_with_the_reason(change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path) -> None:
    model = blue_graph()
    change(model)
    write_spec(model, SPEC)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_bundled_models_are_accepted(name: str) -> None:
    load_model(bundled_models()[name])
