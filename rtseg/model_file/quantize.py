"""INT8 in the graph itself: pairs of QuantizeLinear and DequantizeLinear around what is computed in eight bits.

The form is the one that TensorRT's parser and OpenVINO both read: symmetric int8 for activations (one scale a tensor)
and weights (one scale a channel), biases left in float. Source: Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 2, with zero points of 0; TensorRT's
developer guide, "Working with Quantized Types", explicit quantization.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx

from rtseg.errors import BackendUnavailable, ModelError, OptionError, ProofError
from rtseg.frame import Image
from rtseg.model_file.activation_ranges import Ranges, calibrate_command, find_ranges
from rtseg.model_file.graph import copy_of, fold_kernels, is_quantised
from rtseg.model_file.histogram import Histogram
from rtseg.model_file.load import ModelFile

__all__ = ["METHODS", "groups", "int8_model", "quantize", "record", "refuse_sequence"]

METHODS = ("minmax", "entropy", "percentile")
_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "Add")
"""What is computed in eight bits. Sums, too: else the values of a residual network go to and fro between types."""
_GLOBAL = ("GlobalAveragePool", "ReduceMean")
_SILENT = logging.CRITICAL + 1
_SHARE = 0.99999
"""Of the values that ``percentile`` keeps: what is beyond is clipped."""


def int8_model(model: ModelFile) -> ModelFile:
    """``model`` itself if its graph is quantised already, else quantised with the ranges that belong to its file.

    Raises:
        ModelError: it is a sequence model, there are no ranges for its file, or they are damaged.
        BackendUnavailable: ONNX Runtime, whose quantizer does the work, is not installed.
    """
    if is_quantised(model.graph):
        return model
    refuse_sequence(model)  # before it is said to lack ranges, which it cannot have
    return quantize(model, find_ranges(model))


def groups(model: ModelFile) -> dict[str, tuple[str, ...]]:
    """What can be left in float: tensor -> names of the nodes to be quantised that read it.

    Left in float anyway: all before the first convolution (images are brought to the range of the network there), the
    convolution that gives the logits and all behind it (their differences decide), convolutions of a single value a
    channel, and the averaging matrices of pyramid pooling (they cost next to nothing).
    """
    graph = copy_of(model)
    fold_kernels(graph)
    found: dict[str, list[str]] = {}
    for node in _quantisable(graph):
        found.setdefault(node.input[0], []).append(node.name)
    return {tensor: tuple(names) for tensor, names in found.items()}


def quantize(model: ModelFile, ranges: Ranges) -> ModelFile:
    """``model`` with Q/DQ pairs.

    Args:
        model: fp32, as loaded or as ``at_size`` gives it.
        ranges: of its file; what they name as ``kept`` stays in float.

    Raises:
        ModelError: it is quantised already, has nothing to quantise, or ranges lack a tensor of the graph.
        ProofError: the ranges leave all of it in float.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    _refuse_quantised(model)
    quantizer, calibrate, kinds = _import_quantizer()
    graph = _prepared(model)
    nodes = [node.name for node in _quantisable(graph) if node.name not in ranges.kept_nodes]
    if not nodes:  # which the quantizer would take for all
        raise ProofError(f"INT8 does not suit {ranges.model}, all of it is to stay in float: use another --precision")
    needed = _read_by([node for node in graph.graph.node if node.name in nodes])
    missing = sorted(set(needed) - set(ranges.tensors))
    if missing:
        raise ModelError(f"the INT8 ranges of {ranges.model} lack {missing[0]!r}: {calibrate_command(model)}")
    recorded = {name: tuple(np.float32(bound) for bound in ranges.tensors[name]) for name in needed}
    data = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, recorded)
    with _quiet():
        work = quantizer.QDQQuantizer(
            graph,
            True,  # a scale for each channel of the weights
            False,  # all eight bits
            kinds.QInt8,
            kinds.QInt8,
            data,
            nodes,
            [],
            list(_OPERATORS),
            {
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(_OPERATORS),
            },
        )
        work.quantize_model()
        work.model.topological_sort()  # the pairs were put at the end
    quantised: onnx.ModelProto = work.model.model
    _average_images_in_float(quantised, _before(graph))
    del quantised.graph.value_info[:]
    return ModelFile(model.path, model.spec, quantised)


