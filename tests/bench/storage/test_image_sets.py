from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.bench.storage.image_sets import DrawnOptions, copy_images, draw_images, use_images
from rtseg.errors import OptionError, SinkError, SourceNotFound


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with three images and a text file of the user."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.jpg"), np.full((32, 48, 3), 40 * number, np.uint8))
    (folder / "notes.txt").write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_drawn_images_are_grey_pngs_and_are_removed_afterwards(tmp_path: Path) -> None:
    with draw_images(DrawnOptions(10, (64, 96), "png"), tmp_path) as images:
        assert images.folder.parent == tmp_path
        read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in images.paths]
        assert [image.shape for image in read] == [(64, 96)] * 10
        assert len({path.read_bytes() for path in images.paths}) == images.facts["distinct"] == 8
        assert images.size_bytes == sum(path.stat().st_size for path in images.paths)
        assert images.facts["first"] == {"kind": "png", "size": [64, 96], "channels": 1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_drawn_images_are_removed_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), draw_images(DrawnOptions(2, (64, 64), "png"), tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_copies_are_removed_and_the_originals_stay(data: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "mine").write_text("mine")
    before = contents(data)
    with copy_images(data, disk) as images:
        assert [path.read_bytes() for path in images.paths] == [before[f"{n}.jpg"][0] for n in range(3)]
        assert images.folder != data
    assert contents(data) == before
    assert [path.name for path in disk.iterdir()] == ["mine"]


def test_images_are_used_in_their_own_folder(data: Path) -> None:
    before = contents(data)
    images = use_images(data)
    assert [path.name for path in images.paths] == ["0.jpg", "1.jpg", "2.jpg"]
    assert images.facts["formats"] == [".jpg"]
    assert contents(data) == before


def test_one_image_is_not_enough_for_a_rate(data: Path) -> None:
    for number in (1, 2):
        (data / f"{number}.jpg").unlink()
    with pytest.raises(OptionError, match="at least 2"):
        use_images(data)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no image"):
        use_images(tmp_path)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"), draw_images(DrawnOptions(), tmp_path / "missing"):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 1}, "--images must be at least 2"),
        ({"format": "gif"}, "--format must be png or jpg"),
        ({"size": (8, 3072)}, "--image-size must be within"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DrawnOptions(**options)  # type: ignore[arg-type]
