from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from threading import get_ident

import numpy as np
import pytest

from rtseg.datasets import Dataset, ReadFile, open_dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.image_io.options import ReadOptions
from rtseg.system.opencv import cv2

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture
def pairs(tmp_path: Path) -> Dataset:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(40):
            level = number % 2 if name == "masks" else number
            assert cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((6, 8), level, np.uint8))
    return open_dataset(f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b,val=*", "val")


@pytest.mark.parametrize("storage", ["ssd", "hdd", "auto"])
def test_items_come_in_order_with_image_and_labels(pairs: Dataset, storage: str) -> None:
    indices = [7, 3, 3, 39, *range(20)]
    loaded = list(DatasetReader(ReadOptions(storage=storage)).load(pairs, indices))
    assert [index for index, _, _ in loaded] == indices
    for index, image, labels in loaded:
        expected, truth = pairs.load(index)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(labels, truth)


def test_a_missing_file_is_an_error_after_the_preceding_items(pairs: Dataset) -> None:
    pairs.files(5)[0].unlink()
    seen: list[int] = []
    with pytest.raises(DatasetError, match=r"cannot read the image .*5\.png: No such file"):
        seen.extend(index for index, _, _ in DatasetReader().load(pairs, range(40)))
    assert seen == list(range(5))


def test_leaving_early_ends_the_threads(pairs: Dataset) -> None:
    with closing(DatasetReader().load(pairs, range(40))) as loaded:
        assert next(loaded)[0] == 0


def test_indices_are_not_consumed_far_ahead(pairs: Dataset) -> None:
    taken: list[int] = []

    def indices() -> object:
        for index in range(40):
            taken.append(index)
            yield index

    with closing(DatasetReader().load(pairs, indices())) as loaded:  # type: ignore[arg-type]
        for number, _ in enumerate(loaded):
            assert len(taken) <= number + 17


def test_generated_data_are_drawn_by_the_caller_when_needed() -> None:
    drawn: list[tuple[int, int, int]] = []

    class Generated(Dataset):
        name = "generated"

        def __len__(self) -> int:
            return 5

        def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
            drawn.append((index, epoch, get_ident()))
            return np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)

    loaded = DatasetReader().load(Generated(), [4, 2], epoch=3)
    next(loaded)
    assert drawn == [(4, 3, get_ident())]
    assert [index for index, _, _ in loaded] == [2]


def test_load_or_error_continues_after_an_unusable_image(pairs: Dataset) -> None:
    pairs.files(3)[1].write_bytes(b"no mask")
    outcomes = list(DatasetReader().load_or_error(pairs, range(6)))
    assert [index for index, _ in outcomes] == list(range(6))
    assert [index for index, outcome in outcomes if isinstance(outcome, DatasetError)] == [3]
    assert "3.png" in str(outcomes[3][1])


def test_a_second_pass_reads_from_the_cache(pairs: Dataset, tmp_path: Path) -> None:
    reader = DatasetReader(ReadOptions(ssd_cache=tmp_path / "cache"))
    first = list(reader.load(pairs, range(40)))
    for index in range(40):  # the same names, sizes and times, and nothing in them
        for path in pairs.files(index):
            facts = path.stat()
            path.write_bytes(bytes(facts.st_size))
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    for one, other in zip(first, reader.load(pairs, range(40)), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_a_cache_that_cannot_store_more_is_reported(pairs: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    reader = DatasetReader(ReadOptions(ssd_cache=folder))
    assert not reader.notice
    (folder / "total").unlink()
    (folder / "total").mkdir()
    assert len(list(reader.load(pairs, range(3)))) == 3
    assert reader.notice.startswith(f"--ssd-cache: no more files are stored in {folder}")


class CountingLock:
    """Counts how often it is acquired."""

    def __init__(self) -> None:
        self.acquired = 0
        self.held = False

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        assert not self.held
        self.held = True
        self.acquired += 1
        return True

    def release(self) -> None:
        self.held = False


@pytest.mark.parametrize(("storage", "acquired"), [("hdd", 20), ("ssd", 0)])
def test_processes_read_one_at_a_time_from_a_hard_disk_only(pairs: Dataset, storage: str, acquired: int) -> None:
    lock = CountingLock()
    assert len(list(DatasetReader(ReadOptions(storage=storage)).share_between(2, lock).load(pairs, range(10)))) == 10
    assert lock.acquired == acquired
    assert not lock.held


def test_a_data_set_reads_only_the_files_it_names(pairs: Dataset) -> None:
    asked: list[Path] = []

    def read(path: Path) -> bytes:
        asked.append(path)
        return path.read_bytes()

    pairs.load(7, 0, read)
    assert tuple(asked) == pairs.files(7)
