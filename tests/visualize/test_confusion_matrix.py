from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import OptionError, SinkError
from rtseg.system.opencv import cv2
from rtseg.visualize.confusion_matrix import check_confusion_path, confusion_csv, draw_confusion, write_confusion

COUNTS = [[90, 10, 0], [0, 0, 0], [5, 0, 15]]
CLASSES = ("Road", 'a "b", c', "Sky")


def matrix_of(image: np.ndarray, classes: int) -> np.ndarray:
    """Cut a drawn matrix into its squares: (C, C, side, side, 3)."""
    grid = (image == 225).all(2)
    top = int(np.argmax(grid.sum(1) >= 18 * classes))
    left, right = np.flatnonzero(grid[top])[[0, -1]]
    side = (right - left) // classes
    inner = image[top : top + side * classes, left:right]
    assert inner.shape == (side * classes, side * classes, 3)
    return inner.reshape(classes, side, classes, side, 3).swapaxes(1, 2)[:, :, 1:, 1:]


def shades_of(image: np.ndarray, classes: int) -> np.ndarray:
    """Sum of BGR near a corner of each square, where there is no text, (C, C)."""
    return matrix_of(image, classes)[:, :, 2, 2].astype(int).sum(2)


class TestTable:
    def test_rows_are_ground_truth_and_columns_are_prediction(self, tmp_path: Path) -> None:
        write_confusion(tmp_path / "a.csv", COUNTS, CLASSES, "title")
        with (tmp_path / "a.csv").open(newline="") as file:
            (corner, *heads), *rows = list(csv.reader(file))
        assert corner == "truth \\ prediction"
        assert tuple(heads) == CLASSES
        assert [row[0] for row in rows] == list(CLASSES)
        assert [[int(count) for count in row[1:]] for row in rows] == COUNTS

    def test_large_counts_are_written_in_full(self) -> None:
        assert confusion_csv(np.array([[2**40]]), ("a",)).splitlines()[1] == "a,1099511627776"


class TestImage:
    def test_a_larger_share_of_the_row_gives_a_darker_square(self) -> None:
        matrix = np.array([[9000, 1000], [0, 20]])
        drawn = shades_of(draw_confusion(matrix, ("a", "b"), ""), 2)
        assert drawn[1, 1] < drawn[0, 0] < drawn[0, 1] < drawn[1, 0] == 3 * 255

    def test_the_row_of_a_class_without_ground_truth_is_grey(self) -> None:
        drawn = matrix_of(draw_confusion(np.array(COUNTS), CLASSES, ""), 3)
        assert len(np.unique(drawn[1])) == 1
        assert not (drawn[0, 2] == drawn[1, 2]).all()

    @pytest.mark.parametrize("classes", [2, 21, 100])
    def test_every_class_has_a_square_for_any_number_of_classes(self, classes: int) -> None:
        names = tuple(f"class {index}" for index in range(classes))
        image = draw_confusion(np.eye(classes, dtype=np.int64), names, "")
        assert max(image.shape) < 2500
        dark = shades_of(image, classes) < 400
        np.testing.assert_array_equal(dark, np.eye(classes, dtype=bool))

    def test_squares_with_a_share_contain_its_percentage(self) -> None:
        image = draw_confusion(np.array([[75, 25], [0, 10]]), ("a", "b"), "")
        squares = matrix_of(image, 2)

        def colours(row: int, column: int) -> int:
            return len(np.unique(squares[row, column].reshape(-1, 3), axis=0))

        assert min(colours(0, 0), colours(0, 1), colours(1, 1)) > 5
        assert colours(1, 0) == 1

    def test_a_long_name_is_truncated_but_a_long_title_is_not(self) -> None:
        plain = draw_confusion(np.eye(2, dtype=np.int64), ("a", "b"), "a")
        named = draw_confusion(np.eye(2, dtype=np.int64), ("a" * 300, "b"), "a")
        titled = draw_confusion(np.eye(2, dtype=np.int64), ("a", "b"), "a" * 300)
        assert plain.shape[1] < named.shape[1] < plain.shape[1] + 250
        assert titled.shape[1] > 1500

    def test_it_is_written_as_a_png(self, tmp_path: Path) -> None:
        path = tmp_path / "a.PNG"
        write_confusion(path, COUNTS, CLASSES, "title")
        np.testing.assert_array_equal(cv2.imread(str(path)), draw_confusion(np.array(COUNTS), CLASSES, "title"))


class TestFiles:
    @pytest.mark.parametrize("name", ["a", "a.txt", "a.jpg", "csv"])
    def test_another_file_type_is_refused_and_the_message_names_both_supported_ones(
        self, tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(OptionError, match=r"must end in \.csv or \.png"):
            check_confusion_path(tmp_path / name)
        with pytest.raises(OptionError, match=r"must end in \.csv or \.png"):
            write_confusion(tmp_path / name, COUNTS, CLASSES, "")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [".csv", ".png"])
    def test_a_file_that_cannot_be_written_raises_a_one_line_error(self, tmp_path: Path, suffix: str) -> None:
        with pytest.raises(SinkError, match=r"cannot write .*: No such file or directory; choose another path"):
            write_confusion(tmp_path / "none" / f"a{suffix}", COUNTS, CLASSES, "")
