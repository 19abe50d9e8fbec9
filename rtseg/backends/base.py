"""The contract of a backend, and the options that all backends share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError
from rtseg.model_file.spec import ModelSpec

__all__ = ["Backend", "BackendOptions", "Ticket"]

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How a model is to be run.

    Raises:
        OptionError: a value is not known.
    """

    precision: str = "auto"
    """``auto`` takes the fastest that the device does well; else ``fp32``, ``fp16``, ``bf16`` or ``int8``."""
    hint: str = "throughput"
    """``throughput`` keeps several batches in flight (files); ``latency`` gives all to the next one (live)."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int | None = None
    """CPU threads to use; all cores unless given."""

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
    """A batch in flight. Only the backend that made it can tell what ``handle`` is."""

    handle: Any
    frames: NDArray[np.uint8]
    """The batch itself, kept alive until its labels are read."""


class Backend(ABC):
    """One model file, loaded and ready. Not thread-safe: one per thread."""

    name: str
    """The key in ``BACKENDS``."""
    spec: ModelSpec
    precision: str
    """What the arithmetic is done in, e.g. ``bf16``; never ``auto``."""
    device: str
    """Where it runs, in words, e.g. ``CPU``."""
    version: str
    """Of the runtime."""
    model_sha256: str
    """Of the model file, as 64 hex digits; ``open_backend`` sets it."""
    chosen: str = "asked for"
    """Why this backend: what ``auto`` found, e.g. ``no NVIDIA driver``, or that it was asked for by its name."""
    notice: str = ""
    """What to tell the user of that: a sentence where ``auto`` leaves a GPU or a fitting engine idle; else empty."""
    depth: int = 1
    """How many batches may be in flight. ``submit`` more and it waits for the oldest."""
    recurrent: bool = False
    """Whether the model is a sequence model, whose labels hang on the batches before. Its ``depth`` is 1.

    Image n of every batch is then the next frame of video n: a batch of another length ends them all, as ``reset``.
    """
    _length = 0
    """Of the batch before."""

    def submit(self, frames: NDArray[np.uint8]) -> Ticket:
        """Start labelling a batch.

        Args:
            frames: uint8 (N, H, W, C) of ``spec.size`` and ``spec.channels``, BGR for 3. Leave it alone until ``wait``
                has returned.

        Raises:
            ValueError: ``frames`` has another dtype or shape, or holds no image.
            BackendError: the runtime failed; its own error is the cause.
        """
        shape = (*self.spec.size, self.spec.channels)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
            got = f"{frames.dtype} {frames.shape}"
            raise ValueError(f"frames must be uint8 (N, {', '.join(map(str, shape))}), got {got}")
        if self.recurrent and len(frames) != self._length:
            self.reset()
            self._length = len(frames)
        # Runtimes that read the image where it lies want it in one piece, and refuse memory that is read-only.
        return self._submit(np.require(frames, requirements=("C", "W")))

    def wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        """Class ids, uint8 (N, H, W), valid until ``depth`` further batches are submitted.

        Tickets may be waited for in any order, each once.

        Raises:
            BackendError: the runtime failed on this batch.
        """
        return self._wait(ticket)

    def infer(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``submit`` and ``wait`` in one."""
        return self.wait(self.submit(frames))

    def reset(self) -> None:  # noqa: B027 - most models have nothing to forget
        """Forget the frames before, so that the next batch is the first: at a cut, and where another video begins.

        A model that is not ``recurrent`` remembers nothing. Labels that are promised stay so.
        """

    @abstractmethod
    def _submit(self, frames: NDArray[np.uint8]) -> Ticket: ...

    @abstractmethod
    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]: ...

    def facts(self) -> dict[str, Any]:
        """What labels what, for a report."""
        return {
            "model": self.spec.name,
            "model_sha256": self.model_sha256,
            "size": list(self.spec.size),
            "backend": self.name,
            "precision": self.precision,
            "device": self.device,
            "runtime_version": self.version,
            "chosen": self.chosen,
        }

    def close(self) -> None:  # noqa: B027 - most runtimes free everything with the object
        """Wait for what is in flight and free the runtime's memory. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
