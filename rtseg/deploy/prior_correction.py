"""Undo the shift of the decisions that class weights in the loss cause, in the bias of the last convolution.

A network trained with class weights w estimates w(c) p(c) / sum_k w(k) p(k): the logit of class c is too high by
log w(c). Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314, section 4.1,
with alpha as the temperature: 1 removes the whole shift, 0 nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper

from rtseg.datasets import open_dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.deploy.options import PriorCorrection
from rtseg.errors import DatasetError, ModelError, OptionError
from rtseg.image_io.decode import image_channels
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.models import channels_of, create_model, is_known
from rtseg.models.base import Network
from rtseg.system.atomic_files import atomic_path, locked_output, sink_errors
from rtseg.training.checkpoint import head_weights
from rtseg.training.class_pixels import count_pixels
from rtseg.training.objective import class_weights

__all__ = ["correct_model_file", "correct_network", "logit_offsets"]

_PREFIX = "network."
"""Prefix of the names that export gives to the weights of a network."""


def correct_network(network: Network, state: Mapping[str, Any], correction: PriorCorrection) -> dict[str, Any]:
    """Change the bias of ``network``, and return what the model file tells about it.

    Args:
        network: of the checkpoint.
        state: the checkpoint, see ``rtseg.training.state.checkpoint_for_export``.
        correction: what to do.

    Raises:
        OptionError: the class weights are not known, a class is unknown, or the network has no such bias.
        DatasetError: the data cannot be used, or have other classes.
    """
    offsets = _offsets(state, correction)
    with torch.no_grad():
        network.get_parameter(_logit_bias(network)).add_(torch.tensor(list(offsets.values())))
    return _facts(offsets, correction)


def correct_model_file(path: Path, output: Path, correction: PriorCorrection, name: str | None = None) -> ModelSpec:
    """Write a copy of a model file with another bias. Its mIoU is not known any more.

    Args:
        path: a model file of a network of rtseg.
        output: the ``.onnx`` file to write.
        correction: what to do.
        name: of the model; the old one by default.

    Returns:
        The metadata of the file.

    Raises:
        ModelError: the file cannot be used, or is corrected already.
        OptionError, DatasetError: see ``correct_network``.
        SinkError: the file cannot be written.
    """
    model = load_model(path)
    spec = model.spec
    if "prior_correction" in spec.extra:
        raise ModelError(f"{path} is corrected already: give the checkpoint, or the file before")
    if not is_known(spec.architecture):
        raise ModelError(f"{path} names no network of rtseg ({spec.architecture!r}): its last bias is not known")
    with torch.device("meta"):
        bias_name = _PREFIX + _logit_bias(create_model(spec.architecture, len(spec.classes)))
    state = {"classes": spec.classes, "architecture": spec.architecture, **spec.extra}
    offsets = _offsets(state, correction)
    bias = next((tensor for tensor in model.graph.graph.initializer if tensor.name == bias_name), None)
    if bias is None:
        raise ModelError(f"{path} has no {bias_name}: export it again with this version of rtseg")
    values = numpy_helper.to_array(bias) + np.array(list(offsets.values()), np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, bias_name))
    extra = {key: value for key, value in spec.extra.items() if key != "iou"} | _facts(offsets, correction)
    spec = replace(spec, name=name or spec.name, miou=None, measured_on="", extra=extra)
    write_spec(model.graph, spec)
    with locked_output(output, f"model {output}"), sink_errors(output), atomic_path(output) as part:
        part.write_bytes(model.graph.SerializeToString())
    return spec


def logit_offsets(
    weights: Sequence[float], alpha: float, classes: Sequence[str], unchanged: Collection[str] = ()
) -> dict[str, float]:
    """Return what to add to the logit of each class: -alpha log w.

    Args:
        weights: of the classes in the loss. A class of weight 0 was never trained, and gets 0.
        alpha: strength.
        classes: names of the classes.
        unchanged: names of classes that get 0.

    Raises:
        OptionError: there is no class of a name in ``unchanged``.
    """
    unknown = sorted(set(unchanged) - set(classes))
    if unknown:
        raise OptionError(f"--prior-except: there is no class {unknown[0]!r}; the classes are {', '.join(classes)}")
    return {
        name: 0.0 if name in unchanged or weight <= 0 else -alpha * math.log(weight)
        for name, weight in zip(classes, weights, strict=True)
    }


def _offsets(state: Mapping[str, Any], correction: PriorCorrection) -> dict[str, float]:
    weights = _count_weights(state, correction.data) if correction.data else state.get("class_weights")
    if not weights:
        raise OptionError("the checkpoint does not record its class weights: give its training data as --prior-data")
    return logit_offsets(weights, correction.alpha, state["classes"], correction.unchanged)


def _count_weights(state: Mapping[str, Any], data: Sequence[str]) -> list[float]:
    """Return the class weights of a training on ``data`` with the recipe of ``state``."""
    recipe = state.get("recipe") or {}
    channels = image_channels(channels_of(state["architecture"]))
    datasets = [open_dataset(text, "train", channels=channels) for text in data]
    classes = tuple(state["classes"])
    for dataset in datasets:
        if dataset.classes != classes:
            raise DatasetError(f"{dataset.name} has other classes than the model: give the data of its training")
    counts = count_pixels(datasets, DatasetReader())[:, : len(classes)]
    kind, power = recipe.get("class_weights", "enet"), recipe.get("class_weight_power", 1.0)
    weights: list[float] = class_weights(counts, kind, power).tolist()
    return weights


def _facts(offsets: Mapping[str, float], correction: PriorCorrection) -> dict[str, Any]:
    return {"prior_correction": {"alpha": correction.alpha, "added": {k: round(v, 4) for k, v in offsets.items()}}}


def _logit_bias(network: Network) -> str:
    """Return the name of the only bias with a value for each class, apart from auxiliary outputs."""
    shapes = {name: value.shape for name, value in network.named_parameters()}
    heads = [name for name in head_weights(network) if not name.startswith(network.auxiliary)]
    biases = [name for name in heads if shapes[name] == (network.classes,)]
    if len(biases) != 1:
        raise OptionError(
            f"--prior-correction is not possible for {network.architecture}: it has {len(biases)} outputs"
        )
    return biases[0]
