"""One model for many videos: a fair scheduler between their threads and one backend."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from threading import Condition, Event, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.backends.base import Backend, Ticket
from rtseg.errors import BackendError

__all__ = ["SharedBackend", "SharedModel"]

_GATHER_S = 0.003
"""How long a batch waits for images of other videos, where a batch is faster than its images one by one."""
_POLL_S = 0.002
"""How often this looks for new requests while the backend computes and has room for more."""
_ASK_S = 1.0
_MOST_SILENT = 120
"""After so many times ``_ASK_S`` seconds in which the backend answers nobody, it hangs."""


@dataclass(slots=True, eq=False)
class _Request:
    """Images of one video that wait for their labels."""

    owner: SharedBackend
    frames: NDArray[np.uint8]
    asked_s: float
    done: Event = field(default_factory=Event)
    labels: NDArray[np.uint8] | None = None
    error: Exception | None = None
    finishing: Lock = field(default_factory=Lock)

    def finish(self, labels: NDArray[np.uint8] | None, error: Exception | None = None) -> None:
        """Answer, unless its video has stopped waiting."""
        with self.finishing:
            if self.done.is_set():
                return
            self.labels, self.error = labels, error
            self.owner.count(time.monotonic() - self.asked_s, failed=error is not None)
            self.done.set()


@dataclass(slots=True, eq=False)
class _InFlight:
    requests: list[_Request]
    ticket: Ticket


class SharedModel:
    """Runs one backend for many videos on a thread of its own. Each video gets a ``Backend`` from ``connect``.

    Videos take turns: with n of them, the images of one wait for at most one request of each other. So a fast video
    cannot starve a slow one, and a video that sends nothing costs nothing. As many requests as ``max_batch`` of the
    backend are labelled together. As soon as one is there, this waits at most 3 ms for the others, and only where the
    backend is idle; all other batches consist of what has come meanwhile.

    A batch that fails is tried again, each request by itself, so that one video does not fail the others.

    Args:
        backend: loaded; it is closed with this. Nobody else may use it.

    Raises:
        ValueError: the model is recurrent: it keeps a state for one video.
    """

    def __init__(self, backend: Backend) -> None:
        if backend.recurrent:
            raise ValueError(f"{backend.spec.name} keeps the state of one video: open it once for each")
        self.backend = backend
        self.batches = self.images = 0
        """Labelled so far."""
        self.answers = 0
        """Batches that were labelled or failed."""
        self._members: list[SharedBackend] = []
        self._ready: deque[SharedBackend] = deque()
        """Those with waiting requests, in the order of their turns."""
        self._retries: deque[_Request] = deque()
        """Of a batch that failed: each is tried by itself."""
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="rtseg-model", daemon=True)
        self._thread.start()

    def connect(self, *, depth: int = 1) -> SharedBackend:
        """A backend for one more video, for one thread; close it when the video ends.

        Args:
            depth: how many batches of it may be in flight: 1 for a live video, ``backend.depth`` for a file.
        """
        member = SharedBackend(self, depth)
        with self._changed:
            self._members.append(member)
        return member

    @property
    def members(self) -> int:
        """Videos that use the model now."""
        return len(self._members)

    def facts(self) -> dict[str, Any]:
        """The model, and how its work was batched, for a report."""
        mean = round(self.images / self.batches, 3) if self.batches else 0.0
        return {**self.backend.facts(), "batches": self.batches, "images": self.images, "images_per_batch": mean}

    def close(self) -> None:
        """End the thread and close the backend. Requests that wait get a BackendError. A second call does nothing.

        A backend that hangs is left alone; see ``Backend.patience_s``.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self.backend.patience_s())
        if not self._thread.is_alive():  # a runtime that hangs still uses its memory
            self.backend.close()

    def add(self, request: _Request) -> None:
        """Let ``request`` wait for its turn.

        Raises:
            BackendError: the model is closed.
        """
        with self._changed:
            if self._closing:
                raise self.closed_error()
            waiting = request.owner.waiting
            waiting.append(request)
            if len(waiting) == 1:
                self._ready.append(request.owner)
            self._changed.notify_all()

    def disconnect(self, member: SharedBackend) -> None:
        """Forget ``member``; what it waits for fails."""
        with self._changed:
            waiting = [*member.waiting]
            member.waiting.clear()
            if member in self._ready:
                self._ready.remove(member)
            if member in self._members:
                self._members.remove(member)
            self._changed.notify_all()
        for request in waiting:
            request.finish(None, self.closed_error())

    def _run(self) -> None:
        in_flight: deque[_InFlight] = deque()
        while (requests := self._take(wait=not in_flight)) is not None:
            if requests:
                self._start(requests, in_flight)
            has_room = len(in_flight) < self.backend.depth
            if in_flight and not (has_room and (requests or not self._is_ready(in_flight[0]))):
                self._finish(in_flight.popleft())
        while in_flight:
            self._finish(in_flight.popleft())
        with self._changed:
            waiting = [*self._retries, *(request for member in self._ready for request in member.waiting)]
        for request in waiting:
            request.finish(None, self.closed_error())

    def _take(self, *, wait: bool) -> list[_Request] | None:
        """The next batch, empty if nothing waits; None once closed.

        Args:
            wait: until something waits, and then a little for more.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._ready or self._retries or self._closing)
                most = min(self.backend.max_batch, len(self._members))
                if len(self._ready) < most and not self._retries:
                    self._changed.wait_for(lambda: len(self._ready) >= most or self._closing, _GATHER_S)
            if self._closing:
                return None
            if self._retries:
                return [self._retries.popleft()]
            taken: list[_Request] = []
            images = 0
            while self._ready and (
                not taken or images + len(self._ready[0].waiting[0].frames) <= self.backend.max_batch
            ):
                member = self._ready.popleft()
                taken.append(member.waiting.popleft())
                images += len(taken[-1].frames)
                if member.waiting:
                    self._ready.append(member)
            return taken

    def _start(self, requests: list[_Request], in_flight: deque[_InFlight]) -> None:
        frames = requests[0].frames if len(requests) == 1 else np.concatenate([each.frames for each in requests])
        try:
            in_flight.append(_InFlight(requests, self.backend.submit(frames)))
        except Exception as error:  # noqa: BLE001 - the thread that asked raises it
            self._fail(requests, error)

    def _is_ready(self, batch: _InFlight) -> bool:
        """Whether to wait for ``batch`` now. While it is computed, another video may use the rest of the cores."""
        try:
            return self.backend.is_ready(batch.ticket, _POLL_S)
        except Exception:  # noqa: BLE001 - ``wait`` raises it, too
            return True

    def _finish(self, batch: _InFlight) -> None:
        try:
            labels = self.backend.wait(batch.ticket)
        except Exception as error:  # noqa: BLE001 - the thread that asked raises it
            self._fail(batch.requests, error)
            return
        finally:
            self.answers += 1
        first = 0
        for request in batch.requests:
            last = first + len(request.frames)
            request.finish(labels[first:last].copy())  # the backend reuses its buffer
            first = last
        self.batches += 1
        self.images += first

    def _fail(self, requests: list[_Request], error: Exception) -> None:
        if len(requests) == 1:
            requests[0].finish(None, error)
            return
        with self._changed:
            self._retries.extend(requests)

    def closed_error(self) -> BackendError:
        """What those get who still wait."""
        return BackendError(f"the shared {self.backend.name} backend is closed: open it again")


class SharedBackend(Backend):
    """The part of one video in a ``SharedModel``: a backend that waits for its turn. ``connect`` makes it."""

    def __init__(self, model: SharedModel, depth: int) -> None:
        backend = model.backend
        self._describe_as(backend)
        self.depth = depth
        self.waiting: deque[_Request] = deque()
        """Requests whose turn has not come; only ``SharedModel`` changes it."""
        self.requests = self.failed = 0
        """Answered so far, and those of them that failed."""
        self._model = model
        self._waited_s = self._longest_s = 0.0
        self._asked: list[_Request] = []
        """Those that may wait for an answer."""
        self._closed = False

    def count(self, spent_s: float, *, failed: bool) -> None:
        """Count a request that was answered after ``spent_s`` seconds."""
        self.requests += 1
        self.failed += failed
        self._waited_s += spent_s
        self._longest_s = max(self._longest_s, spent_s)

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        if self._closed:
            raise BackendError(f"the {self.name} backend is closed: open it again")
        request = _Request(self, frames, time.monotonic())
        self._model.add(request)
        self._asked = [*(each for each in self._asked if not each.done.is_set()), request]
        return Ticket(request, frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        # This ends: turns are taken in order, so that each answer of the backend brings this one nearer; if it answers
        # nobody, the count below ends; a video that ends does not wait for it, see ``stop_waiting``.
        request: _Request = ticket.handle
        silent, answers = 0, self._model.answers
        while not request.done.wait(_ASK_S):  # counted, as time for which this process was suspended is no silence
            silent, answers = (silent + 1 if answers == self._model.answers else 0), self._model.answers
            if silent >= _MOST_SILENT:
                raise BackendError(
                    f"the backend {self.name} has not answered for {_ASK_S * silent:.0f} s: try another --backend"
                )
        if request.error is not None:
            raise request.error
        assert request.labels is not None, "a request without an error has labels"
        return request.labels

    def stop_waiting(self) -> None:
        """See ``Backend.stop_waiting``. What is being computed is thrown away."""
        for request in self._asked:
            request.finish(None, self._model.closed_error())

    def facts(self) -> dict[str, Any]:
        """See ``Backend.facts``; also how long requests took, with the wait for their turn."""
        mean_s = self._waited_s / self.requests if self.requests else 0.0
        turns = {
            "requests": self.requests,
            "failed": self.failed,
            "mean_ms": round(1e3 * mean_s, 3),
            "max_ms": round(1e3 * self._longest_s, 3),
        }
        return {**super().facts(), "shared": turns}

    def close(self) -> None:
        """Leave the shared model, which goes on; see ``Backend.close``."""
        self._closed = True
        self._model.disconnect(self)
        self.stop_waiting()
