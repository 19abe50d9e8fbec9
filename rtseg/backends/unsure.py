"""Leaves out the labels that a model is not sure of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["SureBackend"]


class SureBackend(Backend):
    """Makes the labels void (255) whose margin is too small; see ``rtseg.model_file.margin``.

    Args:
        backend: opened with ``BackendOptions(margin=True)``; it is closed with this.
        least: smallest margin of a label that is kept, a difference of probabilities in [0, 1].
    """

    def __init__(self, backend: Backend, least: float) -> None:
        self._backend = backend
        self._share = least
        self._least = max(1, round(255 * least))
        self._describe_as(backend)
        self.depth, self.max_batch, self.recurrent = backend.depth, backend.max_batch, backend.recurrent
        self.has_margins = backend.has_margins

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        return Ticket(self._backend.submit(frames), frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        labels = self._backend.wait(ticket.handle)
        margins = self._backend.margins(ticket.handle)
        assert margins is not None, "the backend was opened for margins"
        left = np.empty_like(labels)
        for image, margin, out in zip(labels, margins, left, strict=True):
            enlarged = cv2.resize(margin, image.shape[::-1], interpolation=cv2.INTER_LINEAR)
            unsure = cv2.threshold(enlarged, self._least - 1, VOID, cv2.THRESH_BINARY_INV)[1]
            cv2.bitwise_or(image, unsure, dst=out)  # void has all bits
        return left

    def is_ready(self, ticket: Ticket, timeout_s: float) -> bool:
        """See ``Backend.is_ready``."""
        return self._backend.is_ready(ticket.handle, timeout_s)

    def stop_waiting(self) -> None:
        """See ``Backend.stop_waiting``."""
        self._backend.stop_waiting()

    def margins(self, ticket: Ticket) -> NDArray[np.uint8] | None:
        """See ``Backend.margins``."""
        return self._backend.margins(ticket.handle)

    def reset(self) -> None:
        """See ``Backend.reset``."""
        self._backend.reset()

    def facts(self) -> dict[str, Any]:
        """See ``Backend.facts``."""
        return {**super().facts(), "unsure": self._share}

    def close(self) -> None:
        """See ``Backend.close``."""
        self._backend.close()
