"""Folders, globs and single files of pictures."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy as np

from rtseg.errors import SourceError, SourceNotFound
from rtseg.frame import Frame, Picture
from rtseg.pictures import PlanesError, decode_picture, natural_order
from rtseg.sources import PICTURE_SUFFIXES, Source, SourceOptions

__all__ = ["ImagesSource", "find_pictures"]

_FPS = 25.0
_WORKERS = min(4, max(2, os.cpu_count() or 2))
_AHEAD = 2 * _WORKERS
_KINDS = "PNG, JPEG, TIFF, BMP, WebP, PGM"


class ImagesSource(Source):
    """The pictures of a folder or a glob, or one picture, in natural order (``2.png`` before ``10.png``).

    They follow each other at 25 per second. Each comes in its own size, as ``decode_picture`` makes it: BGR, or with
    the plane beside the colours that ``give`` asked for. A few threads decode ahead, no more than eight pictures. A
    damaged picture is skipped, counted in ``damaged`` and noted in ``damaged_names``; one without that plane is an
    error.
    """

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Find the pictures; none is opened yet.

        Args:
            where: a folder (its subfolders are not searched), a glob, or a picture.
            options: which part to read.

        Raises:
            SourceNotFound: no picture lies there.
        """
        self._where = where
        self._paths = find_pictures(where)
        super().__init__(_name(Path(where)), options)
        self.damaged_names = []
        self.fps = _FPS
        self.frame_count = len(self._paths)

    def give(self, channels: int) -> None:
        """See ``Source.give``: whether the files hold the plane is seen when they are read."""
        self.channels = channels

    def _read(self) -> Iterator[Frame]:
        first = 0 if self.options.start_s <= 0 else int(np.ceil(self.options.start_s * _FPS - 1e-6))
        seen = 0
        pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="rtseg-pictures")
        try:
            for index, (path, picture) in enumerate(self._decoded(pool, self._paths[first:])):
                if picture is None:
                    self.damaged += 1
                    self.damaged_names.append(path.name)
                    continue
                seen += 1
                yield Frame(picture, index, (first + index) / _FPS, time.monotonic(), path.name)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if not seen and first < len(self._paths) and not self.stopped:
            raise SourceError(
                f"{self._where}: not one picture can be decoded ({', '.join(self.damaged_names[-3:])}): "
                f"damaged, too large, or none of {_KINDS}"
            )

    def _decoded(self, pool: ThreadPoolExecutor, paths: list[Path]) -> Iterator[tuple[Path, Picture | None]]:
        """Each path with its picture, None for a damaged one, in order."""
        waiting: deque[tuple[Path, Future[Picture | None]]] = deque()
        for path in paths:
            if self.stopped:
                return
            waiting.append((path, pool.submit(_decode, path, self.channels)))
            if len(waiting) == _AHEAD:
                done, picture = waiting.popleft()
                yield done, picture.result()
        while waiting and not self.stopped:
            done, picture = waiting.popleft()
            yield done, picture.result()


def find_pictures(where: str | Path) -> list[Path]:
    """The pictures at ``where``, in natural order: of a folder (not of its subfolders) or a glob, or the one itself.

    Raises:
        SourceNotFound: no picture lies there.
    """
    path = Path(where)
    if path.is_dir():
        found = list(path.iterdir())
    else:
        found = [path] if path.exists() else [Path(match) for match in glob(str(where), recursive=True)]  # noqa: PTH207 (may be absolute)
    pictures = [p for p in found if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not pictures:
        what = f"the folder {where} holds" if path.is_dir() else f"{where} matches"
        suffixes = " ".join(sorted(PICTURE_SUFFIXES))
        raise SourceNotFound(f"{what} no picture: give one with files that end in {suffixes}")
    return sorted(pictures, key=natural_order)


def _name(where: Path) -> str:
    """A folder's name, a picture's stem, or for a glob the last folder that it names."""
    if where.is_dir():
        return where.resolve().name or "pictures"
    if where.exists():
        return where.stem
    plain = [part for part in where.parent.resolve().parts if not set(part) & set("*?[/")]
    return plain[-1] if plain else "pictures"


def _decode(path: Path, channels: int) -> Picture | None:
    """The picture in ``path``, uint8 (H, W, channels); None where it is damaged, unreadable or too large.

    Raises:
        SourceError: it holds no plane beside the colours, and the model wants one.
    """
    try:
        return decode_picture(path.read_bytes(), channels)
    except OSError:
        return None
    except PlanesError as error:
        raise SourceError(f"{path} {error}") from error
