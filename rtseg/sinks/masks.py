"""Class maps as palette PNGs, one per frame, or in one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from errno import ENOENT
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.image_io.indexed_png import SOFTWARE_TAG, TAG_SEARCH_BYTES, palette_png
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import OutputExists, atomic_path, check_folder_writable, failure_reason
from rtseg.system.output_lock import is_open_folder, locked_folder

__all__ = ["MasksSink", "mask_palette", "open_masks"]

_VOID_COLOUR = (224, 224, 192)  # as in PASCAL VOC

_OTHER_VIDEOS = (".mp4", ".mov", ".avi", ".webm")


def open_masks(
    path: Path, spec: ModelSpec, *, fps_hint: Callable[[], float | None] = lambda: None, overwrite: bool = False
) -> Sink:
    """Open the sink that the form of ``path`` asks for: ``.json``, ``.mkv``, or a folder of PNG files.

    Args:
        path: a COCO file of run-length codes, a video of class IDs, or a folder.
        spec: of the model that makes the labels.
        fps_hint: returns the nominal frame rate of the source, for the header of a video.
        overwrite: whether existing masks may be replaced.

    Raises:
        OptionError: the suffix of a video that cannot hold class IDs without loss.
        SinkError: see the sinks.
    """
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix == ".json":
        from rtseg.sinks.annotations import open_coco_masks

        return open_coco_masks(path, spec, overwrite=overwrite)
    if suffix == ".mkv":
        from rtseg.sinks.mask_video import MaskVideoSink

        return MaskVideoSink(path, spec, fps_hint=fps_hint, overwrite=overwrite)
    if suffix in _OTHER_VIDEOS:
        raise OptionError(f"--masks {path}: class IDs are written without loss as .mkv; a folder gets PNG files")
    return MasksSink(path, spec, overwrite=overwrite)


class MasksSink(Sink):
    """Writes one PNG per frame: each pixel is the class ID, 255 is void, and the palette is that of the model.

    The mask of ``a.jpg`` is ``a.png``; the mask of a video frame is named by the index, ``000123.png``. If two images
    of a run have the same stem, the second mask keeps the suffix (``a.jpg.png``) and further ones get their index too.
    Masks of an earlier run are only replaced with ``overwrite``, and other files never: ``--masks`` in the folder of
    the images must not destroy them. A mask gets its name only when it is complete; masks are not synced to the disk
    one by one.
    """

    kind = "masks"
    needs_rendered = False

    def __init__(self, folder: Path, spec: ModelSpec, *, overwrite: bool = False) -> None:
        """Create the folder, and check that it can be written. ``close`` removes it if no frame came.

        Args:
            folder: for the masks.
            spec: of the model that makes the labels.
            overwrite: whether masks of an earlier run may be replaced.

        Raises:
            OutputExists: there are such masks, and they must not be replaced.
            SinkError: it is a file, no file can be created there, or another run is writing into it.
        """
        self.folder = folder
        self.name = f"masks {folder}"
        self._palette = mask_palette(spec)
        self._used: set[str] = set()
        check_folder_writable(folder, self.name)
        self._lock = ExitStack()
        self._descriptor = self._lock.enter_context(locked_folder(folder, "--masks"))
        if not overwrite and _holds_masks(folder):
            self._lock.close()
            raise OutputExists(f"{self.name} holds masks of an earlier run: give another folder, or add --overwrite")

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write the mask of one frame; see ``Sink``."""
        path = self.folder / f"{self._stem(frame)}.png"
        try:
            if not is_open_folder(self._descriptor, self.folder):
                raise FileNotFoundError(ENOENT, "another program has renamed or deleted the folder")
            self._refuse_other_file(path)
            with atomic_path(path) as part:
                part.write_bytes(palette_png(labels, self._palette))
        except SinkError:
            raise
        except OSError as error:
            raise SinkError(
                f"{self.name} ended, {failure_reason(error)}; {self.written} masks are there. "
                "Free some space or choose another folder"
            ) from error
        self.written += 1

    def close(self) -> None:
        """Let other runs write into the folder; see ``Sink``."""
        self._lock.close()

    def _stem(self, frame: Frame) -> str:
        if frame.name is None:
            return f"{frame.index:06d}"
        name = Path(frame.name)
        for stem in (name.stem, name.name):
            if stem not in self._used:
                self._used.add(stem)
                return stem
        return f"{name.name}.{frame.index:06d}"

    def _refuse_other_file(self, path: Path) -> None:
        if not path.exists():
            return
        if path.is_fifo():
            raise SinkError(f"{path} is a FIFO: choose another folder for the masks")
        if not _is_mask(path):
            raise SinkError(f"{path} exists and is not a mask of rtseg: choose another folder for the masks")


def _holds_masks(folder: Path) -> bool:
    """Whether a PNG in ``folder`` is a mask of rtseg."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".png") and entry.is_file())
    return any(_is_mask(folder / name) for name in names)


def _is_mask(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return SOFTWARE_TAG in file.read(TAG_SEARCH_BYTES)
    except PermissionError:
        return False


def mask_palette(spec: ModelSpec) -> NDArray[np.uint8]:
    """RGB of every label, uint8 (256, 3): the colours of the classes and of void."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(spec.palette)] = spec.palette
    palette[VOID] = _VOID_COLOUR
    return palette
