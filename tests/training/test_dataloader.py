from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.errors import DatasetError, TrainingError
from rtseg.image_io.options import ReadOptions
from rtseg.system.opencv import cv2
from rtseg.training.augment import RandomViews
from rtseg.training.dataloader import _delay_interrupt, load_batches
from rtseg.training.options import Augmentation

pytestmark = pytest.mark.usefixtures("no_thread_left")

SIZE = (24, 32)
ORDER = [[5, 2, 7], [0, 1, 3], [6, 4, 9], [8, 2, 5], [1, 1, 0]]


@pytest.fixture
def pairs(tmp_path: Path) -> Dataset:
    """Ten images of noise, all different."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), noise)
        assert cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), (noise[..., 0] > 127).astype(np.uint8))
    return open_dataset(f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b,val=*", "val")


def views_of(*datasets: Dataset, clip: int = 1) -> RandomViews:
    return RandomViews(datasets, SIZE, size=SIZE, augmentation=Augmentation(), seed=3, clip=clip)


def expected(views: RandomViews) -> Iterator[list[Tensor]]:
    for indices in ORDER:
        images, labels = zip(*(views[index] for index in indices), strict=True)
        yield [torch.stack(images), torch.stack(labels)]


@pytest.mark.parametrize("clip", [1, 3])
@pytest.mark.parametrize("storage", ["ssd", "hdd"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_for_any_number_of_workers(pairs: Dataset, workers: int, storage: str, clip: int) -> None:
    views = views_of(pairs, clip=clip)
    batches = list(load_batches(views, ORDER, workers=workers, reader=DatasetReader(ReadOptions(storage=storage))))
    assert len(batches) == len(ORDER)
    for found, wanted in zip(batches, expected(views), strict=True):
        for part, truth in zip(found, wanted, strict=True):
            torch.testing.assert_close(part, truth, rtol=0, atol=0)


def test_another_epoch_gives_other_views_of_the_same_images(pairs: Dataset) -> None:
    views = views_of(pairs)
    first = next(iter(load_batches(views, ORDER, workers=0)))[0]
    views.epoch = 1
    assert not torch.equal(first, next(iter(load_batches(views, ORDER, workers=0)))[0])


def test_drawn_data_and_files_can_be_mixed(pairs: Dataset) -> None:
    streets = open_dataset("synthetic:street,frames=4", "train")
    views = views_of(streets, pairs)
    batches = list(load_batches(views, ORDER, workers=0))
    for found, wanted in zip(batches, expected(views), strict=True):
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_file_is_reported_in_one_line_after_the_preceding_batches(pairs: Dataset, workers: int) -> None:
    pairs.files(4)[0].unlink()
    batches = load_batches(views_of(pairs), ORDER, workers=workers)
    next(batches)
    next(batches)
    with pytest.raises(DatasetError, match=r"^cannot read the image .*4\.png: No such file or directory$"):
        next(batches)


def test_the_second_epoch_is_read_from_the_cache(pairs: Dataset, tmp_path: Path) -> None:
    reader = DatasetReader(ReadOptions(ssd_cache=tmp_path / "cache"))
    views = views_of(pairs)
    first = list(load_batches(views, ORDER, workers=2, reader=reader))
    for number in range(10):  # other images that look like the same version of the files
        for path in pairs.files(number):
            facts = path.stat()
            path.write_bytes(bytes(facts.st_size))
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    second = list(load_batches(views, ORDER, workers=2, reader=reader))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, second, strict=True))


def test_ctrl_c_while_workers_start_or_stop_is_raised_right_after(hears_ctrl_c: None) -> None:
    steps: list[str] = []

    def interrupted() -> None:
        with _delay_interrupt():
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")
        steps.append("too late")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_worker_is_reported_in_one_sentence(pairs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(RandomViews, "view", die)
    with pytest.raises(TrainingError, match=r"a process that loads images died: give fewer --workers"):
        next(load_batches(views_of(pairs), ORDER, workers=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Traceback:\n  a.py\nRuntimeError: unable to write to file </torch_1_2>: No space left on device (28)", "shm"),
        ("DataLoader worker (pid 1) is killed by signal: Bus error. Workers are out of shared memory.", "shm"),
        (
            "Caught ValueError in DataLoader worker process 0.\nTraceback:\n" + 99 * "  a.py\n" + "ValueError: bad",
            "bad",
        ),
        ("DataLoader worker failed: " + 999 * "x", "died"),
    ],
)
def test_the_traceback_of_a_worker_never_gets_into_the_message(
    pairs: Dataset, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    def loader(*_: object, **__: object) -> Iterator[object]:
        raise RuntimeError(f"{text} (in a DataLoader worker)" if "DataLoader worker" not in text else text)
        yield

    monkeypatch.setattr("rtseg.training.dataloader.DataLoader", loader)
    with pytest.raises(TrainingError, match=message) as caught:
        next(load_batches(views_of(pairs), ORDER, workers=1))
    line = str(caught.value)
    assert len(line) < 300
    assert "a.py" not in line
    assert "\n" not in line
    if message == "shm":
        assert "use --workers 0, or docker run --shm-size 2g" in line
