from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, open_dataset
from rtseg.errors import DatasetError, OptionError
from rtseg.model_file.spec import VOID

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
"""Every class, and void, which CamVid stores as 11."""


def folder(
    root: Path,
    listing: str | None = "train/a.png trainannot/a.png\n",
    *,
    image: NDArray[np.uint8] | None = None,
    labels: NDArray[np.generic] = LABELS,
) -> Path:
    """A CamVid of one image."""
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    for name, pixels in (("train", image), ("trainannot", labels)):
        (root / name).mkdir(parents=True)
        assert cv2.imwrite(str(root / name / "a.png"), pixels)
    if listing is not None:
        (root / "train.txt").write_text(listing)
    return root


def test_an_image_comes_in_bgr_with_its_labels_and_void_is_255(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    data = open_dataset(f"camvid:{folder(tmp_path, image=image)}", "train")
    assert data.title(0) == str(tmp_path / "train/a.png")
    got, labels = data.load(0)
    np.testing.assert_array_equal(got, image)
    assert (labels.dtype, labels.shape) == (np.uint8, (3, 4))
    np.testing.assert_array_equal(labels.ravel(), [*range(11), VOID])


def test_it_has_the_facts_for_a_model_card(tmp_path: Path) -> None:
    dataset = open_dataset(f"camvid:{folder(tmp_path)}", "train")
    assert len(dataset) == 1
    assert dataset.name == "CamVid train (1 images)"
    assert (dataset.classes, dataset.palette) == (CLASSES, PALETTE)
    assert "non-commercial" in dataset.licence


def test_the_lists_of_the_tutorial_with_the_folders_of_another_machine_are_understood(tmp_path: Path) -> None:
    listing = "/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n\n"
    assert open_dataset(f"camvid:{folder(tmp_path, listing)}", "train").load(0)[0].shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (None, "needs the folder with train.txt and val.txt"),
        ("", "must name an image and its mask on every line"),
        ("train/a.png\n", "must name an image and its mask on every line"),
        ("train/a.png trainannot/a.png more\n", "must name an image and its mask on every line"),
    ],
)
def test_a_list_that_is_missing_or_malformed_is_named(tmp_path: Path, listing: str | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(f"camvid:{folder(tmp_path, listing)}", "train")
    assert "train.txt" in str(caught.value)


def test_a_list_that_is_no_text_is_a_dataset_error(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00 \x80\x81\n")
    with pytest.raises(DatasetError, match="must name an image and its mask on every line"):
        open_dataset(f"camvid:{tmp_path}", "train")


HUGE = b"P5 60000 60000 255\n"
"""A header that asks for more pixels than OpenCV decodes."""


@pytest.mark.parametrize("name", ["train", "trainannot"])
@pytest.mark.parametrize("content", [None, b"", b"no image", HUGE])
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = folder(tmp_path) / name / "a.png"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{path}.*: download CamVid again, or remove the line"):
        open_dataset(f"camvid:{tmp_path}", "train").load(0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 5), np.uint8), r"is \(3, 5\), its image \(3, 4\): the sizes must be equal"),
        (np.zeros((3, 4, 3), np.uint8), r"is \(3, 4, 3\), its image \(3, 4\)"),
        (np.full((3, 4), 12, np.uint8), "holds IDs above 11: CamVid has 11 classes and void"),
        (np.full((3, 4), 256, np.uint16), "is uint16: CamVid's labels are 8-bit class IDs"),
    ],
    ids=["another size", "in colour", "of other classes", "of 16 bits"],
)
def test_labels_that_are_not_camvids_are_refused(tmp_path: Path, labels: NDArray[np.generic], message: str) -> None:
    dataset = open_dataset(f"camvid:{folder(tmp_path, labels=labels)}", "train")
    with pytest.raises(DatasetError, match=message):
        dataset.load(0)


class TestVideos:
    """Six images of three videos; each is of one grey that tells its number."""

    NAMES = ("Seq05VD_f00870", "Seq05VD_f00900", "Seq05VD_f00930", "0016E5_07959", "0016E5_07961", "0001TP_006690")

    @pytest.fixture
    def videos(self, tmp_path: Path) -> Dataset:
        for index, name in enumerate(self.NAMES):
            for kind, pixels in (("train", np.full((3, 4, 3), 10 * index, np.uint8)), ("trainannot", LABELS)):
                (tmp_path / kind).mkdir(exist_ok=True)
                assert cv2.imwrite(str(tmp_path / kind / f"{name}.png"), pixels)
        (tmp_path / "train.txt").write_text("".join(f"train/{n}.png trainannot/{n}.png\n" for n in self.NAMES))
        return open_dataset(f"camvid:{tmp_path}", "train")

    def test_the_start_of_an_image_name_is_its_video(self, videos: Dataset) -> None:
        assert [videos.sequence(index) for index in range(6)] == [*["Seq05VD"] * 3, *["0016E5"] * 2, "0001TP"]

    @pytest.mark.parametrize(
        ("index", "length", "expected"),
        [
            (2, 1, [2]),
            (2, 2, [1, 2]),
            (2, 3, [0, 1, 2]),
            (2, 5, [0, 0, 0, 1, 2]),
            (4, 4, [3, 3, 3, 4]),
            (3, 2, [3, 3]),
            (5, 3, [5, 5, 5]),
            (0, 2, [0, 0]),
        ],
    )
    def test_a_clip_is_what_led_to_an_image_and_never_of_another_video(
        self, videos: Dataset, index: int, length: int, expected: list[int]
    ) -> None:
        clip = videos.clip(index, 0, length)
        assert [int(image[0, 0, 0]) // 10 for image, _ in clip] == expected
        for image, labels in clip:
            assert (image.shape, labels.shape) == ((3, 4, 3), (3, 4))


@pytest.mark.parametrize("text", ["camvid", "camvid:", "nothing:at/all", "", ":"])
def test_a_text_that_names_no_data_is_refused_with_the_kinds_there_are(text: str) -> None:
    with pytest.raises(OptionError, match=r"--data must be KIND:PATH with KIND one of .*camvid.*synthetic"):
        open_dataset(text, "train")


def test_the_real_thing_has_367_images_to_train_on_and_101_to_validate(shared: Path) -> None:
    root = shared / "data" / "camvid"
    lengths = {split: len(open_dataset(f"camvid:{root}", split)) for split in ("train", "val")}
    assert lengths == {"train": 367, "val": 101}
    image, labels = open_dataset(f"camvid:{root}", "val").load(50)
    assert image.shape[:2] == labels.shape == (360, 480)
    road = labels == CLASSES.index("Road")
    sky = labels == CLASSES.index("Sky")
    assert np.argwhere(road)[:, 0].mean() > np.argwhere(sky)[:, 0].mean(), "the road lies below the sky"
