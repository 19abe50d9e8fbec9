"""SCTNet: a single branch of convolutions, which a transformer guides in training only.

Source: Xu, Wu, Yu, Chu, Sang, Gao, "SCTNet: Single-Branch CNN with Transformer Semantic Information for Real-Time
Segmentation", AAAI 2024, arXiv 2312.17071: section "Conv-Former Block", "Semantic Information Alignment Module" and
"Overall Architecture".

    stem, stages 1, 2 ──► 1/8 ─┬─ stage 3, CF block 1/16 ── two CF blocks 1/32 ── DAPPM ── x4 ─┐
                               └──────────────────────────────────────────────── concatenated ─┴─ head ── classes at 1/8

With 19 classes SCTNet-S has 4.6 M parameters and SCTNet-B 17.4 M (table 1). In training there are also the
classes of stage 2, those of the transformer, and four pairs of features that are aligned: the stages at 1/16 and 1/32,
and features and logits of the transformer's decoder, which both branches share.

The authors train the transformer first and then keep it fixed. Here both train together: the transformer by the
cross-entropy of its own prediction, and the alignment gives it no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torchvision.ops import StochasticDepth

from rtseg.errors import OptionError
from rtseg.models.base import Network, Output
from rtseg.models.context import DAPPM
from rtseg.models.residual import BasicBlock, Head, conv_norm, initialise, stage, stem
from rtseg.models.segformer import SIZES, MixTransformer, SegFormerHead

__all__ = ["ConvFormerBlock", "SCTNet", "SCTNetB"]

_LENGTH = 7
"""Length of the kernels in the convolutional attention, in pixels."""
_INNER = 64
"""Number of those kernels."""
_HEADS = 8
_DROP = 0.1
"""Probability in training that a residual path is left out for an image."""
_EPSILON = 1e-6


class ConvolutionalAttention(nn.Module):
    """Attention to learnt kernels, along rows and along columns.

    Each of 64 kernels gives a map; it is normalised by softmax over the pixels, then by its sum over the 8 kernels of
    a head; the same kernels transposed map it back. Source: the paper, section "Conv-Former Block".
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = _LENGTH // 2
        self.norm = nn.BatchNorm2d(width)
        self.columns = nn.Conv2d(width, _INNER, (_LENGTH, 1), padding=(half, 0), bias=False)
        self.rows = nn.Conv2d(width, _INNER, (1, _LENGTH), padding=(0, half), bias=False)
        self.head_sum: Tensor
        self.register_buffer("head_sum", torch.ones(_INNER, _INNER // _HEADS, 1, 1), persistent=False)

    def fix_size(self) -> None:
        """Store the transposed kernels in buffers, so that they have names in an exported graph."""
        for name in ("columns", "rows"):
            kernel = self._transposed(name).detach().clone()
            self.register_buffer(f"{name}_transposed", kernel, persistent=False)

    def _transposed(self, name: str) -> Tensor:
        convolution = self.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        return convolution.weight.transpose(0, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H, W)."""
        normed = self.norm(features)
        return self._attend("columns", normed) + self._attend("rows", normed)

    def _attend(self, name: str, features: Tensor) -> Tensor:
        half = _LENGTH // 2
        fixed: Tensor | None = getattr(self, f"{name}_transposed", None)
        kernel = self._transposed(name) if fixed is None else fixed
        weights = self._normalise(self.get_submodule(name)(features)).to(features.dtype)
        return F.conv2d(weights, kernel, padding=(half, 0) if name == "columns" else (0, half))

    def _normalise(self, scores: Tensor) -> Tensor:
        powers = torch.exp(scores - scores.amax((2, 3), keepdim=True))
        shares = powers / powers.sum((2, 3), keepdim=True)
        return shares / (F.conv2d(shares, self.head_sum.to(shares.dtype), groups=_HEADS) + _EPSILON)


class ConvFormerBlock(nn.Module):
    """Convolutional attention and two 3x3 convolutions, each with a residual connection, like a transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = ConvolutionalAttention(width)
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(width, eps=_EPSILON),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.drop = StochasticDepth(_DROP, "row")

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H, W)."""
        features = features + self.drop(self.attention(features))
        mixed: Tensor = features + self.drop(self.mlp(features))
        return mixed


class Alignment(nn.Module):
    """The training-only part: the transformer, and projections to the widths of its features.

    Args:
        width: of the network.
        classes: number of classes.
        size: of the transformer, see ``rtseg.models.segformer.SIZES``.
        channels: of the images.
    """

    def __init__(self, width: int, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.transformer = MixTransformer(size, channels)
        widths = self.transformer.widths
        self.head = SegFormerHead(widths, classes)
        self.stage3 = nn.Conv2d(4 * width, widths[2], 1)
        self.stage4 = nn.Conv2d(8 * width, widths[3], 1)
        self.decoder = nn.Conv2d(4 * width, 4 * SegFormerHead.width, 1)

    def forward(self, images: Tensor, stages: tuple[Tensor, Tensor], decoded: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of the transformer at 1/4, and the four pairs of ``Output.ALIGNMENT``.

        Args:
            images: float (N, channels, H, W).
            stages: features of the network at 1/16 and 1/32.
            decoded: its features before the head, at 1/8.
        """
        guides = self.transformer(images)
        collected = self.head.collect(guides)
        features, logits = self.head(collected)
        enlarged = F.interpolate(self.decoder(decoded), scale_factor=2.0, mode="bilinear", align_corners=False)
        own_features, own_logits = self.head.forward_fixed(_with_statistics(enlarged, collected.detach()))
        pairs = (
            (own_logits, logits),
            (own_features, features),
            (self.stage4(stages[1]), guides[3]),
            (self.stage3(stages[0]), guides[2]),
        )
        return (logits, *(torch.stack((own, guide.detach().to(own.dtype)), 1) for own, guide in pairs))


def _with_statistics(features: Tensor, other: Tensor) -> Tensor:
    """Give each channel of ``features`` the mean and standard deviation of that of ``other``, over the batch."""
    axes = (0, 2, 3)
    mean, deviation = features.mean(axes, keepdim=True), features.std(axes, keepdim=True)
    normed = (features - mean) / (deviation + _EPSILON)
    return normed * other.std(axes, keepdim=True) + other.mean(axes, keepdim=True)


class SCTNet(Network):
    """SCTNet-S.

    Args:
        classes: number of classes.
        width: channels of the first stage; 32 is SCTNet-S.
        transformer: size of the transformer of training, 0 to 3 for SegFormer-B0 to -B3. SCTNet-S has B2 in the paper;
            smaller ones train faster.
        channels: of the images.

    Raises:
        OptionError: there is no such size of the transformer.
    """

    multiple = 32
    stride = 8
    auxiliary = ("auxiliary_head", "alignment")
    outputs = (*(Output.CLASSES,) * 3, *(Output.ALIGNMENT,) * 4)
    loss_weights = (1.0, 0.4, 1.0, 3.0, 15.0, 15.0, 15.0)  # as in the authors' configuration files

    def __init__(self, classes: int, *, width: int = 32, transformer: int = 2, channels: int = 3) -> None:
        super().__init__(classes, channels)
        if transformer not in SIZES:
            raise OptionError(f"transformer of SCTNet must be 0 to 3, got {transformer}")
        w = width
        self.conv1 = stem(channels, w)
        self.layer1 = stage(BasicBlock, w, w, 2, bias=True)
        self.layer2 = stage(BasicBlock, w, 2 * w, 2, stride=2, bias=True)
        self.layer3 = stage(BasicBlock, 2 * w, 4 * w, 2, stride=2, bias=True)
        self.former3 = ConvFormerBlock(4 * w)
        self.down4 = conv_norm(4 * w, 8 * w, 3, stride=2, bias=True)
        self.former4 = ConvFormerBlock(8 * w)
        self.former5 = ConvFormerBlock(8 * w)
        self.spp = DAPPM(8 * w, 2 * w, 2 * w, stride=32, bias=True)
        self.head = Head(4 * w, 4 * w, classes, bias=True)
        self.auxiliary_head = Head(2 * w, 2 * w, classes, bias=True)
        initialise(self)
        for block in (self.former3, self.former4, self.former5):
            for part in (block.attention.columns, block.attention.rows):
                nn.init.trunc_normal_(part.weight, std=0.001)
        self.alignment = Alignment(w, classes, transformer, channels)

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        self.spp.fix_size(height, width)
        for block in (self.former3, self.former4, self.former5):
            block.attention.fix_size()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/8 for float (N, channels, H, W); in training mode what ``outputs`` says."""
        detail = self.layer2(F.relu(self.layer1(self.conv1(images))))
        stage3 = self.former3(F.relu(self.layer3(F.relu(detail))))
        stage4 = self.former4(F.relu(self.down4(stage3)))
        context = self.former5(F.relu(stage4))
        upsampled = F.interpolate(self.spp(context), scale_factor=4.0, mode="bilinear", align_corners=False)
        decoded = torch.cat((detail, upsampled), 1)
        logits: Tensor = self.head(decoded)
        if not self.training:
            return logits
        return (logits, self.auxiliary_head(detail), *self.alignment(images, (stage3, context), decoded))


class SCTNetB(SCTNet):
    """SCTNet-B: twice the width, and SegFormer-B3 in training; see ``SCTNet``."""

    def __init__(self, classes: int, *, transformer: int = 3, channels: int = 3) -> None:
        super().__init__(classes, width=64, transformer=transformer, channels=channels)
