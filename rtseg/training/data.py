"""Open the data of a training run. Loads no torch, so that wrong data are refused at once."""

from __future__ import annotations

from pathlib import Path

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.folds import split_folds
from rtseg.datasets.matched_classes import map_classes, parse_class_pairs
from rtseg.errors import CheckpointError, DatasetError, OptionError
from rtseg.image_io.decode import image_channels
from rtseg.models import channels_of
from rtseg.training.options import TrainOptions
from rtseg.weights import bundled_models

__all__ = ["BEST", "LAST", "TrainingData", "find_weights", "open_data"]

BEST, LAST = "best.safetensors", "last.safetensors"
"""File names in a run folder."""

TrainingData = tuple[list[Dataset], Dataset]
"""The training sets and the validation set."""


def open_data(options: TrainOptions) -> TrainingData:
    """Open the training sets and the validation set, after a look at the run folder.

    Raises:
        OptionError: the network is unknown, or the run folder already holds a run.
        CheckpointError: there is no run to resume, or no file to start from.
        DatasetError: the data cannot be used, have different classes, or are fewer than a batch.
    """
    last = options.output / LAST
    if not options.resume and last.exists():
        raise OptionError(f"{options.output} already holds a run: continue it with --resume, or give another --output")
    if options.resume and not last.is_file():
        raise CheckpointError(f"no checkpoint at {last}; `rtseg train` writes {BEST} and {LAST} into its run folder")
    if options.init is not None and not options.resume:
        find_weights(options.init)
    for teacher in options.teacher:
        find_weights(Path(teacher))
    channels = image_channels(options.channels or channels_of(options.model))
    datasets = [open_dataset(text, "train", channels=channels) for text in options.data]
    if options.split_by is None:
        validation = open_dataset(options.val_data or options.data[0], "val", channels=channels)
    else:
        datasets[0], validation = split_folds(datasets[0], options.split_by, options.fold)
    datasets = [datasets[0], *(_with_classes_of(datasets[0], other, options.map_classes) for other in datasets[1:])]
    validation = _with_classes_of(datasets[0], validation, options.map_classes)
    if options.unlabelled:
        from rtseg.training.unlabelled import UnlabelledFrames  # loads the sources

        limit = options.teaching.unlabelled_frames
        datasets += [UnlabelledFrames(source, datasets[0], limit) for source in options.unlabelled]
    images = sum(map(len, datasets))
    if images < options.batch:
        raise DatasetError(f"{images} training images are fewer than --batch {options.batch}")
    return datasets, validation


def _with_classes_of(first: Dataset, other: Dataset, pairs: tuple[str, ...]) -> Dataset:
    if pairs:
        return map_classes(other, first, parse_class_pairs(pairs))
    if other.classes != first.classes:
        raise DatasetError(
            f"{first.name} and {other.name} have different classes: say which are the same with --map-classes, e.g. "
            f"{first.classes[0]}={other.classes[0]}"
        )
    return other


def find_weights(file: Path) -> Path:
    """Return the file with weights that ``file`` means: itself, or a bundled model.

    Raises:
        CheckpointError: there is no such file.
    """
    path = bundled_models().get(str(file), file)
    if not path.is_file():
        names = " or ".join(bundled_models())
        raise CheckpointError(f"no checkpoint at {file}; give a file with weights, or {names}")
    return path
