"""The lines of a TOML file on which its tables and keys stand: Python's reader does not tell."""

from __future__ import annotations

import tomllib
from typing import Any

__all__ = ["find_lines"]

_MOST_LINES = 200
"""Of one statement: of a longer one, and of the rest of its table, the places are not found."""


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1, of each table and of each key, by the names from the outermost table on.

    A statement of TOML (a header of a table, or a key with its value) is valid alone, and no part of it is. So each
    statement is the shortest run of lines that can be read.

    Args:
        text: of a file that ``tomllib`` reads.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    pending, first, is_lost = "", 1, False
    for number, line in enumerate(text.split("\n"), 1):
        is_lost = is_lost or number - first > _MOST_LINES
        if is_lost and line.startswith("["):
            pending, is_lost = "", False
        if is_lost:
            continue
        first = first if pending else number
        pending += f"{line}\n"
        try:
            statement = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        if pending.lstrip().startswith("["):
            table = _only_path(statement)
            found.setdefault(table, first)
        for path in _paths(statement, () if pending.lstrip().startswith("[") else table):
            found.setdefault(path, first)
        pending = ""
    return found


def _only_path(statement: Any) -> tuple[str, ...]:
    """The names in the header of a table, which holds one table in another."""
    if isinstance(statement, list):
        return _only_path(statement[0]) if statement else ()
    if not isinstance(statement, dict) or not statement:
        return ()
    (name,) = statement
    return (name, *_only_path(statement[name]))


def _paths(statement: dict[str, Any], table: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All paths in a statement: of the key, and of those in an inline table."""
    paths: list[tuple[str, ...]] = []
    for key, value in statement.items():
        paths.append((*table, key))
        if isinstance(value, dict):
            paths += _paths(value, (*table, key))
    return paths
