"""Labels of single images: what ``rtseg predict`` does, for programs too."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rtseg.backends import open_backend
from rtseg.backends.base import Backend
from rtseg.errors import OptionError, SinkError, SourceError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image, to_bgr
from rtseg.image_io.find import find_images
from rtseg.image_io.indexed_png import palette_png
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import Prepare, override_steps, preprocess_facts, preprocess_notice, resize_labels
from rtseg.sinks.masks import mask_palette
from rtseg.system.atomic_files import check_folder_writable, check_writable, write_bytes, write_text
from rtseg.system.opencv import cv2
from rtseg.visualize.overlay import Overlay, OverlayOptions
from rtseg.weights import DEFAULT_MODEL, find_model

__all__ = ["RESULTS", "PredictOptions", "PredictRun", "Prediction"]

RESULTS = ("masks", "colours", "overlays")
"""``masks``: class ids as palette PNG. ``colours``: the colours of the classes as RGB PNG. ``overlays``: these over the
image, as JPEG. Each is a folder in the output."""

_SUFFIXES = {"masks": ".png", "colours": ".png", "overlays": ".jpg"}
_NAMED = 3
"""Unusable images that the last message names."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Which images to label, with what, and where the results go.

    Raises:
        OptionError: ``only`` names nothing, or something that there is not.
    """

    images: tuple[str | Path, ...]
    """Files, folders (without their subfolders) and globs."""
    output: Path
    """Folder of the results; it is made."""
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    size: tuple[int, int] | None = None
    """(H, W) of the model's input, in pixels; the model's own unless given."""
    preprocess: tuple[str, ...] | None = None
    """Steps in place of those that the model file names; see ``rtseg.preprocess``."""
    alpha: float = 0.5
    """Weight of the class colour in overlays, 0 to 1."""
    only: tuple[str, ...] = RESULTS
    """Which of ``RESULTS`` to write."""
    overwrite: bool = False
    """Whether results may take the place of files that are there already."""
    report: Path | None = None
    """A JSON file about every image."""

    def __post_init__(self) -> None:
        strange = [kind for kind in self.only if kind not in RESULTS]
        if strange or not self.only:
            got = ", ".join(map(repr, strange)) or "nothing"
            raise OptionError(f"--only wants some of {', '.join(RESULTS)}, with commas between them; got {got}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one image."""

    image: Path
    """As it was given, or found in what was given."""
    name: str
    """As seen from the folder that holds all images of the run: short, and of no other."""
    size: tuple[int, int] | None = None
    """(H, W) of the image and of its results, in pixels; None where it cannot be used."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of the image that each class covers, in [0, 1]."""
    files: dict[str, Path] = field(default_factory=dict)
    """The results, by their kind."""
    fault: str | None = None
    """Why the image cannot be used, in a few words; None if it can."""


