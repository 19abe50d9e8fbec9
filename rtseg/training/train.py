"""The training loop: ``train`` sets up a run and trains it epoch by epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from rtseg.datasets import Dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.errors import DatasetError, OptionError, TrainingError
from rtseg.image_io.decode import image_channels
from rtseg.metrics.confusion import Scores, absent_classes
from rtseg.model_file.spec import ModelSpec
from rtseg.models import channels_of, create_model
from rtseg.models.base import Network
from rtseg.preprocess import Prepare
from rtseg.system.atomic_files import write_text
from rtseg.system.output_lock import locked_folder
from rtseg.training.augment import RandomViews
from rtseg.training.checkpoint import load_checkpoint, load_initial_weights, save_checkpoint
from rtseg.training.class_pixels import count_pixels, describe_void
from rtseg.training.data import BEST, LAST, TrainingData, find_weights, open_data
from rtseg.training.dataloader import load_batches
from rtseg.training.distributed import DistributedContext, join_process_group, sync_batch_norm
from rtseg.training.mix import mix_views
from rtseg.training.objective import Objective, class_weights, make_loss, rare_classes
from rtseg.training.options import TrainOptions
from rtseg.training.paste import paste_rare
from rtseg.training.run_log import RunLog
from rtseg.training.schedules import learning_rate
from rtseg.training.state import (
    TrainingState,
    checkpoint_for_export,
    checkpoint_for_resume,
    create_state,
    data_facts,
    options_to_dict,
    restore_state,
)
from rtseg.training.teacher import Teacher, Teachers, load_teacher
from rtseg.training.validation import NetworkPredictor, autocast, validate

__all__ = ["train"]

_MAX_GRADIENT_NORM = 5.0
_INITIAL_IMAGES = 64
"""Views on which the batch norm of a model file is measured."""
_MAX_NAMED = 3
"""Images of a batch that an error message names."""


def train(options: TrainOptions, console: Console | None = None, data: TrainingData | None = None) -> Scores:
    """Train a network, and save its best and last state in ``options.output``.

    The folder gets ``config.json``, ``metrics.jsonl`` (a line per epoch), ``tensorboard``, ``best.safetensors``
    (highest validation mIoU of the averaged weights) and ``last.safetensors`` (to resume from). Under ``torchrun`` all
    processes train together, and the main process writes the files.

    Args:
        options: what to train, on which data, and where.
        console: for progress and messages.
        data: from ``open_data``; opened here if not given.

    Returns:
        The scores of the best checkpoint on the validation set.

    Raises:
        OptionError, DatasetError: the options or the data cannot be used.
        CheckpointError: there is no run to resume with the same network, classes, data and recipe.
        BackendUnavailable: the device is not available.
        SinkError: the run folder cannot be written, or another run is writing into it.
        TrainingError: the loss or a weight is NaN or infinite; the last good epoch is in the run folder.
    """
    with join_process_group(options.device) as distributed, _locked_output(options, distributed):
        return _train(
            options, data, distributed, (console or Console()) if distributed.is_main else Console(quiet=True)
        )


@contextmanager
def _locked_output(options: TrainOptions, distributed: DistributedContext) -> Iterator[None]:
    """Keep other runs from writing into the run folder; only in the main process."""
    with locked_folder(options.output) if distributed.is_main else nullcontext():
        yield


class _NonFiniteError(ArithmeticError):
    """The loss or the gradient is NaN or infinite."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """Everything that stays constant during a run."""

    options: TrainOptions
    distributed: DistributedContext
    spec: ModelSpec
    views: RandomViews
    validation: Dataset
    data: dict[str, Any]
    """See ``data_facts``."""
    reader: DatasetReader
    teachers: tuple[Teacher, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.views) // self.options.batch

    @property
    def epoch_seed(self) -> int:
        return self.options.seed * 1_000_003 + self.views.epoch

    def batches(self) -> list[list[int]]:
        """Return this process's part of every batch of the epoch, as indices of views."""
        size = self.options.batch
        share = self.distributed.batch_per_process(size)
        first = self.distributed.rank * share
        order = self._order()
        return [order[step * size + first : step * size + first + share] for step in range(self.steps_per_epoch)]

    def some_images(self) -> Iterator[Tensor]:
        """Yield a few batches of views, uint8, the same in every process."""
        indices = self._order()[:_INITIAL_IMAGES]
        size = self.options.batch
        batches = [indices[first : first + size] for first in range(0, len(indices), size)]
        for images, _ in load_batches(self.views, batches, workers=0, reader=self.reader):
            yield images

    def _order(self) -> list[int]:
        """Return the views of the epoch in their random order, the same in every process."""
        generator = torch.Generator().manual_seed(self.epoch_seed)
        order: list[int] = torch.randperm(len(self.views), generator=generator).tolist()
        return order


