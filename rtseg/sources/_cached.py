"""A file that is read from its copy on an SSD, where there is one."""

from __future__ import annotations

from rtseg.sources._cache import SsdCache
from rtseg.sources._files import PictureFile
from rtseg.sources._prefetch import Slot

__all__ = ["CachedFile"]


class CachedFile(PictureFile):
    """``origin``, read through ``cache``: the first reading of each of its versions fills it."""

    def __init__(self, origin: PictureFile, cache: SsdCache) -> None:
        self.name = origin.name
        self._origin = origin
        self._cache = cache

    def announce(self) -> None:
        """See ``PictureFile``; what is in the cache will not be read from the file."""
        key = self.stamp()
        if key is None or not self._cache.has(key):
            self._origin.announce()

    def stamp(self) -> str | None:
        """See ``PictureFile``."""
        return self._origin.stamp()

    def read(self, slot: Slot) -> bytes:
        """See ``PictureFile``."""
        key = self.stamp()
        if key is None:
            return self._origin.read(slot)
        kept = self._cache.get(key, found=slot.give_back)
        if kept is not None:
            return kept
        data = self._origin.read(slot)
        self._cache.put(key, data)
        return data

    def discard(self) -> None:
        """See ``PictureFile``."""
        self._origin.discard()
