"""Options of ``rtseg batch``. Importing this loads no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.events.rule import parse_rules
from rtseg.option import BackendName, DeviceName, Group, InputSize, ModelName, Option, PrecisionName, PreprocessSteps
from rtseg.pipeline.options import PropagationOptions
from rtseg.regions.region import parse_regions
from rtseg.weights import DEFAULT_MODEL

__all__ = ["MASK_FORMATS", "RESULTS", "BatchOptions"]

RESULTS = ("shares", "masks", "overlay", "polygons", "events", "keyframes")
MASK_FORMATS = ("rle", "png", "ffv1")
_OUTPUT, _RUN, _EVENTS = "Output", "Work", "Regions and events"
_MIN_SEGMENT_S = 1.0


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Which videos to label, with which model, and where the results go.

    Raises:
        OptionError: a value is unknown or out of range.
    """

    videos: Annotated[tuple[str, ...], Option(argument="VIDEOS")]
    """Video files, folders (with their subfolders), globs such as 'videos/**/*.mp4', lists (@paths.txt), and
    URLs of files or globs (s3://, https:// and others of fsspec)."""
    output: Annotated[str, Option(_OUTPUT, ("--output", "-o"), metavar="FOLDER|URL")]
    """Folder for the results, or a URL such as s3://bucket/results; it is created. Run the same command again to go on
    after an interruption."""
    model: ModelName = DEFAULT_MODEL
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    size: InputSize = None
    preprocess: PreprocessSteps = None
    write: Annotated[tuple[str, ...], Option(_OUTPUT, parse="names")] = ("shares",)
    """Kinds of results, separated by commas: shares (Parquet), masks, overlay (MP4), polygons (GeoJSON), events
    (see --events), keyframes (JPEG images of scenes and changes)."""
    mask_format: Annotated[str, Option(_OUTPUT, choices=MASK_FORMATS)] = "rle"
    """How masks are written. rle: COCO run-length codes in Parquet. png: a file per frame. ffv1: a lossless video."""
    alpha: Annotated[float, Option(_OUTPUT)] = 0.5
    """Weight of the class colours in overlays and key images, from 0 to 1."""
    roi: Annotated[tuple[str, ...], Option(_EVENTS, metavar="[NAME=]x,y,w,h|POLYGON")] = ()
    """Label only this part of the frames: x,y,width,height or x1,y1 x2,y2 x3,y3 ..., in pixels or percent. With a name,
    a region for --events, which limits nothing. Can be repeated."""
    events: Annotated[tuple[str, ...], Option(_EVENTS, metavar="RULE")] = ()
    """An event for --write events, e.g. "Pedestrian > 2% for 1s in gate". Can be repeated."""
    segment_s: Annotated[float, Option(_RUN, ("--segment",), parse="duration", default="60s")] = 60.0
    """Shortest length of the parts into which videos are divided, e.g. 60s; each begins at a key frame."""
    workers: Annotated[int | None, Option(_RUN, default="one for each core or GPU")] = None
    """Number of processes."""
    ray: Annotated[str | None, Option(_RUN, metavar="auto|ADDRESS", default="processes of this machine")] = None
    """Run on a Ray cluster: its address, or auto for the one that this machine belongs to, else a new one here."""
    shard: Annotated[str | None, Option(_RUN, metavar="I/N", default="all segments")] = None
    """Process only every N-th segment, from the I-th on, e.g. 3/8 for the third of eight machines."""
    retry: Annotated[bool, Option(_RUN)] = False
    """Try the segments again that failed three times."""
    warm_up: Annotated[int, Option(_RUN)] = 32
    """Frames before a segment that a sequence model or --smooth also sees, so that the labels continue without a
    break."""
    propagation: Annotated[PropagationOptions, Group(("target_fps",))] = field(
        default_factory=lambda: PropagationOptions("off")
    )

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.write if kind not in RESULTS]
        if unknown or not self.write:
            got = ", ".join(map(repr, unknown)) or "nothing"
            raise OptionError(f"--write must name some of {', '.join(RESULTS)}, separated by commas; got {got}")
        if self.mask_format not in MASK_FORMATS:
            raise OptionError(f"--mask-format must be one of {', '.join(MASK_FORMATS)}, got {self.mask_format!r}")
        if self.segment_s < _MIN_SEGMENT_S:
            raise OptionError(f"--segment must be at least {_MIN_SEGMENT_S:g}s, got {self.segment_s:g}s")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers must be at least 1, got {self.workers}")
        if not 0 <= self.warm_up <= 1000:
            raise OptionError(f"--warm-up must be in 0..1000 frames, got {self.warm_up}")
        _ = self.shard_of
        names = [region.name for region in parse_regions(self.roi) if region.name]
        for rule in parse_rules(self.events):
            rule.check_region(names)
        if bool(self.events) != ("events" in self.write):
            raise OptionError(
                "--events needs --write events: add it, or leave --events out"
                if self.events
                else '--write events needs at least one --events "RULE", e.g. --events "Pedestrian > 2% for 1s"'
            )

    @property
    def shard_of(self) -> tuple[int, int]:
        """Which of how many shards, from 0.

        Raises:
            OptionError: ``shard`` is not of the form I/N with I from 1 to N.
        """
        if self.shard is None:
            return 0, 1
        number, slash, count = self.shard.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return int(number) - 1, int(count)
        raise OptionError(f"--shard must be I/N with I from 1 to N, e.g. 3/8; got {self.shard!r}")
