"""A network between the head and the tail of the model file's contract: frames in, labels out."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rtseg.errors import OptionError
from rtseg.models._network import Network

__all__ = ["MEAN", "STD", "LabelNetwork", "fuse_batch_norm", "normalise"]

MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet, of values in [0, 1]; what torchvision's weights expect."""
STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in grey, as cv2 has them (ITU-R BT.601)."""


def normalise(pictures: Tensor, channels: int = 3) -> Tensor:
    """RGB, values 0..255, to what a network of ``channels`` is trained on, channels last in memory.

    Args:
        pictures: uint8 or float (N, 3, H, W), RGB.
        channels: of the network: 3, or 1 for grey.

    Returns:
        float (N, channels, H, W), of mean 0 and deviation 1 over ImageNet.

    Raises:
        OptionError: colour pictures cannot be made into ``channels``.
    """
    scale, shift = (part.to(pictures.device) for part in _scale_and_shift(channels))
    return (_mixed(pictures.float(), channels) * scale + shift).contiguous(memory_format=torch.channels_last)


def _scale_and_shift(channels: int) -> tuple[Tensor, Tensor]:
    """Of values 0..255, float (1, channels, 1, 1) each."""
    if channels not in (1, 3):
        raise OptionError(
            f"pictures are read in colour or grey: a network of {channels} channels can be used from Python only"
        )
    mean, std = (_mixed(torch.tensor(values).view(1, 3, 1, 1), channels) for values in (MEAN, STD))
    return 1 / (255 * std), -mean / std


def _mixed(rgb: Tensor, channels: int) -> Tensor:
    """(N, 3, H, W) -> (N, channels, H, W)."""
    if channels == 3:
        return rgb
    red, green, blue = (rgb[:, place : place + 1] * weight for place, weight in enumerate(_LUMA))
    return red + green + blue


class LabelNetwork(nn.Module):
    """``frames`` uint8 (N, H, W, 3) BGR -> ``labels`` uint8 (N, H, W), in evaluation mode.

    Normalisation by ``MEAN`` and ``STD`` (after mixing to grey, for a network of one channel), bilinear upsampling of
    the logits to (H, W) with ``align_corners=False``, and argmax are inside.

    Raises:
        OptionError: the network takes neither colour nor grey pictures.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.scale: Tensor
        self.shift: Tensor
        scale, shift = _scale_and_shift(network.channels)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Class ids of a batch; see the class."""
        # The cast comes first: TensorRT's parser refuses to permute uint8.
        rgb = frames.float().permute(0, 3, 1, 2).flip(1)
        logits = cast(Tensor, self.network(_mixed(rgb, self.network.channels) * self.scale + self.shift)).float()
        if self.network.stride > 1:
            logits = F.interpolate(
                logits, scale_factor=float(self.network.stride), mode="bilinear", align_corners=False
            )
        return logits.argmax(1).to(torch.uint8)


def fuse_batch_norm(network: Network) -> Network:
    """A copy for inference: every batch norm is folded into the convolution before it, auxiliary heads are gone.

    Folded in fp32 before any weight is rounded, it is what the model file stores; running variances would not
    survive fp16.
    """
    fused = deepcopy(network).eval()
    for name in fused.auxiliary:
        fused.set_submodule(name, nn.Identity())
    for before, name in _norms_after_convolutions(fused).items():
        convolution, norm = fused.get_submodule(before), fused.get_submodule(name)
        fused.set_submodule(before, fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)))
        fused.set_submodule(name, nn.Identity())
    for name, part in list(fused.named_modules()):
        if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1)):
            fused.set_submodule(name, _Mean())
    return fused


class _Mean(nn.Module):
    """Adaptive pooling to 1x1, which the exporter writes as strides through memory, said plainly."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        return features.mean((2, 3), keepdim=True)


def _norms_after_convolutions(network: Network) -> dict[str, str]:
    """Name of a convolution -> name of the batch norm that it feeds, seen in a forward pass of shapes alone.

    Where modules stand says little of what they are fed: ResNet keeps ``conv1`` and ``bn1`` side by side as attributes.
    """
    makers: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive, so that no two of them share an id
    pairs: dict[str, str] = {}

    def watch(name: str) -> Any:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                makers[id(output)] = name
                outputs.append(output)
            elif id(inputs[0]) in makers:
                pairs[makers[id(inputs[0])]] = name

        return after

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [
        part.register_forward_hook(watch(name)) for name, part in network.named_modules() if isinstance(part, kinds)
    ]
    weightless = {
        name: tensor.to("meta") for name, tensor in chain(network.named_parameters(), network.named_buffers())
    }
    side, dtype = network.multiple, next(network.parameters()).dtype
    picture = torch.empty((1, network.channels, side, side), dtype=dtype, device="meta")
    try:
        with torch.no_grad():
            torch.func.functional_call(network, weightless, (picture,))
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
