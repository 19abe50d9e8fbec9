from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.app.background import MEDIAN_FRAMES, Background, make_background, mean_image, median_image
from rtseg.app.options import BackgroundOptions
from rtseg.errors import OptionError, RtsegError, SinkError, SourceError, SourceNotFound
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import NEUTRAL, Prepare

Bytes = NDArray[np.uint8]

SHAPE = (70, 50, 3)
"""More rows than one band of the median."""

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(count: int, shape: tuple[int, ...] = SHAPE) -> Bytes:
    return np.random.default_rng(6).integers(0, 256, (count, *shape), dtype=np.uint8)


def save(images: Bytes, folder: str = "frames") -> str:
    Path(folder).mkdir(exist_ok=True)
    for number, image in enumerate(images):
        cv2.imwrite(f"{folder}/{number:03}.png", image)
    return folder


def make(frames: str, output: str = "still.png", **options: Any) -> Background:
    return make_background(BackgroundOptions(frames, Path(output), **options))


def stored(path: str = "still.png") -> Bytes:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, dtype=np.uint8)


class TestMeanImage:
    @pytest.mark.parametrize("count", [1, 2, 7, 64])
    def test_is_the_rounded_mean(self, count: int) -> None:
        images = noise(count)
        np.testing.assert_array_equal(mean_image(iter(images)), np.rint(images.mean(0, dtype=np.float64)))

    def test_is_exact_for_very_many_images(self) -> None:
        pair = np.array([[[[249]]], [[[250]]]], np.uint8)
        many = (pair[int(number % 5 == 0)] for number in range(60_000))  # 4 of 5 are 249
        assert mean_image(many) == 249

    def test_keeps_one_image_in_memory(self) -> None:
        alive: list[int] = []
        references: list[weakref.ref[Bytes]] = []

        def images() -> Iterator[Bytes]:
            for number in range(5):
                image = np.full(SHAPE, number, np.uint8)
                references.append(weakref.ref(image))
                alive.append(sum(reference() is not None for reference in references))
                yield image

        assert (mean_image(images()) == 2).all()
        assert max(alive) <= 2  # the previous image is released after the next one has arrived


class TestMedianImage:
    @pytest.mark.parametrize("count", [1, 3, 8, 9])
    def test_is_the_rounded_median_of_each_value(self, count: int) -> None:
        images = noise(count)
        np.testing.assert_array_equal(median_image(iter(images)), np.rint(np.median(images, axis=0)))


class TestMakeBackground:
    def test_grey_frames_give_a_grey_image(self) -> None:
        images = noise(5, (30, 40))
        made = make(save(images))
        assert (made.frames, made.damaged, made.image.shape) == (5, 0, (30, 40, 1))
        np.testing.assert_array_equal(stored(), np.rint(images.mean(0)))

    def test_colour_frames_give_a_colour_image(self) -> None:
        images = noise(4)
        make(save(images))
        np.testing.assert_array_equal(stored(), np.rint(images.mean(0)))

    def test_the_median_removes_objects_that_appear_in_few_frames(self) -> None:
        images = np.full((9, 20, 30), 80, np.uint8)
        for number in range(9):
            images[number, 5:10, 3 * number : 3 * number + 4] = 250
        frames = save(images)
        make(frames, "mean.png")
        make(frames, "median.png", median=True)
        assert (stored("median.png") == 80).all()
        assert (stored("mean.png") > 80).any()

    def test_subtracting_the_background_leaves_only_moving_objects(self) -> None:
        still = cv2.GaussianBlur(noise(1, (40, 60))[0], (0, 0), 5)
        images = np.stack([still] * 9)
        for number in range(9):
            images[number, 10:20, 6 * number : 6 * number + 5] = 255
        make(save(images), median=True)
        spec = ModelSpec("a", ("x",), ((1, 2, 3),), (40, 60), preprocess=("background:still.png",))
        prepared = Prepare(spec)(images[0][..., None])
        assert (prepared[10:20, :5] > NEUTRAL).all()
        assert (np.delete(prepared, slice(10, 20), axis=0) == NEUTRAL).all()

    def test_a_limited_number_of_frames_is_spread_evenly(self) -> None:
        images = np.stack([np.full((8, 8), 20 * number, np.uint8) for number in range(12)])
        frames = save(images)
        assert make(frames, "a.png", count=4).frames == 4
        assert (stored("a.png") == np.mean([0, 60, 120, 180])).all()
        assert make(frames, "b.png", count=5).frames == 5
        assert make(frames, "c.png", count=40).frames == 12

    def test_a_median_has_a_default_number_of_frames(self) -> None:
        frames = save(noise(MEDIAN_FRAMES + 9, (4, 4)))
        assert make(frames, "a.png", median=True).frames == MEDIAN_FRAMES
        assert make(frames, "b.png", median=True, count=MEDIAN_FRAMES + 9).frames == MEDIAN_FRAMES + 9

    def test_any_source_can_be_used(self) -> None:
        progress: list[tuple[int, int | None]] = []
        options = BackgroundOptions("demo:1@96x64", Path("demo.png"), count=5)
        assert make_background(options, lambda done, total: progress.append((done, total))).image.shape == (64, 96, 3)
        assert progress == [(done, 5) for done in range(1, 6)]

    def test_an_endless_source_gives_the_first_frames(self) -> None:
        assert make("demo:@96x64", count=3).frames == 3

    def test_the_frames_are_resized_to_the_given_size(self) -> None:
        make(save(noise(2, (40, 60))), size=(20, 30))
        assert stored().shape == (20, 30)

    def test_unreadable_frames_are_skipped_and_counted(self) -> None:
        images = noise(3, (20, 30))
        frames = save(images)
        Path(frames, "001.png").write_bytes(b"no image")
        made = make(frames)
        assert (made.frames, made.damaged) == (2, 1)
        np.testing.assert_array_equal(stored(), np.rint(images[[0, 2]].mean(0)))

    def test_an_existing_file_is_replaced_with_overwrite(self) -> None:
        frames = save(noise(2))
        Path("still.png").write_bytes(b"old")
        make(frames, overwrite=True)
        assert stored().shape == SHAPE


