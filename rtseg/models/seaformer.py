"""SeaFormer: inverted residual blocks, attention along squeezed rows and columns at 1/32 and 1/64, and a light head.

Source: Wan, Huang, Lu, Yu, Zhang, "SeaFormer: Squeeze-Enhanced Axial Transformer for Mobile Semantic Segmentation",
ICLR 2023, arXiv 2301.13156, section 3 and the Tiny column of the table of configurations.

    stem, stages 1, 2 ──► 1/8 ──────────────────────────── x ── x ── head ── classes at 1/8
                           └── 1/16 ── 1/32, attention ────┘    │
                                        └── 1/64, attention ────┘

At 512x512 with 150 classes SeaFormer-Tiny has 1.7 M parameters and 0.6 GFLOPs, where a multiply-add is one operation.

It is here rather than PP-MobileSeg-Tiny (arXiv 2304.05152), which was built from the same attention for the same
purpose: on two cores in OpenVINO it is a fifth faster, without squeeze and excitation and with a narrower head, though
its logits are at 1/8 and those of PP-MobileSeg-Tiny at 1/16. What PP-MobileSeg gains on phones is mostly the upsampling
of 150 classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torchvision.ops import StochasticDepth

from rtseg.models.base import Network
from rtseg.models.context import Upsample

__all__ = ["AxialAttention", "SeaFormer"]

_STAGES = (
    ((3, 1, 16, 1), (3, 4, 16, 2), (3, 3, 16, 1)),
    ((5, 3, 32, 2), (5, 3, 32, 1)),
    ((3, 3, 64, 2), (3, 3, 64, 1)),
    ((5, 3, 128, 2),),
    ((3, 6, 160, 2),),
)
"""Kernel, expansion, channels and stride of each block."""
_STEM_WIDTH = 16
_HEADS = 4
_VALUE_RATIO = 2
"""Channels of a value for each channel of a key."""
_POSITIONS = 16
"""Learnt positions of each axis; they are interpolated to its length."""
_DROP = 0.1
"""Probability in training that a residual path of the last block of a stage is left out for an image."""


def _conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _then_conv(inputs: int, outputs: int) -> nn.Sequential:
    """ReLU6 and a projection that is zero at first, so that a block starts as the identity."""
    projection = _conv(inputs, outputs)
    nn.init.zeros_(projection[1].weight)  # type: ignore[arg-type]
    return nn.Sequential(nn.ReLU6(), *projection)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al., "MobileNetV2", CVPR 2018)."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        expand = [*_conv(inputs, inner), nn.ReLU(inplace=True)] if expansion > 1 else []
        depthwise = _conv(inner, inner, kernel, stride=stride, groups=inner)
        self.body = nn.Sequential(*expand, *depthwise, nn.ReLU(inplace=True), *_conv(inner, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        mapped: Tensor = self.body(features)
        return features + mapped if self.residual else mapped


class _Positions(nn.Module):
    """Adds a learnt vector for each position of an axis: (N, width, L) -> (N, width, L)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, width, _POSITIONS))

    def fix_size(self, length: int) -> None:
        """Replace the vectors by those of an axis of this length, so that an exported graph holds them."""
        self.weight = nn.Parameter(self._vectors(length).detach().clone())

    def _vectors(self, length: int) -> Tensor:
        if self.weight.shape[2] == length:
            return self.weight
        return F.interpolate(self.weight, size=length, mode="linear", align_corners=False)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return features + self._vectors(int(features.shape[2]))


