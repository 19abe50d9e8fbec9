from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rtseg.backends import open_backend
from rtseg.deploy.export import export_network
from rtseg.errors import OptionError
from rtseg.model_file.input_size import resize_input
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import ModelSpec
from rtseg.models.icnet import ICNet

OTHER = (96, 224)
"""The number of bins does not divide its feature map of 3x7, unlike the 2x3 of the file."""


@pytest.fixture(scope="module")
def exported(icnet: ICNet, tiny_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export at the other size."""
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    export_network(icnet, replace(tiny_spec, size=OTHER), path)
    return path


def saved(model: ModelFile, path: Path) -> Path:
    path.write_bytes(model.graph.SerializeToString())
    return path


def test_the_labels_are_those_of_a_fresh_export_at_that_size(icnet_file: Path, exported: Path, tmp_path: Path) -> None:
    resized = saved(resize_input(load_model(icnet_file), OTHER), tmp_path / "resized.onnx")
    patches = np.random.default_rng(3).integers(0, 256, (3, 12, 28, 3), dtype=np.uint8)
    frames: NDArray[np.uint8] = patches.repeat(8, 1).repeat(8, 2)
    with open_backend("onnxruntime", resized) as one, open_backend("onnxruntime", exported) as other:
        labels, expected = one.infer(frames), other.infer(frames)
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(labels, expected)


def test_there_and_back_again_gives_the_weights_of_the_file(icnet_file: Path) -> None:
    model = load_model(icnet_file)
    back = resize_input(resize_input(model, OTHER), model.spec.size)
    expected = {tensor.name: tensor.SerializeToString() for tensor in model.graph.graph.initializer}
    assert {tensor.name: tensor.SerializeToString() for tensor in back.graph.graph.initializer} == expected


def test_the_contract_holds_at_the_new_size_and_the_graph_is_valid(icnet_file: Path, tmp_path: Path) -> None:
    path = saved(resize_input(load_model(icnet_file), OTHER), tmp_path / "resized.onnx")
    loaded = load_model(path)
    assert loaded.spec.size == OTHER
    onnx.checker.check_model(loaded.graph, full_check=True)


def test_the_state_of_a_sequence_model_grows_with_the_image_and_the_contract_holds(
    sequence_file: Path, tmp_path: Path
) -> None:
    model = load_model(sequence_file)
    larger = resize_input(model, OTHER)
    assert (model.state_shape, larger.state_shape) == ((32, 2, 3), (32, 3, 7))
    onnx.checker.check_model(load_model(saved(larger, tmp_path / "resized.onnx")).graph, full_check=True)
    assert resize_input(larger, model.spec.size).state_shape == model.state_shape


def test_what_was_measured_at_the_old_size_is_left_out(icnet_file: Path) -> None:
    model = load_model(icnet_file)
    spec = resize_input(model, OTHER).spec
    assert model.spec.miou is not None
    assert (spec.miou, spec.measured_on, spec.extra) == (None, "", {})
    assert (spec.name, spec.classes, spec.licence) == (model.spec.name, model.spec.classes, model.spec.licence)


def test_the_model_that_was_loaded_stays_as_it_is(icnet_file: Path) -> None:
    model = load_model(icnet_file)
    before = model.graph.SerializeToString(deterministic=True)
    resize_input(model, OTHER)
    assert model.graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("size", "near"), [((100, 100), "96x96"), ((0, 0), "32x32"), ((96, 1), "96x32"), ((383, 640), "384x640")]
)
def test_a_size_that_is_no_multiple_of_32_is_refused_with_the_nearest(
    icnet_file: Path, size: tuple[int, int], near: str
) -> None:
    with pytest.raises(OptionError, match=rf"got {size[0]}x{size[1]}: try {near}$"):
        resize_input(load_model(icnet_file), size)


@pytest.mark.parametrize("operator", ["Reshape", "Expand", "Einsum", "Add", "ReduceSum"])
def test_a_graph_that_hangs_on_its_size_is_refused_with_the_next_step(icnet_file: Path, operator: str) -> None:
    model = load_model(icnet_file)
    for node in model.graph.graph.node:
        if node.op_type == "MatMul":  # e.g. a matrix of pyramid pooling, added to the map instead
            node.op_type = operator
    with pytest.raises(OptionError, match="runs only at its own size 64x96: export it again with --size 96x224"):
        resize_input(model, OTHER)


def test_a_graph_whose_matrices_were_merged_is_refused(icnet_file: Path) -> None:
    model = load_model(icnet_file)
    for node in model.graph.graph.node:
        for place, name in enumerate(node.input):
            if name.endswith("rows_6"):
                node.input[place] = name.replace("rows_6", "rows_2")
    with pytest.raises(OptionError, match="export it again with --size 96x224"):
        resize_input(model, OTHER)
