"""A network with the pre- and postprocessing of model files: frames in, labels out."""

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

__all__ = [
    "EXTRA_MEAN",
    "EXTRA_STD",
    "MEAN",
    "STD",
    "ChannelScale",
    "LabelNetwork",
    "fuse_batch_norm",
    "normalise",
    "norms_after_convolutions",
]

MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet for values in [0, 1], as torchvision's weights expect."""
STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet."""
EXTRA_MEAN, EXTRA_STD = 0.5, 0.25
"""Of the extra channel: its values become -2 .. 2, a range similar to that of the colours."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B for grey, as in cv2 (ITU-R BT.601)."""


def normalise(images: Tensor, channels: int = 3) -> Tensor:
    """Normalise images with values 0..255 for a network of ``channels``.

    Args:
        images: uint8 or float (N, C, H, W): RGB for networks of 3 channels and of 1 (converted to grey); RGB and an
            extra channel for 4; grey and an extra channel for 2.
        channels: of the network.

    Returns:
        float (N, channels, H, W), channels last in memory: colours and grey with mean 0 and standard deviation 1 over
        ImageNet, the extra channel normalised by ``EXTRA_MEAN`` and ``EXTRA_STD``.

    Raises:
        ValueError: the number of image channels does not match ``channels``.
    """
    expected = image_channels(channels)
    if images.shape[1] != expected:
        raise ValueError(f"images must be (N, {expected}, H, W) for {channels} channels, got {tuple(images.shape)}")
    scale, shift = (part.to(images.device) for part in _scale_and_shift(channels))
    return (_to_network_channels(images.float(), channels) * scale + shift).contiguous(
        memory_format=torch.channels_last
    )


def _scale_and_shift(channels: int) -> tuple[Tensor, Tensor]:
    """Return factor and offset for values 0..255, float (1, channels, 1, 1) each."""
    mean, std = _per_channel(MEAN, EXTRA_MEAN, channels), _per_channel(STD, EXTRA_STD, channels)
    return 1 / (255 * std), -mean / std


def _per_channel(rgb: tuple[float, ...], extra: float, channels: int) -> Tensor:
    """Return the constants of R, G, B and the extra channel for the network's channels: (1, channels, 1, 1)."""
    colours = _to_network_channels(torch.tensor(rgb).view(1, 3, 1, 1), 3 if channels > 2 else 1)
    return torch.cat((colours, torch.full((1, 1, 1, 1), extra)), dim=1)[:, :channels]


def _to_network_channels(images: Tensor, channels: int) -> Tensor:
    """Convert RGB to grey for a network of one channel; return other images unchanged: (N, channels, H, W)."""
    if channels > 1:
        return images
    red, green, blue = (images[:, index : index + 1] * weight for index, weight in enumerate(_LUMA))
    return red + green + blue


def _bgr_to_rgb(images: Tensor) -> Tensor:
    """Reverse the order of the colours in (N, C, H, W); keep grey and the extra channel."""
    if images.shape[1] == 2:
        return images
    if images.shape[1] == 3:
        return images.flip(1)
    return torch.cat((images[:, :3].flip(1), images[:, 3:]), dim=1)


class LabelNetwork(nn.Module):
    """Maps frames, uint8 (N, H, W, C), see ``rtseg.frame.Image``, to labels, uint8 (N, H, W), in evaluation mode.

    C is 3 (BGR) for networks of three channels and of one (converted to grey), otherwise the network's number of
    channels. Includes ``normalise``, bilinear upsampling of the logits to (H, W) with ``align_corners=False``, and
    argmax. For a recurrent network, the second argument is the state, float32 (N, D, h, w), or None (zeros), and
    ``(labels, next_state)`` is returned.
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
        """Return the class IDs of a batch; see the class."""
        images = self._normalise(frames)
        if not self.network.recurrent:
            return self._labels(self.network(images))
        logits, next_state = self.network(images, state)
        return self._labels(logits), next_state

    def _normalise(self, frames: Tensor) -> Tensor:
        # Cast first: TensorRT's parser rejects a permutation of uint8.
        images = _bgr_to_rgb(frames.float().permute(0, 3, 1, 2))
        return _to_network_channels(images, self.network.channels) * self.scale + self.shift

    def _labels(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.network.stride > 1:
            logits = F.interpolate(
                logits, scale_factor=float(self.network.stride), mode="bilinear", align_corners=False
            )
        return logits.argmax(1).to(torch.uint8)


def fuse_batch_norm(network: Network) -> Network:
    """Return a copy for inference, with batch norm folded into the convolutions and without auxiliary heads.

    A batch norm that does not follow a convolution becomes a factor and an offset of each channel.
    Model files store the folded weights. Folding is done in fp32, because running variances would overflow or vanish
    in fp16.
    """
    fused = deepcopy(network).eval()
    for name in fused.auxiliary:
        fused.set_submodule(name, nn.Identity())
    for conv_name, norm_name in norms_after_convolutions(fused).items():
        convolution, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        fused.set_submodule(conv_name, fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)))
        fused.set_submodule(norm_name, nn.Identity())
    for name, part in list(fused.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            fused.set_submodule(name, ChannelScale(part))
        if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1)):
            fused.set_submodule(name, _Mean())
    return fused


class ChannelScale(nn.Module):
    """A batch norm in evaluation mode, as one factor and one offset for each channel."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        self.weight = nn.Parameter(scale.detach()[:, None, None])
        self.bias = nn.Parameter(shift.detach()[:, None, None])

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return features * self.weight + self.bias


class _Mean(nn.Module):
    """Adaptive pooling to 1x1 as a mean, because the exporter writes the former as strided operations."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        return features.mean((2, 3), keepdim=True)


def norms_after_convolutions(network: Network) -> dict[str, str]:
    """Map the name of each convolution to that of the batch norm after it, found in a forward pass without data.

    The module tree does not show the order of execution: in a ResNet, ``conv1`` and ``bn1`` are sibling attributes.
    """
    convolution_of: dict[int, str] = {}
    outputs: list[Tensor] = []  # kept alive so that all have different ids
    pairs: dict[str, str] = {}

    def make_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                convolution_of[id(output)] = name
                outputs.append(output)
            elif id(inputs[0]) in convolution_of:
                pairs[convolution_of[id(inputs[0])]] = name

        return hook

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [
        part.register_forward_hook(make_hook(name)) for name, part in network.named_modules() if isinstance(part, kinds)
    ]
    meta_tensors = {
        name: tensor.to("meta") for name, tensor in chain(network.named_parameters(), network.named_buffers())
    }
    side, dtype = network.multiple, next(network.parameters()).dtype
    image = torch.empty((1, network.channels, side, side), dtype=dtype, device="meta")
    try:
        with torch.no_grad():
            torch.func.functional_call(network, meta_tensors, (image,))
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
