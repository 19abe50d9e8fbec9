"""Reads GeoTIFF and PNG and writes GeoTIFF by windows, with rasterio: a part of the image is in memory at a time."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import MissingExtra, SourceError
from rtseg.frame import Image, Labels
from rtseg.image_io.header import read_header
from rtseg.system.atomic_files import failure_reason
from rtseg.system.opencv import cv2

__all__ = ["RASTER_SUFFIXES", "MaskRaster", "Raster", "is_large_png"]

RASTER_SUFFIXES = (".tif", ".tiff")
_BLOCK = 512
_CACHE_MB = "256"
_LARGE_PIXELS = 2**26
_PNG_HEAD_BYTES, _PNG_COLOUR_TYPE, _PALETTE = 4096, 25, 3
_VOID = 255
"""As in ``rtseg.frame.Labels``."""


def is_large_png(path: Path) -> bool:
    """Whether a file is a PNG of more than 67 million pixels that ``Raster`` can read, and rasterio is installed."""
    if path.suffix.lower() != ".png" or importlib.util.find_spec("rasterio") is None:
        return False
    try:
        with path.open("rb") as file:
            data = file.read(_PNG_HEAD_BYTES)
    except OSError:
        return False
    header = read_header(data)
    return (
        header is not None
        and header.kind == "png"
        and header.pixels > _LARGE_PIXELS
        and (header.bits, header.max_value, header.orientation) == (8, None, 1)
        and data[_PNG_COLOUR_TYPE] != _PALETTE
    )


class Raster:
    """A GeoTIFF or PNG that is open for reading.

    Args:
        path: the file.
        channels: that windows have, as in ``decode_image``: 3 without what follows red, green and blue; 4 with the
            fourth band; 2: grey and the extra band.

    Raises:
        MissingExtra: rasterio is not installed.
        SourceError: it cannot be read, has a palette, its values are not 8 bits, or it has no extra band.
    """

    def __init__(self, path: Path, channels: int = 3) -> None:
        rasterio = _load_rasterio()
        try:
            self._file = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise SourceError(f"{path} cannot be read ({failure_reason(error)}): give a GeoTIFF") from error
        if any(kind != "uint8" for kind in self._file.dtypes):
            kind = self._file.dtypes[0]
            self._file.close()
            raise SourceError(f"{path} has values of {kind}: convert it to 8 bits, e.g. gdal_translate -ot Byte -scale")
        if self._file.colorinterp[0] == rasterio.enums.ColorInterp.palette:
            self._file.close()
            raise SourceError(f"{path} has a palette: convert it to colours, e.g. gdal_translate -expand rgb")
        self._path, self._channels = path, channels
        count = int(self._file.count)
        self._bands = [3, 2, 1] if count > 2 else [1]
        if channels == 2 and count == 2:
            self._bands = [1, 2]
        elif channels != 3:
            self._bands = [3, 2, 1, 4]
            if count < len(self._bands):
                self._file.close()
                raise SourceError(f"{path} has {count} band{'s' * (count != 1)}, but the model needs an extra channel")
        self.size = int(self._file.height), int(self._file.width)
        """(H, W) in pixels."""

    def read(self, window: tuple[int, int, int, int]) -> Image:
        """Return a window, top, left, height, width: uint8 (h, w, channels), or grey (h, w, 1) for 3 channels.

        Raises:
            SourceError: it is damaged there.
        """
        rasterio = _load_rasterio()
        top, left, height, width = window
        try:
            planes = self._file.read(self._bands, window=rasterio.windows.Window(left, top, width, height))
        except rasterio.errors.RasterioIOError as error:
            raise SourceError(f"{self._path} is damaged ({failure_reason(error)}): give a whole file") from error
        image = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
        if image.shape[2] == 4 and self._channels == 2:
            return np.dstack((cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY), image[..., 3]))
        return image

    def profile(self) -> dict[str, Any]:
        """What a file with the same georeference needs."""
        points, crs_of_points = self._file.gcps
        crs = self._file.crs or crs_of_points
        return {"crs": crs, "transform": self._file.transform, "gcps": points or None}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class MaskRaster:
    """A GeoTIFF of class IDs that is written by windows, compressed, with a palette. Pixels without a class are 255.

    Args:
        path: the file to write.
        like: what it takes its size and georeference from.
        palette: RGB of every class ID, uint8 (256, 3).
    """

    def __init__(self, path: Path, like: Raster, palette: NDArray[np.uint8]) -> None:
        rasterio = _load_rasterio()
        height, width = like.size
        profile = {name: value for name, value in like.profile().items() if value is not None}
        layout = {
            "tiled": True,
            "blockxsize": _BLOCK,
            "blockysize": _BLOCK,
            "compress": "deflate",
            "BIGTIFF": "IF_SAFER",
        }
        self._file = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=1,
            dtype="uint8",
            nodata=_VOID,
            **profile,
            **layout,
        )
        self._file.write_colormap(1, {number: (*map(int, colour), 255) for number, colour in enumerate(palette)})
        self._window = rasterio.windows.Window

    def write(self, top: int, left: int, labels: Labels) -> None:
        """Write class IDs, uint8 (h, w)."""
        height, width = labels.shape
        self._file.write(labels, 1, window=self._window(left, top, width, height))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _load_rasterio() -> Any:
    # Else GDAL keeps blocks in a twentieth of the memory of the machine.
    os.environ.setdefault("GDAL_CACHEMAX", _CACHE_MB)
    try:
        import rasterio
        import rasterio.enums
        import rasterio.errors
        import rasterio.windows
    except ImportError as error:
        raise MissingExtra.for_feature("--tiles with a GeoTIFF", "rasterio", "geo") from error
    # A TIFF without a georeference is as welcome.
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio
