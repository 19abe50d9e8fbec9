from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg._cv2 import cv2
from rtseg.errors import SourceError, SourceNotFound
from rtseg.sources import PICTURE_SUFFIXES, SourceOptions, open_source
from rtseg.sources._images import ImagesSource


def save(path: Path, level: int = 100, size: tuple[int, int] = (12, 16)) -> Path:
    shape = size if path.suffix == ".pgm" else (*size, 3)
    assert cv2.imwrite(str(path), np.full(shape, level, np.uint8))
    return path


def bomb(path: Path) -> None:
    """A PNG of 60000 x 60000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_a_folder_is_read_in_natural_order_at_25_pictures_a_second(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        save(tmp_path / f"Frame{number}.png", level=number)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    source = open_source(tmp_path)
    frames = list(source)
    assert [frame.name for frame in frames] == [f"Frame{number}.png" for number in (1, 2, 9, 10, 100)]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 9, 10, 100]
    assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert (source.fps, source.frame_count, source.live, source.damaged) == (25.0, 5, False, 0)
    assert source.name == tmp_path.name


def test_more_pictures_than_are_decoded_ahead_all_come_in_order(tmp_path: Path) -> None:
    for number in range(50):
        save(tmp_path / f"{number}.pgm", level=number)
    assert [int(frame.image[0, 0, 0]) for frame in open_source(tmp_path)] == list(range(50))


@pytest.mark.parametrize("pattern", ["*.png", "**/*.png", "frame[12].png", "*"])
def test_a_glob_takes_the_pictures_that_match(pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "street"
    folder.mkdir()
    for number in (1, 2):
        save(folder / f"frame{number}.png")
    (folder / "notes.txt").write_text("")
    source = open_source(str(folder / pattern))
    assert [frame.name for frame in source] == ["frame1.png", "frame2.png"]
    assert source.name == "street"


def test_a_path_that_looks_like_a_glob_is_a_path_where_it_exists(tmp_path: Path) -> None:
    source = open_source(str(save(tmp_path / "a[1].png")))
    assert [frame.name for frame in source] == ["a[1].png"]
    assert source.name == "a[1]"


def test_a_part_of_a_folder_can_be_read(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / f"{number}.png", level=number)
    frames = list(open_source(tmp_path, SourceOptions(start_s=0.1, max_frames=2)))
    assert [frame.name for frame in frames] == ["3.png", "4.png"]
    assert [frame.pts_s for frame in frames] == pytest.approx([0.12, 0.16])
    assert [frame.index for frame in frames] == [0, 1]


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES | {".PNG", ".Jpg"}))
def test_every_kind_of_picture_is_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".pbm":
        (tmp_path / "a.pbm").write_text("P1\n2 1\n0 1\n")
        assert [int(v) for v in next(iter(open_source(tmp_path))).image[0, :, 0]] == [255, 0]
        return
    writable = {".jpe": ".jpg", ".dib": ".bmp", ".pnm": ".ppm"}.get(suffix.lower(), suffix.lower())
    save(tmp_path / f"a{writable}").rename(tmp_path / f"b{suffix}")
    frame = next(iter(open_source(tmp_path / f"b{suffix}")))
    assert frame.image.shape == (12, 16, 3)
    assert abs(int(frame.image.mean()) - 100) <= 1


@pytest.mark.parametrize(
    ("stored", "level"),
    [
        (np.full((4, 4), 50 * 256, np.uint16), 50),
        (np.full((4, 4, 3), 50 * 256, np.uint16), 50),
        (np.full((4, 4), 50, np.uint8), 50),
        (np.full((4, 4, 4), 50, np.uint8), 50),
    ],
    ids=["16-bit grey", "16-bit colour", "grey", "with alpha"],
)
def test_other_depths_and_channels_become_8_bit_bgr(stored: NDArray[np.generic], level: int, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    frame = next(iter(open_source(tmp_path)))
    assert frame.image.shape == (4, 4, 3)
    assert frame.image.dtype == np.uint8
    assert (frame.image == level).all()


def test_a_picture_is_turned_as_its_exif_tag_asks(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", size=(12, 16))
    data = path.read_bytes()
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    exif = b"Exif\x00\x00" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert next(iter(open_source(path))).image.shape == (16, 12, 3)


@pytest.mark.parametrize("kind", ["text", "empty", "cut.jpg", "cut.png", "bomb", "unreadable link"])
def test_a_damaged_picture_among_good_ones_is_skipped_and_named(kind: str, tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        save(tmp_path / name)
    bad = tmp_path / ("2.jpg" if kind == "cut.jpg" else "2.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    if kind == "text":
        bad.write_text("not a picture")
    elif kind == "empty":
        bad.touch()
    elif kind == "bomb":
        bomb(bad)
    elif kind == "unreadable link":
        # /proc/self/mem is a regular file that fails on reading, also for root.
        bad.symlink_to("/proc/self/mem")
    else:
        assert cv2.imwrite(str(bad), noise)
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    source = open_source(tmp_path)
    assert isinstance(source, ImagesSource)
    frames = list(source)
    assert [frame.name for frame in frames] == ["1.png", "3.png"]
    assert (source.damaged, source.damaged_names) == (1, [bad.name])


def test_a_jpeg_with_a_thumbnail_and_a_cut_off_end_is_damaged(tmp_path: Path) -> None:
    thumbnail = save(tmp_path / "t.jpg").read_bytes()
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)
    data = path.read_bytes()
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path.write_bytes(data[:2] + segment + data[2:])
    assert len(list(open_source(path))) == 1
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SourceError, match=r"a\.jpg"):
        list(open_source(path))


def test_a_folder_of_damaged_pictures_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(SourceError, match=r"not one picture can be decoded \(a\.png, b\.png\)"):
        list(open_source(tmp_path))


@pytest.mark.parametrize("where", ["", "*.png"])
def test_without_a_picture_the_error_names_place_and_suffixes(where: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SourceNotFound, match=r"no picture.*\.jpg") as caught:
        open_source(str(tmp_path / where))
    assert str(tmp_path) in str(caught.value)


def test_leaving_early_and_stopping_end_the_decoding_threads(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / f"{number}.png")
    before = threading.active_count()
    frames = iter(open_source(tmp_path))
    next(frames)
    assert threading.active_count() > before
    frames.close()  # type: ignore[attr-defined]
    source = open_source(tmp_path)
    for _ in source:
        source.stop()
    assert threading.active_count() == before
