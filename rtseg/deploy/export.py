"""Exports a torch network to a model file, and verifies that both predict the same labels."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from rtseg.backends import open_backend
from rtseg.deploy.options import PriorCorrection
from rtseg.deploy.prior_correction import correct_network
from rtseg.errors import CheckpointError, MissingExtra, ModelError
from rtseg.image_io.decode import image_channels
from rtseg.model_file.background import store_backgrounds
from rtseg.model_file.load import load_model
from rtseg.model_file.margin import add_margin
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.models import channels_of
from rtseg.models.base import Network
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm
from rtseg.preprocess import Prepare, resize
from rtseg.synthetic.street import Street
from rtseg.synthetic.variants import with_extra_channel
from rtseg.system.atomic_files import atomic_path, locked_output, sink_errors
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint

__all__ = ["export_checkpoint", "export_network", "silenced", "write_margin"]

_OPSET = 18
_MIN_AGREEMENT = 0.9995
"""Minimum share of pixels on which the file and torch must agree, both in fp32."""
_VERIFICATION_FRAMES = 4
"""Frames of each synthetic street, for a sequence model."""
_VERIFICATION_FPS = 10.0


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    name: str | None = None,
    size: tuple[int, int] | None = None,
    correction: PriorCorrection | None = None,
) -> ModelSpec:
    """Export a training checkpoint to a model file.

    Args:
        checkpoint: ``best.safetensors`` or ``last.safetensors`` of a run folder.
        output: the ``.onnx`` file to write.
        name: name of the model; the stem of ``output`` by default.
        size: (H, W) of its input, in pixels; the size of the evaluation in training by default.
        correction: of the effect of class weights in training. The measured mIoU is then left out.

    Returns:
        The metadata of the file.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        OptionError: the network does not support ``size``, the background image of its preprocessing is missing, or
            its class weights are not known.
        ModelError: the file disagrees with torch, or a preprocessing step is unknown.
        SinkError: the file cannot be written.
    """
    state = load_checkpoint(checkpoint)
    network = network_from_checkpoint(state, checkpoint)
    spec = _make_spec(state, checkpoint, name or output.stem, size)
    network.check_size(*spec.size)
    if correction is not None and correction.alpha:
        facts = correct_network(network, state, correction)
        extra = {key: value for key, value in spec.extra.items() if key != "iou"} | facts
        spec = replace(spec, miou=None, measured_on="", extra=extra)
    Prepare(spec)  # raises an error for an unknown preprocessing step
    with sink_errors(output):
        stored = store_backgrounds(spec, output)
    export_network(network, stored, output)
    return spec


def _make_spec(state: dict[str, Any], path: Path, name: str, size: tuple[int, int] | None) -> ModelSpec:
    try:
        trained_size = tuple(state["size"])
        size = size or trained_size
        is_measured = state["scores"] is not None and size == trained_size
        measured_on = f"{state['validated_on']}, input {size[0]}x{size[1]}"
        if is_measured:
            measured_on += _left_out(state["scores"]["iou"])
        return ModelSpec(
            name=name,
            classes=tuple(state["classes"]),
            palette=tuple(tuple(colour) for colour in state["palette"]),
            size=size,
            channels=image_channels(channels_of(state["architecture"])),
            preprocess=tuple(state["preprocess"]),
            architecture=state["architecture"],
            trained_on=state["trained_on"],
            licence=state["licence"],
            miou=state["scores"]["miou"] if is_measured else None,
            measured_on=measured_on if is_measured else "",
            extra={key: state[key] for key in ("recipe", "epoch", "hours")}
            | {key: state[key] for key in ("class_weights",) if state.get(key)}
            | ({"iou": state["scores"]["iou"]} if is_measured else {}),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{path} lacks metadata of a model file ({error}): train with this version of rtseg"
        ) from error


def _left_out(iou: dict[str, float | None]) -> str:
    """Name the classes that the mean does not contain, because the validation data have no pixel of them."""
    names = [name for name, value in iou.items() if value is None]
    return f", without the absent {', '.join(names)}" if names else ""


def export_network(network: Network, spec: ModelSpec, output: Path) -> None:
    """Write ``network`` as a model file with weights stored as fp16. The file is verified before it gets its name.

    Raises:
        ModelError: the file and torch disagree on more than 0.05 % of the pixels of synthetic streets (a few frames of
            each for a sequence model).
        SinkError: the file cannot be written.
        MissingExtra: the exporter's package is not installed.
    """
    with sink_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with locked_output(output, f"model {output}"), sink_errors(output), atomic_path(output) as part:
        _write_and_verify(network, spec, part)


def write_margin(path: Path, output: Path) -> ModelSpec:
    """Write a model file with the output ``margin``, see ``rtseg.model_file.margin``.

    Args:
        path: a model file.
        output: the ``.onnx`` file to write; it may be ``path``.

    Returns:
        The metadata of the file.

    Raises:
        ModelError: the file cannot be used, or its scores cannot be found.
        SinkError: the file cannot be written.
    """
    model = load_model(path)
    graph = add_margin(model.graph)
    onnx.checker.check_model(graph)
    with locked_output(output, f"model {output}"), sink_errors(output), atomic_path(output) as part:
        part.write_bytes(graph.SerializeToString())
    return model.spec


def _write_and_verify(network: Network, spec: ModelSpec, part: Path) -> None:
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise ModelError(f"{spec.name} has weights that are NaN or infinite: its training failed, train again")
    fused_network = fuse_batch_norm(network)
    _round_kernels(fused_network)
    fused_network.fix_size(*spec.size)
    fused = LabelNetwork(fused_network).eval()
    model = _trace(fused, spec.size)
    _store_float16(model)
    _strip(model)
    write_spec(model, spec)
    onnx.checker.check_model(model)
    part.write_bytes(model.SerializeToString())
    _verify(part, fused, spec.size)


def _trace(network: LabelNetwork, size: tuple[int, int]) -> onnx.ModelProto:
    """Export ``network`` to a graph in which every parameter and buffer has its own name.

    The exporter merges equal tensors and drops biases of zeros. Their names would be lost, but loading the file in
    torch and changing its size need them. So random values are exported, which all differ, and replaced afterwards.
    """
    randomized = deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in chain(randomized.parameters(), randomized.buffers()):
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    model = _export(randomized, size)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if name not in stored:
            raise ModelError(f"the exporter dropped {name} from the graph: nothing was written")
        stored[name].CopyFrom(numpy_helper.from_array(tensor.detach().numpy(), name))
    return model


def _export(network: LabelNetwork, size: tuple[int, int]) -> onnx.ModelProto:
    channels = image_channels(network.network.channels)
    example: tuple[Tensor, ...] = (torch.zeros((2, *size, channels), dtype=torch.uint8),)
    recurrent = network.network.recurrent
    if recurrent:
        example = (*example, torch.zeros((2, *network.network.state_shape(*size))))
    batch = torch.export.Dim("N", min=1, max=1024)
    try:
        with warnings.catch_warnings(), silenced():
            warnings.simplefilter("ignore")  # they are about the exporter itself
            program = torch.onnx.export(
                network,
                example,
                input_names=["frames", "state"] if recurrent else ["frames"],
                output_names=["labels", "next_state"] if recurrent else ["labels"],
                dynamic_shapes=tuple({0: batch} for _ in example),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("the ONNX exporter", error.name, "train") from error
    assert program is not None  # always true with dynamo=True
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress prints and log messages of the exporter, which do not concern the user's model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # noqa: PTH123
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _round_kernels(network: Network) -> None:
    """Round kernels to fp16 before the export, so that torch and the file have the same weights."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            rounded = module.weight.half().float()
            if rounded.isfinite().all():
                module.weight.copy_(rounded)


