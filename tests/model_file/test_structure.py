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


def misspell_an_operator(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Identitz", input=["frames"], output=["unused"])


def add_large(operator: str, *inputs: list[int]) -> Callable[[onnx.ModelProto], None]:
    """Add a node whose output is larger than the memory, although its inputs are small."""

    def change(model: onnx.ModelProto) -> None:
        for index, values in enumerate(inputs):
            dims = [len(values)] if operator != "Range" else []
            model.graph.initializer.append(helper.make_tensor(f"in{index}", TensorProto.INT64, dims, values))
        names = [f"in{index}" for index in range(len(inputs))]
        model.graph.node.append(helper.make_node(operator, names, ["large"], "bomb"))

    return change


def add_outer_product(model: onnx.ModelProto) -> None:
    for name, dims in (("row", [1, 1 << 20]), ("column", [1 << 20, 1])):
        shape = helper.make_tensor(f"{name}-shape", TensorProto.INT64, [2], dims)
        model.graph.initializer.append(shape)
        model.graph.node.append(helper.make_node("ConstantOfShape", [shape.name], [name]))
    model.graph.node.append(helper.make_node("Mul", ["row", "column"], ["large"], "bomb"))


def add_large_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 18)]
    shape = helper.make_tensor("value", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Expand", ["x", "shape"], ["y"], "bomb"),
    ]
    model.functions.append(helper.make_function("bomb", "f", ["x"], ["y"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.initializer.append(helper.make_tensor("small", TensorProto.FLOAT, [1], [1]))
    model.graph.node.append(helper.make_node("f", ["small"], ["unused"], domain="bomb"))


def add_sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [7])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def add_size_from_image(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["frames"], ["many"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["large"], "bomb"))


def add_hidden_size(model: onnx.ModelProto) -> None:
    """Compute the size by an operator that shape inference does not follow."""
    model.graph.initializer.append(helper.make_tensor("ten", TensorProto.INT64, [2], [10, 10]))
    model.graph.node.append(helper.make_node("Pow", ["ten", "ten"], ["size"]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["large"], "bomb"))


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
        (add_large("ConstantOfShape", [1 << 20, 1 << 20]), "needs a tensor of 1.1e+12 values at 'bomb'"),
        (add_large("Expand", [1], [1 << 40]), "needs a tensor of 1.1e+12 values at 'bomb'"),
        (add_large("Tile", [1, 2], [1 << 40]), "needs a tensor of 2.2e+12 values at 'bomb'"),
        (add_large("Range", [0], [1 << 40], [1]), "needs a tensor of 1.1e+12 values at 'bomb'"),
        (add_outer_product, "needs a tensor of 1.1e+12 values at 'bomb'"),
        (add_large_function, "needs a tensor of 1.1e+12 values"),
        (add_sparse, "has a sparse tensor of 1099511627776 values"),
        (add_size_from_image, "whose size depends on the values of the image"),
        (add_hidden_size, "has a constant of unknown size at 'bomb'"),
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


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    model = blue_graph()
    misspell_an_operator(model)
    write_spec(model, SPEC)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString().replace(b"Identitz", b"Identit\xff"))
    with pytest.raises(ModelError, match="a name that is not UTF-8"):
        load_model(path)


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_bundled_models_are_accepted(name: str) -> None:
    load_model(bundled_models()[name])
