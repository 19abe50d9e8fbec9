from __future__ import annotations

import numpy as np
import pytest

from rtseg.visualize.grid import Cell, GridLayout, draw_grid, fit


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (16, 4, 4), (17, 5, 4)]
)
def test_the_grid_is_as_square_as_possible(count: int, columns: int, rows: int) -> None:
    layout = GridLayout(count)
    assert (layout.columns, layout.rows) == (columns, rows)
    assert layout.cell == (720 // rows, 1280 // columns)


def test_without_images_there_is_no_grid() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        GridLayout(0)


@pytest.mark.parametrize(
    ("size", "aspect", "fitted"),
    [((90, 160), 1.0, (45, 80)), ((160, 90), 1.0, (60, 34)), ((30, 40), 1.0, (60, 80)), ((60, 40), 2.0, (60, 80))],
)
def test_an_image_keeps_its_shape_in_its_cell(size: tuple[int, int], aspect: float, fitted: tuple[int, int]) -> None:
    image = np.full((*size, 3), 99, np.uint8)
    assert fit(image, (60, 80), aspect).shape == (*fitted, 3)
    assert (fit(image, (60, 80), aspect) == 99).all()


def test_images_stand_in_rows_and_a_missing_one_is_dark_with_a_reason() -> None:
    layout = GridLayout(3, (200, 320))
    red, blue = (np.full((100, 160, 3), colour, np.uint8) for colour in ((0, 0, 255), (255, 0, 0)))
    image = draw_grid(layout, [Cell("a", red), Cell("b", None, "reconnecting"), Cell("c", blue)])
    assert image.shape == (200, 320, 3)
    assert (image[80, 80] == (0, 0, 255)).all()
    assert (image[180, 80] == (255, 0, 0)).all()
    missing, empty = image[:99, 160:319], image[100:199, 160:319]
    assert missing.mean() < 60
    assert missing[30:70].max() > 100, "the reason is written"
    assert (empty == empty[0, 0]).all()


def test_names_in_other_scripts_are_no_error() -> None:
    draw_grid(GridLayout(1, (60, 80)), [Cell("Straße 7 \u4e2d", None, "x" * 500)])
