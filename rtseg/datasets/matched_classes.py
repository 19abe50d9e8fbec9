"""Data whose classes have other names or another order than those of a model, in the class IDs of the model."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Dataset, ReadFile
from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_image_bytes

__all__ = ["MatchedClasses", "map_classes", "match_classes", "parse_class_pairs"]

_VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored", "ignoreregion"})
_ALIASES = (
    {"tv", "tvmonitor", "television"},
    {"aeroplane", "airplane"},
    {"motorbike", "motorcycle"},
    {"sofa", "couch"},
    {"bicycle", "bike"},
    {"pavement", "sidewalk"},
    {"pedestrian", "person"},
    {"pottedplant", "plant"},
    {"diningtable", "table"},
    {"trafficsign", "signsymbol"},
)
"""Names of the same class in VOC, COCO, ADE20K, CamVid and Cityscapes, without spaces, in small letters."""
_MAX_NAMED = 8


class MatchedClasses(Dataset):
    """A data set with the class IDs of a model.

    Args:
        dataset: the data.
        classes: names of the classes of the model.
        model_ids: data class ID -> class ID of the model, or 255 for void; (classes of the data,).
        merged: class ID of the model -> the one that stands for the same class of the data, uint8 (256,).
    """

    def __init__(
        self, dataset: Dataset, classes: tuple[str, ...], model_ids: Sequence[int], merged: NDArray[np.uint8]
    ) -> None:
        self._dataset = dataset
        self._lut = np.full(256, VOID, np.uint8)
        self._lut[: len(model_ids)] = model_ids
        self._merged = merged
        self.scored = frozenset(model_ids) - {VOID}
        """Class IDs of the model that the data have."""
        self.classes, self.name, self.licence = classes, dataset.name, dataset.licence
        colours = {index: dataset.palette[number] for number, index in enumerate(model_ids)}
        self.palette = tuple(colours.get(index, (0, 0, 0)) for index in range(len(classes)))
        self.supported_channels, self.channels, self.bits = dataset.supported_channels, dataset.channels, dataset.bits
        self.problems, self.notes = dataset.problems, dataset.notes

    def merge(self, labels: Labels) -> Labels:
        """Give classes of the model that mean the same class of the data one ID, in labels of the model."""
        return np.asarray(cv2.LUT(labels, self._merged), np.uint8)

    def __len__(self) -> int:
        return len(self._dataset)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        image, labels = self._dataset.load(index, epoch, read)
        return image, np.asarray(cv2.LUT(labels, self._lut), np.uint8)

    def clip(
        self, index: int, epoch: int, length: int, read: ReadFile = read_image_bytes
    ) -> list[tuple[Image, Labels]]:
        """See ``Dataset.clip``."""
        clip = self._dataset.clip(index, epoch, length, read)
        return [(image, np.asarray(cv2.LUT(labels, self._lut), np.uint8)) for image, labels in clip]

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._dataset.files(index)

    def sequence(self, index: int) -> str | None:
        """See ``Dataset.sequence``."""
        return self._dataset.sequence(index)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return self._dataset.title(index)


def parse_class_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Parse the values of ``--map-classes``, each ``MODEL=DATA``.

    Raises:
        OptionError: a text is not of this form.
    """
    pairs = []
    for text in texts:
        model, equals, data = (part.strip() for part in text.partition("="))
        if not (model and equals and data):
            raise OptionError(f"--map-classes must be MODEL=DATA, e.g. tv=tvmonitor or void=sky; got {text!r}")
        pairs.append((model, data))
    return pairs


