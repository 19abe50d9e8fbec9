"""Keeps reports from replacing other files."""

from __future__ import annotations

from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["check_replaces_json"]


def check_replaces_json(path: Path | None, option: str = "--report") -> None:
    """Check that no file of another kind has this name, for example an image or a model.

    Raises:
        OptionError: one has.
    """
    try:
        if path is None or path.suffix in {".json", ".jsonl"} or not path.is_file():
            return
        with path.open("rb") as file:
            start = file.read(1)
    except OSError:
        return  # writing it will say why
    if start not in (b"", b"{", b"["):
        raise OptionError(f"{option} {path} exists and is not JSON: give another name")
