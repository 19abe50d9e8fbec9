"""torch as it is run without any ado: eager, one call after another. What the rows of a GPU are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.backends.torch import _build, _Network
from rtseg.model_file.input_size import at_size
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import file_sha256
from rtseg.weights import find_model

__all__ = ["EagerTorch"]


class EagerTorch(Backend):
    """Frames to the GPU, the network kernel by kernel, labels back, and a wait for the GPU: one batch at a time.

    The arithmetic is that of the torch backend: batch norm folded, channels last, fp32 without TF32, fp16 with weights
    that were rounded once and under autocast. What it has not are CUDA graphs, streams and pinned memory.

    Args:
        model: a model file, or the name of a bundled one.
        size: (H, W) to run it at, in pixels.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: of torch: ``cuda``, or ``cpu`` to try it without a GPU.
    """

    name = "torch-eager"

    def __init__(self, model: str | Path, *, size: tuple[int, int], precision: str, device: str) -> None:
        loaded = load_model(find_model(model))
        loaded = loaded if size == loaded.spec.size else at_size(loaded, size)
        self.spec = loaded.spec
        self.precision = precision
        self.version = str(torch.__version__)
        self.model_sha256 = file_sha256(loaded.path)
        self.recurrent = loaded.state_shape is not None
        self._place = torch.device(device)
        self._on_gpu = self._place.type == "cuda"
        self.device = torch.cuda.get_device_name() if self._on_gpu else "CPU"
        self._network = _Network(_build(loaded), self._place, precision)
        self._state: torch.Tensor | None = None

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._state = None

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):  # as in the torch backend
            labels, self._state = self._network(torch.from_numpy(frames).to(self._place), self._state)
        return Ticket(labels, frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels = ticket.handle.cpu()
        if self._on_gpu:
            torch.cuda.synchronize(self._place)
        return np.asarray(labels.numpy(), dtype=np.uint8)
