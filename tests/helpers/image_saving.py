"""What the tests of data share besides fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SaveImage = Callable[..., Path]
"""Writes a file under ``tmp_path`` and returns its path; see the fixtures ``save`` and ``save_palette``."""
