"""Passes over a set of images: reads are counted, nothing is timed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, current_thread, main_thread

import cv2
import numpy as np
import pytest

from rtseg.bench.storage.image_sets import use_images
from rtseg.bench.storage.memory import measure_read_memory
from rtseg.bench.storage.page_cache import share_in_memory
from rtseg.bench.storage.passes import AUTO, Setup, unsupported_reason
from rtseg.bench.storage.simulated_disk import DiskModel, SimulatedDisk
from rtseg.errors import SourceError
from rtseg.frame import Image
from rtseg.image_io.decoders import DecodeOptions, open_decoder
from rtseg.image_io.options import ReadOptions
from rtseg.image_io.storage_kind import find_storage

COUNT = 6
WAYS = [0, 1, 3, AUTO]
FAST = DiskModel(seek_ms=0.01, turn_ms=0.01, mb_per_s=1e4)

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Counting:
    """A decoder that records what it decoded, and on which thread."""

    def __init__(self) -> None:
        self.names: list[int] = []
        self.threads: set[str] = set()
        self._decode = open_decoder("cv2")
        self._lock = Lock()

    def __call__(self, data: bytes, options: DecodeOptions) -> Image:
        image = self._decode(data, options)
        with self._lock:
            self.names.append(int(image[0, 0, 0]))
            self.threads.add("main" if current_thread() is main_thread() else current_thread().name)
        return image


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    for module in ("rtseg.bench.storage.passes", "rtseg.sources.images"):
        monkeypatch.setattr(f"{module}.open_decoder", lambda name: counting)
    return counting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose grey value is their number."""
    for number in range(COUNT):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((64, 80), number, np.uint8))
    return tmp_path


@pytest.fixture
def disk() -> Iterator[SimulatedDisk]:
    return SimulatedDisk(FAST)


def setup(folder: Path, disk: SimulatedDisk | None = None) -> Setup:
    return Setup(use_images(folder), "hdd" if disk else "ssd", disk, prefetch_mb=16)


@pytest.mark.parametrize("workers", WAYS)
@pytest.mark.parametrize("cold", [True, False])
def test_every_image_is_decoded_once(folder: Path, decoder: Counting, workers: int | str, cold: bool) -> None:
    passed = setup(folder).read("cv2", workers, cold=cold)
    assert sorted(decoder.names) == list(range(COUNT))
    assert passed.images_per_s > 0
    mean_mb = sum(path.stat().st_size for path in folder.iterdir()) / COUNT / 1e6
    assert passed.mb_per_s == pytest.approx(passed.images_per_s * mean_mb)


@pytest.mark.parametrize(("workers", "alone"), [(0, True), (1, False), (3, False), (AUTO, False)])
def test_without_workers_the_calling_thread_decodes(
    folder: Path, decoder: Counting, workers: int | str, alone: bool
) -> None:
    setup(folder).read("cv2", workers, cold=False)
    assert (decoder.threads == {"main"}) == alone
    assert ("main" in decoder.threads) == alone


def test_a_cold_pass_starts_with_nothing_in_memory_and_a_warm_one_with_everything(folder: Path) -> None:
    if find_storage(folder).kind == "memory":
        pytest.skip("the folder for temporary files is not on a disk")
    one = setup(folder)
    assert one.read("cv2", 0, cold=True).in_memory == 0.0
    assert one.drop_from_memory() == 0.0
    assert one.read("cv2", 0, cold=False).in_memory == 1.0
    assert share_in_memory(one.images.paths) == 1.0


@pytest.mark.parametrize("workers", WAYS)
def test_a_simulated_disk_reads_every_image_of_a_cold_pass_and_none_of_a_warm_one(
    folder: Path, disk: SimulatedDisk, decoder: Counting, workers: int | str
) -> None:
    one = setup(folder, disk)
    one.read("cv2", workers, cold=True)
    assert disk.seeks == COUNT
    one.read("cv2", workers, cold=False)
    assert disk.seeks == COUNT
    one.read("cv2", workers, cold=True)
    assert disk.seeks == 2 * COUNT
    assert sorted(decoder.names) == sorted(3 * list(range(COUNT)))


def test_the_second_pass_with_a_cache_does_not_use_the_disk(
    folder: Path, disk: SimulatedDisk, decoder: Counting, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    one = setup(folder, disk)
    for _ in range(2):
        one.read_through(cache)
        assert disk.seeks == COUNT
    assert sorted(decoder.names) == sorted(2 * list(range(COUNT)))


@pytest.mark.parametrize("workers", WAYS)
def test_a_damaged_image_ends_the_pass_and_is_named(folder: Path, workers: int | str) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    with pytest.raises(SourceError, match=r"3\.png.*remove (it|them)"):
        setup(folder).read("cv2", workers, cold=False)


class TestWhyNot:
    def test_turbojpeg_decodes_no_png(self, folder: Path) -> None:
        assert unsupported_reason("turbojpeg", use_images(folder)) == "turbojpeg decodes no PNG"
        assert unsupported_reason("cv2", use_images(folder)) is None

    def test_a_decoder_that_is_not_installed_names_its_extra(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "PIL", None)
        assert "pip install 'rtseg[bench]'" in (unsupported_reason("pil", use_images(folder)) or "")


def test_memory_is_measured_in_a_new_process(folder: Path) -> None:
    ballast = np.ones(400_000_000, np.uint8)
    memory = measure_read_memory(folder, ReadOptions(prefetch_mb=16))
    assert 10 < memory.before_mb <= memory.peak_mb < ballast.nbytes / 1e6
    assert memory.budget_mb == 16


def test_reading_large_images_takes_little_more_than_the_budget(tmp_path: Path) -> None:
    first = tmp_path / "0.png"
    cv2.imwrite(str(first), np.random.default_rng(0).integers(120, 136, (3072, 3072), np.uint8))
    for number in range(1, 24):
        (tmp_path / f"{number}.png").hardlink_to(first)
    memory = measure_read_memory(tmp_path, ReadOptions(prefetch_mb=4))
    assert memory.peak_mb < memory.budget_mb + 200
    # A decoded image has 9 MB. If all threads took turns in decoding, each would keep memory for two images.
    assert memory.peak_mb - memory.before_mb < memory.budget_mb + 80
