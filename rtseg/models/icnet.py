"""ICNet: three branches for three resolutions of the image, the coarsest the deepest, fused from coarse to fine.

Source: Zhao, Qi, Shen, Shi, Jia, "ICNet for Real-Time Semantic Segmentation on High-Resolution Images",
ECCV 2018, arXiv 1704.08545; layer widths as in the authors' released ``icnet_cityscapes.prototxt``, whose
PSPNet50 branch is pruned to half its channels (section 3.4).

    image 1/4 ── conv3_2 .. conv5_3, pyramid pooling ──► 1/32 ─┐
    image 1/2 ── conv1 .. conv3_1 (shared with the 1/4) ──► 1/16 ─┴ CFF ─┐
    image 1   ── three strided convolutions ───────────► 1/8 ───────────┴ CFF ── x2 ── classes at 1/4

The 1/4 branch starts from the downsampled features of the 1/2 branch, so that the shared layers run once.
All bilinear resizing uses ``align_corners=False``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import OptionError
from rtseg.model_file.pooling import pyramid_matrix
from rtseg.models.base import Network

__all__ = ["Cascade", "CascadeFeatureFusion", "ICNet", "PyramidPooling"]


def _conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Module:
    """Convolution, batch norm and optional ReLU; at stride 1 the padding keeps the size."""
    padding = dilation * (kernel // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """Residual block 1x1, 3x3, 1x1 of ResNet-50, with the stride in the first convolution as in PSPNet."""

    def __init__(self, inputs: int, inner: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, inner, 1, stride=stride),
            _conv(inner, inner, 3, dilation=dilation),
            _conv(inner, outputs, 1, relu=False),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride=stride, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return F.relu(self.body(features) + self.shortcut(features))


def _stage(inputs: int, inner: int, outputs: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(inputs, inner, outputs, stride=stride, dilation=dilation)
    rest = (Bottleneck(outputs, inner, outputs, dilation=dilation) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class PyramidPooling(nn.Module):
    """The sum of the feature map and its averages over grids of 1, 2, 3 and 6 bins, resized to the map.

    Pooling and resizing are linear along each axis, so each level is computed by two small matrix products. Unlike
    adaptive pooling, these export to ONNX for maps that are not a multiple of the bins.
    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.2; summed as in ICNet.
    """

    def __init__(self, bins: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = bins

    def fix_size(self, height: int, width: int) -> None:
        """Store the matrices for maps of this size as buffers, so that they have a name in an exported graph."""
        for bins in self.bins:
            for axis, length in (("rows", height), ("columns", width)):
                matrix = torch.from_numpy(pyramid_matrix(axis, length, bins))
                self.register_buffer(f"{axis}_{bins}", matrix, persistent=False)

    def _matrix(self, axis: str, length: int, bins: int) -> Tensor:
        fixed: Tensor | None = getattr(self, f"{axis}_{bins}", None)
        return torch.from_numpy(pyramid_matrix(axis, length, bins)) if fixed is None else fixed

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        height, width = int(features.shape[2]), int(features.shape[3])
        total = features
        for bins in self.bins:
            rows = self._matrix("rows", height, bins).to(features)
            columns = self._matrix("columns", width, bins).to(features)
            total = total + rows @ (features @ columns)
        return total


class CascadeFeatureFusion(nn.Module):
    """Sum of an upsampled coarse map after a dilated 3x3 convolution and a projected finer map (section 3.3)."""

    def __init__(self, coarse: int, fine: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.coarse = _conv(coarse, outputs, 3, dilation=2, relu=False)
        self.fine = _conv(fine, outputs, 1, relu=False)
        self.classify = nn.Conv2d(coarse, classes, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor | None]:
        """Fuse (N, coarse, H, W) and (N, fine, 2H, 2W) into (N, outputs, 2H, 2W).

        In training mode the second value is the auxiliary prediction (N, classes, 2H, 2W) from the coarse map.
        """
        upsampled = _upsample(coarse)
        fused = F.relu(self.coarse(upsampled) + self.fine(fine))
        return fused, self.classify(upsampled) if self.training else None


def _upsample(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class Cascade(Network):
    """Base class of ICNets. Subclasses define the backbone, ``shared`` and ``deep``, and call ``add_fusion``.

    Args:
        classes: number of classes.
        channels: of the images.
        loss_weights: weight in the training loss of the predictions at 1/4, 1/8 and 1/16.

    Raises:
        OptionError: there are not three weights.
    """

    multiple = 32
    stride = 4
    coarse_labels = True  # "cascade label guidance", section 3.4
    auxiliary = ("fuse_low.classify", "fuse_high.classify")

    def __init__(self, classes: int, channels: int, loss_weights: tuple[float, ...]) -> None:
        super().__init__(classes, channels)
        if len(loss_weights) != 3:
            raise OptionError(f"ICNet has three predictions: write loss_weights=1/0.4/0.4, got {len(loss_weights)}")
        self.loss_weights = loss_weights

    def add_fusion(self, deep: int, shared: int, width: int, *, pyramid: bool) -> None:
        """Add the layers after the backbone, whose two outputs have ``deep`` and ``shared`` channels."""
        w = width
        self.pyramid = PyramidPooling() if pyramid else nn.Identity()
        self.conv5_4 = _conv(deep, 8 * w, 1)
        self.high = nn.Sequential(
            _conv(self.channels, w, 3, stride=2), _conv(w, w, 3, stride=2), _conv(w, 2 * w, 3, stride=2)
        )
        self.fuse_low = CascadeFeatureFusion(8 * w, shared, 4 * w, self.classes)
        self.fuse_high = CascadeFeatureFusion(4 * w, 2 * w, 4 * w, self.classes)
        self.classify = nn.Conv2d(4 * w, self.classes, 1)

    def shared(self, images: Tensor) -> Tensor:
        """Return features at 1/8 of the half-size image: the layers that both lower branches share."""
        raise NotImplementedError(f"{type(self).__name__} has no shared part")

    def deep(self, features: Tensor) -> Tensor:
        """Apply the rest of the backbone, which keeps the size."""
        raise NotImplementedError(f"{type(self).__name__} has no deep part")

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        if isinstance(self.pyramid, PyramidPooling):
            self.pyramid.fix_size(height // 32, width // 32)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/4 for float (N, channels, H, W); in training mode also those at 1/8 and 1/16."""
        return self.fuse(images, *self.coarse(images))

    def coarse(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the two lower branches: at 1/16 and, after ``conv5_4``, at 1/32."""
        # A 2x2 mean equals bilinear resizing by exactly one half.
        half = self.shared(F.avg_pool2d(images, 2))
        return half, self.conv5_4(self.pyramid(self.deep(F.avg_pool2d(half, 2))))

    def fuse(self, images: Tensor, half: Tensor, low: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the logits from the features of the two lower branches."""
        middle, logits_16 = self.fuse_low(low, half)
        fine, logits_8 = self.fuse_high(middle, self.high(images))
        logits_4: Tensor = self.classify(_upsample(fine))
        if logits_8 is None or logits_16 is None:
            return logits_4
        return logits_4, logits_8, logits_16


class ICNet(Cascade):
    """ICNet with the pruned backbone of its authors.

    Args:
        classes: number of classes.
        width: channels of the first convolution; all other widths are proportional. 32 is the pruned network of
            the paper (6.7 M parameters), 64 the unpruned one.
        pyramid: whether the coarse branch ends with pyramid pooling.
        loss_weights: weight in the training loss of the predictions at 1/4, 1/8 and 1/16.
        channels: of the images.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 32,
        pyramid: bool = True,
        loss_weights: tuple[float, ...] = (1.0, 0.4, 0.4),
        channels: int = 3,
    ) -> None:
        super().__init__(classes, channels, loss_weights)
        if width < 1:
            raise OptionError(f"width of ICNet must be at least 1, got {width}")
        w = width
        self.stem = nn.Sequential(
            _conv(channels, w, 3, stride=2), _conv(w, w, 3), _conv(w, 2 * w, 3), nn.MaxPool2d(3, stride=2, padding=1)
        )
        self.conv2 = _stage(2 * w, w, 4 * w, 3)
        self.conv3_1 = Bottleneck(4 * w, 2 * w, 8 * w, stride=2)
        self.conv3_rest = _stage(8 * w, 2 * w, 8 * w, 3)
        self.conv4 = _stage(8 * w, 4 * w, 16 * w, 6, dilation=2)
        self.conv5 = _stage(16 * w, 8 * w, 32 * w, 3, dilation=4)
        self.add_fusion(32 * w, 8 * w, w, pyramid=pyramid)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Bottleneck):
                # Residual blocks start as the identity, which stabilises training (Goyal et al. 2017, section 5.1).
                nn.init.zeros_(module.body[2][1].weight)  # type: ignore[index]

    def shared(self, images: Tensor) -> Tensor:
        """See ``Cascade.shared``."""
        features: Tensor = self.conv3_1(self.conv2(self.stem(images)))
        return features

    def deep(self, features: Tensor) -> Tensor:
        """See ``Cascade.deep``."""
        deep: Tensor = self.conv5(self.conv4(self.conv3_rest(features)))
        return deep
