"""PASCAL VOC 2012 segmentation: palette PNG masks, 20 classes and background, void stored as 255."""

from __future__ import annotations

from pathlib import Path

from rtseg.datasets.class_mapping import Colour, MaskTable
from rtseg.datasets.paired_files import Pair, PairedFiles
from rtseg.datasets.spec_string import parse_arguments
from rtseg.errors import DatasetError

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
    """Colour of a class. Source: VOClabelcolormap.m of the VOC 2012 development kit.

    Bit 3k of the number becomes bit 7 - k of red, bit 3k + 1 of green, bit 3k + 2 of blue.
    """
    rgb = [sum((number >> (3 * k + channel) & 1) << (7 - k) for k in range(8)) for channel in range(3)]
    return rgb[0], rgb[1], rgb[2]


PALETTE = tuple(_colour(number) for number in range(len(CLASSES)))

_PLACES = (".", "VOC2012", "VOCdevkit/VOC2012")
_TABLE = MaskTable({name: [number] for number, name in enumerate(CLASSES)}, name="VOC (0..20, void 255)")


class Voc(PairedFiles):
    """Everingham and others, "The PASCAL Visual Object Classes Challenge 2012".

    ``voc:FOLDER`` with the folder ``VOC2012`` or one above it. The split is a file of ``ImageSets/Segmentation``:
    ``train``, ``val``, ``trainval``. Masks are read by number: those of ``SegmentationClass``, grey or with a palette.

    Raises:
        OptionError: the text is malformed.
        DatasetError: the list of the split is missing or empty.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "PASCAL VOC 2012: images from Flickr under their owners' terms, for research"

    def __init__(self, argument: str, split: str) -> None:
        folder = parse_arguments("voc", argument, places=["FOLDER"]).path(0)
        lists = [folder / place / "ImageSets" / "Segmentation" for place in _PLACES]
        found = next((path for path in lists if path.is_dir()), None)
        if found is None:
            raise DatasetError(f"no {lists[0]}: --data voc:FOLDER wants the folder VOC2012 or one above it")
        root = found.parent.parent
        listing = found / f"{split}.txt"
        try:
            names = listing.read_text(errors="replace").split()
        except OSError as error:
            known = ", ".join(sorted(path.stem for path in found.glob("*.txt")))
            raise DatasetError(f"cannot read {listing} ({error.strerror}); there are the splits {known}") from error
        if not names:
            raise DatasetError(f"{listing} names no image: write the name of one on each line")
        pairs = [Pair(root / "JPEGImages" / f"{n}.jpg", root / "SegmentationClass" / f"{n}.png") for n in names]
        missing = {path: None for pair in pairs for path in (pair.image, pair.mask) if not path.is_file()}
        self.flaws = tuple(f"{listing.name} names {path.stem}, and there is no {path}" for path in missing)
        self.pairs = [pair for pair in pairs if pair.image not in missing and pair.mask not in missing]
        self.name = f"PASCAL VOC 2012 {split} ({len(self.pairs)} images)"

    def table(self, mask: Path) -> MaskTable:
        """See ``PairedFiles.table``."""
        return _TABLE
