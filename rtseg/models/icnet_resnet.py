"""ICNet with a ResNet backbone of torchvision, for which pretrained weights are published.

Sources: Zhao et al., "ICNet", ECCV 2018, arXiv 1704.08545; He, Zhang, Ren, Sun, "Deep Residual Learning for Image
Recognition", CVPR 2016, arXiv 1512.03385. As in PSPNet, the last two stages are dilated by 2 and 4 instead of strided.
"""

from __future__ import annotations

from torch import Tensor

from rtseg.models.backbones import dilate, resnet, resnet_stem
from rtseg.models.icnet import Cascade
from rtseg.models.pretrained import download_weights, load_weights

__all__ = ["ICNetResNet"]

_WIDTH = 32
"""Width of the fusion layers, as in the pruned ICNet."""


class ICNetResNet(Cascade):
    """ICNet with a ResNet backbone.

    The half-size image passes through the layers up to the first block of ``layer2``, the quarter-size one through the
    rest.

    Args:
        classes: number of classes.
        depth: layers of the ResNet, 18 or 50.
        pyramid: whether the coarse branch ends with pyramid pooling.
        loss_weights: weight in the training loss of the predictions at 1/4, 1/8 and 1/16.
        channels: of the images.
    """

    def __init__(
        self,
        classes: int,
        *,
        depth: int = 50,
        pyramid: bool = True,
        loss_weights: tuple[float, ...] = (1.0, 0.4, 0.4),
        channels: int = 3,
    ) -> None:
        super().__init__(classes, channels, loss_weights)
        self.depth = depth
        self.trunk = resnet(depth, channels)
        dilate(self.trunk.get_submodule("layer3"), 2)
        dilate(self.trunk.get_submodule("layer4"), 4)
        deep, shared = (512, 128) if depth == 18 else (2048, 512)
        self.add_fusion(deep, shared, _WIDTH, pyramid=pyramid)

    def load_pretrained(self) -> None:
        """See ``Network.load_pretrained``: ImageNet weights for the backbone."""
        load_weights(self.trunk, download_weights(f"resnet{self.depth}"))

    def shared(self, images: Tensor) -> Tensor:
        """See ``Cascade.shared``."""
        features = self.trunk.get_submodule("layer1")(resnet_stem(self.trunk, images))
        first: Tensor = self.trunk.get_submodule("layer2.0")(features)
        return first

    def deep(self, features: Tensor) -> Tensor:
        """See ``Cascade.deep``."""
        for block in list(self.trunk.get_submodule("layer2").children())[1:]:
            features = block(features)
        for stage in ("layer3", "layer4"):
            features = self.trunk.get_submodule(stage)(features)
        return features