class PredictRun:
    """Images, a model and an empty place for the results, found and checked; use it in ``with``.

    The results of ``a.jpg`` are ``masks/a.png``, ``colours/a.png`` and ``overlays/a.jpg`` in the output. Images of
    several folders keep their folders, as seen from the one that holds them all, so that no two meet: ``x/a.jpg`` and
    ``y/a.jpg`` become ``masks/x/a.png`` and ``masks/y/a.png``. In a folder where two images differ in their suffix
    alone all keep it: ``a.jpg.png``. A file that is there already is replaced with ``overwrite`` only, and the images
    themselves never are.

    Raises:
        RtsegError: an option, the images, the model or the output cannot be used; nothing has been written.
    """

    def __init__(self, options: PredictOptions) -> None:
        self.options = options
        self.images = _find_all(options.images)
        model = find_model(options.model)
        self._names = _short_names(self.images)
        self._targets = [
            {kind: options.output / kind / f"{stem}{_SUFFIXES[kind]}" for kind in options.only}
            for stem in _result_stems(self._names)
        ]
        _refuse_clashes(options, self.images, model, [path for each in self._targets for path in each.values()])
        check_folder_writable(options.output, f"--output {options.output}")
        if options.report is not None:
            check_writable(options.report, f"--report {options.report}")
        painter = OverlayOptions(alpha=options.alpha)
        self.backend: Backend = open_backend(
            options.backend,
            model,
            size=options.size,
            precision=options.precision,
            device=options.device,
            hint="latency",  # one image after the other
        )
        self._own = self.backend.spec
        self.spec: ModelSpec = override_steps(self._own, options.preprocess)
        self._prepare = Prepare(self.spec)
        self._overlay, self._colours = Overlay(self.spec, painter), Overlay(self.spec, OverlayOptions("mask"))
        self._palette = mask_palette(self.spec)

    @property
    def notice(self) -> str:
        """What to tell the user of steps that are not the model's own; empty where they are."""
        return preprocess_notice(self._own, self.spec)

    def run(self, on_progress: Callable[[Prediction], None] = lambda done: None) -> None:
        """Label every image and write its results, then the report.

        Args:
            on_progress: called after every image.

        Raises:
            SourceError: images could not be used; all others are done.
            SinkError: a result cannot be written; what was written before is whole.
            BackendError: the runtime failed.
        """
        done: list[Prediction] = []
        try:
            for path, name, targets in zip(self.images, self._names, self._targets, strict=True):
                done.append(self._predict(path, str(name), targets))
                on_progress(done[-1])
        finally:  # an interrupted run tells of what it did
            if self.options.report is not None:
                write_text(self.options.report, json.dumps(self._report(done), indent=2, ensure_ascii=False) + "\n")
        _refuse_faults(done)

    def _predict(self, path: Path, name: str, targets: dict[str, Path]) -> Prediction:
        image = _read(path, self.spec.channels)
        if isinstance(image, str):
            return Prediction(path, name, fault=image)
        labels = self._label(image)
        for kind, target in targets.items():
            _write(target, self._encode(kind, image, labels))
        shares = class_shares(labels, len(self.spec.classes)).tolist()
        height, width = labels.shape
        return Prediction(path, name, (height, width), dict(zip(self.spec.classes, shares, strict=True)), targets)

    def _label(self, image: Image) -> Labels:
        """Class ids at the size of the image, valid until the next call."""
        self.backend.reset()  # the image before has nothing to do with this one
        labels = self.backend.infer(self._prepare(image)[None])[0]
        return resize_labels(labels, (image.shape[0], image.shape[1]))

    def _encode(self, kind: str, image: Image, labels: Labels) -> bytes:
        if kind == "masks":
            return palette_png(labels, self._palette)
        painter = self._colours if kind == "colours" else self._overlay
        return cv2.imencode(_SUFFIXES[kind], painter.draw(to_bgr(image), labels))[1].tobytes()

    def _report(self, done: Sequence[Prediction]) -> dict[str, Any]:
        output = self.options.output
        return {
            **self.backend.facts(),
            **preprocess_facts(self._own, self.spec),
            "output": str(output),
            "images": [
                {
                    "image": str(each.image),
                    "size": list(each.size),
                    "files": {kind: path.relative_to(output).as_posix() for kind, path in each.files.items()},
                    "classes": {name: round(share, 5) for name, share in each.shares.items()},
                }
                for each in done
                if each.size is not None
            ],
            "unusable": [{"image": str(each.image), "fault": each.fault} for each in done if each.fault],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.backend.close()


def _find_all(places: Sequence[str | Path]) -> list[Path]:
    """The images of all places, in their order, each once.

    Raises:
        SourceNotFound: a place holds none.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for path in find_images(place):
            found.setdefault(_absolute(path), path)
    return list(found.values())


def _short_names(images: Sequence[Path]) -> list[Path]:
    """Each image as seen from the folder that holds them all."""
    paths = [_absolute(path) for path in images]
    shared = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(shared) for path in paths]


def _result_stems(names: Sequence[Path]) -> list[Path]:
    """Where the results of each image lie in the folder of their kind, without their suffix: each another place."""
    stems = Counter(name.with_suffix("") for name in names)
    crowded = {stem.parent for stem, count in stems.items() if count > 1}
    return [name if name.parent in crowded else name.with_suffix("") for name in names]


def _absolute(path: Path) -> Path:
    """Without ``..``, yet with links as they are: an image is called by the name that the user sees."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links


def _refuse_clashes(options: PredictOptions, images: Sequence[Path], model: Path, targets: Sequence[Path]) -> None:
    """No result may take the place of an image, of the model or of another result.

    Raises:
        OptionError: one would; or there are results already, and they are not to be replaced.
    """
    inputs = {os.path.realpath(path) for path in (*images, model)}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise OptionError(f"a result would replace {target}, which is to be read: give another --output")
    taken = inputs | {os.path.realpath(target) for target in targets}
    if options.report is not None and os.path.realpath(options.report) in taken:
        raise OptionError(f"--report {options.report} is an image, a result or the model: give another name")
    there = [target for target in targets if target.exists()]
    if there and not options.overwrite:
        raise OptionError(
            f"{len(there)} of {len(targets)} results are there already, e.g. {there[0]}: "
            "give another --output, or --overwrite to replace them"
        )


def _read(path: Path, channels: int) -> Image | str:
    """The image in a file, uint8 (H, W, channels), or why there is none."""
    try:
        return decode_image(path.read_bytes(), channels)
    except OSError as error:
        return error.strerror or "cannot be read"
    except ImageError as error:
        return str(error).removeprefix("is ")


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {path.parent}: {error.strerror}; give another --output") from error
    write_bytes(path, data)


def _refuse_faults(done: Sequence[Prediction]) -> None:
    faults = [each for each in done if each.fault]
    if not faults:
        return
    names = ", ".join(f"{each.image} ({each.fault})" for each in faults[:_NAMED])
    more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    rest = "; all others are done" if len(faults) < len(done) else ""
    raise SourceError(f"{len(faults)} of {len(done)} images cannot be used: {names}{more}{rest}")
