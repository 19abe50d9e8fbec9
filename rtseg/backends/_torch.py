"""torch: the reference that every other backend is compared with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from rtseg.backends import Backend, BackendOptions, Ticket
from rtseg.errors import BackendError, BackendUnavailable, ModelError
from rtseg.models import create_model, is_known
from rtseg.models._labels import LabelNetwork, fuse_batch_norm
from rtseg.spec import ModelFile

__all__ = ["TorchBackend"]

_PREFIX = "network."
"""Of the names that export gives to the weights of a network."""


class TorchBackend(Backend):
    """Builds the network that the model file names, in eager torch, and takes the weights out of the file.

    fp32 unless told otherwise: it is there to be right.
    """

    name = "torch"

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        self.spec = model.spec
        self.version = str(torch.__version__)
        self._device = torch.device(_device(options.device))
        self.device = torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"
        self.precision = "fp32" if options.precision == "auto" else options.precision
        if self.precision not in ("fp32", "bf16"):
            raise BackendUnavailable(f"the torch backend computes in fp32 or bf16, not in {self.precision}")
        if not is_known(self.spec.architecture):
            raise BackendUnavailable(
                f"{model.path} names no network that rtseg can build in torch ({self.spec.architecture!r}): "
                "use --backend openvino or onnxruntime"
            )
        self._labels = _build(model).to(self._device)
        self.recurrent = model.state_shape is not None
        self._state: Tensor | None = None
        if options.threads is not None:
            torch.set_num_threads(options.threads)

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        return Ticket(self._run(torch.from_numpy(frames)), frames)

    def _run(self, frames: Tensor) -> Tensor:
        labels: Tensor
        amp = torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16")
        try:
            with torch.no_grad(), amp:
                frames = frames.to(self._device)
                if self.recurrent:
                    labels, self._state = self._labels(frames, self._state)
                else:
                    labels = self._labels(frames)
        except RuntimeError as error:
            raise BackendError(f"torch failed on a batch: {str(error).splitlines()[0]}") from error
        return labels

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._state = None

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        return np.asarray(ticket.handle.cpu().numpy(), dtype=np.uint8)


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _build(model: ModelFile) -> LabelNetwork:
    spec = model.spec
    network = fuse_batch_norm(create_model(spec.architecture, len(spec.classes)))
    state_shape = network.state_shape(*spec.size) if network.recurrent else None
    if state_shape != model.state_shape:
        raise ModelError(f"the state in {model.path} is not that of the network {spec.architecture!r} of this rtseg")
    stored = {tensor.name.removeprefix(_PREFIX): tensor for tensor in model.graph.graph.initializer}
    weights: dict[str, Tensor] = {}
    try:
        for name, blank in network.state_dict().items():
            if name in stored:
                weights[name] = torch.from_numpy(numpy_helper.to_array(stored[name]).astype(np.float32))
            elif name.endswith(".bias"):  # the exporter leaves out a bias that is zero
                weights[name] = torch.zeros_like(blank)
        network.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the weights in {model.path} do not fit the network {spec.architecture!r} of this rtseg"
        ) from error
    return LabelNetwork(network).to(memory_format=torch.channels_last)