def _store_float16(model: onnx.ModelProto) -> None:
    """Store kernels of convolutions as fp16 with a cast to fp32, which halves the file. The arithmetic stays fp32."""
    kernels = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")}
    casts = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.name not in kernels or tensor.data_type != TensorProto.FLOAT or not _fits_float16(values):
            continue
        float_name = f"{tensor.name}.fp32"
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name == tensor.name:
                    node.input[index] = float_name
        casts.append(helper.make_node("Cast", [tensor.name], [float_name], f"{tensor.name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # The recorded types of intermediate tensors are no longer correct.
    del model.graph.value_info[:]


def _fits_float16(values: NDArray[Any]) -> bool:
    return bool(np.abs(values).max() < np.finfo(np.float16).max)


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes about the Python source: half a megabyte, with paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""


def _verify(path: Path, reference: LabelNetwork, size: tuple[int, int]) -> None:
    """Compare the file with torch on frames of a few synthetic streets."""
    recurrent = reference.network.recurrent
    frames_per_street = _VERIFICATION_FRAMES if recurrent else 1
    agreements: list[float] = []
    with open_backend("openvino", path, precision="fp32") as backend, torch.no_grad():
        for seed in range(4):
            street = Street((540, 960), seed=seed)
            backend.reset()
            state: Tensor | None = None
            for index in range(frames_per_street):
                image = resize(street.render(3.0 * seed + index / _VERIFICATION_FPS)[0], size)
                frames = with_extra_channel(image, backend.spec.channels)[None]
                if recurrent:
                    labels, state = reference(torch.from_numpy(frames), state)
                else:
                    labels = reference(torch.from_numpy(frames))
                agreements.append(float((labels.numpy() == backend.infer(frames)).mean()))
    agreement = float(np.mean(agreements))
    if agreement < _MIN_AGREEMENT:
        raise ModelError(f"the exported graph and torch agree on only {agreement:.2%} of pixels: nothing was written")
