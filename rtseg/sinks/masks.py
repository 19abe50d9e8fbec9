"""Class maps as palette PNGs, one per frame."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.image_io.indexed_png import SOFTWARE_TAG, TAG_SEARCH_BYTES, palette_png
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import atomic_path, check_folder_writable, failure_reason
from rtseg.system.output_lock import locked_folder

__all__ = ["MasksSink", "mask_palette"]

_VOID_COLOUR = (224, 224, 192)  # as in PASCAL VOC


class MasksSink(Sink):
    """Writes one PNG per frame: each pixel is the class ID, 255 is void, and the palette is that of the model.

    The mask of ``a.jpg`` is ``a.png``; the mask of a video frame is named by the index, ``000123.png``. If two images
    of a run have the same stem, the second mask keeps the suffix (``a.jpg.png``) and further ones get their index too.
    Masks of an earlier run are replaced. Other files are not: ``--masks`` in the folder of the images must not destroy
    them. A mask gets its name only when it is complete; masks are not synced to the disk one by one.
    """

    kind = "masks"
    needs_rendered = False

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Create the folder, and check that it can be written. ``close`` removes it if no frame came.

        Raises:
            SinkError: it is a file, no file can be created there, or another run is writing into it.
        """
        self.folder = folder
        self.name = f"masks {folder}"
        self._palette = mask_palette(spec)
        self._used: set[str] = set()
        check_folder_writable(folder, self.name)
        self._lock = ExitStack()
        self._lock.enter_context(locked_folder(folder, "--masks"))

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Write the mask of one frame; see ``Sink``."""
        path = self.folder / f"{self._stem(frame)}.png"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
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
        with path.open("rb") as file:
            if SOFTWARE_TAG not in file.read(TAG_SEARCH_BYTES):
                raise SinkError(f"{path} exists and is not a mask of rtseg: choose another folder for the masks")


def mask_palette(spec: ModelSpec) -> NDArray[np.uint8]:
    """RGB of every label, uint8 (256, 3): the colours of the classes and of void."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(spec.palette)] = spec.palette
    palette[VOID] = _VOID_COLOUR
    return palette