def _average_images_in_float(graph: onnx.ModelProto, before: set[str]) -> None:
    """Let what makes images smaller read them before they are rounded: OpenVINO is slower at averaging bytes.

    Args:
        graph: quantised; the quantizer has every reader of a tensor read the rounded one.
        before: names of the nodes that bring images to the range of the network.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    for node in graph.graph.node:
        pair = makers.get(node.input[0]) if node.op_type == "AveragePool" else None
        if pair is None or pair.op_type != "DequantizeLinear":
            continue
        source = makers[pair.input[0]].input[0]
        if source in makers and makers[source].name in before:
            node.input[0] = source


def record(
    model: ModelFile,
    images: Iterable[Image],
    method: str,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, tuple[float, float]]:
    """Run ``model`` over images and note the range of every tensor that may be quantised.

    Args:
        model: fp32.
        images: uint8 (H, W, C) of ``spec.size``, as ``Prepare`` makes them.
        method: ``minmax``: the least and the greatest value; ``percentile``: what holds 99.999 % of the values;
            ``entropy``: what tells most about them; see ``Histogram``.
        on_progress: called with the number of images done.

    Raises:
        OptionError: the method is not known.
        ModelError: the model is quantised already, is a sequence model, or has nothing to quantise; or no image is
            given.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    if method not in METHODS:
        raise OptionError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    _refuse_quantised(model)
    refuse_sequence(model)
    names = list(_read_by(_quantisable(_prepared(model))))
    session = _session(model, names)
    histograms = {name: Histogram(detailed=method != "minmax") for name in names}
    done = 0
    for done, image in enumerate(images, start=1):
        for name, values in zip(names, session.run(names, {"frames": image[None]}), strict=True):
            histograms[name].add(values)
        on_progress(done)
    if not done:
        raise ModelError(f"no image to record the ranges of {model.spec.name} on: give other --data")
    ends: dict[str, Callable[[Histogram], tuple[float, float]]] = {
        "minmax": Histogram.minmax,
        "percentile": lambda histogram: histogram.percentile(_SHARE),
        "entropy": Histogram.entropy,
    }
    return {name: ends[method](histogram) for name, histogram in histograms.items()}


def _session(model: ModelFile, names: list[str]) -> Any:
    """The float model in ONNX Runtime, with the tensors ``names`` as outputs."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _unavailable() from error
    graph = _prepared(model)
    there = {value.name: value for value in graph.graph.value_info}
    graph.graph.output.extend(there[name] for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def refuse_sequence(model: ModelFile) -> None:
    """Raises ModelError for a sequence model."""
    if model.state_shape is not None:
        raise ModelError(
            f"{model.spec.name} is a sequence model, which rtseg does not quantise: use another --precision than int8"
        )


def _refuse_quantised(model: ModelFile) -> None:
    if is_quantised(model.graph):
        raise ModelError(f"{model.path} is quantised already: give the model file that it was made of")


def _prepared(model: ModelFile) -> onnx.ModelProto:
    """A copy with float32 kernels, and with the type and shape of every tensor, as the quantizer wants it."""
    graph = copy_of(model)
    fold_kernels(graph)
    return onnx.shape_inference.infer_shapes(graph)


def _quantisable(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that may be computed in eight bits, in the order of the graph."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    convolutions = [node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    if not convolutions:
        raise ModelError("the graph has no convolution: there is nothing to quantise")
    weights = {tensor.name for tensor in graph.graph.initializer}
    before = _before(graph)
    logits = _logits(graph, makers)
    found = [
        node
        for node in graph.graph.node
        if node.op_type in _OPERATORS
        and node.name not in before
        and node is not logits
        and not (node.op_type == "Add" and any(name in weights or _is_pyramid(makers.get(name)) for name in node.input))
        and not _is_single(node, makers)
    ]
    if not found:
        raise ModelError("the graph has no convolution but the last, which stays float: there is nothing to quantise")
    return found


def _read_by(nodes: Iterable[onnx.NodeProto]) -> dict[str, None]:
    """The tensors, other than weights, that nodes read, in their order."""
    return {name: None for node in nodes for name in node.input[: 2 if node.op_type == "Add" else 1]}


def _before(graph: onnx.ModelProto) -> set[str]:
    """Names of the nodes before the first convolution."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    first = next(node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose"))
    return _upstream(first, makers)


def _upstream(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Names of all nodes that a node hangs on."""
    found: set[str] = set()
    waiting = list(node.input)
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.name not in found:
            found.add(maker.name)
            waiting.extend(maker.input)
    return found


def _logits(graph: onnx.ModelProto, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The last convolution before the labels."""
    node = makers.get("labels")
    while node is not None and node.op_type not in ("Conv", "ConvTranspose"):
        node = makers.get(node.input[0])
    return node


def _is_pyramid(node: onnx.NodeProto | None) -> bool:
    """Whether a node is a level of pyramid pooling, or a sum of some: linear maps that lose much and cost little."""
    return node is not None and node.op_type == "MatMul"


def _is_single(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a node works on one value a channel: what squeeze and excitation, and image pooling, do with a mean."""
    maker = makers.get(node.input[0])
    while maker is not None and maker.op_type in ("Conv", "Relu", "HardSwish"):
        maker = makers.get(maker.input[0])
    return maker is not None and maker.op_type in _GLOBAL


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer's prints and log lines are about itself, not about the user's model."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(_SILENT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _import_quantizer() -> tuple[Any, Any, Any]:
    """The modules of ONNX Runtime's quantizer, and the table of its types."""
    try:
        from onnxruntime.quantization import QuantType, calibrate, qdq_quantizer
    except ImportError as error:
        raise _unavailable() from error
    return qdq_quantizer, calibrate, QuantType


def _unavailable() -> BackendUnavailable:
    return BackendUnavailable("INT8 needs the package 'onnxruntime': pip install 'rtseg[onnxruntime]'")
