"""torch -> model file: head and tail are put around a network, and the file must agree with torch before it is kept."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
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
from rtseg.datasets.synthetic import with_extra_channel
from rtseg.errors import CheckpointError, MissingExtra, ModelError
from rtseg.image_io.decode import image_channels
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.models import channels_of
from rtseg.models.base import Network
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm
from rtseg.preprocess import Prepare, resize
from rtseg.synthetic.street import Street
from rtseg.system.atomic_files import atomic_path, check_writable, sink_errors
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint

__all__ = ["export_checkpoint", "export_network"]

_OPSET = 18
_MIN_AGREEMENT = 0.9995
"""Share of pixels on which the file must agree with torch fp32."""
_PROOF_FRAMES = 4
_PROOF_FPS = 10.0
"""Of each street, where a state is carried from frame to frame."""


def export_checkpoint(
    checkpoint: Path, output: Path, *, name: str | None = None, size: tuple[int, int] | None = None
) -> ModelSpec:
    """Make a model file of a training checkpoint.

    Args:
        checkpoint: ``best.safetensors`` or ``last.safetensors`` of a run folder.
        output: the ``.onnx`` file to write.
        name: what the model is called; the stem of ``output`` unless given.
        size: (H, W) of its input, in pixels; the size it was evaluated at in training unless given.

    Returns:
        The metadata that the file holds.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        OptionError: the network cannot take ``size``, or the background image of its preprocessing is not there.
        ModelError: the file disagrees with torch, or a step of its preprocessing is not known.
        SinkError: the file cannot be written.
    """
    state = load_checkpoint(checkpoint)
    network = network_from_checkpoint(state, checkpoint)
    spec = _spec_from(state, checkpoint, name or output.stem, size)
    network.check_size(*spec.size)
    Prepare(spec)  # a step that nobody can take must not get into a model file
    export_network(network, spec, output)
    return spec


def _spec_from(state: dict[str, Any], path: Path, name: str, size: tuple[int, int] | None) -> ModelSpec:
    try:
        trained_size = tuple(state["size"])
        size = size or trained_size
        same = state["scores"] is not None and size == trained_size
        where = f"{state['validated_on']}, input {size[0]}x{size[1]}"
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
            miou=state["scores"]["miou"] if same else None,
            measured_on=where if same else "",
            extra={key: state[key] for key in ("recipe", "epoch", "hours")}
            | ({"iou": state["scores"]["iou"]} if same else {}),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path} lacks what a model file must say ({error}): train with this rtseg") from error


def export_network(network: Network, spec: ModelSpec, output: Path) -> None:
    """Write ``network`` as a model file with fp16-stored weights; it appears under its name only once proven.

    Raises:
        ModelError: the file disagrees with torch on more than 0.05 % of the pixels of drawn streets, of which a
            sequence model sees a few frames each.
        SinkError: the file cannot be written.
        MissingExtra: the exporter's package is not installed.
    """
    with sink_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(output, str(output))  # before the work, not after it
    with sink_errors(output), atomic_path(output) as part:
        _make(network, spec, part)


def _make(network: Network, spec: ModelSpec, part: Path) -> None:
    """Write the model file under the name ``part``, and prove it."""
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise ModelError(f"{spec.name} has weights that are no numbers: its training broke, train again")
    fused_network = fuse_batch_norm(network)
    _round_kernels(fused_network)
    fused_network.fix_size(*spec.size)
    fused = LabelNetwork(fused_network).eval()
    model = _trace(fused, spec.size)
    _store_half(model)
    _strip(model)
    write_spec(model, spec)
    onnx.checker.check_model(model)
    part.write_bytes(model.SerializeToString())
    _prove(part, fused, spec.size)


def _trace(network: LabelNetwork, size: tuple[int, int]) -> onnx.ModelProto:
    """The graph of ``network``, every parameter and buffer in it under its own name.

    The exporter merges tensors that are equal and drops biases of zeros, which would lose names and, with them, the
    way back to torch and to other sizes. So it sees stand-ins that are all different; the values follow afterwards.
    """
    stand_in = deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in chain(stand_in.parameters(), stand_in.buffers()):
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    model = _export(stand_in, size)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if name not in stored:
            raise ModelError(f"the exporter left {name} out of the graph: not written")
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
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # about the exporter's own internals
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
    assert program is not None  # with dynamo=True it always is
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's log lines and prints are about itself, not about the user's model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):  # noqa: PTH123
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _round_kernels(network: Network) -> None:
    """Round to fp16 before tracing: storing loses nothing then, and torch and the file hold the same numbers."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            rounded = module.weight.half().float()
            if rounded.isfinite().all():
                module.weight.copy_(rounded)


def _store_half(model: onnx.ModelProto) -> None:
    """Keep the kernels of convolutions as fp16, cast back at load: half the file, and the arithmetic stays fp32."""
    kernels = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")}
    casts = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.name not in kernels or tensor.data_type != TensorProto.FLOAT or not _fits_half(values):
            continue
        widened = f"{tensor.name}.fp32"
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                if name == tensor.name:
                    node.input[place] = widened
        casts.append(helper.make_node("Cast", [tensor.name], [widened], f"{tensor.name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # Shapes and types that the exporter wrote down inside no longer hold for the halved tensors.
    del model.graph.value_info[:]


def _fits_half(values: NDArray[Any]) -> bool:
    return bool(np.abs(values).max() < np.finfo(np.float16).max)


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about the Python source: half a megabyte, and paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""


def _prove(path: Path, reference: LabelNetwork, size: tuple[int, int]) -> None:
    """Compare the file with torch on the frames of a few streets, the state carried from one to the next."""
    recurrent = reference.network.recurrent
    moments = range(_PROOF_FRAMES) if recurrent else range(1)
    agreements: list[float] = []
    with open_backend("openvino", path, precision="fp32") as backend, torch.no_grad():
        for seed in range(4):
            street = Street((540, 960), seed=seed)
            backend.reset()
            state: Tensor | None = None
            for moment in moments:
                image = resize(street.render(3.0 * seed + moment / _PROOF_FPS)[0], size)
                frames = with_extra_channel(image, backend.spec.channels)[None]
                if recurrent:
                    wanted, state = reference(torch.from_numpy(frames), state)
                else:
                    wanted = reference(torch.from_numpy(frames))
                agreements.append(float((wanted.numpy() == backend.infer(frames)).mean()))
    agreement = float(np.mean(agreements))
    if agreement < _MIN_AGREEMENT:
        raise ModelError(f"the exported graph agrees with torch on only {agreement:.2%} of pixels: not written")