def _train(
    options: TrainOptions, data: TrainingData | None, distributed: DistributedContext, console: Console
) -> Scores:
    datasets, validation = data or open_data(options)
    torch.manual_seed(options.seed)
    network = _create_network(options, len(datasets[0].classes))
    setup = _create_setup(options, distributed, datasets, validation, clip=options.clip if network.recurrent else 1)
    _load_initial_weights(network, setup, console)
    network = network.to(distributed.device).to(memory_format=torch.channels_last)
    state = create_state(network, options)
    counts = _count_class_pixels(datasets, setup, console)
    weights = class_weights(counts, options.class_weights, options.class_weight_power)
    state.class_weights = tuple(weights.tolist())
    objective = _create_objective(network, setup, weights.to(distributed.device), rare_classes(counts))
    if options.resume:
        restore_state(state, options, setup.data)
    with _open_log(state, setup, console) as log:
        while state.epoch < options.epochs:
            started = time.monotonic()
            losses = _train_epoch(state, objective, setup, log)
            state.epoch += 1
            state.seconds += time.monotonic() - started
            if log is not None:
                _finish_epoch(state, setup, log, float(np.mean(losses)), started)
    best = _best_scores(options) if distributed.is_main else None
    scores: Scores = distributed.broadcast(best)
    console.print(f"best validation mIoU {100 * scores.miou:.2f} %, in {options.output / BEST}", highlight=False)
    return scores


def _train_epoch(state: TrainingState, objective: nn.Module, setup: _Setup, log: RunLog | None) -> list[float]:
    """Train one epoch; return the loss of each step.

    Raises:
        TrainingError: the loss or the gradient is NaN or infinite.
    """
    options, views = setup.options, setup.views
    views.epoch = state.epoch
    batches = setup.batches()
    # Randomness within a step (dropout) depends only on the epoch, so that a resumed run continues exactly.
    torch.manual_seed(setup.epoch_seed * setup.distributed.world_size + setup.distributed.rank)
    steps: Iterable[list[Tensor]] = load_batches(
        views,
        batches,
        workers=options.workers,
        reader=setup.reader,
        pin_memory=setup.distributed.device.type == "cuda",
    )
    if log is not None:
        steps = log.track(f"epoch {state.epoch + 1}", steps, len(batches))
    losses = []
    per_epoch = setup.steps_per_epoch
    for number, (indices, batch) in enumerate(zip(batches, steps, strict=True)):
        lr = options.lr * learning_rate(
            options.schedule, state.epoch * per_epoch + number, options.epochs * per_epoch, per_epoch
        )
        try:
            losses.append(_train_step(state, objective, batch, lr, setup))
        except _NonFiniteError as error:
            problem = f"{error} in epoch {state.epoch + 1}, step {number + 1}, at learning rate {lr:.2g}"
            raise _training_error(state, options, problem, [views.title(index) for index in indices]) from error
    return losses


