"""Learn from the predictions of other networks: soft labels, or hard ones where there are no labels.

Sources: soft labels: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section
2; for each pixel: Liu, Chen, Liu, Qin, Luo, Wang, "Structured Knowledge Distillation for Semantic Segmentation", CVPR
2019, arXiv 1903.04197, section 3.1. Teacher and student see the same view: Beyer, Zhai, Royer, Markeeva, Anil,
Kolesnikov, "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022, arXiv 2106.05237. Hard
labels above a threshold: Sohn et al., "FixMatch", NeurIPS 2020, arXiv 2001.07685, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import CheckpointError
from rtseg.image_io.decode import image_channels
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import VOID
from rtseg.models.base import Network
from rtseg.models.label_network import normalise
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint
from rtseg.training.data import find_weights
from rtseg.training.model_weights import folded_network
from rtseg.training.teaching_options import TeachingOptions
from rtseg.training.unlabelled import UNLABELLED

__all__ = ["Teacher", "Teachers", "load_teacher", "soft_label_loss"]


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A trained network, and where it is from."""

    name: str
    network: Network
    trained_on: str
    licence: str


def load_teacher(path: Path, classes: tuple[str, ...], image_depth: int) -> Teacher:
    """Load a network that teaches.

    Args:
        path: a checkpoint, a model file, or the name of a bundled model.
        classes: names of the classes to learn; the teacher must have the same.
        image_depth: channels of the training images.

    Raises:
        CheckpointError: the file cannot be used, has other classes, takes other images, or is a sequence model.
        ModelError: the model file cannot be used.
    """
    file = find_weights(path)
    if file.suffix == ".onnx":
        model = load_model(file)
        teacher = Teacher(model.spec.name, folded_network(model), model.spec.trained_on, model.spec.licence)
        names = model.spec.classes
    else:
        state = load_checkpoint(file)
        trained_on, licence = str(state.get("trained_on", "")), str(state.get("licence", ""))
        teacher = Teacher(file.stem, network_from_checkpoint(state, file), trained_on, licence)
        names = tuple(state["classes"])
    if names != classes:
        raise CheckpointError(f"--teacher {path} knows {', '.join(names)}, not {', '.join(classes)}: give another one")
    if teacher.network.recurrent:
        raise CheckpointError(f"--teacher {path} is a sequence model: give one of single images")
    if image_channels(teacher.network.channels) != image_depth:
        raise CheckpointError(f"--teacher {path} takes other images than the --channels of the training: give another")
    return teacher


class Teachers:
    """The mean prediction of several networks.

    Args:
        teachers: with the same classes.
        options: how their predictions are used.
        device: of the training.
    """

    def __init__(self, teachers: Sequence[Teacher], options: TeachingOptions, device: torch.device) -> None:
        # Not a module: the teachers are no part of what is trained and saved.
        self._networks = [
            teacher.network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
            for teacher in teachers
        ]
        self.options = options

    @torch.no_grad()
    def probabilities(self, images: Tensor, temperature: float) -> Tensor:
        """Return the mean probabilities at a temperature, float (N, classes, h, w), for images uint8 (N, C, H, W).

        They have the size of the first teacher's logits.
        """
        views = [images, images.flip(-1)] if self.options.teacher_flip else [images]
        total: Tensor | None = None
        for network in self._networks:
            for mirrored, view in enumerate(views):
                logits = network(normalise(view, network.channels)).float()
                logits = logits.flip(-1) if mirrored else logits
                if total is not None and logits.shape != total.shape:
                    logits = _resize(logits, total)
                predicted = (logits / temperature).softmax(1)
                total = predicted if total is None else total + predicted
        assert total is not None, "there is at least one teacher"
        return total / (len(self._networks) * len(views))

    def fill_labels(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return labels, int64 (N, H, W), in which ``UNLABELLED`` pixels have a hard label, or void if unsure."""
        unlabelled = labels == UNLABELLED
        if self.options.pseudo is None or not unlabelled.any():
            return labels.masked_fill(unlabelled, VOID)
        large = _resize(self.probabilities(images, 1.0), labels)
        sure, best = large.max(1)
        hard = best.masked_fill(sure < self.options.pseudo, VOID)
        return torch.where(unlabelled, hard, labels)

    def loss(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return the weighted loss of the student's logits (N, classes, h, w) on images; 0 with hard labels."""
        if self.options.pseudo is not None:
            return logits.new_zeros(())
        temperature = self.options.temperature
        wanted = self.probabilities(images, temperature)
        return self.options.teacher_weight * soft_label_loss(logits, wanted, temperature)


def soft_label_loss(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(wanted || softmax(logits / T)), the mean over all pixels, in fp32.

    The factor keeps the gradient at the size of that of hard labels (Hinton et al., section 2).

    Args:
        logits: (N, C, h, w).
        wanted: probabilities at the same temperature, (N, C, h', w'); resized to the logits.
        temperature: T.
    """
    if wanted.shape[2:] != logits.shape[2:]:
        wanted = _resize(wanted, logits)
    got = (logits.float() / temperature).log_softmax(1)
    divergence = F.kl_div(got, wanted, reduction="none").sum(1)
    return temperature**2 * divergence.mean()


def _resize(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", align_corners=False)
