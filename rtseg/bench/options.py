"""Options of ``rtseg bench``. Importing them loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rtseg.option import (
    BackendName,
    DeviceName,
    InputSize,
    ModelName,
    Option,
    Overwrite,
    PrecisionName,
    PreprocessSteps,
    Report,
)
from rtseg.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from rtseg.bench.pipeline import ClipOptions
    from rtseg.bench.storage.run import StorageOptions

__all__ = ["BenchOptions"]

_STORAGE, _CLIP, _OUTPUT = "Storage: read images", "Pipeline: run a clip", "Output"
_DRAWN_SIZES = {"png": (3072, 3072), "jpg": (720, 1280)}


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What ``rtseg bench`` measures: storages or a clip."""

    storage: Annotated[tuple[str, ...], Option(_STORAGE, metavar="KIND[=FOLDER]")] = ()
    """Kind of storage to measure: ssd, hdd or auto, with a folder on it if it is not that of temporary files, e.g.
    ssd=/mnt/nvme. Can be repeated."""
    simulate: Annotated[bool, Option(_STORAGE)] = False
    """Simulate the hard disk of --storage hdd, by a model that the result states."""
    data: Annotated[Path | None, Option(_STORAGE, ("--data", "-d"), metavar="FOLDER", default="drawn images")] = None
    """Folder of images to read."""
    images: Annotated[int, Option(_STORAGE)] = 100
    """Number of images to draw."""
    image_format: Annotated[str, Option(_STORAGE, ("--format",), choices=("png", "jpg"))] = "png"
    """Format of the drawn images. png: grey, 3072x3072. jpg: in colour, 720x1280."""
    image_size: Annotated[tuple[int, int] | None, Option(_STORAGE, default="by format")] = None
    """Size of the drawn images, (H, W) in pixels."""
    decoders: Annotated[tuple[str, ...], Option(_STORAGE, parse="names", default="all")] = ()
    """Decoders to compare, separated by commas: cv2, pil, turbojpeg, torchvision."""
    workers: Annotated[tuple[int, ...], Option(_STORAGE)] = (0, 1, 2, 4, 8)
    """Numbers of reading threads to compare, separated by commas."""
    prefetch_mb: Annotated[int, Option(_STORAGE)] = 256
    """Memory for files and images that are read ahead, in MB."""
    ssd_cache: Annotated[Path | None, Option(_STORAGE, metavar="FOLDER", default="the temporary folder")] = None
    """Folder in which to make the SSD cache of a hard disk."""
    reading_only: Annotated[bool, Option(_STORAGE)] = False
    """Do not run a model on the images."""
    pipeline: Annotated[bool, Option(_CLIP)] = False
    """Measure a clip."""
    source: Annotated[str, Option(_CLIP, ("--source", "-s"))] = "demo"
    """The clip: a video, images or demo."""
    backends: Annotated[tuple[str, ...], Option(_CLIP, parse="names", default="that of --backend")] = ()
    """Runtimes to compare, separated by commas, e.g. openvino,onnxruntime."""
    frames: Annotated[int, Option(_CLIP)] = 200
    """Frames per round. A shorter clip is repeated."""
    model: ModelName = DEFAULT_MODEL
    backend: BackendName = "auto"
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    size: InputSize = None
    preprocess: PreprocessSteps = None
    rounds: Annotated[int, Option(_OUTPUT)] = 3
    """Number of times that everything is measured, in turn."""
    output: Annotated[Path | None, Option(_OUTPUT, ("--output", "-o"), metavar="FOLDER")] = None
    """Folder for storage.json and storage.png, or pipeline.json and pipeline.png (a chart)."""
    report: Report = None
    overwrite: Overwrite = False
    compare: Annotated[Path | None, Option(_OUTPUT, metavar="FILE.json")] = None
    """An older result: print how the figures changed."""
    max_regression: Annotated[float, Option(_OUTPUT)] = 10.0
    """Exit with code 1 if a figure is worse than in --compare by more than this percentage."""

    def clip_options(self) -> ClipOptions:
        """The options of a measurement of the pipeline."""
        from rtseg.bench.pipeline import ClipOptions

        return ClipOptions(
            source=self.source,
            backends=self.backends or (self.backend,),
            model=self.model,
            precision=self.precision,
            device=self.device,
            model_size=self.size,
            preprocess=self.preprocess,
            frames=self.frames,
            rounds=self.rounds,
        )

    def storage_options(self) -> StorageOptions:
        """The options of a measurement of storages."""
        from rtseg.bench.storage.image_sets import DrawnOptions
        from rtseg.bench.storage.run import StorageOptions
        from rtseg.bench.storage.targets import parse_targets

        size = self.image_size or _DRAWN_SIZES.get(self.image_format, (0, 0))
        return StorageOptions(
            targets=tuple(parse_targets(self.storage, simulate=self.simulate)),
            data=self.data,
            drawn=DrawnOptions(self.images, size, self.image_format),
            decoders=self.decoders,
            workers=self.workers,
            rounds=self.rounds,
            prefetch_mb=self.prefetch_mb,
            cache=self.ssd_cache,
            network=not self.reading_only,
            model=self.model,
            backend=self.backend,
            precision=self.precision,
            device=self.device,
            model_size=self.size,
            preprocess=self.preprocess,
        )
