from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.folds import split_folds
from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels


class Drives(Dataset):
    """``a`` with 4 frames, ``b`` with 2 and ``c10`` with 3; the grey value of a frame is its index."""

    name = "drives"
    classes = ("road",)
    palette = ((0, 0, 0),)
    licence = "none"
    videos: tuple[str | None, ...] = ("a", "a", "c10", "c10", "c10", "a", "a", "b", "b")

    def __len__(self) -> int:
        return len(self.videos)

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        return np.full((2, 2, 3), index, np.uint8), np.zeros((2, 2), np.uint8)

    def sequence(self, index: int) -> str | None:
        return self.videos[index]


class Photos(Drives):
    """Single images in two folders."""

    videos = (None,) * 9

    def files(self, index: int) -> tuple[Path, ...]:
        return (Path(f"set/tile {index % 2 + 1}/{index}.png"), Path(f"masks/{index}.png"))


def values(dataset: Dataset) -> list[int]:
    return [int(dataset.load(index)[0].max()) for index in range(len(dataset))]


def both(dataset: Dataset, split_by: str, fold: str = "0") -> tuple[list[int], list[int]]:
    training, validation = split_folds(dataset, split_by, fold)
    return values(training), values(validation)


def test_a_video_by_number_or_name_is_for_validation_and_no_frame_of_it_for_training() -> None:
    assert both(Drives(), "video", "1") == both(Drives(), "video", "b") == ([0, 1, 2, 3, 4, 5, 6], [7, 8])
    assert both(Drives(), "video", "c10")[1] == [2, 3, 4]


def test_the_names_say_what_was_held_out() -> None:
    training, validation = split_folds(Drives(), "video", "b")
    assert (training.name, validation.name) == ("drives: without b (7 images)", "drives: b (2 images)")


def test_frames_on_both_sides_of_a_gap_are_not_consecutive() -> None:
    training, _ = split_folds(Drives(), "video", "c10")
    videos = [training.sequence(index) for index in range(len(training))]
    assert videos[0] == videos[1] != videos[2] == videos[3]


def test_a_folder_is_for_validation() -> None:
    assert both(Photos(), "folder", "tile 2") == ([0, 2, 4, 6, 8], [1, 3, 5, 7])


def test_folds_are_whole_videos_where_there_are_enough_and_cover_all() -> None:
    parts = [both(Drives(), "2-fold", str(number))[1] for number in range(2)]
    assert sorted(index for part in parts for index in part) == list(range(9))
    assert parts == [[0, 1, 5, 6], [2, 3, 4, 7, 8]]


def test_with_few_videos_folds_are_consecutive_images() -> None:
    assert [both(Drives(), "4-fold", str(number))[1] for number in range(4)] == [[0, 1, 2], [3, 4], [5, 6], [7, 8]]


def test_single_images_are_divided_at_random_but_the_same_everywhere() -> None:
    parts = [both(Photos(), "3-fold", str(number))[1] for number in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(9))
    assert [len(part) for part in parts] == [3, 3, 3]
    assert parts == [both(Photos(), "3-fold", f"part {number}")[1] for number in range(3)]
    assert parts[0] != [0, 1, 2]


@pytest.mark.parametrize(
    ("dataset", "split_by", "fold", "error", "message"),
    [
        (Drives(), "video", "3", OptionError, "--fold must be 0 to 2 or one of a, b, c10, got '3'"),
        (Drives(), "video", "d", OptionError, "one of a, b, c10, got 'd'"),
        (Photos(), "video", "0", DatasetError, "drives has no videos: give --split-by folder or 5-fold"),
        (Drives(), "folder", "0", DatasetError, "drives has no folders: give --split-by video or 5-fold"),
        (Drives(), "20-fold", "0", DatasetError, "drives has fewer images than --split-by 20-fold"),
    ],
)
def test_what_cannot_be_split_is_refused(
    dataset: Dataset, split_by: str, fold: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        split_folds(dataset, split_by, fold)


def test_one_video_cannot_be_split_by_video() -> None:
    dataset = Drives()
    dataset.videos = ("a", "a")
    with pytest.raises(DatasetError, match="drives has one video only: --split-by needs at least two"):
        split_folds(dataset, "video", "0")
