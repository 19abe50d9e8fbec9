from __future__ import annotations

import os
import struct
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from rtseg.errors import MissingExtra, OptionError, SourceError, SourceNotFound
from rtseg.image_io.find import IMAGE_SUFFIXES
from rtseg.image_io.options import ReadOptions
from rtseg.sources import open_source
from rtseg.sources.images import ImagesSource
from rtseg.sources.options import SourceOptions
from rtseg.system.opencv import cv2


def save(path: Path, level: int = 100, size: tuple[int, int] = (12, 16)) -> Path:
    shape = size if path.suffix == ".pgm" else (*size, 3)
    assert cv2.imwrite(str(path), np.full(shape, level, np.uint8))
    return path


def bomb(path: Path) -> None:
    """Write a PNG of a few bytes that claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_a_folder_is_read_in_natural_order_at_25_images_a_second(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        save(tmp_path / f"Frame{number}.png", level=number)
    (tmp_path / "notes.txt").write_text("no image")
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


def test_more_images_than_are_prefetched_come_in_order(tmp_path: Path) -> None:
    for number in range(50):
        save(tmp_path / f"{number}.pgm", level=number)
    assert [int(frame.image[0, 0, 0]) for frame in open_source(tmp_path)] == list(range(50))


@pytest.mark.parametrize("pattern", ["*.png", "**/*.png", "frame[12].png", "*"])
def test_a_glob_selects_the_matching_images(pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "street"
    folder.mkdir()
    for number in (1, 2):
        save(folder / f"frame{number}.png")
    (folder / "notes.txt").write_text("")
    source = open_source(str(folder / pattern))
    assert [frame.name for frame in source] == ["frame1.png", "frame2.png"]
    assert source.name == "street"


def test_an_existing_path_that_looks_like_a_glob_is_a_path(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES | {".PNG", ".Jpg"}))
def test_every_kind_of_image_is_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".pbm":
        (tmp_path / "a.pbm").write_text("P1\n2 1\n0 1\n")
        assert [int(v) for v in next(iter(open_source(tmp_path))).image[0, :, 0]] == [255, 0]
        return
    writable = {".jpe": ".jpg", ".jfi": ".jpg", ".jfif": ".jpg", ".jif": ".jpg", ".dib": ".bmp", ".pnm": ".ppm"}.get(
        suffix.lower(), suffix.lower()
    )
    save(tmp_path / f"a{writable}").rename(tmp_path / f"b{suffix}")
    frame = next(iter(open_source(tmp_path / f"b{suffix}")))
    assert frame.image.shape == (12, 16, 1 if suffix == ".pgm" else 3)
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
def test_other_depths_become_8_bit_and_grey_stays_grey(stored: NDArray[np.generic], level: int, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    frame = next(iter(open_source(tmp_path)))
    assert frame.image.shape == (4, 4, 1 if stored.ndim == 2 else 3)
    assert frame.image.dtype == np.uint8
    assert (frame.image == level).all()


def test_an_image_is_rotated_according_to_its_exif_tag(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", size=(12, 16))
    data = path.read_bytes()
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    exif = b"Exif\x00\x00" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert next(iter(open_source(path))).image.shape == (16, 12, 3)


@pytest.mark.parametrize("kind", ["text", "empty", "cut.jpg", "cut.png", "bomb", "unreadable link"])
def test_a_damaged_image_among_good_ones_is_skipped_and_named(kind: str, tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        save(tmp_path / name)
    bad = tmp_path / ("2.jpg" if kind == "cut.jpg" else "2.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    if kind == "text":
        bad.write_text("not an image")
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


def test_a_truncated_jpeg_with_a_thumbnail_is_damaged(tmp_path: Path) -> None:
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


def test_a_folder_with_only_damaged_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(SourceError, match=r"no image can be used: a\.png is damaged.*; b\.png is"):
        list(open_source(tmp_path))


@pytest.mark.parametrize("where", ["", "*.png"])
def test_without_images_the_error_names_the_folder_and_suffixes(where: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SourceNotFound, match=r"no image.*\.jpg") as caught:
        open_source(str(tmp_path / where))
    assert str(tmp_path) in str(caught.value)


def test_closing_and_stopping_end_the_decoding_threads(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / f"{number}.png", size=(120, 160))
    before = threading.active_count()
    few = SourceOptions(reading=ReadOptions(prefetch_mb=1))
    big = np.zeros((600, 800, 3), np.uint8)  # larger than the limit, so later images cannot be ready yet
    assert cv2.imwrite(str(tmp_path / "5.png"), big)
    frames = iter(open_source(tmp_path, few))
    next(frames)
    assert threading.active_count() > before
    frames.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    source = open_source(tmp_path)
    for _ in source:
        source.stop()
    assert threading.active_count() == before


def colour(level: int) -> NDArray[np.uint8]:
    return np.full((8, 8, 3), level, np.uint8)


def read(where: str | Path, **reading: object) -> list[str | None]:
    """The names of the images that are read."""
    frames = list(open_source(where, SourceOptions(reading=ReadOptions(**reading))))  # type: ignore[arg-type]
    return [frame.name for frame in frames]


class TestImageLocations:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("f_%03d.png", ["f_001.png", "f_002.png", "f_010.png", "f_1000.png"]),
            ("f_%d.png", ["f_7.png", "f_1000.png"]),
        ],
    )
    def test_a_numbered_sequence_follows_printf(self, pattern: str, names: list[str], tmp_path: Path) -> None:
        for name in ("f_010.png", "f_002.png", "f_001.png", "f_1000.png", "f_7.png", "f_x.png", "g_001.png"):
            save(tmp_path / name)
        assert read(str(tmp_path / pattern)) == names
        assert open_source(str(tmp_path / pattern)).name == tmp_path.name

    @pytest.mark.parametrize("name", ["list.txt", "@list.lst"])
    def test_a_list_keeps_its_order_and_is_relative_to_its_folder(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "b").mkdir()
        paths = [save(tmp_path / "b" / f"{number}.png") for number in (3, 1, 2)]
        lines = ["# first", "b/3.png", "", str(paths[1]), " b/2.png "]
        (tmp_path / name.removeprefix("@")).write_text("\n".join(lines))
        assert read(name) == ["3.png", "1.png", "2.png"]
        assert open_source(name).name == "list"

    def test_a_missing_file_of_a_list_is_named_and_the_others_are_read(self, tmp_path: Path) -> None:
        save(tmp_path / "1.png")
        (tmp_path / "l.txt").write_text("gone.png\n1.png\n")
        source = open_source(tmp_path / "l.txt")
        assert [frame.name for frame in source] == ["1.png"]
        fault = {"name": "gone.png", "fault": "cannot be read: No such file or directory"}
        assert source.facts()["reading"]["faults"] == [fault]

    @pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00"])
    def test_an_empty_list_is_an_error(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "l.txt").write_bytes(content)
        with pytest.raises(SourceError, match=r"l\.txt.*one path per line"):
            open_source(tmp_path / "l.txt")


class TestRemoteImages:
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        pytest.importorskip("fsspec")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
            for number in (1, 2, 10):
                made.write(save(tmp_path / f"{number}.png", level=number), f"pics/{number}.png")
            made.writestr("pics/notes.txt", "no image")
        return tmp_path / "a.zip"

    @pytest.mark.parametrize("inside", ["pics", "pics/*.png", "pics/%d.png"])
    def test_images_of_an_archive_come_in_natural_order(self, inside: str, archive: Path) -> None:
        source = open_source(f"zip://{inside}::{archive}")
        frames = list(source)
        assert [frame.name for frame in frames] == ["1.png", "2.png", "10.png"]
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
        assert source.facts()["reading"]["storage"] == "remote"

    def test_a_list_may_contain_urls(self, archive: Path, tmp_path: Path) -> None:
        (tmp_path / "l.txt").write_text(f"zip://pics/10.png::{archive}\n1.png\n")
        assert read(tmp_path / "l.txt") == ["10.png", "1.png"]

    def test_remote_images_are_cached_too(self, archive: Path, tmp_path: Path) -> None:
        where = f"zip://pics::{archive}"
        assert read(where, ssd_cache=tmp_path / "c") == ["1.png", "2.png", "10.png"]
        source = open_source(where, SourceOptions(reading=ReadOptions(ssd_cache=tmp_path / "c")))
        assert len(list(source)) == 3
        assert source.facts()["reading"]["cache"]["hits"] == 3

    def test_a_missing_archive_is_named(self, tmp_path: Path) -> None:
        pytest.importorskip("fsspec")
        with pytest.raises(SourceNotFound, match=r"none\.zip"):
            open_source(f"zip://a.png::{tmp_path}/none.zip")

    def test_an_archive_without_images_is_an_error_with_the_suffixes(self, archive: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"contains no image: .*\.png"):
            open_source(f"zip://none*::{archive}")

    def test_a_missing_package_is_named_without_showing_the_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("fsspec")
        monkeypatch.setitem(sys.modules, "s3fs", None)
        with pytest.raises(MissingExtra, match="s3fs") as caught:
            open_source("s3://key:word@bucket/a.png")
        assert "word" not in str(caught.value)


class TestBadImages:
    def made(self, folder: Path, kind: str) -> str:
        """Write two good images and a bad one between them. Returns why that one is bad."""
        for name in ("1.png", "3.png"):
            assert cv2.imwrite(str(folder / name), colour(7))
        bad = folder / "2.png"
        if kind == "cmyk":
            Image = pytest.importorskip("PIL.Image")  # noqa: N806
            Image.new("CMYK", (8, 8)).save(bad, "JPEG")
            return "is a CMYK image"
        if kind == "float":
            done, data = cv2.imencode(".tiff", np.ones((8, 8), np.float32))
            assert done
            bad.write_bytes(data.tobytes())
            return "stores float32"
        if kind == "bomb":
            bomb(bad)
            return "has 60000x60000 pixels, more than --max-pixels allows, 100"
        if kind == "pipe":
            os.mkfifo(bad)
            (folder / "all.txt").write_text("1.png\n2.png\n3.png\n")
            return "cannot be read: not a regular file"
        if kind == "deleted":
            assert cv2.imwrite(str(bad), colour(7))
            return "cannot be read: No such file"
        bad.write_text("not an image")
        return "is damaged or not a supported image"

    @pytest.mark.parametrize("kind", ["text", "cmyk", "float", "bomb", "pipe", "deleted"])
    @pytest.mark.parametrize("on_error", ["skip", "stop"])
    def test_a_bad_image_is_skipped_and_named_or_ends_the_run(self, kind: str, on_error: str, tmp_path: Path) -> None:
        why = self.made(tmp_path, kind)
        where = tmp_path / "all.txt" if kind == "pipe" else tmp_path
        reading = ReadOptions(on_error=on_error, max_pixels=100)
        source = open_source(where, SourceOptions(reading=reading))
        if kind == "deleted":
            (tmp_path / "2.png").unlink()
        got = []
        if on_error == "stop":
            with pytest.raises(SourceError, match=rf"2\.png {why}"):
                got += list(source)
            return
        got = [frame.name for frame in source]
        assert got == ["1.png", "3.png"]
        assert (source.damaged, source.damaged_names) == (1, ["2.png"])
        (fault,) = source.facts()["reading"]["faults"]
        assert fault["name"] == "2.png"
        assert fault["fault"].startswith(why)

    def test_an_image_of_another_size_is_counted_or_ends_the_run(self, tmp_path: Path) -> None:
        for name, size in (("1.png", (8, 8)), ("2.png", (6, 8)), ("3.png", (8, 8))):
            save(tmp_path / name, size=size)
        source = open_source(tmp_path)
        assert [frame.image.shape[:2] for frame in source] == [(8, 8), (6, 8), (8, 8)]
        facts = source.facts()["reading"]
        assert (facts["of_other_sizes"], facts["of_other_sizes_named"], facts["faults"]) == (1, ["2.png"], [])
        with pytest.raises(SourceError, match=r"2\.png is 6x8, the first image 8x8"):
            read(tmp_path, on_error="stop")

    def test_a_storage_that_does_not_answer_is_an_error_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gate = threading.Event()
        monkeypatch.setattr("rtseg.sources.images.find_files", lambda where, notes: gate.wait(20))
        with pytest.raises(SourceError, match=r"does not answer within 0\.1 s: check the mount"):
            ImagesSource("/mnt/gone", SourceOptions(reading=ReadOptions(timeout_s=0.1)))
        gate.set()


class TestCache:
    def test_the_second_pass_reads_from_the_cache(self, tmp_path: Path) -> None:
        folder = tmp_path / "slow"
        folder.mkdir()
        for number in range(6):
            save(folder / f"{number}.png", level=10 * number)
        reading = ReadOptions(ssd_cache=tmp_path / "c", storage="hdd")
        for hits in (0, 6):
            source = open_source(folder, SourceOptions(reading=reading))
            assert [int(frame.image[0, 0, 0]) for frame in source] == [0, 10, 20, 30, 40, 50]
            cache = source.facts()["reading"]["cache"]
            assert (cache["hits"], cache["misses"], cache["fault"]) == (hits, 6 - hits, None)

    def test_a_changed_file_or_a_damaged_entry_is_read_from_the_origin(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", level=10)
        reading = ReadOptions(ssd_cache=tmp_path / "c")

        def level() -> int:
            return int(next(iter(open_source(path, SourceOptions(reading=reading)))).image[0, 0, 0])

        assert level() == 10
        save(path, level=200)
        os.utime(path, (1, 1))
        assert level() == 200
        for entry in (tmp_path / "c").glob("??/*.entry"):
            entry.write_bytes(entry.read_bytes()[:-3] + b"xyz")
        assert level() == 200

    def test_an_unwritable_cache_is_reported_or_ends_the_run(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png"), save(tmp_path / "b.png")
        cache = tmp_path / "c"
        cache.mkdir()
        for number in range(256):  # prevents the cache from creating folders
            (cache / f"{number:02x}").write_text("")
        source = open_source(tmp_path, SourceOptions(reading=ReadOptions(ssd_cache=cache)))
        assert len(list(source)) == 2
        assert "no more files are stored" in source.facts()["reading"]["cache"]["fault"]
        with pytest.raises(SourceError, match="--ssd-cache: no more files are stored"):
            read(tmp_path, ssd_cache=cache, on_error="stop")


class TestReduce:
    @pytest.mark.parametrize(("decoder"), ["cv2", "pil", "turbojpeg"])
    @pytest.mark.parametrize(
        ("model", "size"), [((60, 80), (60, 80)), ((70, 80), (120, 160)), ((30, 40), (30, 40)), ((999, 9), (240, 320))]
    )
    def test_a_jpeg_is_decoded_no_smaller_than_the_input_of_the_model(
        self, decoder: str, model: tuple[int, int], size: tuple[int, int], tmp_path: Path
    ) -> None:
        pytest.importorskip({"cv2": "cv2", "pil": "PIL", "turbojpeg": "simplejpeg"}[decoder])
        ramp = np.linspace(0, 255, 320).astype(np.uint8)[None].repeat(240, axis=0)
        assert cv2.imwrite(str(tmp_path / "a.jpg"), cv2.merge([ramp, ramp, ramp]))
        assert cv2.imwrite(str(tmp_path / "b.png"), ramp)
        source = open_source(tmp_path, SourceOptions(reading=ReadOptions(decoder=decoder, reduce=True)))
        source.set_output_format(3, model)
        first, second = list(source)
        assert first.image.shape == (*size, 3)
        assert np.abs(first.image[:, :, 1].astype(int) - cv2.resize(ramp, size[::-1], interpolation=3)).max() <= 4
        assert second.image.shape == (240, 320, 1)

    def test_without_reduce_images_keep_their_size(self, tmp_path: Path) -> None:
        save(tmp_path / "a.jpg", size=(240, 320))
        source = open_source(tmp_path)
        source.set_output_format(3, (30, 40))
        assert next(iter(source)).image.shape[:2] == (240, 320)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "gimp"}, "--decoder must be one of cv2, pil, turbojpeg, torchvision, got 'gimp'"),
        ({"storage": "floppy"}, "--storage must be one of auto, ssd, hdd"),
        ({"on_error": "cry"}, "--on-error must be one of skip, stop"),
        ({"prefetch_mb": 0}, "--prefetch-mb must be in 1"),
        ({"cache_gb": 0}, "--cache-gb must be in 0.001"),
        ({"max_pixels": 0}, "--max-pixels must be in 1"),
        ({"timeout_s": 0}, "--storage-timeout must be in 0.05"),
        ({"reduce": True, "decoder": "torchvision"}, "--reduce needs another --decoder"),
    ],
)
def test_an_invalid_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ReadOptions(**options)  # type: ignore[arg-type]


def test_other_decoders_cannot_read_an_extra_channel(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    save(tmp_path / "a.png")
    source = open_source(tmp_path, SourceOptions(reading=ReadOptions(decoder="pil")))
    with pytest.raises(OptionError, match="--decoder pil supports only 3 channels, but the model needs 4: use cv2"):
        source.set_output_format(4)


class TestPages:
    def stack(self, path: Path, **options: object) -> Path:
        first, *others = (PIL.Image.new("RGB", (8, 8), (level,) * 3) for level in (10, 20, 30))
        first.save(path, save_all=True, append_images=others, **options)
        return path

    @pytest.mark.parametrize("decoder", ["cv2", "pil"])
    def test_every_page_of_a_single_tiff_is_read(self, decoder: str, tmp_path: Path) -> None:
        options = SourceOptions(reading=ReadOptions(decoder=decoder))
        source = open_source(self.stack(tmp_path / "a.tif"), options)
        frames = list(source)
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 30]
        assert [frame.name for frame in frames] == ["a-0001.tif", "a-0002.tif", "a-0003.tif"]
        assert [frame.pts_s for frame in frames] == pytest.approx([0, 0.04, 0.08])
        assert (source.frame_count, source.notice) == (3, "")

    @pytest.mark.parametrize("suffix", [".png", ".webp"])
    def test_the_frames_of_an_animation_have_its_times(self, suffix: str, tmp_path: Path) -> None:
        path = self.stack(tmp_path / f"a{suffix}", duration=[100, 300, 50])
        assert [frame.pts_s for frame in open_source(path)] == pytest.approx([0, 0.1, 0.4])
        at_10_fps = open_source(path, SourceOptions(fps=10, start_s=0.1))
        assert [frame.pts_s for frame in at_10_fps] == pytest.approx([0.1, 0.2])

    def test_in_a_folder_only_the_first_page_is_read_and_the_file_is_named(self, tmp_path: Path) -> None:
        self.stack(tmp_path / "a.tif")
        save(tmp_path / "b.png")
        source = open_source(tmp_path)
        assert [frame.name for frame in source] == ["a.tif", "b.png"]
        assert source.notice == "a.tif: 3 images in one file, only the first is used"
        assert source.facts()["reading"]["notes"] == [source.notice]


def test_bits_scale_images_of_16_bits(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "a.png")
    source = open_source(tmp_path)
    assert [int(next(iter(source)).image.max())] == [15]
    (frame,) = open_source(tmp_path, SourceOptions(reading=ReadOptions(bits=12)))
    assert int(frame.image.max()) == 255
    with pytest.raises(OptionError, match=r"--bits must be in 8 \.\. 16, got 17"):
        ReadOptions(bits=17)
