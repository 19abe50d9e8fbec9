"""Draw boxes on the images of a folder and convert them to masks: ``rtseg label`` as a Python API."""

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

from rtseg.datasets.boxes import (
    BACKGROUND,
    BOXES_FILE,
    OBJECT,
    PALETTE,
    Box,
    ImageBoxes,
    box_mask,
    read_boxes,
    write_boxes,
)
from rtseg.datasets.paired_files import list_images, read_image
from rtseg.errors import DatasetError, SinkError
from rtseg.frame import Frame, Image
from rtseg.system.display import choose_qt_platform, connect_display, needs_display_server
from rtseg.system.opencv import cv2

__all__ = ["BoxWindow", "DrawBoxes", "LabellingProgress", "label_folder", "write_masks"]

DrawBoxes = Callable[[Image, str], list[Box] | None]
"""Lets the user draw boxes on an image, BGR uint8 (H, W, 3), below a title. Returns None if the user stops."""

_MAX_SIZE: Final = (1280, 720)  # largest (W, H) of an image in the window
_TITLE: Final = "rtseg label"
_HELP: Final = "drag a box and press Enter; Esc when done"
_ASK: Final = "Enter: next   r: draw again   q: stop"
_POLL_MS: Final = 50


@dataclass(frozen=True, slots=True)
class LabellingProgress:
    """How many images of a folder are labelled."""

    images: int
    labelled: int
    boxes: int
    damaged: tuple[str, ...]
    """Names of images that cannot be read and were skipped."""


def label_folder(
    folder: Path, open_window: Callable[[], contextlib.AbstractContextManager[DrawBoxes]]
) -> LabellingProgress:
    """Let the user draw boxes on every image of ``folder`` that is not in ``boxes.csv`` yet.

    ``boxes.csv`` is written after each image, so no work is lost and the next call continues there.

    Args:
        folder: Folder with the images, which are shown in natural order.
        open_window: Opens the drawing window. Not called if all images are labelled.

    Raises:
        DatasetError: There are no images, or ``boxes.csv`` is malformed.
        SinkError: ``boxes.csv`` cannot be written, or no window can be shown.
    """
    paths = list_images(folder)
    if not paths:
        raise DatasetError(f"{folder} contains no images: nothing to label")
    listing = folder / BOXES_FILE
    drawn = read_boxes(listing) if listing.exists() else {}
    remaining = [path for path in paths if path.name not in drawn]
    damaged: list[str] = []
    if remaining:
        write_boxes(listing, drawn)  # fail early if it cannot be written
        with open_window() as draw_boxes:
            for path in remaining:
                try:
                    image = read_image(path)
                except DatasetError:
                    damaged.append(path.name)
                    continue
                boxes = draw_boxes(image, f"{path.name}, {len(drawn) + 1} of {len(paths)}")
                if boxes is None:
                    break
                drawn[path.name] = ImageBoxes(tuple(boxes), (image.shape[0], image.shape[1]))
                write_boxes(listing, drawn)
    names = {path.name for path in paths}
    count = sum(len(entry.boxes) for entry in drawn.values())
    return LabellingProgress(len(paths), len(names & drawn.keys()), count, tuple(damaged))


def write_masks(folder: Path, listing: Path, output: Path) -> int:
    """Write the mask of every image in ``listing`` as a palette PNG: 0 is background, 1 is object.

    Args:
        folder: Folder with the images.
        listing: The ``boxes.csv`` of ``rtseg label``.
        output: Folder for the masks; the mask of ``a.jpg`` is ``a.png``. Only masks of earlier calls are replaced.

    Returns:
        The number of masks.

    Raises:
        DatasetError: The list is malformed, or an image is missing or has another size than its boxes.
        SinkError: A mask cannot be written, or would replace another file.
    """
    from rtseg.model_file.spec import ModelSpec
    from rtseg.sinks.masks import MasksSink

    drawn = read_boxes(listing)
    if not drawn:
        raise DatasetError(f"{listing} lists no images: draw boxes first")
    sink = MasksSink(output, ModelSpec("boxes", (BACKGROUND, OBJECT), PALETTE, (1, 1)))
    for index, (name, entry) in enumerate(drawn.items()):
        image = read_image(folder / name)
        labels = box_mask(entry, image, folder / name)
        sink.write(Frame(image, index, 0.0, 0.0, name), labels, None)
    sink.close()
    return sink.written


class BoxWindow:
    """A window to draw boxes with ``cv2.selectROIs``. A context manager that is also a ``DrawBoxes`` function.

    On each image: drag a box and press Enter, repeat for each object, then press Esc. Then Enter continues with the
    next image, ``r`` restarts the image, and ``q``, Esc or closing the window stops without saving the image. While
    boxes are drawn, OpenCV reopens a closed window, and Ctrl-C ends the process.

    Raises:
        SinkError: There is no display, or OpenCV was built without windows.
    """

    def __init__(self) -> None:
        self._display: socket.socket | None = connect_display() if needs_display_server() else None
        if self._display is None and needs_display_server():
            raise SinkError(
                "cannot open a window to draw boxes, there is no display: draw them on another machine, then "
                f"`rtseg label FOLDER --from {BOXES_FILE} --output MASKS` needs no display"
            )

    def __enter__(self) -> Self:
        choose_qt_platform()
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise SinkError(
                "this OpenCV cannot show windows: pip uninstall opencv-python-headless, "
                "pip install --force-reinstall opencv-python"
            ) from error
        finally:
            self._close_display()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_display()
        with contextlib.suppress(cv2.error):  # the user closed it
            cv2.destroyWindow(_TITLE)
            cv2.waitKey(1)

    def __call__(self, image: Image, title: str) -> list[Box] | None:
        """Let the user draw boxes, see ``DrawBoxes``."""
        height, width = image.shape[:2]
        scale = min(1.0, _MAX_SIZE[0] / width, _MAX_SIZE[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shown = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        while True:
            cv2.setWindowTitle(_TITLE, f"{title}: {_HELP}")
            with _ctrl_c_kills_process():
                drawn = cv2.selectROIs(_TITLE, shown, showCrosshair=False, printNotice=False)
            if not self._visible():
                return None
            rois = [roi for roi in np.reshape(drawn, (-1, 4)).tolist() if roi[2] > 0 and roi[3] > 0]
            boxes = [_to_image_box(roi, size, (width, height)) for roi in rois]
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

    def _close_display(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None


@contextlib.contextmanager
def _ctrl_c_kills_process() -> Iterator[None]:
    """Let Ctrl-C kill the process: Python handles no signals while OpenCV waits for a box. All boxes are saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _to_image_box(roi: list[int], shown: tuple[int, int], size: tuple[int, int]) -> Box:
    """Convert ``roi`` = (x, y, w, h) in the window, (W, H) = ``shown``, to a box of the image, (W, H) = ``size``."""
    edges = []
    for start, length, small, large in zip(roi[:2], roi[2:], shown, size, strict=True):
        first = max(0, min(large - 1, round(start * large / small)))
        last = max(first + 1, min(large, round((start + length) * large / small)))
        edges.append((first, last - first))
    (x, width), (y, height) = edges
    return Box(x, y, width, height)
