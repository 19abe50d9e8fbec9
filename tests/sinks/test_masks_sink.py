from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.sinks.masks import MasksSink
from rtseg.system.atomic_files import OutputExists


def test_pixels_are_class_ids_and_the_palette_has_the_class_colours(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    labels[0, :9] = VOID
    MasksSink(tmp_path, spec).write(frame, labels, None)
    with pillow.open(tmp_path / "000007.png") as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask) == labels).all()
        palette = np.array(mask.getpalette()).reshape(-1, 3)
        assert palette[:3].tolist() == [list(colour) for colour in spec.palette]
        assert palette[VOID].min() > 180
    with pillow.open(tmp_path / "000007.png") as mask:
        mask.verify()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (541, 961)])
def test_opencv_reads_masks_of_any_size_as_colours(tmp_path: Path, spec: ModelSpec, size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, size, dtype=np.uint8)
    frame = Frame(np.zeros((*size, 3), np.uint8), 0, 0.0, 0.0)
    MasksSink(tmp_path, spec).write(frame, labels, None)
    stored = cv2.imread(str(tmp_path / "000000.png"), cv2.IMREAD_COLOR)
    assert (stored[..., ::-1] == np.array(spec.palette)[labels]).all()


def test_images_of_one_stem_do_not_overwrite_each_other(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = MasksSink(tmp_path / "new" / "masks", spec)
    for index, name in enumerate(["a.jpg", "b.jpg", "a.png", "a.jpg", "deep/a.jpg", "../a.jpg"]):
        sink.write(replace(frame, index=index, name=name), labels, None)
    sink.close()
    names = sorted(entry.name for entry in sink.folder.iterdir())
    assert names == sorted(["a.png", "b.png", "a.png.png", "a.jpg.png", "a.jpg.000004.png", "a.jpg.000005.png"])
    assert sink.written == 6


def test_a_second_run_replaces_the_masks_of_the_first_only_if_it_may(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "000000.png"), frame.image)
    MasksSink(tmp_path, spec).write(frame, np.full_like(labels, 0), None)
    with pytest.raises(OutputExists, match="holds masks of an earlier run: give another folder, or add --overwrite"):
        MasksSink(tmp_path, spec)
    assert (cv2.imread(str(tmp_path / "000007.png"))[0, 0, ::-1] == spec.palette[0]).all()
    MasksSink(tmp_path, spec, overwrite=True).write(frame, np.full_like(labels, 1), None)
    assert (cv2.imread(str(tmp_path / "000007.png"))[0, 0, ::-1] == spec.palette[1]).all()


def test_a_folder_that_is_renamed_during_the_run_ends_the_masks(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "masks").symlink_to("real")  # a link to a folder is followed
    sink = MasksSink(tmp_path / "masks", spec)
    sink.write(frame, labels, None)
    (tmp_path / "real").rename(tmp_path / "moved")
    with pytest.raises(SinkError, match="has renamed or deleted the folder; 1 masks are there"):
        sink.write(replace(frame, index=8), labels, None)
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "moved"]
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["000007.png"]


def test_an_image_that_is_not_a_mask_is_never_overwritten(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), frame.image)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(SinkError, match="is not a mask of rtseg: choose another folder"):
        MasksSink(tmp_path, spec).write(replace(frame, name="a.png"), labels, None)
    assert (tmp_path / "a.png").read_bytes() == before


def test_the_first_frame_creates_the_folder(tmp_path: Path, spec: ModelSpec) -> None:
    MasksSink(tmp_path / "masks", spec).close()
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_a_folder_is_refused_immediately(tmp_path: Path, spec: ModelSpec) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "masks"):
        with pytest.raises(SinkError, match="is a file: choose another folder"):
            MasksSink(folder, spec)
    with pytest.raises(SinkError, match="cannot be written"):
        MasksSink(Path("/proc/masks"), spec)


def test_a_failed_write_is_one_sentence_and_leaves_no_partial_mask(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = MasksSink(tmp_path, spec)
    sink.write(frame, labels, None)
    (tmp_path / "000008.png").mkdir()
    with pytest.raises(SinkError, match=r"masks .* ended, .*; 1 masks are there") as caught:
        sink.write(replace(frame, index=8), labels, None)
    assert isinstance(caught.value.__cause__, OSError)
    assert not list(tmp_path.glob("*.part*"))
