"""torchvision's own segmentation networks under the contract of ``Network``."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import get_model

from rtseg.models.backbones import adapt_input
from rtseg.models.base import Network
from rtseg.models.pretrained import fetch, load_into

__all__ = ["TorchvisionNetwork"]

_PUBLISHED_CLASSES = 21
"""Those of VOC, background included."""


class TorchvisionNetwork(Network):
    """``torchvision.models.segmentation`` by name, with its auxiliary head, in the names of the published weights.

    Args:
        published: torchvision's name of it, e.g. ``fcn_resnet50``.
        classes: number of classes.
        channels: of the images.
    """

    auxiliary = ("aux_classifier",)
    loss_weights = (1.0, 0.5)  # as in torchvision's references/segmentation/train.py

    def __init__(self, published: str, classes: int, channels: int) -> None:
        super().__init__(classes, channels)
        self.published = published
        network = cast(
            Any, get_model(published, weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)
        )
        self.backbone: nn.Module = network.backbone
        self.classifier: nn.Module = network.classifier
        self.aux_classifier: nn.Module = network.aux_classifier
        adapt_input(self.backbone, channels)

    def load_published(self) -> None:
        """See ``Network.load_published``: COCO's with the classes of VOC, for all but heads of another number."""
        heads = [name for name in self.state_dict() if name.startswith(("classifier.4.", "aux_classifier.4."))]
        load_into(self, fetch(self.published), fresh=heads if self.classes != _PUBLISHED_CLASSES else ())

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits at 1/stride of float (N, channels, H, W); in training mode also those of the auxiliary head."""
        features: dict[str, Tensor] = self.backbone(images)
        logits: Tensor = self.classifier(features["out"])
        return (logits, self.aux_classifier(features["aux"])) if self.training else logits
