"""Cityscapes with fine labels: 19 classes, void 255."""

from __future__ import annotations

from pathlib import Path

from rtseg.datasets.class_mapping import Colour, MaskTable
from rtseg.datasets.paired_files import Pair, PairedFiles
from rtseg.datasets.spec_string import parse_arguments
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
"""Name, id and colour in the order of the training ids. Source: cityscapesScripts, helpers/labels.py."""

CLASSES = tuple(name for name, _, _ in _LABELS)
PALETTE = tuple(colour for _, _, colour in _LABELS)

_TRAIN_IDS = MaskTable({name: [place] for place, name in enumerate(CLASSES)}, name="Cityscapes (0..18, void 255)")
_IDS = MaskTable(
    {name: [number] for name, number, _ in _LABELS},
    void=[number for number in range(34) if number not in {known for _, known, _ in _LABELS}],
    name="Cityscapes (labelIds 0..33)",
)
_IMAGE = "_leftImg8bit"
_TRAIN = "_gtFine_labelTrainIds"
_ALL = "_gtFine_labelIds"


class Cityscapes(PairedFiles):
    """Cordts and others, "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.

    ``cityscapes:FOLDER`` with ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY`` in it. A mask is
    ``*_gtFine_labelTrainIds.png``, or ``*_gtFine_labelIds.png`` where there is no other: its numbers are mapped.

    Raises:
        OptionError: the text is malformed.
        DatasetError: the folders are missing, or there is no pair in the split.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "Cityscapes: non-commercial research and teaching only, see cityscapes-dataset.com/license"

    def __init__(self, argument: str, split: str) -> None:
        root = parse_arguments("cityscapes", argument, places=["FOLDER"]).path(0)
        folders = (root / "leftImg8bit" / split, root / "gtFine" / split)
        for folder in folders:
            if not folder.is_dir():
                known = ", ".join(sorted(path.name for path in folder.parent.glob("*/"))) or "none"
                raise DatasetError(f"no {folder}: --data cityscapes:FOLDER; splits that are there: {known}")
        images, masks = _find(folders[0], _IMAGE), _find(folders[1], _ALL) | _find(folders[1], _TRAIN)
        self.pairs = [Pair(path, masks[key]) for key, path in images.items() if key in masks]
        lonely = [f"{path} has no mask {_TRAIN}.png or {_ALL}.png" for key, path in images.items() if key not in masks]
        lonely += [f"{path} has no image {_IMAGE}.png" for key, path in masks.items() if key not in images]
        self.flaws = tuple(lonely)
        if not self.pairs and not self.flaws:
            raise DatasetError(f"{folders[0]} holds no image CITY/*{_IMAGE}.png")
        self.name = f"Cityscapes {split} ({len(self.pairs)} images)"

    def table(self, mask: Path) -> MaskTable:
        """See ``PairedFiles.table``."""
        return _TRAIN_IDS if mask.stem.endswith(_TRAIN) else _IDS


def _find(folder: Path, ending: str) -> dict[str, Path]:
    """The files CITY/FRAME``ending``.png by city and frame, e.g. ``aachen/aachen_000000_000019``."""
    paths = sorted(folder.glob(f"*/*{ending}.png"), key=natural_order)
    return {f"{path.parent.name}/{path.stem.removesuffix(ending)}": path for path in paths}
