"""Counts those who watch, so that they do not become too many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

__all__ = ["Clients"]


class Clients:
    """At most ``most`` at a time. Use it on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.present = 0

    @property
    def is_full(self) -> bool:
        """Whether another one must be refused."""
        return self.present >= self._most

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one while the block runs."""
        self.present += 1
        try:
            yield
        finally:
            self.present -= 1

    def count(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes] | None:
        """The same parts, for a viewer who is counted until they end; None if there are too many."""
        return None if self.is_full else self._counted(parts)

    async def _counted(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        with self.one_more():
            async for part in parts:
                yield part
