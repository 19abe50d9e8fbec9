"""Labels that a graph must not give are refused instead of being drawn and counted as some class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.doubles import blue_graph
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.backends import open_backend
from rtseg.errors import ModelError
from rtseg.model_file.spec import ModelSpec, write_spec

SPEC = ModelSpec("liar", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (4, 6))
BACKENDS = ("openvino", "onnxruntime")


def save(path: Path, offset: float = 0.0) -> Path:
    """Write a model whose labels are the blue values plus ``offset``."""
    model = blue_graph()
    cast = model.graph.node[-1]
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", [cast.input[0], "offset"], ["shifted"]))
    model.graph.node[-1].input[0] = "shifted"
    model.graph.initializer.append(numpy_helper.from_array(np.array(offset, np.float32), "offset"))
    write_spec(model, SPEC)
    onnx.save(model, path)
    return path


def frames(blue: int) -> NDArray[np.uint8]:
    return np.full((1, 4, 6, 3), blue, np.uint8)


@pytest.mark.parametrize("name", BACKENDS)
class TestClassIds:
    def test_one_beyond_the_classes_is_refused_with_the_id_and_the_model(self, name: str, tmp_path: Path) -> None:
        with open_backend(name, save(tmp_path / "a.onnx"), precision="fp32") as backend:
            assert backend.infer(frames(2)).max() == 2
            with pytest.raises(ModelError, match=r"liar gives the class ID 200, but has only the classes 0 to 2"):
                backend.infer(frames(200))

    def test_one_that_does_not_fit_into_its_type_is_refused(self, name: str, tmp_path: Path) -> None:
        with (
            open_backend(name, save(tmp_path / "a.onnx", 300.0), precision="fp32") as backend,
            pytest.raises(ModelError, match="liar gives the class ID"),
        ):
            backend.infer(frames(0))


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = blue_graph()
    model.graph.node[-1].output[0] = "plane of one row"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 6], np.int64), "one row"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "second"))
    slice_row = helper.make_node("Slice", ["plane of one row", "first", "second", "second"], ["labels"])
    model.graph.node.append(slice_row)
    write_spec(model, SPEC)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError):
        open_backend("onnxruntime", tmp_path / "a.onnx").infer(frames(0))
