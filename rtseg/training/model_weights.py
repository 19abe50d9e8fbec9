"""Get a network that can be trained from a model file, in which batch norm is folded into the convolutions.

What the file computes is a convolution ``y = W x + b``. The batch norm after it gets the mean m and the variance v of
y over images of the training data, the running mean ``m - b``, the running variance v, and the affine parameters
``sqrt(v + eps)`` and m. In evaluation it then computes ``(W x - (m - b)) + m = W x + b``, exactly as the file does; in
training, where it normalises by the mean and variance of the batch, almost the same.
Formula of batch norm: Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv 1502.03167, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.backends.torch import build_network
from rtseg.errors import CheckpointError
from rtseg.image_io.decode import image_channels
from rtseg.model_file.load import ModelFile, load_model
from rtseg.models import create_model, is_known
from rtseg.models.base import Network
from rtseg.models.label_network import ChannelScale, fuse_batch_norm, normalise, norms_after_convolutions

__all__ = ["folded_network", "load_model_weights", "network_from_model", "run_images"]

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv")


def load_model_weights(path: Path, images: Iterable[Tensor]) -> dict[str, Any]:
    """Return the weights in a model file as a checkpoint has them: ``network``, ``architecture``, ``classes``.

    The weights of auxiliary heads, which only training uses, are missing.

    Args:
        path: an ``.onnx`` file that `rtseg export` wrote.
        images: see ``network_from_model``.

    Raises:
        ModelError: the file cannot be used.
        CheckpointError: the file holds no network of rtseg in floating point, or takes other images.
    """
    model = load_model(path)
    network = network_from_model(model, images)
    weights = {name: value for name, value in network.state_dict().items() if not _is_auxiliary(name, network)}
    return {"network": weights, "architecture": network.architecture, "classes": list(model.spec.classes)}


@torch.no_grad()
def network_from_model(model: ModelFile, images: Iterable[Tensor]) -> Network:
    """Return the network of a model file with batch norm, in evaluation mode; it computes what the file computes.

    Args:
        model: made by `rtseg export`, in floating point.
        images: batches from the training data, uint8 (N, C, H, W), RGB, or clips (N, T, C, H, W).

    Raises:
        ModelError: the weights do not fit the network.
        CheckpointError: the file holds no network of rtseg in floating point, takes images of other channels, or there
            are no images.
    """
    folded = folded_network(model)
    network = create_model(model.spec.architecture, len(model.spec.classes)).eval()
    _copy_weights(folded, network)
    statistics = _Statistics(folded, network)
    for batch in images:
        if batch.shape[-3] != image_channels(folded.channels):
            raise CheckpointError(
                f"{model.path} takes images of {image_channels(folded.channels)} channels, the training data have "
                f"{batch.shape[-3]}: give a checkpoint, or other --channels"
            )
        if folded.recurrent != (batch.ndim == 5):  # a sequence model starts from a file for single images, or reverse
            batch = batch.flatten(0, 1) if batch.ndim == 5 else batch[:, None]
        run_images(folded, batch)
    statistics.set_norms(network, model.path)
    return network


def folded_network(model: ModelFile) -> Network:
    """Return the network of a model file, with batch norm folded, for images of any size, in evaluation mode.

    Raises:
        ModelError, CheckpointError: see ``network_from_model``.
    """
    spec = model.spec
    if not is_known(spec.architecture):
        raise CheckpointError(f"{model.path} holds no network of rtseg: it can be run, but not trained")
    if any(node.op_type in _QUANTIZED for node in model.graph.graph.node):
        raise CheckpointError(f"{model.path} is INT8, which cannot be trained: give the file that it was made from")
    network = fuse_batch_norm(create_model(spec.architecture, len(spec.classes)))
    _copy_weights(build_network(model).network, network)
    return network.eval()


@torch.no_grad()
def _copy_weights(folded: Network, network: Network) -> None:
    """Copy all weights that both networks have. A convolution whose bias came from its batch norm gets none."""
    stored, own = folded.state_dict(), network.state_dict()
    folded_biases = {f"{name}.bias" for name in norms_after_convolutions(network)}
    for name, value in own.items():
        if name in folded_biases:
            value.zero_()
        elif name in stored and stored[name].ndim == value.ndim:
            value.copy_(_resampled(stored[name], value))


def _resampled(stored: Tensor, own: Tensor) -> Tensor:
    """Return vectors of positions, (1, C, own), that become ``stored``, (1, C, L), when they are resampled to L.

    Files hold them for their own input size. Upsampling alone would not be exact; the least-squares term makes it so.
    """
    if stored.ndim != 3 or stored.shape[:2] != own.shape[:2] or stored.shape[2] == own.shape[2]:
        return stored

    def resample(vectors: Tensor, length: int) -> Tensor:
        return F.interpolate(vectors, size=length, mode="linear", align_corners=False)

    smooth = resample(stored, own.shape[2])
    matrix = resample(torch.eye(own.shape[2])[None], stored.shape[2])[0]
    rest: Tensor = (stored - resample(smooth, stored.shape[2])) @ torch.linalg.pinv(matrix)
    return smooth + rest


class _Statistics:
    """Mean and variance of each channel at the places where ``network`` has batch norm, measured in ``folded``."""

    def __init__(self, folded: Network, network: Network) -> None:
        self._sums: dict[str, Tensor] = {}
        self._biases: dict[str, Tensor] = {}
        self._scales: dict[str, ChannelScale] = {}
        for convolution, norm in norms_after_convolutions(network).items():
            part = folded.get_submodule(convolution)
            assert isinstance(part, nn.Conv2d)
            self._biases[norm] = part.bias if part.bias is not None else torch.zeros(part.out_channels)
            part.register_forward_hook(lambda part, inputs, output, norm=norm: self._add(norm, output))
        for name, part in folded.named_modules():
            if isinstance(part, ChannelScale):
                self._scales[name] = part
                part.register_forward_hook(lambda part, inputs, output, norm=name: self._add(norm, inputs[0]))

    def _add(self, norm: str, values: Tensor) -> None:
        flat = values.double().transpose(0, 1).flatten(1)
        count = torch.full((len(flat),), float(flat.shape[1]), dtype=torch.float64)
        sums = torch.stack((count, flat.sum(1), flat.square().sum(1)))
        self._sums[norm] = self._sums[norm] + sums if norm in self._sums else sums

    def set_norms(self, network: Network, path: Path) -> None:
        """Set the batch norms of ``network``; see the module."""
        for norm in (*self._biases, *self._scales):
            if norm not in self._sums:
                raise CheckpointError(f"there are no images to measure the batch norm of {path} on: give --data")
            count, total, squares = self._sums[norm]
            mean = total / count
            variance = (squares / count - mean.square()).clamp_min(0)
            part = network.get_submodule(norm)
            assert isinstance(part, nn.BatchNorm2d)
            spread = (variance + part.eps).sqrt()
            if norm in self._biases:
                self._set(part, mean - self._biases[norm], variance, spread, mean)
            else:
                scale, shift = (getattr(self._scales[norm], name).flatten() for name in ("weight", "bias"))
                self._set(part, mean, variance, scale * spread, shift + mean * scale)

    @staticmethod
    def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)


def run_images(network: Network, images: Tensor) -> None:
    """Run one forward pass over uint8 (N, C, H, W), or over clips (N, T, C, H, W) for a recurrent network."""
    if not network.recurrent:
        network(normalise(images, network.channels))
        return
    state: Tensor | None = None
    for frame in range(images.shape[1]):
        _, state = network(normalise(images[:, frame], network.channels), state)


def _is_auxiliary(name: str, network: Network) -> bool:
    return any(name.startswith(f"{part}.") for part in network.auxiliary)