def match_classes(
    dataset: Dataset, classes: tuple[str, ...], model: str, pairs: Sequence[tuple[str, str]] | None = None
) -> Dataset:
    """Return ``dataset`` with the class IDs of a model; unchanged if its classes are those of the model.

    Names match if they differ only in case, spaces and punctuation, or are names of the same class in well-known data
    sets (tv, tvmonitor). A class called void, on either side, needs no partner: it is void in the data, and wrong
    wherever the model predicts it.

    Args:
        dataset: the data.
        classes: names of the classes of the model.
        model: name of the model, for messages.
        pairs: names of a class of the model and of the data that mean the same. ``void`` as a name of the model leaves
            a class of the data out; as a name of the data it says that the data lack a class of the model. Several
            classes of the model may mean the same class of the data. None where the user cannot say it.

    Raises:
        DatasetError: a class has no partner.
        OptionError: ``pairs`` names an unknown class.
    """
    if dataset.classes == classes and not pairs:
        return dataset
    partners = _explicit_partners(dataset, classes, model, pairs or ())
    data_ids = [_find(name, dataset.classes) for name in classes]
    for index, data_id in partners.items():
        data_ids[index] = data_id
    left_out = {_index(data, dataset.classes) for name, data in pairs or () if _is_void(name)}
    model_ids = [data_ids.index(number) if number in data_ids else VOID for number in range(len(dataset.classes))]
    for who, other, own, others, lacking in (
        (dataset.name, model, dataset.classes, classes, _without_partner(dataset.classes, model_ids, left_out)),
        (model, dataset.name, classes, dataset.classes, _without_partner(classes, data_ids, partners)),
    ):
        if lacking:
            pair = (others[0], lacking[0]) if own is dataset.classes else (lacking[0], others[0])
            void = f"void={lacking[0]}" if own is dataset.classes else f"{lacking[0]}=void"
            remedy = f"say what they are with --map-classes, e.g. {'='.join(pair)}, or {void}"
            raise DatasetError(
                f"{who} has {_some(lacking)}, which {other} lacks (it has {_some(others)}): "
                + ("give --data with the same classes" if pairs is None else remedy)
            )
    merged = np.arange(256, dtype=np.uint8)
    for index, data_id in enumerate(data_ids):
        if data_id is not None:
            merged[index] = data_ids.index(data_id)
    return MatchedClasses(dataset, classes, model_ids, merged)


def map_classes(dataset: Dataset, target: Dataset, pairs: Sequence[tuple[str, str]]) -> Dataset:
    """Return ``dataset`` with the classes of ``target``, to train on both; void where it has a class without a partner.

    Args:
        dataset: the data.
        target: the data whose classes are trained.
        pairs: names of a class of ``target`` and of the data, in addition to names that match; several classes of the
            data may become one. ``void`` as the first leaves a class of the data out.

    Raises:
        OptionError: a pair names a class that ``target`` does not have.
        DatasetError: no class of the data has a partner.
    """
    if dataset.classes == target.classes:
        return dataset
    found = [_find(name, target.classes) for name in dataset.classes]
    for name, data in pairs:
        index, data_id = _index(name, target.classes), _index(data, dataset.classes)
        if index is None and not _is_void(name):
            raise OptionError(f"--map-classes: {target.name} has no class {name!r}; it has {', '.join(target.classes)}")
        if data_id is not None:  # it may be a class of another data set
            found[data_id] = index
    ids = [VOID if index is None else index for index in found]
    if all(index == VOID for index in ids):
        raise DatasetError(
            f"no class of {dataset.name} ({_some(dataset.classes)}) is one of {target.name} ({_some(target.classes)}): "
            f"say what they are with --map-classes, e.g. {target.classes[0]}={dataset.classes[0]}"
        )
    mapped = MatchedClasses(dataset, target.classes, ids, np.arange(256, dtype=np.uint8))
    mapped.palette = target.palette
    return mapped


def _explicit_partners(
    dataset: Dataset, classes: tuple[str, ...], model: str, pairs: Sequence[tuple[str, str]]
) -> dict[int, int | None]:
    """Return class ID of the model -> class ID of the data, or None where the data lack the class."""
    partners: dict[int, int | None] = {}
    for name, data in pairs:
        index, data_id = _index(name, classes), _index(data, dataset.classes)
        for which, text, found, known in (
            (model, name, index, classes),
            (dataset.name, data, data_id, dataset.classes),
        ):
            if found is None and not _is_void(text):
                raise OptionError(f"--map-classes: {which} has no class {text!r}; it has {', '.join(known)}")
        if index is not None:
            partners[index] = data_id
    return partners


def _without_partner(
    names: Sequence[str], partners: Sequence[int | None], explained: Container[int | None]
) -> list[str]:
    """Return the classes that match none of the other side, are not void, and are not named in ``pairs``."""
    return [
        name
        for index, name in enumerate(names)
        if partners[index] in (None, VOID) and not _is_void(name) and index not in explained
    ]


def _find(name: str, names: Sequence[str]) -> int | None:
    """Return the index of the same class in ``names``; None if there is none."""
    wanted = _plain(name)
    plain = [_plain(other) for other in names]
    same = next((group for group in _ALIASES if wanted in group), {wanted})
    for candidate in (wanted, *sorted(same)):
        if candidate in plain:
            return plain.index(candidate)
    return None


def _index(name: str, names: Sequence[str]) -> int | None:
    """Return the index of a name, without aliases."""
    plain = [_plain(other) for other in names]
    return plain.index(_plain(name)) if _plain(name) in plain else None


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum()) or name


def _is_void(name: str) -> bool:
    return _plain(name) in _VOID_NAMES


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
