"""Pyramids of strided poolings at the end of the deep branch: DAPPM of DDRNet and SCTNet, PAPPM of PIDNet.

Both average the map at strides of 2, 4 and 8 and as a whole, and upsample the averages to the map again. A map at 1/64
seldom has a size that 8 divides, so that upsampling is not by a whole factor: it is done by two small matrix products
(``Upsample``), which equal bilinear interpolation to the size of the map and work at any input size.
The names of the weights are those of the authors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtseg.model_file.pooling import resize_matrix

__all__ = ["DAPPM", "PAPPM", "Upsample"]

_STRIDES = (2, 4, 8)


class Upsample(nn.Module):
    """Bilinear upsampling of a map whose size is that of the result divided by a factor, rounded up.

    Args:
        factor: of the sizes.
        stride: of the result, with respect to the input images.
    """

    def __init__(self, factor: int, stride: int) -> None:
        super().__init__()
        self.factor = factor
        self.stride = stride

    def fix_size(self, height: int, width: int) -> None:
        """Store the matrices for images of (height, width), in pixels, to have a name in an exported graph."""
        for axis, side in (("rows", height), ("columns", width)):
            matrix = torch.from_numpy(resize_matrix(axis, -(-side // self.stride), self.factor))
            self.register_buffer(self._name(axis), matrix, persistent=False)

    def _name(self, axis: str) -> str:
        return f"{axis}_{self.stride}_over_{self.factor}"

    def _matrix(self, axis: str, length: int) -> Tensor:
        fixed: Tensor | None = getattr(self, self._name(axis), None)
        return torch.from_numpy(resize_matrix(axis, length, self.factor)) if fixed is None else fixed

    def forward(self, features: Tensor, height: int, width: int) -> Tensor:
        """(N, C, ceil(height / factor), ceil(width / factor)) -> (N, C, height, width)."""
        rows = self._matrix("rows", height).to(features)
        columns = self._matrix("columns", width).to(features)
        return rows @ (features @ columns)


def _projection(inputs: int, outputs: int, pooling: nn.Module | None = None, *, bias: bool) -> nn.Sequential:
    """Pooling, batch norm, ReLU and a 1x1 convolution."""
    return nn.Sequential(
        *([] if pooling is None else [pooling]),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=bias),
    )


class _Pyramid(nn.Module):
    """What both pyramids have in common: the poolings, and the projections of their input and output."""

    def __init__(self, inputs: int, width: int, outputs: int, *, stride: int, bias: bool) -> None:
        super().__init__()
        self.scale0 = _projection(inputs, width, bias=bias)
        for number, step in enumerate(_STRIDES, 1):
            pooling = nn.AvgPool2d(2 * step + 1, step, step)
            self.add_module(f"scale{number}", _projection(inputs, width, pooling, bias=bias))
        self.scale4 = _projection(inputs, width, nn.AdaptiveAvgPool2d(1), bias=bias)
        self.upsample = nn.ModuleList([Upsample(step, stride) for step in _STRIDES])
        self.compression = _projection(5 * width, outputs, bias=bias)
        self.shortcut = _projection(inputs, outputs, bias=bias)

    def fix_size(self, height: int, width: int) -> None:
        """See ``Upsample.fix_size``."""
        for part in self.upsample:
            assert isinstance(part, Upsample)
            part.fix_size(height, width)

    def _averages(self, features: Tensor) -> list[Tensor]:
        """Return the projected averages, fine to coarse; the last one, of the whole map, is (N, width, 1, 1)."""
        height, width = int(features.shape[2]), int(features.shape[3])
        strided = [
            upsample(self.get_submodule(f"scale{number}")(features), height, width)
            for number, upsample in enumerate(self.upsample, 1)
        ]
        return [*strided, self.scale4(features)]


class DAPPM(_Pyramid):
    """Deep aggregation pyramid pooling: each average is added to the scale before it and convolved.

    Source: DDRNet, arXiv 2101.06085, section III-C and figure 5.
    """

    def __init__(self, inputs: int, width: int, outputs: int, *, stride: int, bias: bool = False) -> None:
        super().__init__(inputs, width, outputs, stride=stride, bias=bias)
        for number in range(1, 5):
            layers = nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=bias)
            self.add_module(f"process{number}", nn.Sequential(*layers))

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        scales = [self.scale0(features)]
        for number, average in enumerate(self._averages(features), 1):
            scales.append(self.get_submodule(f"process{number}")(average + scales[-1]))
        context: Tensor = self.compression(torch.cat(scales, 1)) + self.shortcut(features)
        return context


class PAPPM(_Pyramid):
    """Parallel aggregation pyramid pooling: all averages are added to the map and convolved at once, in groups.

    Source: PIDNet, arXiv 2206.02066, section 4.2, "PAPPM".
    """

    def __init__(self, inputs: int, width: int, outputs: int, *, stride: int) -> None:
        super().__init__(inputs, width, outputs, stride=stride, bias=False)
        self.scale_process = nn.Sequential(
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        first = self.scale0(features)
        scales = self.scale_process(torch.cat([average + first for average in self._averages(features)], 1))
        context: Tensor = self.compression(torch.cat((first, scales), 1)) + self.shortcut(features)
        return context
