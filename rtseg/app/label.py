"""``rtseg label``: boxes are drawn on the images of a folder, one after the other, and become masks."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from rtseg.datasets.boxes import BACKGROUND, FILE, OBJECT, PALETTE, Box, Drawn, box_mask, read_boxes, write_boxes
from rtseg.datasets.paired_files import list_images, read_image
from rtseg.errors import DatasetError, SinkError
from rtseg.frame import Frame, Image
from rtseg.system.display import asks_a_server, choose_qt_platform, connect_display
from rtseg.system.opencv import cv2

__all__ = ["BoxWindow", "Labelling", "Select", "label_folder", "write_masks"]

Select = Callable[[Image, str], list[Box] | None]
"""Lets a person draw on an image, BGR uint8 (H, W, 3), under a title; None when they want to stop."""

_LARGEST: Final = (1280, 720)  # (W, H) of an image in the window
_TITLE: Final = "rtseg label"
_HELP: Final = "drag a box, Enter keeps it; Esc when all are drawn"
_ASK: Final = "Enter: next   r: draw again   q: stop"
_POLL_MS: Final = 50


@dataclass(frozen=True, slots=True)
class Labelling:
    """How far a folder is labelled."""

    images: int
    labelled: int
    boxes: int
    damaged: tuple[str, ...]
    """Names of images that cannot be read; they are passed over."""


def label_folder(folder: Path, open_select: Callable[[], contextlib.AbstractContextManager[Select]]) -> Labelling:
    """Have boxes drawn on every image of ``folder`` that ``boxes.csv`` does not name yet.

    The file is written after each image, so that nothing is lost and the next call goes on there.

    Args:
        folder: its images are taken in natural order.
        open_select: opens what draws; not called when nothing is left to be drawn.

    Raises:
        DatasetError: there are no images, or ``boxes.csv`` is malformed.
        SinkError: ``boxes.csv`` cannot be written, or no window can be shown.
    """
    paths = list_images(folder)
    if not paths:
        raise DatasetError(f"{folder} holds no images: nothing to label")
    listing = folder / FILE
    drawn = read_boxes(listing) if listing.exists() else {}
    left = [path for path in paths if path.name not in drawn]
    damaged: list[str] = []
    if left:
        write_boxes(listing, drawn)  # better to know now that it cannot be written
        with open_select() as select:
            for path in left:
                try:
                    image = read_image(path)
                except DatasetError:
                    damaged.append(path.name)
                    continue
                boxes = select(image, f"{path.name}, {len(drawn) + 1} of {len(paths)}")
                if boxes is None:
                    break
                drawn[path.name] = Drawn(tuple(boxes), (image.shape[0], image.shape[1]))
                write_boxes(listing, drawn)
    names = {path.name for path in paths}
    count = sum(len(entry.boxes) for entry in drawn.values())
    return Labelling(len(paths), len(names & drawn.keys()), count, tuple(damaged))


def write_masks(folder: Path, listing: Path, output: Path) -> int:
    """Write the mask of every image that ``listing`` names as a palette PNG: 0 background, 1 object.

    Args:
        folder: of the images.
        listing: a file as ``rtseg label`` writes it.
        output: folder of the masks; ``a.jpg`` gets ``a.png``. A mask of an earlier call is replaced, nothing else.

    Returns:
        The number of masks.

    Raises:
        DatasetError: the list is malformed, or an image is missing or does not fit its boxes.
        SinkError: a mask cannot be written, or stands in the place of another file.
    """
    from rtseg.model_file.spec import ModelSpec
    from rtseg.sinks.masks import MasksSink

    drawn = read_boxes(listing)
    if not drawn:
        raise DatasetError(f"{listing} names no image: there is no mask to write")
    sink = MasksSink(output, ModelSpec("boxes", (BACKGROUND, OBJECT), PALETTE, (1, 1)))
    for index, (name, entry) in enumerate(drawn.items()):
        image = read_image(folder / name)
        labels = box_mask(entry, image, folder / name)
        sink.write(Frame(image, index, 0.0, 0.0, name), labels, None)
    sink.close()
    return sink.written


class BoxWindow:
    """A window in which boxes are drawn with ``cv2.selectROIs``: a ``Select`` that is opened and closed.

    On each image: drag a box and press Enter, as often as there are objects, then Esc. Then Enter goes on, ``r``
    begins the image again, and ``q``, Esc or closing the window stops without keeping it. While boxes are drawn,
    OpenCV opens a window that was closed again, and Ctrl-C ends the process.

    Raises:
        SinkError: no display answers, or OpenCV was built without windows.
    """

    def __init__(self) -> None:
        self._display: socket.socket | None = connect_display() if asks_a_server() else None
        if self._display is None and asks_a_server():
            raise SinkError(
                "boxes are drawn in a window, and no display answers: label where there is one, then "
                f"`rtseg label FOLDER --from {FILE} --output MASKS` needs none"
            )

    def __enter__(self) -> Self:
        choose_qt_platform()
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise SinkError(
                "this OpenCV shows no windows: pip uninstall opencv-python-headless, "
                "pip install --force-reinstall opencv-python"
            ) from error
        finally:
            self._let_display_go()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_display_go()
        with contextlib.suppress(cv2.error):  # the viewer closed it
            cv2.destroyWindow(_TITLE)
            cv2.waitKey(1)

    def __call__(self, image: Image, title: str) -> list[Box] | None:
        """See ``Select``."""
        height, width = image.shape[:2]
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shown = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        while True:
            cv2.setWindowTitle(_TITLE, f"{title}: {_HELP}")
            with _ctrl_c_ends_at_once():
                drawn = cv2.selectROIs(_TITLE, shown, showCrosshair=False, printNotice=False)
            if not self._visible():
                return None
            rois = [roi for roi in np.reshape(drawn, (-1, 4)).tolist() if roi[2] > 0 and roi[3] > 0]
            boxes = [_to_image(roi, size, (width, height)) for roi in rois]
            preview = np.array(shown)
            for roi in rois:
                cv2.rectangle(preview, roi, PALETTE[1][::-1], 2)
            cv2.setWindowTitle(_TITLE, f"{title}: {len(boxes)} boxes.  {_ASK}")
            cv2.imshow(_TITLE, preview)
            answer = self._ask()
            if answer != "again":
                return boxes if answer == "keep" else None

    def _ask(self) -> str:
        keys = {13: "keep", 10: "keep", 32: "keep", ord("r"): "again", ord("q"): "stop", 27: "stop"}
        while self._visible():
            answer = keys.get(cv2.waitKey(_POLL_MS) & 0xFF)
            if answer is not None:
                return answer
        return "stop"

    def _visible(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:
            return False

    def _let_display_go(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None


@contextlib.contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without Python, which is not asked while OpenCV waits for a box. Nothing is lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _to_image(roi: list[int], shown: tuple[int, int], size: tuple[int, int]) -> Box:
    """The box of the image, (W, H) = ``size``, that covers ``roi`` = (x, y, w, h) of what was shown, ``shown``."""
    edges = []
    for start, length, small, large in zip(roi[:2], roi[2:], shown, size, strict=True):
        first = max(0, min(large - 1, round(start * large / small)))
        last = max(first + 1, min(large, round((start + length) * large / small)))
        edges.append((first, last - first))
    (x, width), (y, height) = edges
    return Box(x, y, width, height)
