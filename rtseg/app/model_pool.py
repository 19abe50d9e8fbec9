"""Models that several runs share: a run that needs a model that is open gets a part in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rtseg.app.options import StreamOptions
from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.shared import SharedModel
from rtseg.backends.unsure import SureBackend
from rtseg.weights import find_model

__all__ = ["ModelPool", "open_model"]

_Key = tuple[Any, ...]


class ModelPool:
    """Opens each model once for all runs with the same model, backend, precision, device and size.

    It is closed when its last run is. A recurrent model is opened for each run, as it keeps the state of one video.

    Args:
        hint: of ``BackendOptions``, for models that are shared; by default that of the first run.
    """

    def __init__(self, hint: str | None = None) -> None:
        self._hint = hint
        self._models: dict[_Key, SharedModel] = {}
        self._closed: list[dict[str, Any]] = []
        self._lock = Lock()

    def facts(self) -> list[dict[str, Any]]:
        """Each model that was shared so far, for a report."""
        with self._lock:
            return [*self._closed, *(model.facts() for model in self._models.values())]

    @contextmanager
    def open(self, options: StreamOptions, hint: str) -> Iterator[Backend]:
        """A backend for one run, to be used in ``with``. Any thread may call it.

        Raises:
            RtsegError: the model cannot be opened.
        """
        key = (
            find_model(options.model),
            options.backend,
            options.precision,
            options.device,
            options.size,
            options.unsure,
        )
        with self._lock:
            model = self._models.get(key)
            if model is None:
                backend = open_model(options, self._hint or hint)
                if not backend.recurrent:
                    model = self._models[key] = SharedModel(backend)
            member = None if model is None else model.connect(depth=1 if hint == "latency" else model.backend.depth)
        if model is None or member is None:
            with backend:
                yield backend
            return
        try:
            yield member
        finally:
            with self._lock:
                member.close()
                if not model.members:
                    del self._models[key]
                    self._closed.append(model.facts())
                    model.close()


def open_model(options: StreamOptions, hint: str) -> Backend:
    """Open the backend that the options name, for ``hint``: "latency" or "throughput".

    Raises:
        RtsegError: the model cannot be opened.
    """
    backend = open_backend(
        options.backend,
        options.model,
        size=options.size,
        precision=options.precision,
        device=options.device,
        hint=hint,
        margin=options.unsure is not None,
    )
    return backend if options.unsure is None else SureBackend(backend, options.unsure)
