"""File names that are not UTF-8, and names that differ only in their Unicode form."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["check_name", "encode_text", "existing_path", "unicode_forms"]


def check_name(text: object) -> None:
    """Check that a text can be the name of a file: the functions of the system raise ``ValueError`` for others.

    Raises:
        OptionError: it contains a zero byte, or a character that no file name can have.
    """
    try:
        has_zero = b"\0" in os.fsencode(str(text))
    except UnicodeEncodeError:
        has_zero = True
    if has_zero:
        raise OptionError(f"{str(text)[:200]!a} contains a character that no file name can have: check the path")


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
