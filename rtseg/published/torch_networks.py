"""Networks of torchvision, segmentation_models.pytorch, transformers and rtseg, with weights of other programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from rtseg.errors import CheckpointError, MissingExtra, ModelError, OptionError
from rtseg.importing.plan import IMAGENET_MEAN, IMAGENET_STD, Normalization
from rtseg.models import create_model
from rtseg.models.label_network import fuse_batch_norm
from rtseg.models.mmseg_names import from_mmseg
from rtseg.published.catalogue import PUBLISHED
from rtseg.published.download import download
from rtseg.training.checkpoint import (
    head_weights,
    load_initial_weights,
    read_foreign_weights,
    strip_wrapper_prefixes,
    under_prefix,
)

__all__ = ["LOADERS", "ForeignNetwork", "LoadOptions"]

_IMAGENET = Normalization(255, IMAGENET_MEAN, IMAGENET_STD)
_TORCHVISION_SIZE = (520, 520)
"""The published evaluation resizes the shorter side to 520."""
_SMP_SIZE = (512, 512)
_OWN_SIZE = (384, 640)
"""That of the bundled models."""


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """A network in evaluation mode, and what its library says about it."""

    network: nn.Module
    """Maps float (N, 3, H, W) to scores (N, classes, h, w)."""
    size: tuple[int, int]
    """(H, W) of the input that it was trained or measured with."""
    normalization: Normalization | None
    classes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to get the weights."""

    weights: Path | None = None
    """A file with a state dict, instead of the published weights."""
    offline: bool = False
    """Use nothing but files of this machine."""
    notify: Callable[[str], None] = lambda line: None
    size: tuple[int, int] | None = None
    """(H, W) that the user wants."""


class _Scores(nn.Module):
    """Takes the scores out of what a library's network returns."""

    def __init__(self, network: nn.Module, key: str | None) -> None:
        super().__init__()
        self.network = network.eval()
        self._key = key

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes, h, w)."""
        result: Any = self.network(images)
        scores: Tensor = result if self._key is None else result[self._key]
        return scores


def load_torchvision(name: str, options: LoadOptions) -> ForeignNetwork:
    """Load ``torchvision:NAME``, with published weights or those of a file.

    Raises:
        OptionError: torchvision has no segmentation network of this name.
        ModelError: the weights cannot be downloaded, or are of another network.
        MissingExtra: torchvision is not installed.
    """
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtra.for_feature(f"torchvision:{name}", error.name, "import") from error
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise OptionError(f"torchvision has no segmentation network {name!r}; it has {', '.join(known)}")
    published = models.get_model_weights(name).DEFAULT
    path = options.weights
    if path is None:
        path = download(PUBLISHED[f"torchvision:{name}"], offline=options.offline, notify=options.notify)
    weights = strip_wrapper_prefixes(read_foreign_weights(path))
    classes: tuple[str, ...] | None = tuple(name.strip("_") for name in published.meta["categories"])
    count = _count_classes(weights, path)
    if count != len(classes or ()):
        classes = None
    has_aux = any(key.startswith("aux_classifier.") for key in weights)
    options_of = {} if name.startswith("lraspp") else {"aux_loss": has_aux}
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=count, **options_of)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{path} does not fit torchvision:{name} ({detail}): give its own weights") from error
    return ForeignNetwork(_Scores(network, "out"), _TORCHVISION_SIZE, _IMAGENET, classes)


def _count_classes(weights: dict[str, Tensor], path: Path) -> int:
    """Return the classes of the last layer of the main head in torchvision's names."""
    heads = [key for key in weights if re.fullmatch(r"classifier\.(\d+|high_classifier)\.weight", key)]
    if not heads:
        raise CheckpointError(f"{path} holds no weights of a segmentation network of torchvision: give another file")
    return int(weights[heads[-1]].shape[0])


def load_smp(name: str, options: LoadOptions) -> ForeignNetwork:
    """Load ``smp:OWNER/NAME`` from the Hugging Face hub, or ``smp:FOLDER`` as ``save_pretrained`` writes it.

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
        MissingExtra: segmentation_models_pytorch is not installed.
    """
    _refuse_weights(options, "smp")
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise MissingExtra.for_feature(f"smp:{name}", error.name, "import") from error
    network = _from_hub(f"smp:{name}", lambda: smp.from_pretrained(name, local_files_only=options.offline))
    encoder = getattr(network.encoder, "pretrained_cfg", None)
    facts = encoder if isinstance(encoder, dict) else {}
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return ForeignNetwork(_Scores(network, None), _SMP_SIZE, Normalization(255, tuple(mean), tuple(std)), None)


