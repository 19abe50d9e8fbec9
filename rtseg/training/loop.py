"""The training loop. Read from top to bottom: ``train`` is the whole story."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from rtseg.datasets import Dataset, open_dataset
from rtseg.errors import BackendUnavailable, CheckpointError, DatasetError, OptionError, SinkError
from rtseg.frame import Labels, Picture
from rtseg.models import create_model
from rtseg.models._labels import LabelNetwork, normalise
from rtseg.models._network import Network
from rtseg.preprocess import resize
from rtseg.training.augment import RandomViews
from rtseg.training.checkpoint import begin_with, load_checkpoint, save_checkpoint
from rtseg.training.evaluate import evaluate
from rtseg.training.losses import class_weights, multi_resolution_loss
from rtseg.training.metrics import Scores
from rtseg.training.options import TrainOptions

__all__ = ["train"]

_POLY_POWER = 0.9
_WARM_UP = 0.03
"""Share of all steps over which the learning rate rises from near zero."""
_GRADIENT_NORM = 5.0
_Tensors = tuple[Tensor, ...] | list[Tensor]
_PLACES = ("data", "val_data", "output", "init")
"""Options that name places on the machine that trained: no business of whoever uses the model."""


@dataclass
class _Run:
    """Everything that changes while training, and what a checkpoint must hold."""

    network: Network
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    epoch: int = 0
    best_miou: float = -1.0
    seconds: float = 0.0


def train(options: TrainOptions, console: Console | None = None) -> Scores:
    """Train a network and keep its best and last state in ``options.output``.

    The folder gets ``config.json``, ``metrics.jsonl`` (a line an epoch), ``best.pt`` (highest validation mIoU of the
    averaged weights) and ``last.pt`` (to resume from).

    Returns:
        The scores of ``best.pt`` on the validation set.

    Raises:
        OptionError, DatasetError: options or data cannot be used.
        CheckpointError: ``--resume`` finds no run of the same network and classes.
        BackendUnavailable: ``--device cuda`` where there is none.
        SinkError: the run folder cannot be written.
    """
    console = console or Console()
    if not options.resume and (options.output / "last.pt").exists():
        raise OptionError(f"{options.output} holds a run already: go on with --resume, or give another --output")
    torch.manual_seed(options.seed)
    device = _device(options.device)
    datasets = [open_dataset(text, "train") for text in options.data]
    validation = open_dataset(options.val_data or options.data[0], "val")
    _check_same_classes([*datasets, validation])
    views = RandomViews(datasets, options.crop, seed=options.seed)
    if len(views) < options.batch:
        raise DatasetError(f"{len(views)} training pictures are fewer than --batch {options.batch}")

    network = create_model(options.model, len(datasets[0].classes))
    if options.init is not None:
        remark = begin_with(network, options.init, datasets[0].classes)
        if remark:
            console.print(remark, highlight=False)
    network.check_size(*options.size)
    network.check_size(*options.crop)
    weights = class_weights(_count_pixels(datasets), options.class_weights).to(device)
    run = _new_run(network.to(device).to(memory_format=torch.channels_last), options, len(views) // options.batch)
    if options.resume:
        _restore(run, options)
    _open_folder(options)

    best: Scores | None = None
    with _progress(console) as progress:
        epochs = progress.add_task("epochs", total=options.epochs, completed=run.epoch)
        while run.epoch < options.epochs:
            started = time.monotonic()
            views.epoch = run.epoch
            batches = progress.track(_loader(views, options), description=f"epoch {run.epoch + 1}", total=None)
            loss = _train_one_epoch(run, batches, weights, options, device)
            run.epoch += 1
            run.seconds += time.monotonic() - started
            line: dict[str, Any] = {"epoch": run.epoch, "loss": loss, "lr": run.schedule.get_last_lr()[0]}
            if run.epoch % options.eval_every == 0 or run.epoch == options.epochs:
                result = _evaluate(cast(Network, run.average.module), validation, options.size, device, options.amp)
                line |= {"val_miou": result.miou, "val_pixel_accuracy": result.pixel_accuracy}
                if result.miou > run.best_miou:
                    run.best_miou, best = result.miou, result
                    save_checkpoint(
                        options.output / "best.pt", _public_state(run, options, datasets, validation, result)
                    )
            save_checkpoint(options.output / "last.pt", _full_state(run, options, datasets, validation))
            _report(console, progress, line | {"seconds": round(time.monotonic() - started, 1)}, options)
            progress.update(epochs, completed=run.epoch)
    if best is None:
        best = _scores_from(load_checkpoint(options.output / "best.pt"))
    return best


def _open_folder(options: TrainOptions) -> None:
    """Make the run folder, write its ``config.json``, and begin ``metrics.jsonl`` anew unless the run goes on."""
    config = {**_plain(options), "torch": torch.__version__}
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "config.json").write_text(json.dumps(config, indent=2))
        if not options.resume:
            (options.output / "metrics.jsonl").write_text("")
    except OSError as error:
        raise SinkError(f"cannot write into {options.output}: {error.strerror}; give another --output") from error


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("torch finds no usable CUDA device: use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _check_same_classes(datasets: list[Dataset]) -> None:
    for other in datasets[1:]:
        if other.classes != datasets[0].classes:
            raise DatasetError(
                f"{datasets[0].name} and {other.name} have different classes: train on one kind at a time"
            )


def _count_pixels(datasets: list[Dataset]) -> NDArray[np.int64]:
    counts = np.zeros(256, dtype=np.int64)
    for dataset in datasets:
        for index in range(len(dataset)):
            counts += np.bincount(dataset.load(index)[1].ravel(), minlength=256)
    return counts[: len(datasets[0].classes)]


def _new_run(network: Network, options: TrainOptions, steps_per_epoch: int) -> _Run:
    optimizer = _optimizer(network, options)
    total = steps_per_epoch * options.epochs
    warm_up = max(1, round(_WARM_UP * total))

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * float((1 - min(step, total - 1) / total) ** _POLY_POWER)

    average = AveragedModel(network, multi_avg_fn=_ema_update(options.ema), use_buffers=True)
    return _Run(network, average, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor))


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
    return torch.optim.AdamW(groups, lr=options.lr)


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


def _loader(views: RandomViews, options: TrainOptions) -> DataLoader[tuple[Tensor, Tensor]]:
    order = torch.Generator().manual_seed(options.seed * 1_000_003 + views.epoch)
    return DataLoader(
        views,
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        generator=order,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4 if options.workers else None,
    )


def _quiet_worker(_: int) -> None:
    from rtseg._cv2 import cv2

    cv2.setNumThreads(0)


def _autocast(device: torch.device, amp: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if amp == "bf16" else nullcontext()


def _train_one_epoch(
    run: _Run,
    batches: Iterable[tuple[Tensor, Tensor]],
    weights: Tensor,
    options: TrainOptions,
    device: torch.device,
) -> float:
    run.network.train()
    losses: list[float] = []
    for pictures, labels in batches:
        with _autocast(device, options.amp):
            outputs = run.network(normalise(pictures.to(device), run.network.channels))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = multi_resolution_loss(outputs, labels.to(device), run.network.loss_weights, weights)
        run.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(run.network.parameters(), _GRADIENT_NORM)
        run.optimizer.step()
        run.schedule.step()
        run.average.update_parameters(run.network)
        losses.append(loss.item())
    return float(np.mean(losses))


def _evaluate(network: Network, dataset: Dataset, size: tuple[int, int], device: torch.device, amp: str) -> Scores:
    """Scores of the averaged weights through the head and tail that the model file will have."""
    labels_of = LabelNetwork(network).to(device)

    @torch.no_grad()
    def label(picture: Picture) -> Labels:
        frames = torch.from_numpy(resize(picture, size)[None]).to(device)
        with _autocast(device, amp):
            return np.asarray(labels_of(frames)[0].cpu().numpy(), dtype=np.uint8)

    return evaluate(label, dataset)


def _public_state(
    run: _Run, options: TrainOptions, datasets: list[Dataset], validation: Dataset, result: Scores | None
) -> dict[str, Any]:
    """What export needs: the averaged weights and where they come from."""
    first = datasets[0]
    return {
        "network": run.average.module.state_dict(),
        "architecture": run.network.architecture,
        "classes": list(first.classes),
        "palette": [list(colour) for colour in first.palette],
        "size": list(options.size),
        "trained_on": " + ".join(dataset.name for dataset in datasets),
        "licence": "; ".join(dict.fromkeys(dataset.licence for dataset in datasets)),
        "validated_on": validation.name,
        "scores": result.to_dict(first.classes) if result else None,
        "recipe": {key: value for key, value in _plain(options).items() if key not in _PLACES},
        "epoch": run.epoch,
        "hours": run.seconds / 3600,
    }


def _plain(options: TrainOptions) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}


def _full_state(run: _Run, options: TrainOptions, datasets: list[Dataset], validation: Dataset) -> dict[str, Any]:
    return _public_state(run, options, datasets, validation, None) | {
        "raw_network": run.network.state_dict(),
        "averaged": int(run.average.n_averaged),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "best_miou": run.best_miou,
        "seconds": run.seconds,
    }


def _restore(run: _Run, options: TrainOptions) -> None:
    path = options.output / "last.pt"
    state = load_checkpoint(path)
    if state["architecture"] != run.network.architecture:
        raise CheckpointError(f"{path} is a run of {state['architecture']!r}, not of {run.network.architecture!r}")
    try:
        run.network.load_state_dict(state["raw_network"])
        run.average.module.load_state_dict(state["network"])
        run.average.n_averaged.fill_(state["averaged"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.schedule.load_state_dict(state["schedule"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this run: use the options in config.json beside it") from error
    run.epoch, run.best_miou, run.seconds = state["epoch"], state["best_miou"], state["seconds"]


def _scores_from(state: dict[str, Any]) -> Scores:
    facts = state["scores"]
    return Scores(facts["miou"], tuple(facts["iou"][name] for name in state["classes"]), facts["pixel_accuracy"])


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _report(console: Console, progress: Progress, line: dict[str, Any], options: TrainOptions) -> None:
    with (options.output / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    left_s = line["seconds"] * (options.epochs - line["epoch"])
    text = f"epoch {line['epoch']}/{options.epochs}  loss {line['loss']:.4f}  {line['seconds']:.0f} s"
    if "val_miou" in line:
        text += f"  val mIoU {100 * line['val_miou']:.2f} %"
    progress.console.print(f"{text}  ETA {left_s / 60:.0f} min", highlight=False)
    for task in progress.task_ids[1:]:
        progress.remove_task(task)
