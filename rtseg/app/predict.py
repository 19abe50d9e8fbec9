"""Predict the labels of image files: ``rtseg predict`` as a Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rtseg.app.annotate import AnnotationWriter, annotation_files, open_annotations
from rtseg.app.options import PredictOptions
from rtseg.app.predict_files import check_conflicts, find_unique_images, relative_names, result_stems
from rtseg.app.uncertainty import margin_uncertainty, mirror_disagreement
from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.backends.unsure import SureBackend
from rtseg.errors import SourceError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image, to_bgr
from rtseg.image_io.geotiff import RASTER_SUFFIXES, MaskRaster, Raster, is_large_png
from rtseg.image_io.indexed_png import PalettePngWriter, palette_png
from rtseg.image_io.jobs import Slot
from rtseg.image_io.notes import ImageNotes
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.tiles import label_tiles
from rtseg.preprocess import Prepare, override_steps, preprocess_facts, preprocess_notice, resize_labels
from rtseg.sinks.masks import mask_palette
from rtseg.system.atomic_files import (
    atomic_path,
    check_folder_writable,
    check_writable,
    create_folder,
    locked_output,
    sink_errors,
    write_bytes,
    write_json,
)
from rtseg.system.opencv import cv2
from rtseg.system.read_file import MAX_IMAGE_BYTES, read_bytes
from rtseg.system.redact import redact
from rtseg.visualize.overlay import Overlay, OverlayOptions
from rtseg.weights import find_model

__all__ = ["PredictRun", "Prediction"]

_SUFFIXES = {"masks": ".png", "colours": ".png", "overlays": ".jpg"}
_MAX_NAMED_FAULTS = 3
"""How many unusable images the error message lists."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one image."""

    image: Path
    """Path as given, or as found in a given folder or glob."""
    name: str
    """Unique short name: the path relative to the common folder of all images."""
    size: tuple[int, int] | None = None
    """(H, W) of the image and its results, in pixels; None if the image cannot be used."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of the image covered by each class, in [0, 1]."""
    files: dict[str, Path] = field(default_factory=dict)
    """Result files by kind."""
    fault: str | None = None
    """Short reason why the image cannot be used; None if it can."""
    uncertainty: float | None = None
    """For ``select``: see ``rtseg.app.uncertainty``."""


