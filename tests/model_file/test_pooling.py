from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.model_file.pooling import pyramid_matrix, resize_matrix


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(2, 3), (6, 12), (7, 11), (12, 20), (5, 16), (1, 1), (13, 33)])
def test_the_matrices_do_what_adaptive_pooling_and_bilinear_resizing_do(bins: int, size: tuple[int, int]) -> None:
    height, width = size
    features = torch.from_numpy(np.random.default_rng(bins).normal(size=(2, 3, height, width)))
    expected = F.interpolate(F.adaptive_avg_pool2d(features, bins), size, mode="bilinear", align_corners=False)
    rows = torch.from_numpy(pyramid_matrix("rows", height, bins)).double()
    columns = torch.from_numpy(pyramid_matrix("columns", width, bins)).double()
    torch.testing.assert_close(rows @ features @ columns, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize(("length", "bins"), [(1, 1), (7, 6), (12, 3), (99, 2)])
def test_a_level_only_averages_so_that_an_even_map_stays_as_it_is(axis: str, length: int, bins: int) -> None:
    matrix = pyramid_matrix(axis, length, bins)
    assert (matrix.dtype, matrix.shape) == (np.float32, (length, length))
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(1 if axis == "rows" else 0), 1, rtol=1e-5)


def test_columns_are_rows_transposed() -> None:
    np.testing.assert_array_equal(pyramid_matrix("columns", 7, 3), pyramid_matrix("rows", 7, 3).T)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(8, 16), (7, 11), (1, 13)])
def test_the_matrices_of_upsampling_interpolate_from_the_size_rounded_up(factor: int, size: tuple[int, int]) -> None:
    height, width = size
    small = torch.from_numpy(
        np.random.default_rng(factor).normal(size=(2, 3, -(-height // factor), -(-width // factor)))
    )
    rows = torch.from_numpy(resize_matrix("rows", height, factor)).double()
    columns = torch.from_numpy(resize_matrix("columns", width, factor)).double()
    expected = F.interpolate(small, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(rows @ small @ columns, expected, atol=1e-6, rtol=1e-5)
