from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.datasets import Dataset, ReadFile
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels


class Album(Dataset):
    """Images with their index as value, labels with the epoch. ``videos`` has a letter per image; ``.``: no video."""

    name, classes, palette, licence = "album", ("a",), ((0, 0, 0),), "none"

    def __init__(self, videos: str) -> None:
        self._videos = videos
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self._videos)

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        if not 0 <= index < len(self):
            raise DatasetError(f"there is no image {index}")
        self.loaded.append(index)
        return np.full((2, 2, 3), index, np.uint8), np.full((2, 2), epoch, np.uint8)

    def sequence(self, index: int) -> str | None:
        return None if self._videos[index] == "." else self._videos[index]


def indices_of(clip: list[tuple[Image, Labels]]) -> list[int]:
    return [int(image[0, 0, 0]) for image, _ in clip]


@pytest.mark.parametrize(
    ("videos", "index", "expected"),
    [
        ("....", 2, [2, 2, 2]),
        ("aaaa", 3, [1, 2, 3]),
        ("aaaa", 1, [0, 0, 1]),
        ("aabb", 2, [2, 2, 2]),
        ("aabb", 3, [2, 2, 3]),
        ("aaba", 3, [3, 3, 3]),
        (".aa.", 2, [1, 1, 2]),
    ],
)
def test_a_clip_goes_back_in_its_video_and_repeats_the_first_frame(
    videos: str, index: int, expected: list[int]
) -> None:
    assert indices_of(Album(videos).clip(index, 0, 3)) == expected


def test_a_clip_of_one_is_the_image_of_its_epoch() -> None:
    ((image, labels),) = Album("aaaa").clip(2, 7, 1)
    assert (image == 2).all()
    assert (labels == 7).all()


def test_a_repeated_image_is_read_once() -> None:
    album = Album("aabb")
    album.clip(3, 0, 6)
    assert sorted(album.loaded) == [2, 3]


def test_an_image_is_of_no_video_unless_its_data_say_so() -> None:
    assert Dataset.sequence(Album("aa"), 1) is None
