"""The interface of a backend, and the options that all backends share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import BackendUnavailable, ModelError, OptionError
from rtseg.model_file.spec import ModelSpec

__all__ = ["Backend", "BackendOptions", "Ticket", "no_margins"]

_LEAST_S, _MOST_S, _SLOWER = 1.0, 10.0, 10.0
_LAST_S, _RECENT = 0.5, 8
"""See ``Backend.patience_s``."""

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How to run a model.

    Raises:
        OptionError: a value is unknown.
    """

    precision: str = "auto"
    """``fp32``, ``fp16``, ``bf16``, ``int8``, or ``auto``: the fastest that is accurate enough on the device."""
    hint: str = "throughput"
    """``throughput`` keeps several batches in flight (files); ``latency`` gives all cores to one batch (live)."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int | None = None
    """Number of CPU threads; all cores by default."""
    margin: bool = False
    """Whether to compute how sure each label is; see ``Backend.margins``."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"--precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.device not in DEVICES:
            raise OptionError(f"--device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        if self.hint not in ("throughput", "latency"):
            raise OptionError(f"hint must be throughput or latency, got {self.hint!r}")
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads must be at least 1, got {self.threads}")


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A batch in flight."""

    handle: Any
    """Private to the backend that made the ticket."""
    frames: NDArray[np.uint8]
    """The batch, kept alive until its labels are read."""


class Backend(ABC):
    """One loaded model. Not thread-safe: use one per thread."""

    name: str
    """The key in ``BACKENDS``."""
    spec: ModelSpec
    precision: str
    """The precision of the arithmetic, e.g. ``bf16``; never ``auto``."""
    device: str
    """Name of the device, e.g. ``CPU``."""
    version: str
    """Version of the runtime."""
    model_sha256: str
    """SHA-256 of the model file, as 64 hex digits; set by ``open_backend``."""
    chosen: str = "asked for"
    """Why this backend is used: the reason of ``auto``, e.g. ``no NVIDIA driver``, or that the caller named it."""
    notice: str = ""
    """A sentence for the user if ``auto`` does not use a GPU or a matching engine; empty otherwise."""
    int8_check: dict[str, Any] | None = None
    """Of an int8 model on a CPU: how it was compared with exact arithmetic, see ``rtseg.backends.int8_check``."""
    depth: int = 1
    """How many batches may be in flight. A further ``submit`` waits for the oldest."""
    max_batch: int = 1
    """The longest batch that is labelled faster than its images one by one, each with a ``submit`` of its own."""
    has_margins: bool = False
    """Whether ``margins`` can tell: ``BackendOptions.margin`` is set, and the runtime computes them."""
    recurrent: bool = False
    """Whether this is a sequence model, whose labels depend on earlier batches too. Its ``depth`` is 1.

    Image n of every batch is the next frame of video n. A batch of another length starts all videos again, like
    ``reset``.
    """
    _length = 0
    """Length of the last batch."""
    _unchecked_batches = 30
    """How many batches are still to be checked for labels that no class has."""
    _in_flight = 0
    _silent_since_s = 0.0
    """Of the last answer, or of the first batch in flight."""
    _recent_s: tuple[float, ...] = ()
    """Times between a batch or answer and the next answer: the last ones."""

    def submit(self, frames: NDArray[np.uint8]) -> Ticket:
        """Start labelling a batch.

        Args:
            frames: uint8 (N, H, W, C) of ``spec.size`` and ``spec.channels``, BGR for 3 channels. Do not change it
                before ``wait`` has returned.

        Raises:
            ValueError: ``frames`` has another dtype or shape, or is empty.
            BackendError: the runtime failed; its own error is the cause.
        """
        shape = (*self.spec.size, self.spec.channels)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
            got = f"{frames.dtype} {frames.shape}"
            raise ValueError(f"frames must be uint8 (N, {', '.join(map(str, shape))}), got {got}")
        if self.recurrent and len(frames) != self._length:
            self.reset()
            self._length = len(frames)
        # Runtimes that read the array in place need it to be contiguous, and refuse read-only memory.
        if not self._in_flight:
            self._silent_since_s = time.monotonic()
        ticket = self._submit(np.require(frames, requirements=("C", "W")))
        self._in_flight += 1
        return ticket

    def wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        """Return the class IDs, uint8 (N, H, W), valid until ``depth`` further batches are submitted.

        Wait for tickets in any order, once each.

        Raises:
            BackendError: the runtime failed on this batch.
            ModelError: the labels of one of the first batches have another shape, or an ID that no class has.
        """
        try:
            labels = self._wait(ticket)
        finally:
            now_s = time.monotonic()
            self._recent_s = (*self._recent_s, now_s - self._silent_since_s)[-_RECENT:]
            self._silent_since_s = now_s
            self._in_flight -= 1
        if self._unchecked_batches:
            self._unchecked_batches -= 1
            self._check_labels(labels, ticket.frames.shape[:3])
        return labels

    def _check_labels(self, labels: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """A graph from elsewhere may compute anything: such labels would be drawn and counted as some class."""
        if labels.dtype != np.uint8 or labels.shape != shape:
            got = f"{labels.dtype} {labels.shape}"
            raise ModelError(f"{self.spec.name} gives labels of {got}, not of uint8 {shape}: export the model again")
        if (highest := int(labels.max())) >= len(self.spec.classes):
            raise ModelError(
                f"{self.spec.name} gives the class ID {highest}, but has only the classes 0 to "
                f"{len(self.spec.classes) - 1}: its graph and its metadata do not match, export the model again"
            )

    def is_ready(self, ticket: Ticket, timeout_s: float) -> bool:
        """Whether ``wait`` would return at once, or will within ``timeout_s``. True where the backend cannot tell."""
        return True

    def patience_s(self) -> float:
        """How much longer to wait for an answer, in seconds, before this counts as hanging, e.g. in its driver.

        From one answer to the next it may take 10 times as long as the slowest of the last 8, at least 1 s and at most
        10 s, which is longer than any model takes for one batch. Before the first answer it is 10 s.
        """
        longest_s = min(_MOST_S, max(_LEAST_S, _SLOWER * max(self._recent_s))) if self._recent_s else _MOST_S
        silent_s = time.monotonic() - self._silent_since_s if self._in_flight else 0.0
        return max(_LAST_S, longest_s - silent_s)

    def stop_waiting(self) -> None:  # noqa: B027 - a wait inside a runtime cannot be ended
        """Where possible, end the ``wait`` of another thread with a BackendError: nobody needs its labels."""

    def _describe_as(self, backend: Backend) -> None:
        """Take over what describes ``backend``, through which this one labels, and which checks its labels."""
        self.name, self.spec, self.precision = backend.name, backend.spec, backend.precision
        self.device, self.version, self.model_sha256 = backend.device, backend.version, backend.model_sha256
        self.chosen, self.notice, self.int8_check = backend.chosen, backend.notice, backend.int8_check
        self._unchecked_batches = 0

    def margins(self, ticket: Ticket) -> NDArray[np.uint8] | None:
        """Return how sure the labels of a batch are, uint8 (N, h, w): see ``rtseg.model_file.margin``.

        Call it after ``wait``; valid as long as the labels. None unless ``has_margins``.
        """
        return None

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``submit`` and ``wait`` in one call."""
        return self.wait(self.submit(frames))

    def reset(self) -> None:  # noqa: B027 - most models have no state
        """Forget earlier frames. Call it at a scene cut, and before the first frame of another video.

        Does nothing for a model that is not ``recurrent``. Batches in flight are not affected.
        """

    @abstractmethod
    def _submit(self, frames: NDArray[np.uint8]) -> Ticket: ...

    @abstractmethod
    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]: ...

    def facts(self) -> dict[str, Any]:
        """Describe the model, the runtime and the device, for a report."""
        return {
            "model": self.spec.name,
            "model_sha256": self.model_sha256,
            "size": list(self.spec.size),
            "backend": self.name,
            "precision": self.precision,
            "device": self.device,
            "runtime_version": self.version,
            "chosen": self.chosen,
        } | ({"int8_check": self.int8_check} if self.int8_check else {})

    def close(self) -> None:  # noqa: B027 - most runtimes free everything with the object
        """Wait for batches in flight and free the runtime's memory. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def no_margins(name: str) -> BackendUnavailable:
    """The error of a backend that was opened for margins, or is asked for them, and has none."""
    return BackendUnavailable(
        f"the {name} backend does not tell how sure labels are: use --backend openvino or onnxruntime"
    )
