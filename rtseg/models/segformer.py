"""The transformer of SegFormer, which guides the training of SCTNet.

Source: Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers", NeurIPS 2021, arXiv 2105.15203, section 3 and table 6 (appendix): sizes B0 to B3, head of 256 channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

__all__ = ["SIZES", "MixTransformer", "SegFormerHead"]

SIZES = {
    0: ((32, 64, 160, 256), (2, 2, 2, 2)),
    1: ((64, 128, 320, 512), (2, 2, 2, 2)),
    2: ((64, 128, 320, 512), (3, 4, 6, 3)),
    3: ((64, 128, 320, 512), (3, 4, 18, 3)),
}
"""Number of the size -> widths and numbers of blocks of the four stages."""
_HEADS = (1, 2, 5, 8)
_REDUCTIONS = (8, 4, 2, 1)
_EXPANSION = 4


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Self-attention in which keys and values come from a map that is smaller by ``reduction`` (section 3.1)."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(width, width, 1)
        self.key_value = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(width, width, 1)
        self.reduce = nn.Identity()
        if reduction > 1:
            self.reduce = nn.Sequential(  # type: ignore[assignment]
                nn.Conv2d(width, width, reduction, reduction), _ChannelNorm(width, 1e-6)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        query = self._split(self.query(features))
        key, value = (self._split(part) for part in self.key_value(self.reduce(features)).chunk(2, 1))
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.project(mixed.transpose(2, 3).reshape(features.shape))
        return projected

    def _split(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, heads, H * W, C / heads)."""
        count, channels = features.shape[:2]
        return features.reshape(count, self.heads, channels // self.heads, -1).transpose(2, 3)


class _Block(nn.Module):
    """Attention, then two 1x1 convolutions with a depthwise 3x3 convolution between them ("Mix-FFN")."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.attention = nn.Sequential(_ChannelNorm(width, 1e-6), _Attention(width, heads, reduction))
        self.mlp = nn.Sequential(
            _ChannelNorm(width, 1e-6),
            nn.Conv2d(width, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Conv2d(inner, width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        features = features + self.attention(features)
        mixed: Tensor = features + self.mlp(features)
        return mixed


class MixTransformer(nn.Module):
    """The encoder: four stages of overlapping patches and transformer blocks, at 1/4, 1/8, 1/16 and 1/32.

    Args:
        size: one of ``SIZES``.
        channels: of the images; 1/32 of their sides rounded up must be at least 1 pixel.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.widths, depths = SIZES[size]
        stages = []
        for number, (inputs, width) in enumerate(pairwise((channels, *self.widths))):
            kernel, stride = (7, 4) if number == 0 else (3, 2)
            blocks = (_Block(width, _HEADS[number], _REDUCTIONS[number]) for _ in range(depths[number]))
            embedding = nn.Conv2d(inputs, width, kernel, stride, kernel // 2), _ChannelNorm(width, 1e-6)
            stages.append(nn.Sequential(*embedding, *blocks, _ChannelNorm(width, 1e-6)))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each stage for float (N, channels, H, W)."""
        features = [images]
        for part in self.stages:
            features.append(part(features[-1]))
        return features[1:]


class SegFormerHead(nn.Module):
    """The decoder: all stages are projected, upsampled to the first, concatenated and fused (section 3.2)."""

    width = 256

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Sequential(*_fusion(inputs, self.width)) for inputs in widths)
        self.convolution, self.norm, _ = _fusion(len(widths) * self.width, self.width)
        self.classify = nn.Conv2d(self.width, classes, 1)

    def collect(self, features: list[Tensor]) -> Tensor:
        """Return the projected stages at the size of the first one, (N, 4 * width, H, W)."""
        size = features[0].shape[2:]
        projected = [part(stage) for part, stage in zip(self.projections, features, strict=True)]
        return torch.cat(
            [F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in projected], 1
        )

    def forward(self, collected: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 4 * width, H, W) -> features (N, width, H, W) and logits (N, classes, H, W)."""
        fused = F.relu(self.norm(self.convolution(collected)))
        return fused, self.classify(fused)

    def forward_fixed(self, collected: Tensor) -> tuple[Tensor, Tensor]:
        """Do as ``forward`` without a gradient to the weights of the head, in training mode."""
        convolved = F.conv2d(collected, self.convolution.weight.detach())
        normed = F.batch_norm(convolved, None, None, self.norm.weight.detach(), self.norm.bias.detach(), training=True)
        fused = F.relu(normed)
        bias = self.classify.bias
        assert bias is not None
        return fused, F.conv2d(fused, self.classify.weight.detach(), bias.detach())


def _fusion(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    return nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
