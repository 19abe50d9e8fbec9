"""How often each class occurs in labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.model_file.spec import VOID

__all__ = ["count_pixels", "describe_void"]


def count_pixels(datasets: list[Dataset], reader: DatasetReader) -> NDArray[np.int64]:
    """Count for each class, and for void, its pixels, and the labelled pixels of the images in which it occurs.

    Returns:
        int64 (2, 256).
    """
    classes = len(datasets[0].classes)
    counts = np.zeros((2, VOID + 1), dtype=np.int64)
    for dataset in datasets:
        with closing(reader.load(dataset, range(len(dataset)))) as items:
            for _, _, labels in items:
                image_counts = np.bincount(labels.ravel(), minlength=VOID + 1)
                counts += np.stack((image_counts, (image_counts > 0) * image_counts[:classes].sum()))
    return counts


def describe_void(pixels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return a sentence about the share of void. ``pixels``: of each class and of void, int64 (256,)."""
    share = 100 * pixels[VOID] / max(1, pixels.sum())
    example = "+".join(f"{name}:{value}" for name, value in zip(classes, (*range(len(classes) - 1), VOID), strict=True))
    return (
        f"{share:.2f} % of its pixels are void, as is {VOID} unless a class has it: check how the masks are read, e.g. "
        f"classes={example}"
    )
