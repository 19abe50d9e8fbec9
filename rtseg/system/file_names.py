"""File names that are not UTF-8, and names that differ only in their Unicode form."""

from __future__ import annotations

import unicodedata
from pathlib import Path

__all__ = ["encode_text", "existing_path", "unicode_forms"]


def encode_text(text: str) -> bytes:
    r"""Encode as UTF-8; a byte of a file name that is not UTF-8 becomes ``\udcXX``, which JSON reads back."""
    return text.encode(errors="backslashreplace")


def unicode_forms(text: str) -> tuple[str, ...]:
    """Return ``text``, then its composed and decomposed Unicode form where they differ from it."""
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))


def existing_path(path: Path) -> Path:
    """Return ``path``, or the existing path whose name differs only in its Unicode form; macOS decomposes names."""
    try:
        return next((form for form in map(Path, unicode_forms(str(path))) if form.exists()), path)
    except OSError:  # e.g. the name is too long: opening the path will say so
        return path