def load_huggingface(name: str, options: LoadOptions) -> ForeignNetwork:
    """Load ``hf:OWNER/NAME`` from the Hugging Face hub, or ``hf:FOLDER``, with transformers.

    Raises:
        ModelError: there is no such model, it cannot be downloaded, or it is not for semantic segmentation.
        MissingExtra: transformers is not installed.
    """
    _refuse_weights(options, "hf")
    try:
        from transformers import AutoConfig, AutoModelForSemanticSegmentation
    except ImportError as error:
        raise MissingExtra.for_feature(f"hf:{name}", error.name, "import") from error
    title = f"hf:{name}"
    config = _from_hub(title, lambda: AutoConfig.from_pretrained(name, local_files_only=options.offline))
    # Of the other format than safetensors, transformers reads weights only, too: nothing of the file is run.
    network = _from_hub(
        title,
        lambda: AutoModelForSemanticSegmentation.from_pretrained(
            name, local_files_only=options.offline, trust_remote_code=False
        ),
    )
    facts = _image_processor(name, options)
    labels = {int(key): str(value) for key, value in (config.id2label or {}).items()}
    classes = tuple(labels.get(index, f"class {index}") for index in range(len(labels)))
    return ForeignNetwork(_Scores(network, "logits"), _size_of(facts), _normalization_of(facts), classes or None)


def _image_processor(name: str, options: LoadOptions) -> dict[str, Any]:
    """Return ``preprocessor_config.json``; empty if the model has none."""
    from transformers import ImageProcessingMixin

    try:
        facts, _ = ImageProcessingMixin.get_image_processor_dict(name, local_files_only=options.offline)
    except (OSError, ValueError):
        return {}
    return dict(facts)


def _size_of(facts: dict[str, Any]) -> tuple[int, int]:
    for key in ("crop_size", "size"):
        size = facts.get(key) if key == "size" or facts.get("do_center_crop") else None
        if isinstance(size, int):
            return size, size
        if isinstance(size, dict) and "height" in size:
            return int(size["height"]), int(size["width"])
        if isinstance(size, dict) and "shortest_edge" in size:
            return (int(size["shortest_edge"]),) * 2
    return _SMP_SIZE


def _normalization_of(facts: dict[str, Any]) -> Normalization | None:
    if not facts:
        return None
    scale = 1 / float(facts.get("rescale_factor") or 1 / 255) if facts.get("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if facts.get("do_normalize", "image_mean" in facts):
        mean, std = tuple(facts.get("image_mean", IMAGENET_MEAN)), tuple(facts.get("image_std", IMAGENET_STD))
    return Normalization(round(scale, 6), mean, std, bgr=bool(facts.get("do_flip_channel_order", False)))


def _from_hub(title: str, load: Callable[[], Any]) -> Any:
    """Load something, and turn what the library raises into one line."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{title} cannot be loaded ({reason[:200]}): check the name and the network") from error


def load_own(name: str, options: LoadOptions) -> ForeignNetwork:
    """Load weights that another program trained for a network of rtseg, e.g. ``rtseg:pidnet-s``.

    Raises:
        OptionError: rtseg has no such network, or it is a sequence model; no weights are given; or it cannot take the
            size.
        CheckpointError: the weights are of another network.
        MissingExtra: torch is not installed.
    """
    network = create_model(name, 2)
    if options.weights is None:
        raise OptionError(f"rtseg:{name} has no published weights: give --weights FILE, e.g. of its authors")
    if network.recurrent:
        raise OptionError(f"rtseg:{name} is a sequence model, for which no other program has weights: train it")
    size = options.size or _OWN_SIZE
    network.check_size(*size)
    weights = from_mmseg(strip_wrapper_prefixes(read_foreign_weights(options.weights)), name)
    weights = under_prefix(weights, network.state_dict())
    counts = [
        weights[key].shape[0]
        for key in sorted(head_weights(network))
        if key in weights and not key.startswith(network.auxiliary)
    ]
    network = create_model(name, counts[0] if counts else 2)
    try:
        load_initial_weights(network, options.weights, tuple(map(str, range(network.classes))))
    except CheckpointError as error:
        raise CheckpointError(
            f"{options.weights} does not fit rtseg:{name}: give weights of this network, or name the one they are of"
        ) from error
    network = fuse_batch_norm(network)
    network.fix_size(*size)
    return ForeignNetwork(_Scores(network, None), size, _IMAGENET, None)


def _refuse_weights(options: LoadOptions, kind: str) -> None:
    if options.weights is not None:
        raise OptionError(f"--weights is for torchvision: and rtseg: networks; give {kind}:FOLDER with the saved model")


def load_timm(name: str, options: LoadOptions) -> ForeignNetwork:
    """Say that timm has no segmentation networks.

    Raises:
        OptionError: always.
    """
    raise OptionError(
        f"timm:{name}: timm publishes backbones, none for segmentation: use smp:, whose networks have timm's backbones"
    )


LOADERS: dict[str, Callable[[str, LoadOptions], ForeignNetwork]] = {
    "torchvision": load_torchvision,
    "smp": load_smp,
    "timm": load_timm,
    "hf": load_huggingface,
    "rtseg": load_own,
}
