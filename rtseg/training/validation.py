"""A network against labelled images, through the head and tail that its model file will have."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtseg.datasets import Dataset
from rtseg.datasets.evaluate import evaluate
from rtseg.datasets.loader import Reader
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import Scores
from rtseg.models.base import Network
from rtseg.models.label_network import LabelNetwork
from rtseg.preprocess import Prepare

__all__ = ["NetworkLabels", "autocast", "validate"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager[Any]:
    """Mixed precision: ``bf16``, ``fp16`` or ``none``."""
    return torch.autocast(device.type, _DTYPES[amp]) if amp in _DTYPES else nullcontext()


class NetworkLabels:
    """Labels images with a network, at the model's input size.

    Args:
        network: on its device.
        prepare: what makes the model's input of an image.
        amp: precision, ``bf16``, ``fp16`` or ``none``.
    """

    def __init__(self, network: Network, prepare: Prepare, amp: str) -> None:
        self._labels = LabelNetwork(network)
        self._device = next(network.parameters()).device
        self._labels.to(self._device)
        self._prepare = prepare
        self._amp = amp
        self._recurrent = network.recurrent
        self._state: Tensor | None = None

    def reset(self) -> None:
        """Forget the frames before: what comes next is another video."""
        self._state = None

    @torch.no_grad()
    def __call__(self, image: Image) -> Labels:
        """Class ids, uint8 (h, w), of a BGR image, uint8 (H, W, C), of any size."""
        frames = torch.from_numpy(self._prepare(image)[None]).to(self._device)
        with autocast(self._device, self._amp):
            if self._recurrent:
                labels, self._state = self._labels(frames, self._state)
            else:
                labels = self._labels(frames)
        return np.asarray(labels[0].cpu().numpy(), dtype=np.uint8)


def validate(label: NetworkLabels, dataset: Dataset, reader: Reader | None = None) -> Scores:
    """Scores over a data set, in its order; what a network remembers ends with each video.

    Raises:
        DatasetError: a file of the data set cannot be used, or no pixel of it is labelled.
    """
    return evaluate(label, dataset, reset=label.reset, reader=reader)
