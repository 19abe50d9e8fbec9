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


def test_a_second_run_replaces_the_masks_of_the_first(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    for value in (0, 1):
        MasksSink(tmp_path, spec).write(frame, np.full_like(labels, value), None)
    assert (cv2.imread(str(tmp_path / "000007.png"))[0, 0, ::-1] == spec.palette[1]).all()


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
