"""Distributed training in the processes that ``torchrun`` starts.

Each batch is split between the processes, batch norm and the means of the losses are computed over the whole batch, and
gradients are averaged: the result is that of a single process with the same options.
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

__all__ = ["DistributedContext", "find_device", "join_process_group", "sync_batch_norm"]

_TIMEOUT = timedelta(hours=2)
"""How long the processes wait for each other: the main process validates alone."""


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process's rank and device, and the communication with the other processes of the run."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates, writes files and prints."""
        return self.rank == 0

    def batch_per_process(self, batch: int) -> int:
        """Return the number of examples of a batch for each process.

        Raises:
            OptionError: the batch cannot be split evenly.
        """
        if batch % self.world_size:
            raise OptionError(f"--batch {batch} cannot be split between {self.world_size} processes: give a multiple")
        return batch // self.world_size

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over all processes, without a gradient."""
        if self.world_size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.world_size

    def broadcast(self, value: Any) -> Any:
        """Return the main process's ``value``, which consists of plain values and arrays, in every process."""
        if self.world_size == 1:
            return value
        objects = [value]
        dist.broadcast_object_list(objects, src=0, device=self.device if self.device.type == "cuda" else None)
        return objects[0]

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module that averages its gradients over all processes."""
        if self.world_size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        # Synchronised batch norm keeps the buffers equal.
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


@contextmanager
def join_process_group(device: str) -> Iterator[DistributedContext]:
    """Join the processes that ``torchrun`` started; without ``torchrun``, this process is the only one.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        BackendUnavailable: ``cuda`` was requested but is not available, or there are fewer GPUs than processes.
    """
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch_device = find_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1:
        yield DistributedContext(0, 1, torch_device)
        return
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    dist.init_process_group("nccl" if torch_device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield DistributedContext(rank, world_size, torch_device)
    finally:
        dist.destroy_process_group()


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda`` in process ``local_rank`` of this machine.

    Raises:
        BackendUnavailable: the device is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise BackendUnavailable(f"process {local_rank} finds {gpus} GPUs: start torchrun --nproc-per-node {gpus}")
    return torch.device("cuda", local_rank)


def sync_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Make every batch norm of ``network`` compute its statistics over the batches of all processes."""
    if device.type == "cuda":
        for name, part in list(network.named_children()):
            setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))  # type: ignore[no-untyped-call]
        return
    for part in network.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = _SyncBatchNorm


class _Sum(torch.autograd.Function):
    """Sum of a tensor over all processes. Each process contributes to all losses, so gradients are summed, too."""

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
    """Synchronised batch norm on a CPU; ``nn.SyncBatchNorm`` runs only on GPUs.

    Source: Ioffe and Szegedy, "Batch Normalization", arXiv 1502.03167, algorithm 1, with the mini-batch of all
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
        self._update_running_stats(mean.detach(), (variance * pixels / (pixels - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0)
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
