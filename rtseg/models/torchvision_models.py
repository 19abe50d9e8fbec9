"""Segmentation networks of torchvision as ``Network``."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import get_model

from rtseg.models.backbones import adapt_input
from rtseg.models.base import Network
from rtseg.models.pretrained import download_weights, load_weights

__all__ = ["TorchvisionNetwork"]

_PUBLISHED_CLASSES = 21
"""The classes of VOC, including the background."""


class TorchvisionNetwork(Network):
    """A network of ``torchvision.models.segmentation``, with its auxiliary head and torchvision's parameter names.

    Args:
        torchvision_name: e.g. ``fcn_resnet50``.
        classes: number of classes.
        channels: of the images.
    """

    auxiliary = ("aux_classifier",)
    loss_weights = (1.0, 0.5)  # as in torchvision's references/segmentation/train.py

    def __init__(self, torchvision_name: str, classes: int, channels: int) -> None:
        super().__init__(classes, channels)
        self.torchvision_name = torchvision_name
        network = cast(
            Any, get_model(torchvision_name, weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)
        )
        self.backbone: nn.Module = network.backbone
        self.classifier: nn.Module = network.classifier
        self.aux_classifier: nn.Module = network.aux_classifier
        adapt_input(self.backbone, channels)

    def load_pretrained(self) -> None:
        """See ``Network.load_pretrained``: COCO weights; with other classes than VOC, the heads are not loaded."""
        heads = [name for name in self.state_dict() if name.startswith(("classifier.4.", "aux_classifier.4."))]
        fresh = heads if self.classes != _PUBLISHED_CLASSES else ()
        load_weights(self, download_weights(self.torchvision_name), fresh=fresh)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/stride for float (N, channels, H, W); in training mode also auxiliary logits."""
        features: dict[str, Tensor] = self.backbone(images)
        logits: Tensor = self.classifier(features["out"])
        return (logits, self.aux_classifier(features["aux"])) if self.training else logits
