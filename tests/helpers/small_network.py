"""A small model file that is quantized quickly: four convolutions, one of them parallel to a shortcut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import VOID, ModelSpec, write_spec
from rtseg.system.opencv import cv2

SIZE = (32, 48)
SPEC = ModelSpec("small", ("one", "two", "three"), ((0, 0, 0), (9, 9, 9), (99, 99, 99)), SIZE)
INNER = ("body", "left", "right")
"""The nodes that can be quantized, without the first convolution; ``sum`` adds the results of the last two."""


def small_graph(*, recurrent: bool = False) -> onnx.ModelProto:
    """``frames`` -> stem -> body -> left + right -> logits -> ``labels``, with constant weights.

    Args:
        recurrent: make it a sequence model: ``state`` is added to ``right``, ``next_state`` is the input of the logits.
    """
    random = np.random.default_rng(3)
    weights = {
        "stem": random.normal(0, 0.3, (8, 3, 3, 3)),
        "body": random.normal(0, 0.2, (8, 8, 3, 3)),
        "left": random.normal(0, 0.2, (8, 8, 3, 3)),
        "right": random.normal(0, 0.4, (8, 8, 1, 1)),
        "logits": random.normal(0, 0.5, (3, 8, 1, 1)),
    }
    stored = [numpy_helper.from_array(np.float32(1 / 64).reshape(1, 1, 1, 1), "scale")]
    for name, kernel in weights.items():
        stored.append(numpy_helper.from_array(kernel.astype(np.float16), f"{name}.weight"))
        stored.append(numpy_helper.from_array(random.normal(0, 0.1, len(kernel)).astype(np.float32), f"{name}.bias"))
    seen = "next_state" if recurrent else "sum.relu"
    nodes = [
        *(
            helper.make_node("Cast", [f"{n}.weight"], [f"{n}.weight.fp32"], f"{n}.widen", to=TensorProto.FLOAT)
            for n in weights
        ),
        helper.make_node("Cast", ["frames"], ["pixels"], "pixels", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "scaled"),
        _convolution("stem", "scaled", 3),
        helper.make_node("Relu", ["stem"], ["stem.relu"], "stem.relu"),
        _convolution("body", "stem.relu", 3),
        helper.make_node("Relu", ["body"], ["body.relu"], "body.relu"),
        _convolution("left", "body.relu", 3),
        _convolution("right", "stem.relu", 1),
        *([helper.make_node("Add", ["right", "state"], ["memory"], "memory")] if recurrent else []),
        helper.make_node("Add", ["left", "memory" if recurrent else "right"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], [seen], "sum.relu"),
        _convolution("logits", seen, 1),
        helper.make_node("ArgMax", ["logits"], ["best"], "best", axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["labels"], "labels", to=TensorProto.UINT8),
    ]
    height, width = SIZE
    names = ("state", "next_state") if recurrent else ()
    states = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8, height, width]) for name in names]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", height, width, 3]), *states[:1]],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", height, width]), *states[1:]],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    write_spec(model, SPEC)
    return model


def _convolution(name: str, source: str, kernel: int) -> onnx.NodeProto:
    edge = [kernel // 2] * 4
    return helper.make_node("Conv", [source, f"{name}.weight.fp32", f"{name}.bias"], [name], name, pads=edge)


def small_model(folder: Path, *, recurrent: bool = False) -> ModelFile:
    """Write the graph to a file and load it."""
    path = folder / "small.onnx"
    path.write_bytes(small_graph(recurrent=recurrent).SerializeToString())
    return load_model(path)


def small_images(count: int = 4) -> NDArray[np.uint8]:
    """Return noise in patches, uint8 (count, 32, 48, 3), always the same."""
    patches = np.random.default_rng(7).integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)
    return patches.repeat(4, 1).repeat(4, 2)


def small_data(model: ModelFile, folder: Path, count: int = 24) -> str:
    """Write images labelled by the float model itself, void where its logits are close; return ``KIND:PATH``."""
    from rtseg.backends import open_backend

    random = np.random.default_rng(5)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    with open_backend("onnxruntime", model.path, precision="fp32") as backend:
        for number, image in enumerate(small_images(count)):
            noisy = image.astype(np.float64) + random.normal(0, 6, (8, *image.shape))
            labels = backend.infer(np.concatenate((image[None], np.clip(noisy, 0, 255).astype(np.uint8))))
            mask = np.where((labels == labels[0]).all(0), labels[0], VOID)
            cv2.imwrite(str(folder / "images" / f"{number:03}.png"), image)
            cv2.imwrite(str(folder / "masks" / f"{number:03}.png"), mask)
    return f"pairs:{folder}/images,{folder}/masks,classes={'+'.join(SPEC.classes)},void={VOID}"