class TestRefusedInput:
    def assert_refused(self, error: type[RtsegError], match: str, frames: str = "frames", **options: Any) -> None:
        before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        with pytest.raises(error, match=match):
            make(frames, **options)
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before

    def test_frames_of_different_sizes(self) -> None:
        save(noise(3, (20, 30)))
        cv2.imwrite("frames/002.png", noise(1, (20, 31))[0])
        self.assert_refused(SourceError, r"frames: 002\.png is 20x31 grey, the first is 20x30 grey")

    def test_grey_and_colour_frames(self) -> None:
        save(noise(2, (20, 30)))
        cv2.imwrite("frames/002.png", noise(1, (20, 30, 3))[0])
        self.assert_refused(SourceError, r"002\.png is 20x30 in colour, the first is 20x30 grey")

    def test_an_empty_folder(self) -> None:
        Path("frames").mkdir()
        self.assert_refused(SourceNotFound, "frames")

    def test_a_source_without_an_end(self) -> None:
        self.assert_refused(OptionError, "set the number of frames with --frames", "demo:@96x64")

    def test_an_existing_output(self) -> None:
        save(noise(2))
        Path("still.png").touch()
        self.assert_refused(OptionError, r"still\.png already exists: .* --overwrite")

    @pytest.mark.parametrize("frames", ["frames", "frames/*.png", "frames/%03d.png"])
    def test_an_output_that_is_one_of_the_frames(self, frames: str) -> None:
        save(noise(2))
        Path("link.png").symlink_to("frames/001.png")
        for output in ("frames/000.png", "link.png"):
            self.assert_refused(OptionError, "is one of the frames", frames, output=output, overwrite=True)

    def test_an_output_without_a_folder_before_any_frame_is_read(self) -> None:
        save(noise(2))
        self.assert_refused(SinkError, "there is no folder nowhere", output="nowhere/still.png")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"output": "still.jpg"}, "--output must end in .png"),
            ({"count": 0}, "--frames must be at least 1, got 0"),
            ({"size": (0, 5)}, "--size must be 1 to"),
        ],
    )
    def test_an_invalid_option(self, options: dict[str, Any], message: str) -> None:
        self.assert_refused(OptionError, message, **options)


def test_grey_and_colour_can_be_mixed_between_background_and_image() -> None:
    grey = noise(1, (20, 30))[0]
    colour = cv2.merge((grey, grey, grey))
    cv2.imwrite("grey.png", grey)
    cv2.imwrite("colour.png", colour)
    spec = ModelSpec("a", ("x",), ((1, 2, 3),), (20, 30))
    moved = np.roll(grey, 3, axis=1)
    expected = np.clip(moved.astype(int) - grey + NEUTRAL, 0, 255)[..., None].repeat(3, 2)
    for file in ("grey.png", "colour.png"):
        prepare = Prepare(replace(spec, preprocess=(f"background:{file}",)))
        for image in (moved[..., None], cv2.merge((moved, moved, moved))):
            np.testing.assert_array_equal(prepare(image), expected)
