"""The mean of several checkpoints as one network.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
Generalization", UAI 2018, arXiv 1803.05407, algorithm 1: the mean of the weights, then batch norm's statistics anew,
since those of the parts do not hold for the mean.
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
from rtseg.models.label_network import normalise
from rtseg.preprocess import Prepare
from rtseg.system.atomic_files import check_writable
from rtseg.training.augment import RandomViews
from rtseg.training.checkpoint import load_checkpoint, network_of, save_checkpoint, unwrapped
from rtseg.training.dataloader import load_batches
from rtseg.training.distributed import find_device
from rtseg.training.options import Augmentation
from rtseg.training.validation import NetworkLabels, validate

__all__ = ["average"]

_SAME = ("architecture", "classes", "size", "preprocess")
"""What the checkpoints must agree in."""
_CLIP = 4
"""Frames that a network which remembers sees in a row."""
_STILL = Augmentation(scale=(1.0, 1.0), stretch=1.0, colour=False)
"""Statistics are taken of images as the model will see them, but for crop and mirror image."""


def average(
    checkpoints: Sequence[Path],
    output: Path,
    *,
    data: str | None = None,
    val_data: str | None = None,
    batch: int = 8,
    device: str = "auto",
) -> Scores | None:
    """Write the mean of ``checkpoints`` as a checkpoint of its own, in the averaged weights that each of them holds.

    Args:
        checkpoints: two or more, of the same network and classes.
        output: the ``.safetensors`` file.
        data: ``KIND:PATH`` on whose training split the statistics of batch norm are taken anew; needed where the
            network has any.
        val_data: ``KIND:PATH`` to validate the mean on; ``data`` unless given.
        batch: images at a time.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The scores of the mean; None without data.

    Raises:
        CheckpointError: a checkpoint cannot be used, or is not like the first.
        OptionError: fewer than two checkpoints, or no data where batch norm needs them.
        BackendUnavailable: there is no such device.
        DatasetError: the data cannot be used, or have other classes.
        SinkError: ``output`` cannot be written.
    """
    if len(checkpoints) < 2:
        raise OptionError("a mean needs at least two checkpoints")
    if any(output.resolve() == path.resolve() for path in checkpoints):
        raise OptionError(f"--output {output} is one of the checkpoints: give another name")
    check_writable(output, f"--output {output}")
    states = [load_checkpoint(path) for path in checkpoints]
    for path, state in zip(checkpoints, states, strict=True):
        _check_alike(state, states[0], path, checkpoints[0])
    first = states[0]
    network = network_of({**first, "network": _mean([unwrapped(state["network"]) for state in states])}, checkpoints[0])
    network = network.to(find_device(device)).to(memory_format=torch.channels_last)
    if data is None and _norms(network):
        raise OptionError(f"{first['architecture']} has batch norm, whose statistics want --data KIND:PATH")
    scores = None
    if data is not None:
        channels = image_channels(network.channels)
        training, validation = _same_classes(
            first,
            open_dataset(data, "train", channels=channels),
            open_dataset(val_data or data, "val", channels=channels),
        )
        spec = _spec(first, channels)
        _restore_statistics(network, training, spec, batch)
        scores = validate(NetworkLabels(network, Prepare(spec), "none"), validation)
        first["validated_on"] = validation.name
    save_checkpoint(output, _described(first, network, scores, states))
    return scores


def _check_alike(state: dict[str, Any], first: dict[str, Any], path: Path, first_path: Path) -> None:
    for what in _SAME:
        if state.get(what) != first.get(what):
            raise CheckpointError(
                f"{path} has another {what} than {first_path}: {state.get(what)} and {first.get(what)} have no mean"
            )


def _mean(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every tensor that holds numbers with a point; counters are the first one's."""
    try:
        return {
            name: torch.stack([part[name].double() for part in parts]).mean(0).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in parts[0].items()
        }
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoints hold different weights ({error}): train them with one rtseg") from error


def _same_classes(state: dict[str, Any], *datasets: Dataset) -> tuple[Dataset, ...]:
    for dataset in datasets:
        if list(dataset.classes) != list(state["classes"]):
            raise DatasetError(
                f"{dataset.name} has {', '.join(dataset.classes)}, the checkpoints know {', '.join(state['classes'])}"
            )
    return datasets


def _spec(state: dict[str, Any], channels: int) -> ModelSpec:
    return ModelSpec(
        name="mean",
        classes=tuple(state["classes"]),
        palette=tuple(tuple(colour) for colour in state["palette"]),
        size=tuple(state["size"]),
        channels=channels,
        preprocess=tuple(state["preprocess"]),
    )


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


@torch.no_grad()
def _restore_statistics(network: Network, dataset: Dataset, spec: ModelSpec, batch: int) -> None:
    """Take the statistics of every batch norm anew, as the plain mean over one round through the training images."""
    norms = _norms(network)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    views = RandomViews(
        [dataset],
        spec.size,
        size=spec.size,
        augmentation=_STILL,
        seed=0,
        prepare=Prepare(spec) if spec.preprocess else None,
        clip=_CLIP if network.recurrent else 1,
    )
    network.train()
    device = next(network.parameters()).device
    order = torch.randperm(len(views)).tolist()
    whole = max(1, len(views) // batch)
    for images, _ in load_batches(
        views, [order[step * batch : (step + 1) * batch] for step in range(whole)], workers=0
    ):
        _look(network, images.to(device))
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _look(network: Network, images: Tensor) -> None:
    """One forward pass over uint8 (N, C, H, W), or over clips (N, T, C, H, W) for a network that remembers."""
    if not network.recurrent:
        network(normalise(images, network.channels))
        return
    state: Tensor | None = None
    for moment in range(images.shape[1]):
        _, state = network(normalise(images[:, moment], network.channels), state)


def _described(
    first: dict[str, Any], network: Network, scores: Scores | None, states: list[dict[str, Any]]
) -> dict[str, Any]:
    """The checkpoint of the mean: what it is made of stands in its recipe."""
    recipe = {"mean_of": [{"recipe": state.get("recipe"), "epoch": state.get("epoch")} for state in states]}
    return {
        "network": network.state_dict(),
        **{key: first.get(key) for key in ("architecture", "classes", "palette", "size", "preprocess")},
        # What one part may not be used for, the mean may not either.
        **{
            key: "; ".join(dict.fromkeys(str(state.get(key, "")) for state in states))
            for key in ("trained_on", "licence")
        },
        "validated_on": first.get("validated_on", ""),
        "scores": scores.to_dict(tuple(first["classes"])) if scores is not None else None,
        "recipe": recipe,
        "epoch": max(int(state.get("epoch", 0)) for state in states),
        "hours": sum(float(state.get("hours", 0)) for state in states),
    }


def _joined(states: list[dict[str, Any]], key: str) -> str:
    return "; ".join(dict.fromkeys(str(state.get(key, "")) for state in states))
