"""Everything that changes while training, and what a checkpoint of it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from rtseg.datasets import Dataset
from rtseg.errors import CheckpointError
from rtseg.metrics.confusion import Scores
from rtseg.models.base import Network
from rtseg.training.checkpoint import BEST, LAST, load_checkpoint
from rtseg.training.options import TrainOptions

__all__ = ["Run", "described", "full_state", "new_run", "plain", "public_state", "restore"]

_Tensors = tuple[Tensor, ...] | list[Tensor]
_CHANGEABLE = ("epochs", "lr", "amp", "eval_every", "model", "channels", "pretrained")
"""Options that a run may go on with changed; what the network is, is compared by its architecture."""
_PLACES = ("data", "val_data", "output", "init", "resume", "device", "workers", "reading")
"""Options about the machine that trained: no business of whoever uses the model."""


@dataclass
class Run:
    """A network in training, and how far it is."""

    network: Network
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    """Epochs done."""
    best_miou: float = -1.0
    seconds: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers."""
        weights = (*self.network.state_dict().values(), *self.averaged.state_dict().values())
        return all(bool(value.isfinite().all()) for value in weights)

    @property
    def averaged(self) -> Network:
        """The network with the averaged weights."""
        network = self.average.module
        assert isinstance(network, Network)
        return network


def new_run(network: Network, options: TrainOptions) -> Run:
    """A run that has not begun; ``network`` is on its device."""
    device = next(network.parameters()).device
    average = AveragedModel(network, multi_avg_fn=_ema_update(options.ema), use_buffers=True)
    scaler = torch.amp.GradScaler(device.type, enabled=options.amp == "fp16")
    return Run(network, average, _optimizer(network, options), scaler)


def _optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Weight decay on the kernels alone: decaying batch norm and biases only shifts the learning rate."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=options.lr)


def _ema_update(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential moving average that trusts the first steps little: decay min(d, (1 + n) / (10 + n))."""

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # batch norm's counters
            torch._foreach_copy_(averaged, current)
            return
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def described(datasets: list[Dataset], validation: Dataset) -> dict[str, Any]:
    """What a checkpoint says of the data."""
    first = datasets[0]
    return {
        "classes": list(first.classes),
        "palette": [list(colour) for colour in first.palette],
        "trained_on": " + ".join(dataset.name for dataset in datasets),
        "licence": "; ".join(dict.fromkeys(dataset.licence for dataset in datasets)),
        "validated_on": validation.name,
    }


def public_state(run: Run, options: TrainOptions, data: dict[str, Any], result: Scores | None) -> dict[str, Any]:
    """What export needs: the averaged weights and where they come from."""
    return {
        "network": run.averaged.state_dict(),
        "architecture": run.network.architecture,
        **data,
        "size": list(options.size),
        "preprocess": list(options.preprocess),
        "scores": result.to_dict(tuple(data["classes"])) if result else None,
        "recipe": {key: value for key, value in plain(options).items() if key not in _PLACES},
        "epoch": run.epoch,
        "hours": run.seconds / 3600,
    }


def full_state(run: Run, options: TrainOptions, data: dict[str, Any]) -> dict[str, Any]:
    """What going on with the run needs as well."""
    return public_state(run, options, data, None) | {
        "raw_network": run.network.state_dict(),
        "averaged": int(run.average.n_averaged),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "best_miou": run.best_miou,
        "seconds": run.seconds,
    }


def restore(run: Run, options: TrainOptions, data: dict[str, Any]) -> None:
    """Bring ``run`` to where the last checkpoint in the run folder stands.

    Raises:
        CheckpointError: there is none, it is one of another network, other classes or another recipe, or the best
            checkpoint beside it is gone.
    """
    path = options.output / LAST
    state = load_checkpoint(path)
    _check_same_run(state, run, options, data, path)
    try:
        run.network.load_state_dict(state["raw_network"])
        run.averaged.load_state_dict(state["network"])
        run.average.n_averaged.fill_(state["averaged"])
        run.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            run.scaler.load_state_dict(state["scaler"])
        run.epoch, run.best_miou, run.seconds = state["epoch"], state["best_miou"], state["seconds"]
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this run: use the options in config.json beside it") from error


def _check_same_run(state: dict[str, Any], run: Run, options: TrainOptions, data: dict[str, Any], path: Path) -> None:
    if state["architecture"] != run.network.architecture:
        raise CheckpointError(f"{path} is a run of {state['architecture']!r}, not of {run.network.architecture!r}")
    if state["classes"] != data["classes"]:
        known, own = ", ".join(state["classes"]), ", ".join(data["classes"])
        raise CheckpointError(f"{path} knows the classes {known}, not {own}: give the --data of the run")
    before, now = state.get("recipe", {}), json.loads(json.dumps(plain(options)))
    for name in sorted(before.keys() & now.keys() - {*_PLACES, *_CHANGEABLE}):
        if before[name] != now[name]:
            raise CheckpointError(
                f"{path} was trained with another {name.replace('_', '-')} ({before[name]}, not {now[name]}): "
                "use the options in config.json beside it, or --init from it into another --output"
            )
    if state["best_miou"] >= 0 and not (options.output / BEST).exists():
        raise CheckpointError(f"{options.output / BEST} is gone: begin again with --init {path}")


def plain(options: TrainOptions) -> dict[str, Any]:
    """``options`` for JSON."""
    return asdict(
        options,
        dict_factory=lambda pairs: {key: str(value) if isinstance(value, Path) else value for key, value in pairs},
    )
