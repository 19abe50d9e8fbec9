"""Opens the output of a batch run by its name."""

from __future__ import annotations

from pathlib import Path

from rtseg.batch.store import Store
from rtseg.errors import OptionError
from rtseg.system.file_names import check_name
from rtseg.system.remote import is_url

__all__ = ["absolute_output", "open_store"]


def open_store(output: str) -> Store:
    """The store in a local folder, or at a URL.

    Raises:
        OptionError: the name is empty or the scheme of the URL is unknown.
        MissingExtra: a package that the URL needs is not installed.
    """
    if not output.strip():
        raise OptionError("--output is empty: give a folder")
    check_name(output)
    if not is_url(output):
        return Store(Path(output))
    from rtseg.batch.remote_store import RemoteStore

    return RemoteStore.open(output)


def absolute_output(output: str) -> str:
    """The output as processes with another working directory must name it."""
    return output if is_url(output) else str(Path(output).absolute())