class AxialAttention(nn.Module):
    """Attention between the means of the rows and between those of the columns, and a convolution for details.

    Source: the paper, section 3.2, "Squeeze-enhanced axial attention".

    Args:
        width: of the features.
        key: channels of a key, for each head.
    """

    def __init__(self, width: int, key: int) -> None:
        super().__init__()
        keys, values = _HEADS * key, _HEADS * _VALUE_RATIO * key
        self.scale = key**-0.5
        self.query, self.key, self.value = _conv(width, keys), _conv(width, keys), _conv(width, values)
        self.query_rows, self.key_rows = _Positions(keys), _Positions(keys)
        self.query_columns, self.key_columns = _Positions(keys), _Positions(keys)
        self.encode_rows, self.encode_columns = _then_conv(values, values), _then_conv(values, values)
        self.project = _then_conv(values, width)
        all_widths = 2 * keys + values
        self.detail = nn.Sequential(
            *_conv(all_widths, all_widths, 3, groups=all_widths), nn.ReLU6(), *_conv(all_widths, width)
        )

    def fix_size(self, height: int, width: int) -> None:
        """Fix the positions for maps of (height, width)."""
        for positions, length in (
            (self.query_rows, height),
            (self.key_rows, height),
            (self.query_columns, width),
            (self.key_columns, width),
        ):
            positions.fix_size(length)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H, W)."""
        query, key, value = self.query(features), self.key(features), self.value(features)
        rows = self._attend(self.query_rows(query.mean(3)), self.key_rows(key.mean(3)), value.mean(3))
        columns = self._attend(self.query_columns(query.mean(2)), self.key_columns(key.mean(2)), value.mean(2))
        mixed = value + self.encode_rows(rows[:, :, :, None]) + self.encode_columns(columns[:, :, None])
        detail: Tensor = self.detail(torch.cat((query, key, value), 1))
        gated: Tensor = F.hardsigmoid(self.project(mixed)) * detail
        return gated

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention along an axis of length L: (N, keys, L), (N, keys, L), (N, values, L) -> (N, values, L)."""
        count, _, length = query.shape
        query, key, value = (part.reshape(count, _HEADS, -1, length) for part in (query, key, value))
        shares = (self.scale * query.transpose(2, 3) @ key).softmax(3)
        mixed: Tensor = value @ shares.transpose(2, 3)
        return mixed.reshape(count, -1, length)


class _Block(nn.Module):
    """Attention, then two 1x1 convolutions with a depthwise 3x3 convolution between them."""

    def __init__(self, width: int, key: int, expansion: int, drop: float) -> None:
        super().__init__()
        inner = expansion * width
        self.attention = AxialAttention(width, key)
        self.mlp = nn.Sequential(
            *_conv(width, inner),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.ReLU6(),
            *_conv(inner, width),
        )
        self.drop = StochasticDepth(drop, "row") if drop else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H, W)."""
        features = features + self.drop(self.attention(features))
        mixed: Tensor = features + self.drop(self.mlp(features))
        return mixed


class SeaFormer(Network):
    """SeaFormer-Tiny with the light head.

    Its position vectors belong to a size, so that a model file runs only at the size that it was exported with.

    Args:
        classes: number of classes.
        channels: of the images.
    """

    multiple = 32
    stride = 8

    def __init__(self, classes: int, *, channels: int = 3) -> None:
        super().__init__(classes, channels)
        self.stem = nn.Sequential(*_conv(channels, _STEM_WIDTH, 3, stride=2), nn.ReLU(inplace=True))
        inputs, stages = _STEM_WIDTH, []
        for blocks in _STAGES:
            parts = []
            for kernel, expansion, outputs, stride in blocks:
                parts.append(InvertedResidual(inputs, outputs, kernel=kernel, expansion=expansion, stride=stride))
                inputs = outputs
            stages.append(nn.Sequential(*parts))
        self.stages = nn.ModuleList(stages)
        self.attention_32 = nn.Sequential(_Block(128, 16, 2, 0.0), _Block(128, 16, 2, _DROP))
        self.attention_64 = nn.Sequential(_Block(160, 24, 4, 0.0), _Block(160, 24, 4, _DROP))
        self.local_32, self.gate_32 = _conv(32, 64), _conv(128, 64)
        self.local_64, self.gate_64 = _conv(64, 96), _conv(160, 96)
        self.upsample = Upsample(8, 8)
        self.fuse = nn.Sequential(*_conv(96, 96, groups=96), nn.ReLU(inplace=True), nn.Dropout2d(0.1))
        self.classify = nn.Conv2d(96, classes, 1)

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        self.upsample.fix_size(height, width)
        for blocks, stride in ((self.attention_32, 32), (self.attention_64, 64)):
            for block in blocks:
                block.attention.fix_size(-(-height // stride), -(-width // stride))  # type: ignore[union-attr, operator]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/8 for float (N, channels, H, W)."""
        features = self.stages[0](self.stem(images))
        detail = self.stages[1](features)
        coarse = self.attention_32(self.stages[3](self.stages[2](detail)))
        coarsest = self.attention_64(self.stages[4](coarse))
        gate = F.interpolate(
            F.hardsigmoid(self.gate_32(coarse)), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        fine = self.local_32(detail) * gate
        gate = self.upsample(F.hardsigmoid(self.gate_64(coarsest)), int(detail.shape[2]), int(detail.shape[3]))
        fine = self.local_64(fine) * gate
        logits: Tensor = self.classify(self.fuse(fine))
        return (logits,) if self.training else logits