def _train_step(state: TrainingState, objective: nn.Module, batch: list[Tensor], lr: float, setup: _Setup) -> float:
    """Take one optimizer step; return the loss over the batch of all processes.

    Raises:
        _NonFiniteError: the loss or the gradient is NaN or infinite; no step was taken.
    """
    device = setup.distributed.device
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    with autocast(device, setup.options.amp):
        loss: Tensor = objective(*(part.to(device, non_blocking=True) for part in batch))
    value = float(setup.distributed.mean(loss.detach()))
    if not math.isfinite(value):
        raise _NonFiniteError(f"the loss is {value}")
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(state.scaler.scale(loss))
    state.scaler.unscale_(state.optimizer)
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), _MAX_GRADIENT_NORM))
    if not (math.isfinite(norm) or state.scaler.is_enabled()):  # the fp16 scaler skips such a step and lowers its scale
        raise _NonFiniteError(f"the gradient is {norm}")
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.ema.update_parameters(state.network)
    return value


def _training_error(state: TrainingState, options: TrainOptions, problem: str, titles: list[str]) -> TrainingError:
    more = f" and {len(titles) - _MAX_NAMED} more" if len(titles) > _MAX_NAMED else ""
    amp = " or --amp bf16" if options.amp == "fp16" else ""
    advice = f"start again with a smaller --lr than {options.lr:g}{amp}"
    if state.epoch:
        advice = f"{options.output / LAST} holds epoch {state.epoch}: --resume, or if that fails too {advice}"
    return TrainingError(f"{problem}, on {', '.join(titles[:_MAX_NAMED])}{more}; {advice}")


def _finish_epoch(state: TrainingState, setup: _Setup, log: RunLog, loss: float, started: float) -> None:
    """Validate, save and log an epoch that began at ``started``."""
    predictor = NetworkPredictor(state.ema_network, Prepare(setup.spec), setup.options.amp)
    scores = _validate_and_save(state, setup, predictor)
    metrics = {"epoch": state.epoch, "loss": loss, "lr": state.optimizer.param_groups[0]["lr"]}
    if scores is not None:
        metrics |= {"val_miou": scores.miou, "val_pixel_accuracy": scores.pixel_accuracy}
    metrics["seconds"] = round(time.monotonic() - started, 1)
    log.log_epoch(metrics, setup.spec.classes, scores)
    if scores is not None:
        log.log_examples(state.epoch, predictor, setup.validation, setup.spec, setup.reader)


def _validate_and_save(state: TrainingState, setup: _Setup, predictor: NetworkPredictor) -> Scores | None:
    """Return the validation scores; None if this epoch is not validated."""
    options = setup.options
    if not state.is_finite:
        raise TrainingError(
            f"the weights are NaN or infinite after epoch {state.epoch}; start again with a smaller --lr than "
            f"{options.lr:g}, or --resume from the epoch before"
        )
    scores = None
    if state.epoch % options.eval_every == 0 or state.epoch == options.epochs:
        scores = validate(predictor, setup.validation, setup.reader)
        if scores.miou > state.best_miou:
            state.best_miou = scores.miou
            save_checkpoint(options.output / BEST, checkpoint_for_export(state, options, setup.data, scores))
    save_checkpoint(options.output / LAST, checkpoint_for_resume(state, options, setup.data))
    return scores


@contextmanager
def _open_log(state: TrainingState, setup: _Setup, console: Console) -> Iterator[RunLog | None]:
    """Write the configuration and open the log; only in the main process."""
    if not setup.distributed.is_main:
        yield None
        return
    options = setup.options
    config = {**options_to_dict(options), "torch": torch.__version__}
    write_text(options.output / "config.json", json.dumps(config, indent=2))
    with RunLog(options.output, console, options.epochs, state.epoch) as log:
        yield log


def _create_network(options: TrainOptions, classes: int) -> Network:
    """Create the network with random or published weights."""
    channels = {} if options.channels is None else {"channels": options.channels}
    pretrained = options.pretrained and not options.resume
    network = create_model(options.model, classes, pretrained=pretrained, **channels)
    network.check_size(*options.size)
    network.check_size(*options.crop, "--crop")
    return network


