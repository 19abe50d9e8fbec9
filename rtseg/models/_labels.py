"""A network between the head and the tail of the model file's contract: frames in, labels out."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rtseg.models._network import Network

__all__ = ["MEAN", "STD", "LabelNetwork", "fuse_batch_norm"]

MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet, of values in [0, 1]; what torchvision's weights expect."""
STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet."""


class LabelNetwork(nn.Module):
    """``frames`` uint8 (N, H, W, 3) BGR -> ``labels`` uint8 (N, H, W), in evaluation mode.

    Normalisation by ``MEAN`` and ``STD``, bilinear upsampling of the logits to (H, W) with
    ``align_corners=False``, and argmax are inside.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * torch.tensor(STD).view(1, 3, 1, 1)), persistent=False)
        self.register_buffer("shift", -(torch.tensor(MEAN) / torch.tensor(STD)).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Class ids of a batch; see the class."""
        # The cast comes first: TensorRT's parser refuses to permute uint8.
        rgb = frames.float().permute(0, 3, 1, 2).flip(1)
        logits = cast(Tensor, self.network(rgb * self.scale + self.shift))
        full = F.interpolate(
            logits.float(), scale_factor=float(self.network.stride), mode="bilinear", align_corners=False
        )
        return full.argmax(1).to(torch.uint8)


def fuse_batch_norm(network: Network) -> Network:
    """A copy for inference: every batch norm is folded into the convolution before it, auxiliary heads are gone.

    Folded in fp32 before any weight is rounded, it is what the model file stores; running variances would not
    survive fp16.
    """
    fused = deepcopy(network).eval()
    for name in fused.auxiliary:
        fused.set_submodule(name, nn.Identity())
    for module in list(fused.modules()):
        if isinstance(module, nn.Sequential):
            _fuse_pairs(module)
    return fused


def _fuse_pairs(layers: nn.Sequential) -> None:
    for place in range(len(layers) - 1):
        convolution, norm = layers[place], layers[place + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[place] = fuse_conv_bn_eval(convolution, norm)
            layers[place + 1] = nn.Identity()
