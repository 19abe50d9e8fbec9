from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.upsample_candidates import upsample_candidates
from rtseg.system.opencv import cv2

CLASSES, HEIGHT, WIDTH, FACTOR = 40, 12, 20, 4
SIZE = (HEIGHT * FACTOR, WIDTH * FACTOR)


def graph(*, by_sizes: bool = False, classes: int = CLASSES, coordinates: str = "half_pixel") -> onnx.ModelProto:
    """Scores -> labels."""
    constants = {
        "scales": np.array([1, 1, FACTOR, FACTOR], np.float32),
        "sizes": np.array([1, classes, *SIZE]),
    }
    inputs = ["scores", "", "", "sizes"] if by_sizes else ["scores", "", "scales"]
    nodes = [
        helper.make_node("Resize", inputs, ["up"], mode="linear", coordinate_transformation_mode=coordinates),
        helper.make_node("ArgMax", ["up"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["labels"], to=TensorProto.UINT8),
    ]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes, HEIGHT, WIDTH])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, *SIZE])
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in inputs]
    made = helper.make_graph(nodes, "tail", [scores], [labels], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def smooth_scores(seed: int, sigma: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    planes = [
        cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32), (0, 0), sigma) for _ in range(CLASSES)
    ]
    return 10 * np.stack(planes)[None] - np.where(rng.random(CLASSES) < 0.7, 8, 0).astype(np.float32)[:, None, None]


def run(model: onnx.ModelProto, scores: np.ndarray, *extra: str) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["labels", *extra], {"scores": scores.astype(np.float32)})


@pytest.mark.parametrize("by_sizes", [False, True])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "pytorch_half_pixel"])
def test_the_labels_are_exactly_those_of_all_classes(by_sizes: bool, coordinates: str) -> None:
    model = graph(by_sizes=by_sizes, coordinates=coordinates)
    fast = upsample_candidates(model)
    onnx.checker.check_model(fast)
    assert any(node.op_type == "NonZero" for node in fast.graph.node)
    for seed in range(4):
        for scores in (smooth_scores(seed), np.random.default_rng(seed).standard_normal((1, CLASSES, HEIGHT, WIDTH))):
            assert (run(fast, scores)[0] == run(model, scores)[0]).all()


def test_few_classes_are_upsampled_where_few_can_win() -> None:
    fast = upsample_candidates(graph())
    fast.graph.output.append(helper.make_tensor_value_info("candidates.ids", TensorProto.INT64, [None]))
    scores = smooth_scores(0)
    labels, ids = run(fast, scores, "candidates.ids")
    assert set(np.unique(labels)) <= set(ids.tolist())
    assert len(ids) < CLASSES // 2


def test_a_class_that_wins_only_between_the_scores_is_not_lost() -> None:
    scores = np.full((1, CLASSES, HEIGHT, WIDTH), -9, np.float32)
    scores[:, 3, :, ::2], scores[:, 3, :, 1::2] = 5, 0
    scores[:, 8, :, ::2], scores[:, 8, :, 1::2] = 0, 5
    scores[:, 30] = 4
    assert 30 not in scores.argmax(1)
    labels = run(upsample_candidates(graph()), scores)[0]
    assert set(np.unique(labels)) == {3, 8, 30}
    assert (labels == run(graph(), scores)[0]).all()


def test_equal_scores_give_the_first_class() -> None:
    scores = np.zeros((1, CLASSES, HEIGHT, WIDTH), np.float32)
    assert (run(upsample_candidates(graph()), scores)[0] == 0).all()


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_openvino_gives_the_same_labels_frame_after_frame(precision: str) -> None:
    core = ov.Core()
    requests = [
        core.compile_model(
            core.read_model(model.SerializeToString(), b""), "CPU", {"INFERENCE_PRECISION_HINT": precision}
        ).create_infer_request()
        for model in (graph(), upsample_candidates(graph()))
    ]
    for seed in range(5):
        labels = [request.infer({"scores": smooth_scores(seed, 1 + seed)})["labels"].copy() for request in requests]
        assert (labels[0] == labels[1]).all()


def test_other_ends_stay_as_they_are() -> None:
    few = graph(classes=20)
    assert upsample_candidates(few) is few
    nearest = graph()
    next(each for each in nearest.graph.node[0].attribute if each.name == "mode").s = b"nearest"
    assert upsample_candidates(nearest) is nearest
    smaller = graph()
    smaller.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1, 1, 0.5, 0.5], np.float32), "scales"))
    assert upsample_candidates(smaller) is smaller
