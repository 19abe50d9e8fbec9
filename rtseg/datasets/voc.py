"""PASCAL VOC 2012 segmentation: palette PNG masks, 20 classes and background, void stored as 255."""

from __future__ import annotations

from pathlib import Path

from rtseg.datasets.class_mapping import ClassMapping, Colour
from rtseg.datasets.paired_files import Pair, PairedFiles
from rtseg.datasets.spec_string import parse_spec_string
from rtseg.errors import DatasetError
from rtseg.system.file_names import existing_path
from rtseg.system.read_file import read_lines

__all__ = ["CLASSES", "PALETTE", "Voc"]

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def _colour(number: int) -> Colour:
    """Return the colour of a class. Source: VOClabelcolormap.m of the VOC 2012 development kit.

    Bit 3k of the number becomes bit 7 - k of red, bit 3k + 1 of green, bit 3k + 2 of blue.
    """
    rgb = [sum((number >> (3 * k + channel) & 1) << (7 - k) for k in range(8)) for channel in range(3)]
    return rgb[0], rgb[1], rgb[2]


PALETTE = tuple(_colour(number) for number in range(len(CLASSES)))

_ROOTS = (".", "VOC2012", "VOCdevkit/VOC2012")
_MAPPING = ClassMapping({name: [number] for number, name in enumerate(CLASSES)}, name="VOC (0..20, void 255)")


class Voc(PairedFiles):
    """PASCAL VOC 2012 from disk, as ``voc:FOLDER``.

    ``FOLDER`` is ``VOC2012`` or a folder above it. The split is a file of ``ImageSets/Segmentation``: ``train``,
    ``val``, ``trainval``. The masks are those of ``SegmentationClass``, grey or with a palette, and are read by number.

    Source: Everingham and others, "The PASCAL Visual Object Classes Challenge 2012".

    Raises:
        OptionError: the text after ``voc:`` is malformed.
        DatasetError: the list of the split is missing or empty.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "PASCAL VOC 2012: images from Flickr under their owners' terms, for research"

    def __init__(self, argument: str, split: str) -> None:
        folder = parse_spec_string("voc", argument, fields=["FOLDER"]).path(0)
        candidates = [folder / root / "ImageSets" / "Segmentation" for root in _ROOTS]
        lists = next((path for path in candidates if path.is_dir()), None)
        if lists is None:
            raise DatasetError(f"no {candidates[0]}: --data voc:FOLDER needs the folder VOC2012 or one above it")
        root = lists.parent.parent
        split_file = lists / f"{split}.txt"
        try:
            names = [line for line in read_lines(split_file) if line]
        except (OSError, UnicodeDecodeError) as error:
            splits = ", ".join(sorted(path.stem for path in lists.glob("*.txt")))
            raise DatasetError(
                f"cannot read {split_file} ({getattr(error, 'strerror', 'it is no text')}); the splits are {splits}"
            ) from error
        if not names:
            raise DatasetError(f"{split_file} names no image: write one image name on each line")
        pairs = [
            Pair(
                existing_path(root / "JPEGImages" / f"{name}.jpg"),
                existing_path(root / "SegmentationClass" / f"{name}.png"),
            )
            for name in names
        ]
        missing = {path: None for pair in pairs for path in (pair.image, pair.mask) if not path.is_file()}
        self.problems = tuple(f"{split_file.name} names {path.stem}, but there is no {path}" for path in missing)
        self.pairs = [pair for pair in pairs if pair.image not in missing and pair.mask not in missing]
        self.name = f"PASCAL VOC 2012 {split} ({len(self.pairs)} images)"

    def mapping(self, mask: Path) -> ClassMapping:
        """See ``PairedFiles.mapping``."""
        return _MAPPING
