"""The training loop. Read from top to bottom: ``train`` is the whole story."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.loader import Reader, load_ahead
from rtseg.errors import DatasetError, OptionError, SinkError, TrainingError
from rtseg.image_io.decode import image_channels
from rtseg.metrics.confusion import Scores
from rtseg.model_file.spec import ModelSpec
from rtseg.models import channels_of, create_model
from rtseg.models.base import Network
from rtseg.preprocess import Prepare
from rtseg.training.augment import RandomViews
from rtseg.training.checkpoint import BEST, LAST, begin_with, load_checkpoint, save_checkpoint
from rtseg.training.dataloader import load_batches
from rtseg.training.distributed import Processes, joined, sync_batch_norm
from rtseg.training.objective import Objective, class_weights, make_loss
from rtseg.training.options import TrainOptions
from rtseg.training.run_log import Journal
from rtseg.training.schedules import learning_rate
from rtseg.training.state import Run, described, full_state, new_run, plain, public_state, restore
from rtseg.training.validation import NetworkLabels, autocast, validate

__all__ = ["train"]

_GRADIENT_NORM = 5.0
_NAMED = 3
"""Images of a batch that an error names."""


def train(options: TrainOptions, console: Console | None = None) -> Scores:
    """Train a network and keep its best and last state in ``options.output``.

    The folder gets ``config.json``, ``metrics.jsonl`` (a line an epoch), ``tensorboard``, ``best.safetensors`` (highest
    validation mIoU of the averaged weights) and ``last.safetensors`` (to resume from). Under ``torchrun`` all processes
    train together, and the first one writes.

    Returns:
        The scores of the best checkpoint on the validation set.

    Raises:
        OptionError, DatasetError: options or data cannot be used.
        CheckpointError: ``--resume`` finds no run of the same network, classes, data and recipe.
        BackendUnavailable: ``--device cuda`` where there is none.
        SinkError: the run folder cannot be written.
        TrainingError: the loss is no number any more; the last good epoch is in the run folder.
    """
    with joined(options.device) as processes:
        return _train(options, processes, (console or Console()) if processes.first else Console(quiet=True))


class _NoNumber(ArithmeticError):
    """A loss or a gradient is infinite or not a number."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """What stays as it is while a run trains."""

    options: TrainOptions
    processes: Processes
    spec: ModelSpec
    views: RandomViews
    validation: Dataset
    data: dict[str, Any]
    reader: Reader

    @property
    def steps_per_epoch(self) -> int:
        return len(self.views) // self.options.batch


def _train(options: TrainOptions, processes: Processes, console: Console) -> Scores:
    if not options.resume and (options.output / LAST).exists():
        raise OptionError(f"{options.output} holds a run already: go on with --resume, or give another --output")
    torch.manual_seed(options.seed)
    datasets, validation = _open_data(options)
    network = _begin(options, datasets[0].classes, console)
    spec = _spec(options, datasets[0])
    views = _open_views(options, datasets, spec, clip=options.clip if network.recurrent else 1)
    if len(views) < options.batch:
        raise DatasetError(f"{len(views)} training images are fewer than --batch {options.batch}")
    reader = Reader(options.reading)
    setting = _Setting(options, processes, spec, views, validation, described(datasets, validation), reader)

    network = network.to(processes.device).to(memory_format=torch.channels_last)
    run = new_run(network, options)
    weights = _class_weights(datasets, setting)
    if reader.notice:
        console.print(reader.notice, highlight=False, soft_wrap=True)
    objective = _objective(network, options, weights, processes)
    if options.resume:
        restore(run, options, setting.data)
    with _journal(run, setting, console) as journal:
        while run.epoch < options.epochs:
            started = time.monotonic()
            losses = _train_epoch(run, objective, setting, journal)
            run.epoch += 1
            run.seconds += time.monotonic() - started
            if journal is not None:
                label = NetworkLabels(run.averaged, Prepare(spec), options.amp)
                result = _validate_and_save(run, setting, label)
                line = {"epoch": run.epoch, "loss": float(np.mean(losses)), "lr": run.optimizer.param_groups[0]["lr"]}
                if result is not None:
                    line |= {"val_miou": result.miou, "val_pixel_accuracy": result.pixel_accuracy}
                journal.tell(line | {"seconds": round(time.monotonic() - started, 1)}, spec.classes, result)
                if result is not None:
                    journal.show(run.epoch, label, validation, spec, reader)
    best = _scores_of(load_checkpoint(options.output / BEST)) if processes.first else None
    found: Scores = processes.from_first(best)
    console.print(f"best validation mIoU {100 * found.miou:.2f} %, in {options.output / BEST}", highlight=False)
    return found


def _train_epoch(run: Run, objective: nn.Module, setting: _Setting, journal: Journal | None) -> list[float]:
    """All steps of one epoch; returns their losses.

    Raises:
        TrainingError: a loss is no finite number.
    """
    options, views = setting.options, setting.views
    views.epoch = run.epoch
    batches = _batches(setting)
    # What is random within a step (dropout) hangs on the epoch alone, so that a resumed run goes on exactly.
    torch.manual_seed(_epoch_seed(setting) * setting.processes.count + setting.processes.rank)
    steps: Iterable[list[Tensor]] = load_batches(
        views,
        batches,
        workers=options.workers,
        reader=setting.reader,
        pin_memory=setting.processes.device.type == "cuda",
    )
    if journal is not None:
        steps = journal.counted(f"epoch {run.epoch + 1}", steps, len(batches))
    losses = []
    per_epoch = setting.steps_per_epoch
    for number, (places, batch) in enumerate(zip(batches, steps, strict=True)):
        rate = options.lr * learning_rate(
            options.schedule, run.epoch * per_epoch + number, options.epochs * per_epoch, per_epoch
        )
        try:
            losses.append(_step(run, objective, batch, rate, setting))
        except _NoNumber as error:
            titles = [views.title(place) for place in places]
            raise _broken(run, options, f"{error} in epoch {run.epoch + 1}, step {number + 1}", rate, titles) from error
    return losses


def _validate_and_save(run: Run, setting: _Setting, label: NetworkLabels) -> Scores | None:
    """The scores, where this epoch is validated."""
    options = setting.options
    if not run.finite:
        raise TrainingError(
            f"the weights are no numbers any more after epoch {run.epoch}; begin again with a smaller --lr than "
            f"{options.lr:g}, or --resume from the epoch before"
        )
    if run.epoch % options.eval_every and run.epoch != options.epochs:
        save_checkpoint(options.output / LAST, full_state(run, options, setting.data))
        return None
    result = validate(label, setting.validation, setting.reader)
    if result.miou > run.best_miou:
        run.best_miou = result.miou
        save_checkpoint(options.output / BEST, public_state(run, options, setting.data, result))
    save_checkpoint(options.output / LAST, full_state(run, options, setting.data))
    return result


@contextmanager
def _journal(run: Run, setting: _Setting, console: Console) -> Iterator[Journal | None]:
    """The records of the run folder, which the first process keeps alone."""
    if not setting.processes.first:
        yield None
        return
    _open_folder(setting.options)
    with Journal(setting.options.output, console, setting.options.epochs, run.epoch) as journal:
        yield journal


def _open_data(options: TrainOptions) -> tuple[list[Dataset], Dataset]:
    channels = image_channels(options.channels or channels_of(options.model))
    datasets = [open_dataset(text, "train", channels=channels) for text in options.data]
    validation = open_dataset(options.val_data or options.data[0], "val", channels=channels)
    for other in (*datasets[1:], validation):
        if other.classes != datasets[0].classes:
            raise DatasetError(
                f"{datasets[0].name} and {other.name} have different classes: train on one kind at a time"
            )
    return datasets, validation


def _begin(options: TrainOptions, classes: tuple[str, ...], console: Console) -> Network:
    """The network with the weights to begin with."""
    channels = {} if options.channels is None else {"channels": options.channels}
    anew = not options.resume
    network = create_model(options.model, len(classes), pretrained=options.pretrained and anew, **channels)
    if options.init is not None and anew:
        remark = begin_with(network, options.init, classes)
        if remark:
            console.print(remark, highlight=False)
    network.check_size(*options.size)
    network.check_size(*options.crop, "--crop")
    return network


def _spec(options: TrainOptions, dataset: Dataset) -> ModelSpec:
    """What the model file will say, as far as preparing and painting images needs it."""
    return ModelSpec(
        name="training",
        classes=dataset.classes,
        palette=dataset.palette,
        size=options.size,
        channels=image_channels(options.channels or channels_of(options.model)),
        preprocess=options.preprocess,
    )


def _open_views(options: TrainOptions, datasets: list[Dataset], spec: ModelSpec, *, clip: int = 1) -> RandomViews:
    """The training examples of ``options``: random views of ``datasets``."""
    return RandomViews(
        datasets,
        options.crop,
        size=options.size,
        augmentation=options.augmentation,
        seed=options.seed,
        prepare=Prepare(spec) if spec.preprocess else None,
        clip=clip,
    )


def _class_weights(datasets: list[Dataset], setting: _Setting) -> Tensor:
    """The weights; on the way every image and mask is read once, so that a bad one is told before any training."""
    processes, validation = setting.processes, setting.validation
    counts = None
    if processes.first:
        counts = _count_pixels(datasets, setting.reader)
        if not _count_pixels([validation], setting.reader).any():
            raise DatasetError(f"no pixel of {validation.name} is labelled: every label is void")
    return class_weights(processes.from_first(counts), setting.options.class_weights).to(processes.device)


def _count_pixels(datasets: list[Dataset], reader: Reader) -> NDArray[np.int64]:
    """Pixels of each class, and labelled pixels of all images in which it occurs: int64 (2, C)."""
    classes = len(datasets[0].classes)
    counts = np.zeros((2, classes), dtype=np.int64)
    for dataset in datasets:
        with closing(load_ahead(dataset, range(len(dataset)), reader=reader)) as loaded:
            for _, _, labels in loaded:
                found = np.bincount(labels.ravel(), minlength=256)[:classes]
                counts += np.stack((found, (found > 0) * found.sum()))
    return counts


def _objective(network: Network, options: TrainOptions, weights: Tensor, processes: Processes) -> nn.Module:
    of_outputs = options.loss_weights if options.loss_weights is not None else network.loss_weights
    if len(of_outputs) != len(network.loss_weights):
        raise OptionError(
            f"--loss-weights of {network.architecture} must be {len(network.loss_weights)} numbers, "
            f"e.g. {'/'.join(map(str, network.loss_weights))}"
        )
    loss = make_loss(options.loss, weights, mean=processes.mean)
    if processes.count > 1:
        sync_batch_norm(network, processes.device)
    return processes.wrap(Objective(network, loss, of_outputs).train())


def _open_folder(options: TrainOptions) -> None:
    """Make the run folder and write its ``config.json``."""
    config = {**plain(options), "torch": torch.__version__}
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "config.json").write_text(json.dumps(config, indent=2))
    except OSError as error:
        raise SinkError(f"cannot write into {options.output}: {error.strerror}; give another --output") from error


def _epoch_seed(setting: _Setting) -> int:
    return setting.options.seed * 1_000_003 + setting.views.epoch


def _batches(setting: _Setting) -> list[list[int]]:
    """The places of this process in every batch of the epoch: all processes together take what one alone would."""
    size = setting.options.batch
    share = setting.processes.share(size)
    begin = setting.processes.rank * share
    order = torch.randperm(len(setting.views), generator=torch.Generator().manual_seed(_epoch_seed(setting))).tolist()
    return [order[step * size + begin : step * size + begin + share] for step in range(setting.steps_per_epoch)]


def _step(run: Run, objective: nn.Module, batch: list[Tensor], rate: float, setting: _Setting) -> float:
    """One step down the gradient; returns the loss over the batch of all processes.

    Raises:
        _NoNumber: the loss or its gradient is none, and no step was taken.
    """
    device = setting.processes.device
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with autocast(device, setting.options.amp):
        loss: Tensor = objective(*(part.to(device, non_blocking=True) for part in batch))
    value = float(setting.processes.mean(loss.detach()))
    if not math.isfinite(value):
        raise _NoNumber(f"the loss is {value}")
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(run.scaler.scale(loss))
    run.scaler.unscale_(run.optimizer)
    norm = float(nn.utils.clip_grad_norm_(run.network.parameters(), _GRADIENT_NORM))
    if not (math.isfinite(norm) or run.scaler.is_enabled()):  # fp16's scaler leaves such a step out and scales less
        raise _NoNumber(f"the gradient is {norm}")
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.average.update_parameters(run.network)
    return value


def _broken(run: Run, options: TrainOptions, what: str, rate: float, titles: list[str]) -> TrainingError:
    more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    amp = " or --amp bf16" if options.amp == "fp16" else ""
    remedy = f"begin again with a smaller --lr than {options.lr:g}{amp}"
    if run.epoch:
        remedy = f"{options.output / LAST} holds epoch {run.epoch}: --resume, or where that breaks too {remedy}"
    return TrainingError(f"{what}, at learning rate {rate:.2g}, on {', '.join(titles[:_NAMED])}{more}; {remedy}")


def _scores_of(state: dict[str, Any]) -> Scores:
    facts = state["scores"]
    return Scores(facts["miou"], tuple(facts["iou"][name] for name in state["classes"]), facts["pixel_accuracy"])