def _load_initial_weights(network: Network, setup: _Setup, console: Console) -> None:
    options = setup.options
    if options.init is None or options.resume:
        return
    notice = load_initial_weights(network, find_weights(options.init), setup.spec.classes, setup.some_images())
    if notice:
        console.print(notice, highlight=False)


def _create_setup(
    options: TrainOptions, distributed: DistributedContext, datasets: list[Dataset], validation: Dataset, *, clip: int
) -> _Setup:
    spec = ModelSpec(
        name="training",
        classes=datasets[0].classes,
        palette=datasets[0].palette,
        size=options.size,
        channels=image_channels(options.channels or channels_of(options.model)),
        preprocess=options.preprocess,
    )
    views = RandomViews(
        datasets,
        options.crop,
        size=options.size,
        augmentation=options.augmentation,
        seed=options.seed,
        prepare=Prepare(spec) if spec.preprocess else None,
        clip=clip,
    )
    if len(views) < options.batch:
        raise DatasetError(f"{len(views)} training images are fewer than --batch {options.batch}")
    teachers = tuple(load_teacher(Path(path), spec.classes, spec.channels) for path in options.teacher)
    data = data_facts(datasets, validation, teachers)
    return _Setup(options, distributed, spec, views, validation, data, DatasetReader(options.reading), teachers)


def _count_class_pixels(datasets: list[Dataset], setup: _Setup, console: Console) -> NDArray[np.int64]:
    """Return the counts of ``class_weights``. Reads every file once, which reveals unusable ones before training.

    Raises:
        DatasetError: a file cannot be used, or fewer than two classes have a pixel in the training data.
    """
    distributed, validation = setup.distributed, setup.validation
    counts = None
    if distributed.is_main:
        classes = datasets[0].classes
        pixels = count_pixels(datasets, setup.reader)
        counts = pixels[:, : len(classes)]
        if not count_pixels([validation], setup.reader)[0, : len(classes)].any():
            raise DatasetError(f"no pixel of {validation.name} is labelled: every label is void")
        notes = [line for dataset in (*datasets, validation) for line in dataset.notes.lines]
        absent = absent_classes(counts[0], classes, "the training data")
        if absent:
            absent += f"; {describe_void(pixels[0], classes)}"
            if len(classes) > 1 and np.count_nonzero(counts[0]) < 2:
                raise DatasetError(absent)
        for line in filter(None, (setup.reader.notice, absent, *notes)):
            console.print(line, highlight=False, soft_wrap=True)
    total: NDArray[np.int64] = distributed.broadcast(counts)
    return total


def _create_objective(network: Network, setup: _Setup, weights: Tensor, rare: Tensor) -> nn.Module:
    options, distributed = setup.options, setup.distributed
    output_weights = options.loss_weights if options.loss_weights is not None else network.loss_weights
    if len(output_weights) != len(network.loss_weights):
        raise OptionError(
            f"--loss-weights of {network.architecture} must be {len(network.loss_weights)} numbers, "
            f"e.g. {'/'.join(map(str, network.loss_weights))}"
        )
    loss = make_loss(options.loss, weights, mean=distributed.mean)
    if distributed.world_size > 1:
        sync_batch_norm(network, distributed.device)
    augmentation, mixes = options.augmentation, []
    if augmentation.paste:
        mixes.append(partial(paste_rare, rare=rare, share=augmentation.paste))
    if augmentation.mix:
        mixes.append(partial(mix_views, how=augmentation.mix))
    teachers = Teachers(setup.teachers, options.teaching, distributed.device) if setup.teachers else None
    return distributed.wrap(Objective(network, loss, output_weights, mixes, teachers).train())


def _best_scores(options: TrainOptions) -> Scores:
    state = load_checkpoint(options.output / BEST)
    facts = state["scores"]
    return Scores(facts["miou"], tuple(facts["iou"][name] for name in state["classes"]), facts["pixel_accuracy"])
