"""Options of the commands that label images. Importing them loads no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.events.options import EventOptions
from rtseg.image_io.options import ReadOptions
from rtseg.option import (
    BackendName,
    DataSplit,
    DeviceName,
    Group,
    InputSize,
    ModelName,
    Option,
    Overwrite,
    PrecisionName,
    PreprocessSteps,
    Report,
    Unsure,
)
from rtseg.pipeline.options import PropagationOptions
from rtseg.sinks.options import RecordingOptions
from rtseg.sources.options import SourceOptions
from rtseg.weights import DEFAULT_MODEL

__all__ = [
    "ANNOTATION_FORMATS",
    "RESULTS",
    "VIEWS",
    "BackgroundOptions",
    "ComparisonOptions",
    "EvaluationOptions",
    "PredictOptions",
    "StreamOptions",
]

RESULTS = ("masks", "colours", "overlays")
"""``masks``: class IDs as palette PNG. ``colours``: class colours as RGB PNG. ``overlays``: class colours over the
image, as JPEG. Each is a subfolder of the output folder."""
ANNOTATION_FORMATS = ("coco", "cvat", "labelme", "voc", "yolo")
"""See ``rtseg.app.annotate``."""
UNCERTAINTIES = ("disagreement", "margin")
"""See ``rtseg.app.uncertainty``."""
_RESULTS_TEXT = f"{','.join(RESULTS)}; none with --format"
VIEWS = ("overlay", "mask", "side", "image")
"""See ``rtseg.visualize.overlay``."""
_OUTPUT, _DRAWING, _DATA, _REFERENCE, _LIMITS, _VIDEO = "Output", "Drawing", "Data", "Reference", "Limits", "Video"
_SELECTION = "Selection"
_FILES_OF_DATA = ("decoder", "on_error", "max_pixels", "bits", "reduce")
"""Fields of ``ReadOptions`` that have no meaning for data sets."""
_ONLY_FOR_SEQUENCES = (
    "decoder",
    "prefetch_mb",
    "storage",
    "ssd_cache",
    "cache_gb",
    "on_error",
    "timeout_s",
    "reduce",
)
"""Fields of ``ReadOptions`` that have no meaning for single images."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to segment, with which model, and where to send the result.

    Raises:
        OptionError: ``unsure`` is no share.
    """

    source: Annotated[str | None, Option("Input", ("--source", "-s"))] = None
    """The same as SOURCE.

    See ``rtseg.sources.open_source``. None stands for the first camera.
    """
    model: ModelName = DEFAULT_MODEL
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    size: InputSize = None
    preprocess: PreprocessSteps = None
    part: Annotated[SourceOptions, Group()] = field(default_factory=SourceOptions)
    output: Annotated[tuple[str, ...], Option(_OUTPUT, ("--output", "-o"), metavar="FILE|URL")] = ()
    """Video file (.mp4, .mkv or .mov); a server (rtsp://, rtmp://, udp://) or virtual camera (v4l2:/dev/video9) to send
    to; or ``null`` for none. Can be repeated. If no other output and no window is used: SOURCE-rtseg.mp4 in the current
    folder."""
    recording: Annotated[RecordingOptions, Group()] = field(default_factory=RecordingOptions)
    audio: Annotated[bool, Option(_OUTPUT)] = True
    """Copy the audio of a local video file into the output video, without encoding it again."""
    show: Annotated[bool | None, Option(_OUTPUT, default="if there is a display and no other output")] = None
    """Show the result in a window."""
    masks: Annotated[Path | None, Option(_OUTPUT, metavar="FOLDER|FILE")] = None
    """Write the class IDs of each frame: to a folder as PNG with a palette, to FILE.json as COCO run-length codes, or
    to FILE.mkv as a lossless video."""
    stats: Annotated[Path | None, Option(_OUTPUT, metavar="FILE")] = None
    """Write the share of each class in each frame to this file: .csv, .parquet, or .jsonl (a JSON object per line)."""
    polygons: Annotated[Path | None, Option(_OUTPUT, metavar="FILE")] = None
    """Write the outline of each area of each frame as polygons: .geojson, or .json for COCO."""
    tolerance: Annotated[float, Option(_OUTPUT)] = 1.0
    """Largest distance of a polygon from the exact outline, in pixels. 0: along the edges of the pixels."""
    overwrite: Overwrite = False
    report: Report = None
    view: Annotated[
        str | None, Option(_DRAWING, choices=VIEWS, default="overlay; image with --blur or --replace-background")
    ] = None
    """What to draw. overlay: class colours over the image. mask: class colours only. side: image and overlay side by
    side. image: the image only."""
    alpha: Annotated[float, Option(_DRAWING)] = 0.5
    """Weight of the class colours in the overlay, from 0 to 1."""
    contours: Annotated[bool, Option(_DRAWING)] = False
    """Draw lines between the classes."""
    legend: Annotated[bool, Option(_DRAWING)] = False
    """Draw the names of the classes and their share of the image."""
    hide: Annotated[tuple[str, ...], Option(_DRAWING, metavar="CLASS")] = ()
    """Name of a class not to draw. Can be repeated."""
    only: Annotated[tuple[str, ...], Option(_DRAWING, metavar="CLASS")] = ()
    """Name of a class to draw, and no other one. Can be repeated."""
    unsure: Unsure = None
    blur: Annotated[tuple[str, ...], Option(_DRAWING, metavar="CLASS")] = ()
    """Name of a class to make unrecognizable, with a margin. What the model misses stays visible. Can be repeated."""
    replace_background: Annotated[Path | None, Option(_DRAWING, metavar="IMAGE")] = None
    """Draw this image behind the classes of --only (or all but those of --hide, or of a class called background)."""
    drop: Annotated[str, Option("Input", choices=("auto", "always", "never"))] = "auto"
    """Which frames to drop when the model is too slow. auto: the oldest frame of a live source. always: play files at
    their own speed, and drop like a live source. never: none."""
    propagation: Annotated[PropagationOptions, Group()] = field(default_factory=PropagationOptions)
    events: Annotated[EventOptions, Group()] = field(default_factory=EventOptions)
    metrics: Annotated[str | None, Option("Regions and events", metavar="HOST:PORT")] = None
    """Serve the figures of the run to Prometheus, at /metrics of this address, e.g. 127.0.0.1:9100."""

    def __post_init__(self) -> None:
        _check_unsure(self.unsure)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Which images to label, with which model, and where the results go.

    Raises:
        OptionError: ``only`` is empty or names an unknown kind of result, ``format`` or ``by`` is unknown,
            ``tolerance`` is negative, ``select`` is less than 1, or ``unsure`` is no share.
    """

    images: Annotated[tuple[str | Path, ...], Option(argument="IMAGES")]
    """Image files, folders of images (without their subfolders), globs, lists (@paths.txt) and URLs of images (s3://,
    zip://, https://host/a.png)."""
    output: Annotated[Path, Option(_OUTPUT, ("--output", "-o"), metavar="FOLDER")]
    """Folder for the results; it is created."""
    model: ModelName = DEFAULT_MODEL
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    size: InputSize = None
    preprocess: PreprocessSteps = None
    alpha: Annotated[float, Option(_OUTPUT)] = 0.5
    """Weight of the class colours in overlays, from 0 to 1."""
    only: Annotated[tuple[str, ...] | None, Option(_OUTPUT, parse="names", default=_RESULTS_TEXT)] = None
    """Kinds of results to write, separated by commas."""
    format: Annotated[str | None, Option(_OUTPUT, choices=ANNOTATION_FORMATS)] = None
    """Write annotations that another tool opens, to correct them. They are the only result unless --only is given."""
    tolerance: Annotated[float, Option(_OUTPUT)] = 1.0
    """Largest distance of a polygon from the exact outline, in pixels. 0: along the edges of the pixels."""
    unsure: Unsure = None
    select: Annotated[int | None, Option(_SELECTION, metavar="N", default="all images")] = None
    """Write results of the N images that the model is least sure of, the least sure first."""
    by: Annotated[str, Option(_SELECTION, choices=UNCERTAINTIES)] = "disagreement"
    """How --select measures that. disagreement: the share of pixels whose label changes in the mirrored image. margin:
    how close the two highest probabilities of a pixel are (openvino, onnxruntime)."""
    tiles: Annotated[int | None, Option("Large images", default="the whole image")] = None
    """Label each image in tiles of this side, in pixels, each of which is resized to the input of the model. With
    --only masks, the mask of a GeoTIFF is a GeoTIFF with the same georeference, read and written by windows."""
    overlap: Annotated[int, Option("Large images")] = 128
    """How much neighbouring tiles overlap, in pixels. A pixel gets the label of the tile in whose middle it is."""
    overwrite: Overwrite = False
    report: Report = None
    reading: Annotated[ReadOptions, Group(_ONLY_FOR_SEQUENCES)] = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        _check_unsure(self.unsure)
        if self.tiles is not None and not 32 <= self.tiles <= 16384:
            raise OptionError(f"--tiles must be in 32..16384 pixels, got {self.tiles}")
        if self.tiles is not None and not 0 <= 2 * self.overlap <= self.tiles:
            raise OptionError(f"--overlap must be at most half of --tiles, {self.tiles // 2}; got {self.overlap}")
        unknown = [kind for kind in self.kinds if kind not in RESULTS]
        if unknown or not (self.kinds or self.format):
            got = ", ".join(map(repr, unknown)) or "nothing"
            raise OptionError(f"--only must name some of {', '.join(RESULTS)}, separated by commas; got {got}")
        if self.format is not None and self.format not in ANNOTATION_FORMATS:
            raise OptionError(f"--format must be one of {', '.join(ANNOTATION_FORMATS)}, got {self.format!r}")
        if not 0 <= self.tolerance < float("inf"):
            raise OptionError(f"--tolerance must be a number of pixels from 0, got {self.tolerance:g}")
        if self.select is not None and self.select < 1:
            raise OptionError(f"--select must be a number of images from 1, got {self.select}")
        if self.by == "entropy":
            raise OptionError("--by entropy is not measured: use --by margin or --by disagreement")
        if self.by not in UNCERTAINTIES:
            raise OptionError(f"--by must be one of {', '.join(UNCERTAINTIES)}, got {self.by!r}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of results, without annotations."""
        return (() if self.format else RESULTS) if self.only is None else self.only


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Which model to measure, and on which labelled images.

    Raises:
        OptionError: ``propagate`` is less than 1.
    """

    data: Annotated[str, Option(_DATA, ("--data", "-d"), metavar="KIND:PATH")]
    """Labelled images, e.g. camvid:FOLDER."""
    model: ModelName = DEFAULT_MODEL
    split: DataSplit = "val"
    map_classes: Annotated[tuple[str, ...], Option(_DATA, parse="names", metavar="MODEL=DATA,...")] = ()
    """Classes of the model and of the data that mean the same, where their names do not say so, e.g. tv=tvmonitor.
    void=NAME leaves out a class of the data; NAME=void says that the data lack a class of the model."""
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    size: InputSize = None
    preprocess: PreprocessSteps = None
    propagate: Annotated[int | None, Option(_VIDEO, metavar="K", default="every image")] = None
    """Run the network on every K-th image of a video only, and carry labels along the motion to the others."""
    smooth: Annotated[bool, Option(_VIDEO)] = False
    """Reduce flicker as `rtseg stream --smooth` does."""
    reading: Annotated[ReadOptions, Group(_FILES_OF_DATA)] = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        if self.propagate is not None and self.propagate < 1:
            raise OptionError(f"--propagate must be a number of images from 1, got {self.propagate}")


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """Which two models to compare, on which images, and how much may be lost."""

    reference: Annotated[str, Option(argument="REFERENCE")]
    """Model that counts as right: a model file, or the name of a bundled model."""
    candidate: Annotated[str, Option(argument="CANDIDATE")]
    """Model to check: a model file, the name of a bundled model, or a TensorRT engine."""
    data: Annotated[str | None, Option(_DATA, ("--data", "-d"), metavar="KIND:PATH", default="drawn street scenes")] = (
        None
    )
    """Labelled images, e.g. camvid:FOLDER."""
    split: DataSplit = "val"
    max_drop: Annotated[float | None, Option(_LIMITS, default="0.05 for fp16, 0.5 for int8")] = None
    """Largest loss of mIoU, in percentage points."""
    min_agreement: Annotated[float | None, Option(_LIMITS, default="0.995 for fp16, none for int8")] = None
    """Smallest share of pixels with the same label, from 0 to 1."""
    reference_backend: Annotated[str, Option(_REFERENCE)] = "openvino"
    """Runtime that runs REFERENCE; see --backend."""
    reference_precision: Annotated[str, Option(_REFERENCE)] = "fp32"
    """Number format of REFERENCE; see --precision."""
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    frames: Annotated[int | None, Option(_DATA, default="all")] = None
    """Number of images to compare, spread evenly over the data."""
    worst: Annotated[Path | None, Option(_OUTPUT, metavar="FOLDER")] = None
    """Folder for drawings of the images that agree least."""


@dataclass(frozen=True, slots=True)
class BackgroundOptions:
    """Which frames to average, how, and where the image goes.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    frames: Annotated[str, Option(argument="SOURCE")]
    """Frames to average: a video, a camera, a folder, a glob or a URL, as for `rtseg stream`."""
    output: Annotated[Path, Option(None, ("--output", "-o"), metavar="FILE.png")]
    """PNG file for the background, with 8 bits per channel; grey if all frames are grey."""
    median: Annotated[bool, Option()] = False
    """Take the median instead of the mean: an object seen in a few frames leaves no trace. All its frames are kept in
    memory at once."""
    count: Annotated[int | None, Option(None, ("--frames",), default="all, or 31 with --median")] = None
    """Largest number of frames to use: spread evenly over a source of known length, else the first ones."""
    size: Annotated[tuple[int, int] | None, Option(default="that of the frames")] = None
    """Size of the background, (H, W) in pixels."""
    overwrite: Annotated[bool, Option()] = False
    """Replace the output if it exists."""
    source: SourceOptions = field(default_factory=SourceOptions)

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".png":
            raise OptionError(f"--output must end in .png, got {self.output}")
        if self.count is not None and self.count < 1:
            raise OptionError(f"--frames must be at least 1, got {self.count}")
        if self.size is not None and not all(1 <= length <= 1 << 15 for length in self.size):
            raise OptionError(f"--size must be 1 to {1 << 15} pixels each, got {self.size[0]}x{self.size[1]}")


def _check_unsure(least: float | None) -> None:
    if least is not None and not 0 < least <= 1:
        raise OptionError(f"--unsure must be a share, above 0 and up to 1, e.g. 0.2; got {least:g}")
