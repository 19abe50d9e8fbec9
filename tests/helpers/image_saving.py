"""The type of the fixtures that save images, for the tests of data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SaveImage = Callable[..., Path]
"""Write a file under ``tmp_path`` and return its path; see the fixtures ``save`` and ``save_palette``."""
