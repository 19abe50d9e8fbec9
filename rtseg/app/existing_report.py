"""Keeps reports from replacing other files and each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rtseg.errors import OptionError
from rtseg.system.atomic_files import locked_output

__all__ = ["check_replaces_json", "locked_results"]


@contextmanager
def locked_results(report: Path | None, *, overwrite: bool, others: Iterable[tuple[str, Path]] = ()) -> Iterator[None]:
    """Check before a long run that its results can be written, and keep other runs from writing them meanwhile.

    Args:
        report: of ``--report``.
        overwrite: whether existing files may be replaced. A report never replaces a file that is not JSON.
        others: further results, each with the option that names it.

    Raises:
        OptionError: a file of another kind has the name of the report, or two results have the same name.
        SinkError: see ``check_writable``.
    """
    check_replaces_json(report)
    results = [("--report", report)] if report is not None else []
    with ExitStack() as locks:
        for option, path in (*results, *others):
            locks.enter_context(locked_output(path, f"{option} {path}", overwrite=overwrite))
        yield


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
