"""A network between the head and the tail of the model file's contract: frames in, labels out."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rtseg.image_io.decode import image_channels
from rtseg.models.base import Network

__all__ = ["MEAN", "OTHER_MEAN", "OTHER_STD", "STD", "LabelNetwork", "fuse_batch_norm", "normalise"]

MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet, of values in [0, 1]; what torchvision's weights expect."""
STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet."""
OTHER_MEAN, OTHER_STD = 0.5, 0.25
"""Of a plane beside the colours, whatever it means: its values then span -2 .. 2, much as those of the colours do."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in grey, as cv2 has them (ITU-R BT.601)."""


def normalise(images: Tensor, channels: int = 3) -> Tensor:
    """Planes, values 0..255, to what a network of ``channels`` is trained on, channels last in memory.

    Args:
        images: uint8 or float (N, C, H, W): RGB for networks of 3 channels and of 1, which see grey; RGB and a fourth
            plane for 4; grey and a second plane for 2.
        channels: of the network.

    Returns:
        float (N, channels, H, W): colours and grey of mean 0 and deviation 1 over ImageNet, another plane by
        ``OTHER_MEAN`` and ``OTHER_STD``.

    Raises:
        ValueError: the images have another number of planes than a network of ``channels`` is given.
    """
    if images.shape[1] != image_channels(channels):
        wanted = image_channels(channels)
        raise ValueError(f"images must be (N, {wanted}, H, W) for {channels} channels, got {tuple(images.shape)}")
    scale, shift = (part.to(images.device) for part in _scale_and_shift(channels))
    return (_mixed(images.float(), channels) * scale + shift).contiguous(memory_format=torch.channels_last)


def _scale_and_shift(channels: int) -> tuple[Tensor, Tensor]:
    """Of values 0..255, float (1, channels, 1, 1) each."""
    mean, std = _per_channel(MEAN, OTHER_MEAN, channels), _per_channel(STD, OTHER_STD, channels)
    return 1 / (255 * std), -mean / std


def _per_channel(colours: tuple[float, ...], other: float, channels: int) -> Tensor:
    """Constants of R, G and B, and of one more plane, for what a network sees of them: (1, channels, 1, 1)."""
    seen = _mixed(torch.tensor(colours).view(1, 3, 1, 1), 3 if channels > 2 else 1)
    return torch.cat((seen, torch.full((1, 1, 1, 1), other)), dim=1)[:, :channels]


def _mixed(planes: Tensor, channels: int) -> Tensor:
    """What a network of ``channels`` is given -> (N, channels, H, W): RGB is mixed to grey for one channel."""
    if channels > 1:
        return planes
    red, green, blue = (planes[:, place : place + 1] * weight for place, weight in enumerate(_LUMA))
    return red + green + blue


def _rgb_first(planes: Tensor) -> Tensor:
    """(N, C, H, W) in the order of an image to that of ``normalise``."""
    if planes.shape[1] == 2:
        return planes
    if planes.shape[1] == 3:
        return planes.flip(1)
    return torch.cat((planes[:, :3].flip(1), planes[:, 3:]), dim=1)


class LabelNetwork(nn.Module):
    """``frames`` uint8 (N, H, W, C), see ``rtseg.frame.Image`` -> ``labels`` uint8 (N, H, W), in evaluation mode.

    C is 3 (BGR) for networks of three channels and of one, else the network's. Normalisation as by ``normalise`` (after
    mixing to grey, for a network of one channel), bilinear upsampling of the logits to (H, W) with
    ``align_corners=False``, and argmax are inside. Around a recurrent network, the second argument is the state,
    float32 (N, D, h, w), zeros if None, and ``(labels, next_state)`` is returned.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.scale: Tensor
        self.shift: Tensor
        scale, shift = _scale_and_shift(network.channels)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, frames: Tensor, state: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Class ids of a batch; see the class."""
        images = self._images(frames)
        if not self.network.recurrent:
            return self._labels(self.network(images))
        logits, next_state = self.network(images, state)
        return self._labels(logits), next_state

    def _images(self, frames: Tensor) -> Tensor:
        # The cast comes first: TensorRT's parser refuses to permute uint8.
        planes = _rgb_first(frames.float().permute(0, 3, 1, 2))
        return _mixed(planes, self.network.channels) * self.scale + self.shift

    def _labels(self, logits: Tensor) -> Tensor:
        logits = logits.float()
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
    image = torch.empty((1, network.channels, side, side), dtype=dtype, device="meta")
    try:
        with torch.no_grad():
            torch.func.functional_call(network, weightless, (image,))
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
