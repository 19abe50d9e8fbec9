"""Average the weights of several checkpoints into one network.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
Generalization", UAI 2018, arXiv 1803.05407, algorithm 1: average the weights, then recompute the statistics of batch
norm, which are not valid for the averaged weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rtseg.datasets import Dataset, open_dataset
from rtseg.errors import CheckpointError, DatasetError, OptionError
from rtseg.image_io.decode import image_channels
from rtseg.metrics.confusion import Scores
from rtseg.model_file.spec import ModelSpec
from rtseg.models.base import Network
from rtseg.preprocess import Prepare
from rtseg.system.atomic_files import check_writable
from rtseg.training.augment import RandomViews
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint, save_checkpoint, strip_wrapper_prefixes
from rtseg.training.dataloader import load_batches
from rtseg.training.distributed import find_device
from rtseg.training.model_weights import run_images
from rtseg.training.options import Augmentation
from rtseg.training.validation import NetworkPredictor, validate

__all__ = ["average"]

_EQUAL_KEYS = ("architecture", "classes", "size", "preprocess")
"""Entries that must be equal in all checkpoints."""
_CLIP = 4
"""Frames per clip for a recurrent network."""
_FLIP_ONLY = Augmentation(scale=(1.0, 1.0), stretch=1.0, colour=False)
"""For batch norm statistics, images are as the model will see them, apart from mirroring."""


def average(
    checkpoints: Sequence[Path],
    output: Path,
    *,
    data: str | None = None,
    val_data: str | None = None,
    batch: int = 8,
    device: str = "auto",
) -> Scores | None:
    """Write the average of the EMA weights of ``checkpoints`` as a new checkpoint.

    Args:
        checkpoints: with the same architecture and classes. With a single one, only its batch norm statistics change:
            those of training are of random crops at random scales.
        output: the ``.safetensors`` file.
        data: ``KIND:PATH`` of the data for the batch norm statistics, which use its training split; required if the
            network has batch norm.
        val_data: ``KIND:PATH`` of the validation data; default: ``data``.
        batch: images per batch.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The validation scores; None without data.

    Raises:
        CheckpointError: a checkpoint cannot be used, or differs from the first.
        OptionError: there is one checkpoint or batch norm, but no data.
        BackendUnavailable: the device is not available.
        DatasetError: the data cannot be used, or have other classes.
        SinkError: ``output`` cannot be written.
    """
    if not checkpoints or (len(checkpoints) < 2 and data is None):
        raise OptionError("an average needs at least two checkpoints, or one and --data for its batch norm")
    if any(output.resolve() == path.resolve() for path in checkpoints):
        raise OptionError(f"--output {output} is one of the checkpoints: give another name")
    check_writable(output, f"--output {output}")
    states = [load_checkpoint(path) for path in checkpoints]
    first = states[0]
    for path, state in zip(checkpoints, states, strict=True):
        _check_equal(state, first, path, checkpoints[0])
    weights = _mean([strip_wrapper_prefixes(state["network"]) for state in states])
    network = network_from_checkpoint({**first, "network": weights}, checkpoints[0])
    network = network.to(find_device(device)).to(memory_format=torch.channels_last)
    if data is not None:
        validation, scores = _recalibrate(network, first, data, val_data or data, batch)
    elif _batch_norms(network):
        raise OptionError(f"{first['architecture']} has batch norm: give --data KIND:PATH for its statistics")
    else:
        validation, scores = first.get("validated_on", ""), None
    save_checkpoint(output, _averaged_checkpoint(network, states, validation, scores))
    return scores


def _check_equal(state: dict[str, Any], first: dict[str, Any], path: Path, first_path: Path) -> None:
    for key in _EQUAL_KEYS:
        if state.get(key) != first.get(key):
            raise CheckpointError(
                f"{path} has another {key} than {first_path}: {state.get(key)} and {first.get(key)} cannot be averaged"
            )


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every floating-point tensor; integer counters are those of the first state."""
    try:
        return {
            name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoints have different weights ({error}): train them with the same version of rtseg"
        ) from error


def _recalibrate(network: Network, state: dict[str, Any], data: str, val_data: str, batch: int) -> tuple[str, Scores]:
    """Recompute the batch norm statistics and validate. Returns the name of the validation data and the scores."""
    channels = image_channels(network.channels)
    training = open_dataset(data, "train", channels=channels)
    validation = open_dataset(val_data, "val", channels=channels)
    for dataset in (training, validation):
        if list(dataset.classes) != list(state["classes"]):
            raise DatasetError(
                f"{dataset.name} has {', '.join(dataset.classes)}, the checkpoints have {', '.join(state['classes'])}"
            )
    spec = ModelSpec(
        name="average",
        classes=tuple(state["classes"]),
        palette=tuple(tuple(colour) for colour in state["palette"]),
        size=tuple(state["size"]),
        channels=channels,
        preprocess=tuple(state["preprocess"]),
    )
    _update_batch_norm(network, training, spec, batch)
    return validation.name, validate(NetworkPredictor(network, Prepare(spec), "none"), validation)


def _batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


@torch.no_grad()
def _update_batch_norm(network: Network, dataset: Dataset, spec: ModelSpec, batch: int) -> None:
    """Recompute the statistics of every batch norm as their mean over one epoch of training images."""
    norms = _batch_norms(network)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    views = RandomViews(
        [dataset],
        spec.size,
        size=spec.size,
        augmentation=_FLIP_ONLY,
        seed=0,
        prepare=Prepare(spec) if spec.preprocess else None,
        clip=_CLIP if network.recurrent else 1,
    )
    network.train()
    device = next(network.parameters()).device
    order = torch.randperm(len(views)).tolist()
    steps = max(1, len(views) // batch)
    batches = [order[step * batch : (step + 1) * batch] for step in range(steps)]
    for images, _ in load_batches(views, batches, workers=0):
        run_images(network, images.to(device))
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _averaged_checkpoint(
    network: Network, states: list[dict[str, Any]], validation: str, scores: Scores | None
) -> dict[str, Any]:
    """Return the checkpoint of the average, whose recipe lists those of the averaged checkpoints."""
    first = states[0]
    recipe = {"mean_of": [{"recipe": state.get("recipe"), "epoch": state.get("epoch")} for state in states]}
    return {
        "network": network.state_dict(),
        **{key: first.get(key) for key in ("architecture", "classes", "palette", "size", "preprocess")},
        # The licence terms of every averaged checkpoint apply to the average.
        **{
            key: "; ".join(dict.fromkeys(str(state.get(key, "")) for state in states))
            for key in ("trained_on", "licence")
        },
        "validated_on": validation,
        "scores": scores.to_dict(tuple(first["classes"])) if scores is not None else None,
        "recipe": recipe,
        "class_weights": _mean_class_weights(states),
        "epoch": max(int(state.get("epoch", 0)) for state in states),
        "hours": sum(float(state.get("hours", 0)) for state in states),
    }


def _mean_class_weights(states: list[dict[str, Any]]) -> list[float]:
    """Return the geometric mean of the class weights, as the mean of logits has it; empty if one is not recorded."""
    weights = [state.get("class_weights") for state in states]
    if not all(weights):
        return []
    mean: list[float] = torch.tensor(weights).log().mean(0).exp().tolist()
    return mean
