"""The state of a training run, and its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from rtseg.training.checkpoint import load_checkpoint
from rtseg.training.data import BEST, LAST
from rtseg.training.options import TrainOptions
from rtseg.training.teacher import Teacher

__all__ = [
    "TrainingState",
    "checkpoint_for_export",
    "checkpoint_for_resume",
    "create_state",
    "data_facts",
    "options_to_dict",
    "restore_state",
]

_Tensors = tuple[Tensor, ...] | list[Tensor]
_CHANGEABLE = ("epochs", "lr", "amp", "eval_every", "model", "channels", "pretrained")
"""Options that may change on ``--resume``. The network itself is compared by its architecture."""
_LOCAL = ("data", "val_data", "output", "init", "resume", "device", "workers", "reading", "teacher", "unlabelled")
"""Options about the training machine and its files, which checkpoints do not store."""


@dataclass
class TrainingState:
    """The network in training, its EMA weights, the optimizer and the progress of the run."""

    network: Network
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    """Completed epochs."""
    best_miou: float = -1.0
    seconds: float = 0.0
    class_weights: tuple[float, ...] = ()
    """Of the loss, one for each class."""

    @property
    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        weights = (*self.network.state_dict().values(), *self.ema_network.state_dict().values())
        return all(bool(value.isfinite().all()) for value in weights)

    @property
    def ema_network(self) -> Network:
        """The network with the averaged (EMA) weights."""
        network = self.ema.module
        assert isinstance(network, Network)
        return network


def create_state(network: Network, options: TrainOptions) -> TrainingState:
    """Create the initial state; ``network`` is on its device."""
    device = next(network.parameters()).device
    ema = AveragedModel(network, multi_avg_fn=_ema_update(options.ema), use_buffers=True)
    scaler = torch.amp.GradScaler(device.type, enabled=options.amp == "fp16")
    return TrainingState(network, ema, _create_optimizer(network, options), scaler)


def _create_optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    # Weight decay only for kernels: on batch norm and biases it would only change the effective learning rate.
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=0.9, nesterov=True)
    optimizer = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return optimizer(groups, lr=options.lr)


def _ema_update(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Return the update of an exponential moving average with the decay min(d, (1 + n) / (10 + n)) after n steps."""

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # the counters of batch norm
            torch._foreach_copy_(averaged, current)
            return
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def data_facts(datasets: list[Dataset], validation: Dataset, teachers: Sequence[Teacher] = ()) -> dict[str, Any]:
    """Return what checkpoints store about the data. The terms of a teacher's data apply to what it has taught."""
    first = datasets[0]
    taught_by = [f"predictions of {teacher.name} ({teacher.trained_on})" for teacher in teachers]
    licences = [dataset.licence for dataset in datasets] + [teacher.licence for teacher in teachers]
    return {
        "classes": list(first.classes),
        "palette": [list(colour) for colour in first.palette],
        "trained_on": " + ".join([dataset.name for dataset in datasets] + taught_by),
        "licence": "; ".join(dict.fromkeys(filter(None, licences))),
        "validated_on": validation.name,
    }


def checkpoint_for_export(
    state: TrainingState, options: TrainOptions, data: dict[str, Any], scores: Scores | None
) -> dict[str, Any]:
    """Return a checkpoint with the averaged weights and their description. ``data`` is from ``data_facts``."""
    return {
        "network": state.ema_network.state_dict(),
        "architecture": state.network.architecture,
        **data,
        "size": list(options.size),
        "preprocess": list(options.preprocess),
        "scores": scores.to_dict(tuple(data["classes"])) if scores else None,
        "recipe": {key: value for key, value in options_to_dict(options).items() if key not in _LOCAL},
        "class_weights": list(state.class_weights),
        "epoch": state.epoch,
        "hours": state.seconds / 3600,
    }


def checkpoint_for_resume(state: TrainingState, options: TrainOptions, data: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint from which the run can also be resumed."""
    return checkpoint_for_export(state, options, data, None) | {
        "raw_network": state.network.state_dict(),
        "averaged": int(state.ema.n_averaged),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "best_miou": state.best_miou,
        "seconds": state.seconds,
    }


def restore_state(state: TrainingState, options: TrainOptions, data: dict[str, Any]) -> None:
    """Set ``state`` to that of the last checkpoint in the run folder.

    Raises:
        CheckpointError: there is no checkpoint, it is of another network, other classes or another recipe, or the best
            checkpoint is missing.
    """
    path = options.output / LAST
    saved = load_checkpoint(path)
    _check_same_run(saved, state, options, data, path)
    try:
        state.network.load_state_dict(saved["raw_network"])
        state.ema_network.load_state_dict(saved["network"])
        state.ema.n_averaged.fill_(saved["averaged"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:
            state.scaler.load_state_dict(saved["scaler"])
        state.epoch, state.best_miou, state.seconds = saved["epoch"], saved["best_miou"], saved["seconds"]
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this run: use the options in config.json beside it") from error


def _check_same_run(
    saved: dict[str, Any], state: TrainingState, options: TrainOptions, data: dict[str, Any], path: Path
) -> None:
    if saved["architecture"] != state.network.architecture:
        raise CheckpointError(f"{path} is a run of {saved['architecture']!r}, not of {state.network.architecture!r}")
    if saved["classes"] != data["classes"]:
        before, now = ", ".join(saved["classes"]), ", ".join(data["classes"])
        raise CheckpointError(f"{path} has the classes {before}, not {now}: give the --data of the run")
    recipe, current = saved.get("recipe", {}), json.loads(json.dumps(options_to_dict(options)))
    for name in sorted(recipe.keys() & current.keys() - {*_LOCAL, *_CHANGEABLE}):
        if recipe[name] != current[name]:
            raise CheckpointError(
                f"{path} was trained with another {name.replace('_', '-')} ({recipe[name]}, not {current[name]}): "
                "use the options in config.json beside it, or --init from it into another --output"
            )
    if saved["best_miou"] >= 0 and not (options.output / BEST).exists():
        raise CheckpointError(f"{options.output / BEST} is missing: start again with --init {path}")


def options_to_dict(options: TrainOptions) -> dict[str, Any]:
    """Return ``options`` for JSON."""
    return asdict(
        options,
        dict_factory=lambda pairs: {key: str(value) if isinstance(value, Path) else value for key, value in pairs},
    )
