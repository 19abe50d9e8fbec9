"""Validate a network on labelled images, with the pre- and postprocessing of its model file."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtseg.datasets import Dataset
from rtseg.datasets.evaluate import evaluate
from rtseg.datasets.loader import DatasetReader
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import Scores
from rtseg.models.base import Network
from rtseg.models.label_network import LabelNetwork
from rtseg.preprocess import Prepare

__all__ = ["NetworkPredictor", "autocast", "validate"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager[Any]:
    """Return the context for mixed precision: ``bf16``, ``fp16`` or ``none``."""
    return torch.autocast(device.type, _DTYPES[amp]) if amp in _DTYPES else nullcontext()


class NetworkPredictor:
    """Predicts labels with a network, at the model's input size.

    Args:
        network: on its device.
        prepare: makes the model's input from an image.
        amp: precision, ``bf16``, ``fp16`` or ``none``.
    """

    def __init__(self, network: Network, prepare: Prepare, amp: str) -> None:
        self._label_network = LabelNetwork(network)
        self._device = next(network.parameters()).device
        self._label_network.to(self._device)
        self._prepare = prepare
        self._amp = amp
        self._recurrent = network.recurrent
        self._state: Tensor | None = None

    def reset(self) -> None:
        """Clear the recurrent state before another video."""
        self._state = None

    @torch.no_grad()
    def __call__(self, image: Image) -> Labels:
        """Return the class IDs, uint8 (h, w), of an image, uint8 (H, W, C), of any size."""
        frames = torch.from_numpy(self._prepare(image)[None]).to(self._device)
        with autocast(self._device, self._amp):
            if self._recurrent:
                labels, self._state = self._label_network(frames, self._state)
            else:
                labels = self._label_network(frames)
        return np.asarray(labels[0].cpu().numpy(), dtype=np.uint8)


def validate(predictor: NetworkPredictor, dataset: Dataset, reader: DatasetReader | None = None) -> Scores:
    """Compute the scores over a data set. The state of a recurrent network is reset after each video.

    Raises:
        DatasetError: a file of the data set cannot be used, or no pixel of it is labelled.
    """
    return evaluate(predictor, dataset, reset=predictor.reset, reader=reader)
