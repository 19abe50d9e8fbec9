"""Open the data of a training run. Loads no torch, so that wrong data are refused at once."""

from __future__ import annotations

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.folds import split_folds
from rtseg.errors import CheckpointError, DatasetError, OptionError
from rtseg.image_io.decode import image_channels
from rtseg.models import channels_of
from rtseg.training.options import TrainOptions

__all__ = ["BEST", "LAST", "TrainingData", "open_data"]

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
    if options.init is not None and not options.resume and not options.init.is_file():
        raise CheckpointError(f"no checkpoint at {options.init}; give a file with weights")
    channels = image_channels(options.channels or channels_of(options.model))
    datasets = [open_dataset(text, "train", channels=channels) for text in options.data]
    if options.split_by is None:
        validation = open_dataset(options.val_data or options.data[0], "val", channels=channels)
    else:
        datasets[0], validation = split_folds(datasets[0], options.split_by, options.fold)
    for other in (*datasets[1:], validation):
        if other.classes != datasets[0].classes:
            raise DatasetError(f"{datasets[0].name} and {other.name} have different classes: they must be the same")
    images = sum(map(len, datasets))
    if images < options.batch:
        raise DatasetError(f"{images} training images are fewer than --batch {options.batch}")
    return datasets, validation
