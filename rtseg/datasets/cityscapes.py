"""Cityscapes with fine labels: 19 classes, void 255."""

from __future__ import annotations

from pathlib import Path

from rtseg.datasets.class_mapping import ClassMapping, Colour
from rtseg.datasets.paired_files import Pair, PairedFiles
from rtseg.datasets.spec_string import parse_spec_string
from rtseg.errors import DatasetError
from rtseg.image_io.find import natural_order

__all__ = ["CLASSES", "PALETTE", "Cityscapes"]

_LABELS: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
"""Name, label ID and colour, in the order of the training IDs. Source: cityscapesScripts, helpers/labels.py."""

CLASSES = tuple(name for name, _, _ in _LABELS)
PALETTE = tuple(colour for _, _, colour in _LABELS)

_TRAIN_IDS = ClassMapping({name: [i] for i, name in enumerate(CLASSES)}, name="Cityscapes (0..18, void 255)")
_LABEL_IDS = ClassMapping(
    {name: [number] for name, number, _ in _LABELS},
    void=[number for number in range(34) if number not in {known for _, known, _ in _LABELS}],
    name="Cityscapes (labelIds 0..33)",
)
_IMAGE_SUFFIX = "_leftImg8bit"
_TRAIN_IDS_SUFFIX = "_gtFine_labelTrainIds"
_LABEL_IDS_SUFFIX = "_gtFine_labelIds"


class Cityscapes(PairedFiles):
    """Cityscapes from disk, as ``cityscapes:FOLDER``.

    ``FOLDER`` holds ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``. A mask is ``*_gtFine_labelTrainIds.png``. If
    that file does not exist, it is ``*_gtFine_labelIds.png``, whose label IDs are mapped to training IDs.

    Source: Cordts and others, "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.

    Raises:
        OptionError: the text after ``cityscapes:`` is malformed.
        DatasetError: a folder is missing, or the split has no image.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "Cityscapes: non-commercial research and teaching only, see cityscapes-dataset.com/license"

    def __init__(self, argument: str, split: str) -> None:
        root = parse_spec_string("cityscapes", argument, fields=["FOLDER"]).path(0)
        folders = (root / "leftImg8bit" / split, root / "gtFine" / split)
        for folder in folders:
            if not folder.is_dir():
                splits = ", ".join(sorted(path.name for path in folder.parent.glob("*/"))) or "none"
                raise DatasetError(f"no {folder}: --data cityscapes:FOLDER; existing splits: {splits}")
        images = _find(folders[0], _IMAGE_SUFFIX)
        masks = _find(folders[1], _LABEL_IDS_SUFFIX) | _find(folders[1], _TRAIN_IDS_SUFFIX)
        self.pairs = [Pair(path, masks[key]) for key, path in images.items() if key in masks]
        wanted = f"{_TRAIN_IDS_SUFFIX}.png or {_LABEL_IDS_SUFFIX}.png"
        self.problems = (
            *(f"{path} has no mask {wanted}" for key, path in images.items() if key not in masks),
            *(f"{path} has no image {_IMAGE_SUFFIX}.png" for key, path in masks.items() if key not in images),
        )
        if not self.pairs and not self.problems:
            raise DatasetError(f"{folders[0]} contains no image CITY/*{_IMAGE_SUFFIX}.png")
        self.name = f"Cityscapes {split} ({len(self.pairs)} images)"

    def mapping(self, mask: Path) -> ClassMapping:
        """See ``PairedFiles.mapping``."""
        return _TRAIN_IDS if mask.stem.endswith(_TRAIN_IDS_SUFFIX) else _LABEL_IDS


def _find(folder: Path, suffix: str) -> dict[str, Path]:
    """Find the files CITY/FRAME``suffix``.png. Keys are city and frame, e.g. ``aachen/aachen_000000_000019``."""
    paths = sorted(folder.glob(f"*/*{suffix}.png"), key=natural_order)
    return {f"{path.parent.name}/{path.stem.removesuffix(suffix)}": path for path in paths}
