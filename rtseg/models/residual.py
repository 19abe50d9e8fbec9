"""Residual blocks and the prediction head of the networks with two resolutions: DDRNet, PIDNet and SCTNet.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, figure 5; the head is that of
DDRNet (arXiv 2101.06085, section III-D). The names of the weights are those of the authors of DDRNet and PIDNet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

__all__ = ["BasicBlock", "Bottleneck", "Head", "conv_norm", "initialise", "stage", "stem"]


def conv_norm(inputs: int, outputs: int, kernel: int, *, stride: int = 1, bias: bool = False) -> nn.Sequential:
    """A convolution that keeps the size (apart from ``stride``), and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias), nn.BatchNorm2d(outputs))


def stem(channels: int, width: int) -> nn.Sequential:
    """Two strided convolutions: (N, channels, H, W) -> (N, width, H / 4, W / 4)."""
    layers = [
        layer
        for inputs in (channels, width)
        for layer in (*conv_norm(inputs, width, 3, stride=2, bias=True), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*layers)


class _Block(nn.Module, ABC):
    """Base of the blocks: the sum of ``body`` and a shortcut, with a ReLU unless it is the last of its stage."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int, relu: bool, bias: bool) -> None:
        super().__init__()
        self.relu = relu
        outputs = width * self.expansion
        same = inputs == outputs and stride == 1
        self.downsample = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride=stride, bias=bias)

    @abstractmethod
    def body(self, features: Tensor) -> Tensor:
        """Apply the convolutions of the block."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, expansion * width, H / stride, W / stride)."""
        total = self.body(features) + self.downsample(features)
        return F.relu(total) if self.relu else total


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, *, stride: int = 1, relu: bool = True, bias: bool = False) -> None:
        super().__init__(inputs, width, stride=stride, relu=relu, bias=bias)
        self.conv1, self.bn1 = conv_norm(inputs, width, 3, stride=stride, bias=bias)
        self.conv2, self.bn2 = conv_norm(width, width, 3, bias=bias)

    def body(self, features: Tensor) -> Tensor:
        """See the class."""
        inner = F.relu(self.bn1(self.conv1(features)))
        outer: Tensor = self.bn2(self.conv2(inner))
        return outer


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; the last one doubles the width."""

    expansion = 2

    def __init__(self, inputs: int, width: int, *, stride: int = 1, relu: bool = True, bias: bool = False) -> None:
        super().__init__(inputs, width, stride=stride, relu=relu, bias=bias)
        self.conv1, self.bn1 = conv_norm(inputs, width, 1, bias=bias)
        self.conv2, self.bn2 = conv_norm(width, width, 3, stride=stride, bias=bias)
        self.conv3, self.bn3 = conv_norm(width, 2 * width, 1, bias=bias)

    def body(self, features: Tensor) -> Tensor:
        """See the class."""
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features))))))
        outer: Tensor = self.bn3(self.conv3(inner))
        return outer


def stage(
    kind: type[BasicBlock | Bottleneck], inputs: int, width: int, blocks: int, *, stride: int = 1, bias: bool = False
) -> nn.Sequential:
    """Residual blocks, the first of them strided. There is no ReLU after the last basic block and any bottleneck."""
    basic = kind is BasicBlock
    parts: list[nn.Module] = [kind(inputs, width, stride=stride, relu=basic and blocks > 1, bias=bias)]
    outputs = width * kind.expansion
    parts += [kind(outputs, width, relu=basic and number < blocks - 1, bias=bias) for number in range(1, blocks)]
    return nn.Sequential(*parts)


class Head(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, then the same with a 1x1 convolution to the classes."""

    def __init__(self, inputs: int, width: int, classes: int, *, bias: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, classes, H, W)."""
        inner = self.conv1(F.relu(self.bn1(features)))
        logits: Tensor = self.conv2(F.relu(self.bn2(inner)))
        return logits


def initialise(network: nn.Module) -> None:
    """Initialise the convolutions of ``network`` for ReLU (He et al., ICCV 2015, arXiv 1502.01852)."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
