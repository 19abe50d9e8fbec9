"""Quantizes a graph to INT8, with QuantizeLinear and DequantizeLinear (Q/DQ) pairs around the quantized nodes.

TensorRT and OpenVINO both read this form: symmetric int8 for activations (one scale per tensor) and weights (one scale
per channel), float biases. Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2, with zero points of 0; TensorRT developer guide, "Working with
Quantized Types", explicit quantization.
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
from rtseg.model_file.activation_ranges import Ranges, calibrate_hint, find_ranges
from rtseg.model_file.graph import copy_graph, fold_fp16_casts, is_quantized
from rtseg.model_file.histogram import Histogram
from rtseg.model_file.load import ModelFile

__all__ = ["METHODS", "quantizable_groups", "quantize", "record_ranges", "reject_sequence_model", "to_int8"]

METHODS = ("minmax", "entropy", "percentile")
_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "Add")
"""Quantized operators. ``Add`` is one of them so that a residual network does not convert between types."""
_GLOBAL_POOLING = ("GlobalAveragePool", "ReduceMean")
_LOG_NOTHING = logging.CRITICAL + 1
_PERCENTILE = 0.99999
"""Share of the values in the range of ``percentile``. Values outside are clipped."""


def to_int8(model: ModelFile) -> ModelFile:
    """Quantize ``model`` with the recorded ranges of its file; return it unchanged if it is quantized already.

    Raises:
        ModelError: it is a sequence model, or its ranges are missing or damaged.
        BackendUnavailable: ONNX Runtime, whose quantizer is used, is not installed.
    """
    if is_quantized(model.graph):
        return model
    reject_sequence_model(model)  # otherwise the error would be that its ranges are missing
    return quantize(model, find_ranges(model))


def quantizable_groups(model: ModelFile) -> dict[str, tuple[str, ...]]:
    """Return the nodes that can be quantized, grouped by input: tensor -> names of the nodes that read it.

    All other nodes stay in float: those before the first convolution (they normalize the images), the convolution that
    computes the logits and those after it (small differences decide there), convolutions of a single value per channel,
    and the averaging matrices of pyramid pooling (they take little time).
    """
    graph = copy_graph(model)
    fold_fp16_casts(graph)
    groups: dict[str, list[str]] = {}
    for node in _quantizable_nodes(graph):
        groups.setdefault(node.input[0], []).append(node.name)
    return {tensor: tuple(names) for tensor, names in groups.items()}


def quantize(model: ModelFile, ranges: Ranges) -> ModelFile:
    """Insert Q/DQ pairs into ``model``.

    Args:
        model: fp32, as loaded or resized by ``resize_input``.
        ranges: of its file. The nodes in ``kept`` stay in float.

    Raises:
        ModelError: it is quantized already, has nothing to quantize, or ``ranges`` lack a tensor of the graph.
        ProofError: ``ranges`` keep all nodes in float.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    _reject_quantized(model)
    quantizer, calibrate, types = _import_quantizer()
    graph = _prepare(model)
    nodes = [node.name for node in _quantizable_nodes(graph) if node.name not in ranges.kept_nodes]
    if not nodes:  # the quantizer would take an empty list as all nodes
        raise ProofError(f"INT8 does not suit {ranges.model}, all nodes are kept in float: use another --precision")
    tensors = _input_tensors([node for node in graph.graph.node if node.name in nodes])
    missing = sorted(set(tensors) - set(ranges.tensors))
    if missing:
        raise ModelError(f"the INT8 ranges of {ranges.model} lack {missing[0]!r}: {calibrate_hint(model)}")
    bounds = {name: tuple(np.float32(bound) for bound in ranges.tensors[name]) for name in tensors}
    data = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, bounds)
    with _silenced():
        work = quantizer.QDQQuantizer(
            graph,
            True,  # per_channel
            False,  # reduce_range
            types.QInt8,
            types.QInt8,
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
        work.model.topological_sort()  # the quantizer appends the pairs at the end
    quantized: onnx.ModelProto = work.model.model
    _pool_images_in_float(quantized, _before_first_convolution(graph))
    del quantized.graph.value_info[:]
    return ModelFile(model.path, model.spec, quantized)


def _pool_images_in_float(graph: onnx.ModelProto, before: set[str]) -> None:
    """Let average pooling of the images read the float tensor. OpenVINO is slower at averaging bytes.

    Args:
        graph: a quantized graph, in which every node reads the dequantized tensor.
        before: names of the nodes that normalize the images.
    """
    producers = {name: node for node in graph.graph.node for name in node.output}
    for node in graph.graph.node:
        dequantize = producers.get(node.input[0]) if node.op_type == "AveragePool" else None
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        source = producers[dequantize.input[0]].input[0]
        if source in producers and producers[source].name in before:
            node.input[0] = source


def record_ranges(
    model: ModelFile,
    images: Iterable[Image],
    method: str,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, tuple[float, float]]:
    """Run ``model`` on images and record the range of every tensor that can be quantized.

    Args:
        model: fp32.
        images: uint8 (H, W, C) of ``spec.size``, as ``Prepare`` returns them.
        method: ``minmax``: minimum and maximum; ``percentile``: the range of 99.999 % of the values; ``entropy``: the
            range that keeps most information. See ``Histogram``.
        on_progress: called with the number of images done.

    Returns:
        Tensor -> (low, high).

    Raises:
        OptionError: ``method`` is unknown.
        ModelError: the model is quantized already, is a sequence model, or has nothing to quantize; or there are no
            images.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    if method not in METHODS:
        raise OptionError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    _reject_quantized(model)
    reject_sequence_model(model)
    names = list(_input_tensors(_quantizable_nodes(_prepare(model))))
    session = _open_session(model, names)
    histograms = {name: Histogram(detailed=method != "minmax") for name in names}
    done = 0
    for done, image in enumerate(images, start=1):
        for name, values in zip(names, session.run(names, {"frames": image[None]}), strict=True):
            histograms[name].add(values)
        on_progress(done)
    if not done:
        raise ModelError(f"no image to record the ranges of {model.spec.name} on: give other --data")
    range_of: dict[str, Callable[[Histogram], tuple[float, float]]] = {
        "minmax": Histogram.minmax,
        "percentile": lambda histogram: histogram.percentile(_PERCENTILE),
        "entropy": Histogram.entropy,
    }
    return {name: range_of[method](histogram) for name, histogram in histograms.items()}


def _open_session(model: ModelFile, names: list[str]) -> Any:
    """Open the float model in ONNX Runtime, with the tensors ``names`` as additional outputs."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _no_onnxruntime() from error
    graph = _prepare(model)
    values = {value.name: value for value in graph.graph.value_info}
    graph.graph.output.extend(values[name] for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def reject_sequence_model(model: ModelFile) -> None:
    """Raise ModelError for a sequence model."""
    if model.state_shape is not None:
        raise ModelError(
            f"{model.spec.name} is a sequence model, which rtseg does not quantize: use another --precision than int8"
        )


def _reject_quantized(model: ModelFile) -> None:
    if is_quantized(model.graph):
        raise ModelError(f"{model.path} is quantized already: give the model file that it was made from")


def _prepare(model: ModelFile) -> onnx.ModelProto:
    """Copy the graph, with float32 kernels and the type and shape of every tensor, as the quantizer needs it."""
    graph = copy_graph(model)
    fold_fp16_casts(graph)
    return onnx.shape_inference.infer_shapes(graph)


def _quantizable_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that can be quantized, in the order of the graph."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    convolutions = [node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    if not convolutions:
        raise ModelError("the graph has no convolution: there is nothing to quantize")
    weights = {tensor.name for tensor in graph.graph.initializer}
    before = _before_first_convolution(graph)
    logits = _logits_node(producers)

    def adds_weights_or_pyramid(node: onnx.NodeProto) -> bool:
        return node.op_type == "Add" and any(
            name in weights or _is_pyramid_level(producers.get(name)) for name in node.input
        )

    nodes = [
        node
        for node in graph.graph.node
        if node.op_type in _OPERATORS
        and node.name not in before
        and node is not logits
        and not adds_weights_or_pyramid(node)
        and not _reads_global_pooling(node, producers)
    ]
    if not nodes:
        raise ModelError("the graph has no convolution but the last, which stays float: there is nothing to quantize")
    return nodes


def _input_tensors(nodes: Iterable[onnx.NodeProto]) -> dict[str, None]:
    """Return the activations that nodes read, in order and without duplicates."""
    return {name: None for node in nodes for name in node.input[: 2 if node.op_type == "Add" else 1]}


def _before_first_convolution(graph: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes before the first convolution."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    first = next(node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose"))
    names: set[str] = set()
    pending = list(first.input)
    while pending:
        producer = producers.get(pending.pop())
        if producer is not None and producer.name not in names:
            names.add(producer.name)
            pending.extend(producer.input)
    return names


def _logits_node(producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """Return the last convolution before the labels."""
    node = producers.get("labels")
    while node is not None and node.op_type not in ("Conv", "ConvTranspose"):
        node = producers.get(node.input[0])
    return node


def _is_pyramid_level(node: onnx.NodeProto | None) -> bool:
    """Return whether a node is a level of pyramid pooling, which INT8 makes inaccurate but hardly faster."""
    return node is not None and node.op_type == "MatMul"


def _reads_global_pooling(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    """Return whether a node computes on one value per channel, as in squeeze and excitation or image pooling."""
    producer = producers.get(node.input[0])
    while producer is not None and producer.op_type in ("Conv", "Relu", "HardSwish"):
        producer = producers.get(producer.input[0])
    return producer is not None and producer.op_type in _GLOBAL_POOLING


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppress prints and log messages of the quantizer, which do not concern the user's model."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(_LOG_NOTHING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _import_quantizer() -> tuple[Any, Any, Any]:
    """Import ONNX Runtime's modules ``qdq_quantizer`` and ``calibrate``, and its enum ``QuantType``."""
    try:
        from onnxruntime.quantization import QuantType, calibrate, qdq_quantizer
    except ImportError as error:
        raise _no_onnxruntime() from error
    return qdq_quantizer, calibrate, QuantType


def _no_onnxruntime() -> BackendUnavailable:
    return BackendUnavailable("INT8 needs the package 'onnxruntime': pip install 'rtseg[onnxruntime]'")
