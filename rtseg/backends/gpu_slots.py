"""Batches in flight on a GPU: each has a slot, and a slot is used again only when its labels are no longer promised."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from threading import RLock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.errors import BackendError

__all__ = ["DEPTH", "Slot", "SlotBackend", "alone"]

alone = RLock()
"""Held while a CUDA graph may be captured and while a GPU's memory is taken or given back, by TensorRT and by torch: a
graph that is captured while another thread takes memory, or waits for the whole GPU, fails or holds the wrong things.
"""

DEPTH = {"throughput": 3, "latency": 1}
"""Slots by hint: one batch that is uploaded, one that runs, one that is downloaded; or one that has the GPU alone."""


class Slot(Protocol):
    """A stream, memory on both sides of the bus, and whatever runs the network on them."""

    def start(self, frames: NDArray[np.uint8]) -> None:
        """Copy the batch and send upload, network and download on their way, without waiting for any of them."""

    def finish(self) -> None:
        """Wait for what was started last. Returns at once where that has been done, or nothing was started."""

    def labels(self) -> NDArray[np.uint8]:
        """The result of what was finished last, uint8 (N, H, W): a view, written to by what is started next."""

    def reset(self) -> None:
        """Begin anew with what is started next; what is under way is not touched."""

    def close(self) -> None:
        """Free everything. Nothing is under way any more."""


class SlotBackend(Backend):
    """A backend with ``depth`` slots, used in turn. It copies the frames in ``submit``: the array is free after it."""

    def __init__(self) -> None:
        self._free: deque[Slot] = deque()
        self._lent: deque[Ticket] = deque()
        """Batches whose labels are still promised, the oldest first; the handle of each is its slot."""

    def _use(self, slots: Iterable[Slot], *, warm_runs: int) -> None:
        """Take slots into use as they are made; where that fails, everything is freed.

        Args:
            slots: each is made when it is asked for.
            warm_runs: label a black frame in each so many times. What a runtime allocates, compiles and captures in its
                first runs comes then, and not while somebody waits for a frame.
        """
        try:
            for slot in slots:
                self._free.append(slot)
                for _ in range(warm_runs):
                    slot.start(np.zeros((1, *self.spec.size, self.spec.channels), np.uint8))
                    slot.finish()
                    slot.reset()
        except BaseException:
            self.close()
            raise
        self.depth = len(self._free)

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        if not self._free:
            self._reclaim()
        slot = self._free[0]
        try:
            slot.start(frames)
        except BaseException:  # also a Ctrl-C: the slot may be used again
            with contextlib.suppress(BackendError):
                slot.finish()  # of what was started before it failed; then the slot is as free as it was
            raise
        self._free.popleft()
        ticket = Ticket(slot, frames)
        self._lent.append(ticket)
        return ticket

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        if not any(ticket is lent for lent in self._lent):
            raise BackendError(
                f"the labels of this batch are gone: wait for them before {self.depth} more batches, and before close"
            )
        slot: Slot = ticket.handle
        slot.finish()
        return slot.labels()

    def reset(self) -> None:
        """See ``Backend.reset``."""
        for slot in (*self._free, *(ticket.handle for ticket in self._lent)):
            slot.reset()

    def _reclaim(self) -> None:
        """Take back the slot of the oldest batch: its labels are no longer promised."""
        if not self._lent:
            raise BackendError(f"the {self.name} backend is closed: open it again")
        slot: Slot = self._lent.popleft().handle
        # A failure belongs to whoever holds the ticket. What follows it meets it again: CUDA's errors stay.
        with contextlib.suppress(BackendError):
            slot.finish()
        self._free.append(slot)

    def close(self) -> None:
        """See ``Backend.close``."""
        while self._lent:
            self._reclaim()
        with contextlib.ExitStack() as whatever_fails:
            whatever_fails.callback(self._close)
            while self._free:
                slot = self._free.popleft()
                whatever_fails.callback(slot.close)
                with contextlib.suppress(BackendError):
                    slot.finish()  # of a first run that failed half way

    def _close(self) -> None:
        """Free what the slots shared; called again by a second ``close``."""
