"""Plain torch, one batch at a time: eager, the reference for the rows on a GPU, and ``torch.compile`` on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.backends.torch import TorchNetwork, build_network
from rtseg.model_file.input_size import resize_input
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import file_sha256
from rtseg.weights import find_model

__all__ = ["CompiledTorch", "EagerTorch"]


class EagerTorch(Backend):
    """Copy frames to the GPU, launch the network kernel by kernel, copy the labels back, and wait for the GPU.

    The arithmetic is that of the torch backend: folded batch norm, channels last, fp32 without TF32, fp16 with rounded
    weights and autocast. It does not use CUDA graphs, streams or pinned memory.

    Args:
        model: a model file, or the name of a bundled one.
        size: (H, W) of the input, in pixels.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: ``cuda``, or ``cpu`` to try it without a GPU.
    """

    name = "torch-eager"

    def __init__(self, model: str | Path, *, size: tuple[int, int], precision: str, device: str) -> None:
        loaded = load_model(find_model(model))
        loaded = loaded if size == loaded.spec.size else resize_input(loaded, size)
        self.spec = loaded.spec
        self.precision = precision
        self.version = str(torch.__version__)
        self.model_sha256 = file_sha256(loaded.path)
        self.recurrent = loaded.state_shape is not None
        self._torch_device = torch.device(device)
        self._on_gpu = self._torch_device.type == "cuda"
        self.device = torch.cuda.get_device_name() if self._on_gpu else "CPU"
        self._network = TorchNetwork(build_network(loaded), self._torch_device, precision)
        self._state: torch.Tensor | None = None

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._state = None

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):  # as the torch backend does
            labels, self._state = self._network(torch.from_numpy(frames).to(self._torch_device), self._state)
        return Ticket(labels, frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels = ticket.handle.cpu()
        if self._on_gpu:
            torch.cuda.synchronize(self._torch_device)
        return np.asarray(labels.numpy(), dtype=np.uint8)


class CompiledTorch(EagerTorch):
    """``EagerTorch`` on the CPU through ``torch.compile`` (inductor), which prepacks the weights (``freezing``)."""

    name = "torch-compile"

    def __init__(self, model: str | Path, *, size: tuple[int, int], precision: str, device: str) -> None:
        super().__init__(model, size=size, precision=precision, device=device)
        network = self._network
        self._compiled = torch.compile(lambda frames: network(frames), dynamic=False, options={"freezing": True})

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        with torch.no_grad():  # otherwise the weights are no constants, and freezing does nothing
            labels, _ = self._compiled(torch.from_numpy(frames))
        return Ticket(labels, frames)