class PredictRun:
    """Finds the images, opens the model and checks the output. Use it as a context manager.

    The results of ``a.jpg`` are ``masks/a.png``, ``colours/a.png`` and ``overlays/a.jpg`` in the output folder. Images
    from several folders keep their path relative to the common folder, so names are unique: ``x/a.jpg`` and ``y/a.jpg``
    become ``masks/x/a.png`` and ``masks/y/a.png``. If two images in a folder differ only in their suffix, all images in
    that folder keep their suffix: ``a.jpg.png``. Existing files are replaced only with ``overwrite``. The images
    themselves are never replaced.

    Raises:
        RtsegError: An option, the images, the model or the output cannot be used. Nothing has been written.
    """

    def __init__(self, options: PredictOptions) -> None:
        self.options = options
        self._notes = ImageNotes()
        self.images, self._remote = find_unique_images(options.images, self._notes)
        model = find_model(options.model)
        self._names = relative_names(self.images)
        self._stems = result_stems(self._names)
        self._targets = [
            {"masks": options.output / "masks" / f"{stem}.tif"}
            if self._is_raster(path) and path.suffix.lower() in RASTER_SUFFIXES
            else {kind: options.output / kind / f"{stem}{_SUFFIXES[kind]}" for kind in options.kinds}
            for path, stem in zip(self.images, self._stems, strict=True)
        ]
        files = [path for targets in self._targets for path in targets.values()]
        if options.format is not None:
            files += annotation_files(options.format, options.output, self._stems)
        check_conflicts(options, self.images, model, files)
        check_folder_writable(options.output, f"--output {options.output}")
        if options.report is not None:
            check_writable(options.report, f"--report {options.report}", overwrite=options.overwrite)
        overlay_options = OverlayOptions(alpha=options.alpha, hatched=options.unsure is not None)
        self.backend: Backend = open_backend(
            options.backend,
            model,
            size=options.size,
            precision=options.precision,
            device=options.device,
            hint="latency",  # one image at a time
            margin=options.unsure is not None or (options.select is not None and options.by == "margin"),
        )
        if options.unsure is not None:
            self.backend = SureBackend(self.backend, options.unsure)
        self._model_spec = self.backend.spec
        self.spec: ModelSpec = override_steps(self._model_spec, options.preprocess)
        self._prepare = Prepare(self.spec)
        self._overlay, self._colours = Overlay(self.spec, overlay_options), Overlay(self.spec, OverlayOptions("mask"))
        self._palette = mask_palette(self.spec)
        self._uncertainty: dict[int, float] = {}
        self._annotations: AnnotationWriter | None = None
        if options.format is not None:
            self._annotations = open_annotations(
                options.format,
                options.output,
                self.spec,
                tolerance=options.tolerance,
                overwrite=options.overwrite,
            )

    @property
    def notice(self) -> str:
        """Message if the preprocessing steps differ from the model's own; else empty."""
        return preprocess_notice(self._model_spec, self.spec)

    @property
    def reading_notices(self) -> list[str]:
        """What to know about the images, e.g. files that were skipped: one line each. Complete after ``run``."""
        return self._notes.lines

    def run(
        self,
        on_progress: Callable[[Prediction], None] = lambda done: None,
        on_ranked: Callable[[], None] = lambda: None,
    ) -> None:
        """Predict every image, or those of ``select``, and write their results, then the report.

        Args:
            on_progress: Called after each image.
            on_ranked: Called after each image whose uncertainty has been measured, for ``select``.

        Raises:
            SourceError: Some images cannot be used. The others are done.
            SinkError: A result cannot be written. Results written before are complete.
            BackendError: The runtime failed.
        """
        done: list[Prediction] = []
        with ExitStack() as lock:
            if self.options.report is not None:
                name = f"--report {self.options.report}"
                lock.enter_context(locked_output(self.options.report, name, overwrite=self.options.overwrite))
            self._run(done, on_progress, on_ranked)

    def _run(
        self, done: list[Prediction], on_progress: Callable[[Prediction], None], on_ranked: Callable[[], None]
    ) -> None:
        try:
            for index in self._chosen(on_ranked):
                done.append(self._process(index))
                on_progress(done[-1])
        finally:  # an interrupted run also writes its annotations and its report
            if self._annotations is not None:
                self._annotations.close()
            if self.options.report is not None:
                write_json(self.options.report, self._report(done))
        _raise_faults(done)

    def _chosen(self, on_ranked: Callable[[], None]) -> Sequence[int]:
        """Return the indices of the images to process: all, or those of ``select`` and those that cannot be read."""
        if self.options.select is None:
            return range(len(self.images))
        unreadable: list[int] = []
        for index, path in enumerate(self.images):
            image = self._read(path)
            if isinstance(image, str):
                unreadable.append(index)
            else:
                self._uncertainty[index] = self._measure(image)
            on_ranked()
        ranked = sorted(self._uncertainty, key=self._uncertainty.__getitem__, reverse=True)
        return ranked[: self.options.select] + unreadable

    def _measure(self, image: Image) -> float:
        """Return how unsure the model is of an image, as ``by`` says."""
        if self.options.by == "margin":
            return margin_uncertainty(self.backend, self._prepare(image))
        return mirror_disagreement(image, self._predict_labels)

    def _process(self, index: int) -> Prediction:
        path, name, targets = self.images[index], str(self._names[index]), self._targets[index]
        if self._is_raster(path):
            return self._process_raster(path, name, targets)
        image = self._read(path)
        if isinstance(image, str):
            return Prediction(path, name, fault=image)
        labels = self._predict_labels(image)
        for kind, target in targets.items():
            create_folder(target.parent)
            write_bytes(target, self._encode(kind, image, labels))
        if self._annotations is not None:
            annotations = self._annotations.add(path, name, self._stems[index], labels)
            targets = targets | {str(self.options.format): annotations}
        shares = class_shares(labels, len(self.spec.classes)).tolist()
        height, width = labels.shape
        by_class = dict(zip(self.spec.classes, shares, strict=True))
        return Prediction(path, name, (height, width), by_class, targets, uncertainty=self._uncertainty.get(index))

    def _read(self, path: Path) -> Image | str:
        """Return the image, uint8 (H, W, channels), or the reason why it cannot be read."""
        reading, note = self.options.reading, self._notes.for_file(path.name)
        try:
            data = self._read_bytes(path)
            return decode_image(data, self.spec.channels, max_pixels=reading.max_pixels, bits=reading.bits, note=note)
        except OSError as error:
            return error.strerror or "cannot be read"
        except ImageError as error:
            return str(error).removeprefix("is ")

    def _read_bytes(self, path: Path) -> bytes:
        if path not in self._remote:
            return read_bytes(path, MAX_IMAGE_BYTES)
        try:
            return self._remote[path].read(Slot(_nothing, _nothing))
        except OSError:
            raise
        except Exception as error:  # every file system raises its own errors
            raise OSError(0, redact(error)) from error

    def _is_raster(self, path: Path) -> bool:
        """Whether an image is read and written by windows: a TIFF or large PNG of which only the mask is wanted."""
        options = self.options
        by_windows = (
            options.tiles is not None and options.kinds == ("masks",) and not (options.format or options.select)
        )
        if not by_windows or path in self._remote:
            return False
        return path.suffix.lower() in RASTER_SUFFIXES or is_large_png(path)

    def _process_raster(self, path: Path, name: str, targets: dict[str, Path]) -> Prediction:
        """Label a GeoTIFF or PNG window by window; its only result is a file of class IDs of the same kind."""
        counts = np.zeros(len(self.spec.classes))
        target = targets["masks"]

        def write(top: int, left: int, labels: Labels) -> None:
            mask.write(top, left, labels)
            counts[:] += np.bincount(labels.ravel(), minlength=256)[: len(counts)]

        create_folder(target.parent)
        try:
            with Raster(path, self.spec.channels) as raster:
                size = raster.size
                with sink_errors(target), atomic_path(target) as part, self._open_mask(part, target, raster) as mask:
                    self._label_tiles(size, raster.read, write)
        except SourceError as error:
            return Prediction(path, name, fault=str(error).removeprefix(f"{path} "))
        shares = dict(zip(self.spec.classes, (counts / max(1.0, counts.sum())).tolist(), strict=True))
        return Prediction(path, name, size, shares, targets)

    @contextmanager
    def _open_mask(self, part: Path, target: Path, raster: Raster) -> Iterator[MaskRaster | PalettePngWriter]:
        """What writes the mask ``target`` into the file ``part``."""
        if target.suffix != ".png":
            with MaskRaster(part, raster, self._palette) as mask:
                yield mask
            return
        with part.open("wb") as file:
            writer = PalettePngWriter(file, raster.size, self._palette)
            yield writer
            writer.close()

    def _predict_labels(self, image: Image) -> Labels:
        """Return class IDs in the size of the image, valid until the next call."""
        size = (image.shape[0], image.shape[1])
        if self.options.tiles is None:
            return self._predict_window(image)
        labels = np.empty(size, np.uint8)

        def read(window: tuple[int, int, int, int]) -> Image:
            top, left, height, width = window
            return image[top : top + height, left : left + width]

        def write(top: int, left: int, part: Labels) -> None:
            labels[top : top + part.shape[0], left : left + part.shape[1]] = part

        self._label_tiles(size, read, write)
        return labels

    def _label_tiles(
        self,
        size: tuple[int, int],
        read: Callable[[tuple[int, int, int, int]], Image],
        write: Callable[[int, int, Labels], None],
    ) -> None:
        assert self.options.tiles is not None
        label_tiles(size, self.options.tiles, self.options.overlap, read, self._predict_window, write)

    def _predict_window(self, image: Image) -> Labels:
        self.backend.reset()  # images are independent of each other
        labels = self.backend.infer(self._prepare(image)[None])[0]
        return resize_labels(labels, (image.shape[0], image.shape[1]))

    def _encode(self, kind: str, image: Image, labels: Labels) -> bytes:
        if kind == "masks":
            return palette_png(labels, self._palette)
        overlay = self._colours if kind == "colours" else self._overlay
        return cv2.imencode(_SUFFIXES[kind], overlay.draw(to_bgr(image), labels))[1].tobytes()

    def _report(self, done: Sequence[Prediction]) -> dict[str, Any]:
        output = self.options.output
        return {
            **self.backend.facts(),
            **preprocess_facts(self._model_spec, self.spec),
            "output": str(output),
            "notes": self.reading_notices,
            "images": [
                {
                    "image": str(prediction.image),
                    "size": list(prediction.size),
                    "files": {kind: path.relative_to(output).as_posix() for kind, path in prediction.files.items()},
                    "classes": {name: round(share, 5) for name, share in prediction.shares.items()},
                    **({} if prediction.uncertainty is None else {self.options.by: round(prediction.uncertainty, 5)}),
                }
                for prediction in done
                if prediction.size is not None
            ],
            "unusable": [
                {"image": str(prediction.image), "fault": prediction.fault} for prediction in done if prediction.fault
            ],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.backend.close()


def _nothing() -> None:
    """Nothing else waits for the storage."""


def _raise_faults(done: Sequence[Prediction]) -> None:
    faults = [prediction for prediction in done if prediction.fault]
    if not faults:
        return
    names = ", ".join(f"{prediction.image} ({prediction.fault})" for prediction in faults[:_MAX_NAMED_FAULTS])
    more = f" and {len(faults) - _MAX_NAMED_FAULTS} more" if len(faults) > _MAX_NAMED_FAULTS else ""
    rest = "; the others are done" if len(faults) < len(done) else ""
    raise SourceError(f"{len(faults)} of {len(done)} images cannot be used: {names}{more}{rest}")
