"""The output ``margin`` of a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.small_network import SIZE, SPEC, small_graph, small_images, small_model
from onnx import helper

from rtseg.app.uncertainty import margin_uncertainty
from rtseg.backends import open_backend
from rtseg.deploy.export import write_margin
from rtseg.errors import BackendUnavailable, ModelError
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.margin import add_margin, remove_margin


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return small_model(tmp_path_factory.mktemp("small"))


def expected(model: ModelFile) -> np.ndarray:
    """The margins of ``small_images``, computed in numpy from the scores."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    graph.graph.output.append(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3, *SIZE]))
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = np.asarray(session.run(["logits"], {"frames": small_images()})[0], np.float64)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    highest = np.sort(shares / shares.sum(1, keepdims=True), 1)
    return 255 * (highest[:, -1] - highest[:, -2])


@pytest.mark.parametrize(("backend", "tolerance"), [("onnxruntime", 1), ("openvino", 1)])
def test_it_is_the_difference_of_the_two_highest_probabilities(model: ModelFile, backend: str, tolerance: int) -> None:
    with open_backend(backend, model, precision="fp32", margin=True) as opened:
        ticket = opened.submit(small_images())
        labels = opened.wait(ticket).copy()
        margins = opened.margins(ticket)
    assert margins is not None
    assert (margins.dtype, margins.shape) == (np.uint8, (4, *SIZE))
    assert np.abs(margins - expected(model)).max() <= tolerance
    with open_backend(backend, model, precision="fp32") as plain:
        ticket = plain.submit(small_images())
        np.testing.assert_array_equal(plain.wait(ticket), labels)
        assert plain.margins(ticket) is None


def test_a_file_with_it_gives_it_to_other_programs_and_is_plain_to_rtseg(model: ModelFile, tmp_path: Path) -> None:
    spec = write_margin(model.path, tmp_path / "sure.onnx")
    assert spec == SPEC
    session = ort.InferenceSession(tmp_path / "sure.onnx", providers=["CPUExecutionProvider"])
    labels, margin = session.run(None, {"frames": small_images()})
    assert [output.name for output in session.get_outputs()] == ["labels", "margin"]
    assert np.abs(margin - expected(model)).max() <= 1
    loaded = load_model(tmp_path / "sure.onnx")
    assert loaded.graph.SerializeToString() == model.graph.SerializeToString()
    with open_backend("openvino", loaded, precision="fp32") as backend:
        assert (backend.infer(small_images()) == labels).mean() > 0.999


def test_it_can_be_added_to_a_sequence_model(tmp_path: Path) -> None:
    model = small_model(tmp_path, recurrent=True)
    for name in ("onnxruntime", "openvino"):
        with open_backend(name, model, precision="fp32", margin=True) as backend:
            margins = []
            for image in small_images(2):
                ticket = backend.submit(image[None])
                backend.wait(ticket)
                margins.append(backend.margins(ticket).copy())  # type: ignore[union-attr]
        assert not np.array_equal(*margins)


def test_removing_it_leaves_the_graph_as_it_was() -> None:
    graph = small_graph()
    changed = add_margin(graph)
    assert len(changed.graph.node) > len(graph.graph.node)
    remove_margin(changed)
    assert changed.SerializeToString() == graph.SerializeToString()
    remove_margin(changed)
    assert changed.SerializeToString() == graph.SerializeToString()


def test_labels_that_are_no_highest_scores_have_none() -> None:
    graph = small_graph()
    next(node for node in graph.graph.node if node.op_type == "ArgMax").op_type = "ArgMin"
    with pytest.raises(ModelError, match="small: the labels are not the highest of scores: it can have no margin"):
        add_margin(graph)


def test_the_uncertainty_of_an_image_is_one_minus_the_mean(model: ModelFile) -> None:
    with open_backend("onnxruntime", model, margin=True) as backend:
        for image, margins in zip(small_images(), expected(model), strict=True):
            assert margin_uncertainty(backend, image) == pytest.approx(1 - margins.mean() / 255, abs=0.003)
    with (
        open_backend("onnxruntime", model) as backend,
        pytest.raises(BackendUnavailable, match="the onnxruntime backend does not tell how sure labels are"),
    ):
        margin_uncertainty(backend, small_images()[0])
