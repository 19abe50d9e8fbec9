from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage

from rtseg.app.label import BoxWindow, DrawBoxes, label_folder, write_masks
from rtseg.datasets import open_dataset
from rtseg.datasets.boxes import BOXES_FILE, Box, ImageBoxes, read_boxes, write_boxes
from rtseg.errors import DatasetError, OptionError, SinkError
from rtseg.frame import Image
from rtseg.system.opencv import cv2

HEAD = "image,x,y,width,height,image_width,image_height\n"


class FakeWindow:
    """A fake window that returns the given boxes for each image, then stops."""

    def __init__(self, *drawings: list[Box] | None) -> None:
        self.drawings = list(drawings)
        self.titles: list[str] = []
        self.opened = 0

    def __call__(self, image: Image, title: str) -> list[Box] | None:
        self.titles.append(title)
        return self.drawings.pop(0) if self.drawings else None

    @contextmanager
    def open(self) -> Iterator[DrawBoxes]:
        self.opened += 1
        yield self


@pytest.fixture
def folder(tmp_path: Path, save: SaveImage) -> Path:
    """Three images of 3x4 pixels."""
    for name in ("a10.png", "a2.png", "b.jpg"):
        save(f"images/{name}")
    return tmp_path / "images"


class TestLabelling:
    def test_boxes_are_kept_in_natural_order_of_the_images(self, folder: Path) -> None:
        window = FakeWindow([Box(0, 0, 2, 1), Box(3, 2, 1, 1)], [], [Box(1, 1, 1, 1)])
        done = label_folder(folder, window.open)
        assert (done.images, done.labelled, done.boxes, done.damaged) == (3, 3, 3, ())
        assert window.titles == ["a2.png, 1 of 3", "a10.png, 2 of 3", "b.jpg, 3 of 3"]
        assert (folder / BOXES_FILE).read_text() == (
            f"{HEAD}a2.png,0,0,2,1,4,3\na2.png,3,2,1,1,4,3\na10.png,,,,,4,3\nb.jpg,1,1,1,1,4,3\n"
        )

    def test_it_continues_where_it_was_stopped(self, folder: Path) -> None:
        done = label_folder(folder, FakeWindow([Box(0, 0, 1, 1)], None).open)
        assert (done.labelled, done.boxes) == (1, 1)
        window = FakeWindow([Box(0, 0, 1, 1)], [])
        assert label_folder(folder, window.open).labelled == 3
        assert window.titles == ["a10.png, 2 of 3", "b.jpg, 3 of 3"]

    def test_every_image_is_on_the_disk_before_the_next_is_shown(self, folder: Path) -> None:
        seen: list[int] = []

        class Watching(FakeWindow):
            def __call__(self, image: Image, title: str) -> list[Box] | None:
                seen.append(len(read_boxes(folder / BOXES_FILE)))
                return super().__call__(image, title)

        label_folder(folder, Watching([], [], []).open)
        assert seen == [0, 1, 2]

    def test_no_window_is_opened_when_nothing_is_left(self, folder: Path) -> None:
        label_folder(folder, FakeWindow([], [], []).open)
        window = FakeWindow()
        assert label_folder(folder, window.open).labelled == 3
        assert window.opened == 0

    def test_a_damaged_image_is_passed_over_and_named(self, folder: Path) -> None:
        (folder / "a10.png").write_bytes(b"no image")
        done = label_folder(folder, FakeWindow([], []).open)
        assert (done.labelled, done.damaged) == (2, ("a10.png",))

    def test_an_image_that_went_away_keeps_its_boxes(self, folder: Path) -> None:
        label_folder(folder, FakeWindow([], [Box(0, 0, 1, 1)], []).open)
        (folder / "a10.png").unlink()
        done = label_folder(folder, FakeWindow().open)
        assert (done.images, done.labelled) == (2, 2)
        assert "a10.png" in read_boxes(folder / BOXES_FILE)

    def test_a_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="contains no images: nothing to label"):
            label_folder(tmp_path, FakeWindow().open)

    def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_drawn(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rtseg.system.atomic_files.part_path", lambda path, unique: path / "missing")
        window = FakeWindow([])
        with pytest.raises(SinkError, match=f"cannot write .*{BOXES_FILE}"):
            label_folder(folder, window.open)
        assert window.opened == 0

    def test_without_a_display_the_way_out_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.app.label.needs_display_server", lambda: True)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(
            SinkError, match=r"there is no display: .*--from boxes.csv --output MASKS` needs no display"
        ):
            BoxWindow()


