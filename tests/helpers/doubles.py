"""Fake source, backend and sink that check that their interfaces are used correctly.

``make_image(number)`` has one colour, which encodes the number, and ``FakeBackend`` labels it with that number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from threading import Event, Semaphore

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rtseg.backends.base import Backend, Ticket
from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.sinks.base import Sink
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions

CLASSES = 200
UINT8 = onnx.TensorProto.UINT8
SIZE = (16, 24)
WAIT_S = 20.0
"""Longest wait for another thread, in seconds. Reached only if a test fails."""


def wide_spec(size: tuple[int, int] = SIZE, **facts: object) -> ModelSpec:
    """A model with enough classes for labels to encode frame numbers."""
    names = tuple(f"class {number}" for number in range(CLASSES))
    palette = tuple((number, 255 - number, 7) for number in range(CLASSES))
    return ModelSpec("wide", names, palette, size, **facts)  # type: ignore[arg-type]


def make_image(number: int, size: tuple[int, int] = (32, 48)) -> Image:
    """An image of one colour: blue is the number, modulo the number of classes."""
    return np.full((*size, 3), (number % CLASSES, 90, 160), np.uint8)


def await_event(event: Event) -> None:
    """Wait for another thread, but not forever."""
    assert event.wait(WAIT_S), "the other thread did not get that far"


def blue_graph(
    *,
    frames: tuple[str, int, list[int | str]] = ("frames", UINT8, ["N", 4, 6, 3]),
    labels: tuple[str, int, list[int | str]] = ("labels", UINT8, ["N", 4, 6]),
    casts: bool = True,
) -> onnx.ModelProto:
    """The smallest valid model: the class of each pixel is its blue value. TensorRT needs the casts."""
    source, target = ("cast", "plane") if casts else (frames[0], labels[0])
    nodes = [
        helper.make_node("Slice", [source, "start", "end", "axes"], ["blue"]),
        helper.make_node("Squeeze", ["blue", "axes"], [target]),
    ]
    if casts:
        nodes.insert(0, helper.make_node("Cast", [frames[0]], [source], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Cast", [target], [labels[0]], to=labels[1]))
    weights = [
        numpy_helper.from_array(np.array([value]), name) for name, value in (("start", 0), ("end", 1), ("axes", 3))
    ]
    inputs, outputs = [helper.make_tensor_value_info(*frames)], [helper.make_tensor_value_info(*labels)]
    return helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,  # all runtimes support it; the default of onnx may be newer
    )


class FakeSource(Source):
    """Yields images at 25 per second, then raises ``error``, if any.

    Args:
        frames: how many; None for an endless source.
        live: whether frames may be dropped.
        error: raised after the last frame.
        before: called on the reading thread before each frame, with its number.
        sizes: sizes (H, W) of the frames, used in turn.
        stalls: after the last frame, yield nothing until ``stop``, like an unplugged camera.
    """

    def __init__(
        self,
        frames: int | None = 10,
        *,
        live: bool = False,
        error: Exception | None = None,
        before: Callable[[int], None] = lambda number: None,
        sizes: Sequence[tuple[int, int]] = ((32, 48),),
        stalls: bool = False,
        options: SourceOptions | None = None,
    ) -> None:
        super().__init__("fake", options or SourceOptions())
        self.live = live
        self.closed = 0
        self.stalling = Event()
        self._frames = frames
        self._error = error
        self._before = before
        self._sizes = sizes
        self._stalls = stalls

    def _read(self) -> Iterator[Frame]:
        try:
            for number in count() if self._frames is None else range(self._frames):
                self._before(number)
                size = self._sizes[number % len(self._sizes)]
                yield Frame(make_image(number, size), number, number / 25, time.monotonic())
            if self._stalls:
                self.stalling.set()
                self._stop.wait(WAIT_S)
            if self._error is not None:
                raise self._error
        finally:
            self.closed += 1


class FakeBackend(Backend):
    """Labels every pixel with the blue value of its image, at most the last class.

    It reuses its buffers as soon as the interface allows.

    Labels that were not copied before ``depth`` further batches become void. Frames that change before ``wait`` and
    tickets that are not waited for raise AssertionError.

    Args:
        depth: batches in flight.
        gate: ``wait`` acquires it, so that a test controls the speed of the model.
        fails_at: where it fails, and the number of that batch: ``("submit", 3)``.
        error: the error that it raises there.
        recurrent: whether it is a sequence model; ``resets`` lists the batches before which it was reset.
    """

    name = "fake"
    precision = "fp32"
    device = "CPU"
    version = "1"
    model_sha256 = "0" * 64

    def __init__(
        self,
        spec: ModelSpec | None = None,
        *,
        depth: int = 1,
        gate: Semaphore | None = None,
        fails_at: tuple[str, int] | None = None,
        error: Exception | None = None,
        recurrent: bool = False,
    ) -> None:
        self.recurrent = recurrent
        self.resets: list[int] = []
        self.spec = spec or wide_spec()
        self.depth = depth
        self.most_in_flight = 0
        self.submitted = 0
        self.closed = 0
        self.first_submitted = Event()
        self._gate = gate
        self._fails_at = fails_at
        self._error = error
        self._buffers = np.full((depth, *self.spec.size), VOID, np.uint8)
        self._waited = [True] * depth

    def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
        assert len(frames) == 1, "a pipeline sends one image at a time"
        number = self.submitted
        self._fail("submit", number)
        slot = number % self.depth
        assert self._waited[slot], f"batch {number} was submitted before waiting for batch {number - self.depth}"
        self._waited[slot] = False
        self._buffers[slot] = VOID  # these labels are no longer valid
        self.submitted += 1
        self.most_in_flight = max(self.most_in_flight, self._waited.count(False))
        self.first_submitted.set()
        return Ticket((number, frames.copy()), frames)

    def _wait(self, ticket: Ticket) -> NDArray[np.uint8]:
        number, as_submitted = ticket.handle
        if self._gate is not None:
            assert self._gate.acquire(timeout=WAIT_S), "the test never released the gate"
        self._fail("wait", number)
        assert np.array_equal(ticket.frames, as_submitted), f"batch {number} was modified while in flight"
        slot = number % self.depth
        self._waited[slot] = True
        self._buffers[slot] = np.minimum(as_submitted[0, ..., 0], len(self.spec.classes) - 1)
        return self._buffers[slot][None]

    def reset(self) -> None:
        if self.submitted not in self.resets:  # a second reset changes nothing
            self.resets.append(self.submitted)

    def _fail(self, where: str, number: int) -> None:
        if self._fails_at == (where, number) and self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


class FakeSink(Sink):
    """Records the frames, labels and rendered images.

    Args:
        fails_at: how many frames to accept before raising ``error``.
        error: the error to raise.
        awaited: number of frames after which ``full`` is set.
        before: called with the number of each frame before it is recorded.
    """

    kind = "memory"
    name = "memory"

    def __init__(
        self,
        *,
        needs_rendered: bool = False,
        fails_at: int | None = None,
        error: SinkError | None = None,
        awaited: int = 1,
        before: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.needs_rendered = needs_rendered
        self.full = Event()
        self.closed = 0
        self.indices: list[int] = []
        self.times_s: list[float] = []
        self.captured_s: list[float] = []
        self.labels: list[Labels] = []
        self.sizes: list[tuple[int, ...]] = []
        self.rendered: list[Image | None] = []
        self._fails_at = fails_at
        self._error = error
        self._awaited = awaited
        self._before = before

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        self._before(frame.index)
        if self._error is not None and len(self.indices) == self._fails_at:
            raise self._error
        self.indices.append(frame.index)
        self.times_s.append(frame.pts_s)
        self.captured_s.append(frame.captured_s)
        self.labels.append(labels)  # not copied, to find out whether they change later
        self.sizes.append(frame.image.shape[:2])
        self.rendered.append(rendered)
        self.written += 1
        if self.written >= self._awaited:
            self.full.set()

    def close(self) -> None:
        self.closed += 1
