"""Batches in flight: each batch takes a slot, and a slot is reused once its labels may be overwritten."""

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

__all__ = ["GPU_DEPTH", "Slot", "SlotBackend", "gpu_lock"]

gpu_lock = RLock()
"""Hold it to capture a CUDA graph, and to allocate or free GPU memory; TensorRT and torch share it. A capture fails or
records the wrong work if another thread allocates memory or waits for the whole GPU meanwhile.
"""

GPU_DEPTH = {"throughput": 3, "latency": 1}
"""Hint -> number of slots on a GPU. With three, one batch is uploaded, one computed and one downloaded at a time."""


class Slot(Protocol):
    """The memory and the runtime objects that one batch in flight needs."""

    def start(self, frames: NDArray[np.uint8]) -> None:
        """Start labelling a batch, without waiting for the result where the runtime is asynchronous."""

    def finish(self) -> None:
        """Wait for the batch that was started last. Return at once if it is finished or none was started."""

    def labels(self) -> NDArray[np.uint8]:
        """Return the labels of the last finished batch, uint8 (N, H, W), valid until the next ``start``."""

    def reset(self) -> None:
        """Forget the state of a sequence model from the next batch on. The batch in flight is not affected."""

    def close(self) -> None:
        """Free everything. No batch is in flight."""


class SlotBackend(Backend):
    """A backend with ``depth`` slots, used in turn."""

    def __init__(self) -> None:
        self._free: deque[Slot] = deque()
        self._lent: deque[Ticket] = deque()
        """Batches whose labels are still valid, oldest first. The ``handle`` of each is its slot."""

    def _add_slots(self, slots: Iterable[Slot], *, warmup_runs: int) -> None:
        """Add slots. If making or warming up one of them fails, free everything.

        Args:
            slots: an iterator that makes each slot when it is requested.
            warmup_runs: how often to label a black frame in each slot, so that the runtime allocates, compiles and
                captures now and not while somebody waits for a frame.
        """
        try:
            for slot in slots:
                self._free.append(slot)
                for _ in range(warmup_runs):
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
        except BaseException:  # also Ctrl-C: the slot may be used again
            with contextlib.suppress(BackendError):
                slot.finish()  # part of the batch may be in flight
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
        """Take back the slot of the oldest batch, whose labels may now be overwritten."""
        if not self._lent:
            raise BackendError(f"the {self.name} backend is closed: open it again")
        slot: Slot = self._lent.popleft().handle
        # ``wait`` raises this error if the caller asks for the labels. CUDA errors also recur in every later call.
        with contextlib.suppress(BackendError):
            slot.finish()
        self._free.append(slot)

    def close(self) -> None:
        """See ``Backend.close``."""
        while self._lent:
            self._reclaim()
        with contextlib.ExitStack() as stack:  # every callback runs, even if one of them fails
            stack.callback(self._close)
            while self._free:
                slot = self._free.popleft()
                stack.callback(slot.close)
                with contextlib.suppress(BackendError):
                    slot.finish()  # a warm-up run may have failed halfway

    def _close(self) -> None:
        """Free what the slots share. A second ``close`` calls it again."""