class TestWindow:
    """What ``cv2.selectROIs`` gives, on a window that is not there."""

    @pytest.fixture
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        keys: list[int] = []
        monkeypatch.setattr("rtseg.app.label.needs_display_server", lambda: False)
        for name in ("namedWindow", "destroyWindow", "setWindowTitle", "imshow"):
            monkeypatch.setattr(cv2, name, lambda *_: None)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
        monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0) if keys else -1)
        return keys

    def draw(
        self, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], rois: list[list[int]]
    ) -> tuple[list[Box] | None, tuple[int, int]]:
        """The boxes, and the (H, W) that was shown."""
        shown: list[tuple[int, int]] = []

        def select(_: str, image: Image, **options: bool) -> np.ndarray:
            shown.append((image.shape[0], image.shape[1]))
            return np.array(rois, np.int32).reshape(-1, 4)

        monkeypatch.setattr(cv2, "selectROIs", select)
        with BoxWindow() as window:
            return window(np.zeros((*size, 3), np.uint8), "a.png"), shown[-1]

    def test_a_small_image_is_shown_as_it_is(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        keys += [-1, 13]
        boxes, shown = self.draw(monkeypatch, (60, 80), [[1, 2, 30, 40], [79, 59, 1, 1], [5, 5, 0, 0]])
        assert boxes == [Box(1, 2, 30, 40), Box(79, 59, 1, 1)]
        assert shown == (60, 80)

    def test_a_large_image_is_scaled_and_its_boxes_back(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        keys += [32]
        boxes, shown = self.draw(monkeypatch, (1440, 2560), [[10, 20, 100, 50], [0, 0, 1280, 720], [1279, 719, 1, 1]])
        assert boxes == [Box(20, 40, 200, 100), Box(0, 0, 2560, 1440), Box(2558, 1438, 2, 2)]
        assert shown == (720, 1280)

    def test_r_starts_over_and_q_stops(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        keys += [ord("r"), ord("q")]
        assert self.draw(monkeypatch, (60, 80), [[1, 2, 3, 4]])[0] is None
        assert not keys

    def test_a_closed_window_stops(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: -1.0)
        assert self.draw(monkeypatch, (60, 80), [])[0] is None


class TestFile:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        drawn = {
            'a, "b".jpg': ImageBoxes((Box(1, 2, 3, 4), Box(0, 0, 1, 1)), (9, 8)),
            "ü.png": ImageBoxes((), (5, 6)),
            "c": ImageBoxes((Box(0, 0, 1, 1),), None),
        }
        write_boxes(tmp_path / BOXES_FILE, drawn)
        assert read_boxes(tmp_path / BOXES_FILE) == drawn

    def test_the_size_of_the_image_may_be_left_out(self, tmp_path: Path) -> None:
        (tmp_path / BOXES_FILE).write_text(
            "\ufeffimage,x,y,width,height\na.png,1,2,3,4\na.png,5,6,7,8\n", encoding="utf-8"
        )
        assert read_boxes(tmp_path / BOXES_FILE) == {"a.png": ImageBoxes((Box(1, 2, 3, 4), Box(5, 6, 7, 8)), None)}

    def test_a_name_that_is_not_utf8_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SinkError, match="the name of an image is not UTF-8, rename it"):
            write_boxes(tmp_path / BOXES_FILE, {os.fsdecode(b"\xff.png"): ImageBoxes((), None)})

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "must begin with the line image,x,y,width,height"),
            ("name,x,y,w,h\n", "must begin with the line image,x,y,width,height"),
            (f"{HEAD}a.png,1,2,3\n", "line 2: '' is not a whole number of pixels"),
            (f"{HEAD}a.png,1,2,3,4,5,6\n,1,2,3,4,5,6\n", "line 3: the image name is missing"),
            (f"{HEAD}a.png,1,2,x,4,5,6\n", "line 2: 'x' is not a whole number of pixels"),
            (f"{HEAD}a.png,1.5,2,3,4,5,6\n", "line 2: '1.5' is not a whole number of pixels"),
            (f"{HEAD}a.png,1,2,0,4,5,6\n", "line 2: a box must have .* got 0x4 at 1,2"),
            (f"{HEAD}a.png,-1,2,3,4,5,6\n", "line 2: a box must have .* got 3x4 at -1,2"),
            (f"{HEAD}a.png,1,2,3,4,5,6\na.png,1,2,3,4,5,7\n", "line 3: a.png has two sizes"),
            (f'{HEAD}"a.png,1,2,3,4,5,6\n', "line 2: unexpected end of data"),
        ],
    )
    def test_a_wrong_file_is_refused_with_its_line(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / BOXES_FILE
        path.write_text(text)
        with pytest.raises(DatasetError, match=message) as caught:
            read_boxes(path)
        assert str(caught.value).startswith(str(path))

    def test_a_file_that_is_missing_or_no_text_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / BOXES_FILE
        with pytest.raises(DatasetError, match=r"cannot read .*boxes.csv \(No such file"):
            read_boxes(path)
        path.write_bytes(b"\xff\xfe\xff")
        with pytest.raises(DatasetError, match=r"cannot read .*boxes.csv \(it is not UTF-8\)"):
            read_boxes(path)


class TestData:
    def test_boxes_become_masks_of_background_and_object(self, folder: Path) -> None:
        label_folder(folder, FakeWindow([Box(0, 0, 2, 1), Box(1, 0, 3, 2)], []).open)
        dataset = open_dataset(f"boxes:{folder},val=a10.png", "train")
        assert dataset.classes == ("background", "object")
        image, labels = dataset.load(0)
        assert (image.shape, labels.dtype) == ((3, 4, 3), np.uint8)
        assert labels.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
        assert not open_dataset(f"boxes:{folder},val=a10.png", "val").load(0)[1].any()
        assert dataset.name == "boxes of images train (1 images, 2 of 3 labelled)"

    def test_the_object_can_have_a_name(self, folder: Path) -> None:
        write_boxes(folder / BOXES_FILE, {"b.jpg": ImageBoxes((), None)})
        assert open_dataset(f"boxes:{folder},object=car,val=0", "train").classes == ("background", "car")
        with pytest.raises(OptionError, match="object must not be 'background'"):
            open_dataset(f"boxes:{folder},object=background,val=0", "train")

    def test_a_fifth_is_for_validation(self, folder: Path) -> None:
        label_folder(folder, FakeWindow([], [], []).open)
        assert [len(open_dataset(f"boxes:{folder}", split)) for split in ("train", "val")] == [2, 1]

    def test_a_listed_image_that_is_not_there_is_named(self, folder: Path) -> None:
        write_boxes(folder / BOXES_FILE, {"c.png": ImageBoxes((), None), "b.jpg": ImageBoxes((), None)})
        with pytest.raises(DatasetError, match=r"boxes.csv names c.png, which does not exist"):
            open_dataset(f"boxes:{folder},val=0", "train")

    def test_a_file_without_images_points_to_label(self, folder: Path) -> None:
        write_boxes(folder / BOXES_FILE, {})
        with pytest.raises(DatasetError, match="names no image: draw boxes with `rtseg label"):
            open_dataset(f"boxes:{folder}", "train")
        (folder / BOXES_FILE).unlink()
        with pytest.raises(DatasetError, match="`rtseg label` writes it"):
            open_dataset(f"boxes:{folder}", "train")

    @pytest.mark.parametrize(
        ("drawn", "message"),
        [
            (ImageBoxes((Box(2, 0, 3, 1),), None), r"b.jpg is 3x4, but its box 3x1 at 2,0 extends beyond the image"),
            (ImageBoxes((), (6, 8)), r"b.jpg is 3x4, but was 6x8 when it was labelled"),
        ],
    )
    def test_boxes_that_do_not_fit_the_image_are_refused(self, folder: Path, drawn: ImageBoxes, message: str) -> None:
        write_boxes(folder / BOXES_FILE, {"b.jpg": drawn})
        with pytest.raises(DatasetError, match=message):
            open_dataset(f"boxes:{folder},val=0", "train").load(0)


class TestMasks:
    def test_they_are_palette_pngs_that_pairs_reads(self, folder: Path, tmp_path: Path) -> None:
        label_folder(folder, FakeWindow([Box(0, 0, 2, 1)], [Box(3, 2, 1, 1)], []).open)
        masks = tmp_path / "masks"
        assert write_masks(folder, folder / BOXES_FILE, masks) == 3
        assert sorted(path.name for path in masks.iterdir()) == ["a10.png", "a2.png", "b.png"]
        pairs = open_dataset(f"pairs:{folder},{masks},classes=background+object,val=0", "train")
        boxes = open_dataset(f"boxes:{folder},val=0", "train")
        for index in range(3):
            np.testing.assert_array_equal(pairs.load(index)[1], boxes.load(index)[1])

    def test_the_boxes_may_lie_elsewhere_and_come_from_another_tool(self, folder: Path, tmp_path: Path) -> None:
        listing = tmp_path / "other.csv"
        listing.write_text("x,y,width,height,image,score\n0,0,4,3,b.jpg,0.9\n")
        assert write_masks(folder, listing, tmp_path / "masks") == 1

    def test_an_image_in_the_place_of_a_mask_is_never_overwritten(self, folder: Path) -> None:
        write_boxes(folder / BOXES_FILE, {"a2.png": ImageBoxes((), None)})
        before = (folder / "a2.png").read_bytes()
        with pytest.raises(SinkError, match="is not a mask of rtseg: choose another folder"):
            write_masks(folder, folder / BOXES_FILE, folder)
        assert (folder / "a2.png").read_bytes() == before

    def test_an_empty_list_is_refused(self, folder: Path, tmp_path: Path) -> None:
        write_boxes(folder / BOXES_FILE, {})
        with pytest.raises(DatasetError, match="lists no images: draw boxes first"):
            write_masks(folder, folder / BOXES_FILE, tmp_path / "masks")
