"""Training in several processes, as ``torchrun`` starts them: who is who, and what they must agree on.

The batch is split between the processes, batch norm and the means of the losses run over all of it, and gradients are
averaged: the run is the one that a single process would have made with the same options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rtseg.errors import BackendUnavailable, OptionError

__all__ = ["Processes", "find_device", "joined", "sync_batch_norm"]

_PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: the first one validates alone."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The place of this process among all of a run."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Examples of a batch for each process.

        Raises:
            OptionError: it cannot be split evenly.
        """
        if batch % self.count:
            raise OptionError(f"--batch {batch} cannot be split between {self.count} processes: give a multiple")
        return batch // self.count

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes; no gradient flows through it."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.count

    def from_first(self, value: Any) -> Any:
        """What the first process has, for all: plain values and arrays."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module``, averaging its gradients over all processes."""
        if self.count == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        # Batch norm over all processes keeps the buffers alike.
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, if it did.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        BackendUnavailable: ``cuda`` is asked for where torch finds none, or fewer GPUs than processes.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = find_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if count == 1:
        yield Processes(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank, count, place)
    finally:
        dist.destroy_process_group()


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means for process ``local_rank`` of this machine.

    Raises:
        BackendUnavailable: there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise BackendUnavailable(f"process {local_rank} finds {found} GPUs: start torchrun --nproc-per-node {found}")
    return torch.device("cuda", local_rank)


def sync_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let every batch norm of ``network`` take its statistics over the batches of all processes."""
    if device.type == "cuda":
        for name, part in list(network.named_children()):
            setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))  # type: ignore[no-untyped-call]
        return
    for part in network.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = _SyncBatchNorm


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each adds to the loss of all, so gradients are summed likewise."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total


class _SyncBatchNorm(nn.BatchNorm2d):
    """torch's own synchronised batch norm runs on GPUs alone; this is its arithmetic on a CPU.

    Source: Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, algorithm 1, the mini-batch being that of all
    processes.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]))
        sums = _sum(torch.cat((values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count)))
        features = self.num_features
        total, squares, pixels = sums[:features], sums[features:-1], sums[-1]
        mean = total / pixels
        variance = (squares / pixels - mean.square()).clamp_min(0)
        self._remember(mean.detach(), (variance * pixels / (pixels - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0)
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
