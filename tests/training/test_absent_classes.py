from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.errors import DatasetError
from rtseg.training.options import TrainOptions
from rtseg.training.train import train


def test_masks_of_0_and_255_are_refused_before_the_first_epoch(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[:16] = 255
    for number in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((64, 64, 3), number, np.uint8))
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    options = TrainOptions(
        data=(f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=background+crack",),
        output=tmp_path / "run",
        model="icnet:width=8",
        size=(64, 64),
        crop=(64, 64),
        batch=2,
        workers=0,
        epochs=1,
    )
    with pytest.raises(DatasetError) as error:
        train(options)
    assert str(error.value) == (
        "no pixel of the training data has the class crack (1); 25.00 % of its pixels are void, as is 255 unless a "
        "class has it: check how the masks are read, e.g. classes=background:0+crack:255"
    )
