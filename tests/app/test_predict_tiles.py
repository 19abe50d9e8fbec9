"""Large images in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.small_network import small_model

from rtseg.app.options import PredictOptions
from rtseg.app.predict import PredictRun
from rtseg.errors import OptionError, SourceError
from rtseg.image_io.geotiff import Raster


def predict(image: Path, output: Path, model: Path, **options: Any) -> None:
    with PredictRun(PredictOptions((image,), output, str(model), precision="fp32", only=("masks",), **options)) as run:  # type: ignore[arg-type]
        run.run()


@pytest.fixture
def image() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (150, 230, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3) * 1, np.uint8)


def test_tiles_cover_an_image(image: np.ndarray, icnet_file: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    predict(tmp_path / "a.png", tmp_path / "out", icnet_file, tiles=96, overlap=32)
    mask = cv2.imread(str(tmp_path / "out/masks/a.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape[:2] == (150, 230)


@pytest.mark.filterwarnings("ignore")  # of rasterio, about its own dependencies
def test_a_geotiff_keeps_its_georeference_and_gets_the_same_labels(
    image: np.ndarray, icnet_file: Path, tmp_path: Path
) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    crs, transform = "EPSG:32633", rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
    settings = {"driver": "GTiff", "height": 150, "width": 230, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", crs=crs, transform=transform, **settings) as file:
        file.write(np.moveaxis(image[..., ::-1], -1, 0))
    cv2.imwrite(str(tmp_path / "a.png"), image)
    for name in ("a.tif", "a.png"):
        predict(tmp_path / name, tmp_path / name[2:], icnet_file, tiles=96, overlap=32)
    with rasterio.open(tmp_path / "tif/masks/a.tif") as written:
        assert (written.crs, written.transform, written.nodata) == (rasterio.CRS.from_string(crs), transform, 255)
        labels = written.read(1)
        assert len(written.colormap(1)) == 256
    with rasterio.open(tmp_path / "png/masks/a.png") as png:
        assert np.array_equal(labels, png.read(1))
    assert [path.name for path in (tmp_path / "tif").rglob("*.*")] == ["a.tif"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["colour", "grey", "alpha", "palette", "16 bits"])
def test_a_large_png_is_read_and_written_by_windows_with_the_same_labels(
    mode: str, image: np.ndarray, icnet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    path = tmp_path / "a.png"
    variants = {"grey": image[..., 0], "alpha": np.dstack((image, image[..., :1])), "16 bits": image.astype(np.uint16)}
    cv2.imwrite(str(path), variants.get(mode, image))
    if mode == "palette":
        pillow = pytest.importorskip("PIL.Image")
        pillow.open(path).quantize(64).save(path)
    predict(path, tmp_path / "whole", icnet_file, tiles=96, overlap=32)
    monkeypatch.setattr("rtseg.image_io.geotiff._LARGE_PIXELS", 1000)
    windows: list[tuple[int, int, int, int]] = []
    read = Raster.read
    monkeypatch.setattr(Raster, "read", lambda self, window: windows.append(window) or read(self, window))
    predict(path, tmp_path / "windows", icnet_file, tiles=96, overlap=32)
    assert bool(windows) == (mode in ("colour", "grey", "alpha"))
    found, expected = (cv2.imread(str(tmp_path / name / "masks/a.png")) for name in ("windows", "whole"))
    assert found is not None
    assert np.array_equal(found, expected)


@pytest.mark.filterwarnings("ignore")
def test_a_tiff_with_a_palette_is_refused_with_the_way_out(icnet_file: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    settings = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8", "photometric": "palette"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(np.zeros((1, 64, 64), np.uint8))
        file.write_colormap(1, {0: (255, 0, 0, 255)})
    with pytest.raises(SourceError, match="has a palette: convert it"):
        predict(tmp_path / "a.tif", tmp_path / "out", icnet_file, tiles=64, overlap=0)


def test_tiles_of_a_network_that_sees_little_have_no_seams(image: np.ndarray, tmp_path: Path) -> None:
    """Its convolutions see 3 pixels around a pixel, and tiles that keep the scale overlap by more than twice that."""
    model = small_model(tmp_path).path
    large = cv2.resize(image, (256, 192))
    cv2.imwrite(str(tmp_path / "a.png"), large)
    predict(tmp_path / "a.png", tmp_path / "whole", model, size=(192, 256))
    predict(tmp_path / "a.png", tmp_path / "tiled", model, size=(64, 64), tiles=64, overlap=8)
    predict(tmp_path / "a.png", tmp_path / "apart", model, size=(64, 64), tiles=64, overlap=0)
    whole, tiled, apart = (cv2.imread(str(tmp_path / name / "masks/a.png")) for name in ("whole", "tiled", "apart"))
    assert whole is not None
    assert np.array_equal(tiled, whole)
    assert not np.array_equal(apart, whole)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bands", [1, 2, 4, 5])
def test_a_geotiff_of_any_number_of_bands_is_labelled_as_without_tiles(
    bands: int, image: np.ndarray, icnet_file: Path, tmp_path: Path
) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    planes = np.moveaxis(image[..., ::-1], -1, 0)
    planes = np.concatenate((planes, planes[:2] // 2))[:bands]
    settings = {"driver": "GTiff", "height": 150, "width": 230, "count": bands, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(planes)
    shown = planes[[2, 1, 0]] if bands > 2 else planes[[0, 0, 0]]
    cv2.imwrite(str(tmp_path / "a.png"), np.moveaxis(shown, 0, -1))
    labels = []
    for name in ("a.tif", "a.png"):
        predict(tmp_path / name, tmp_path / name[2:], icnet_file, tiles=96, overlap=32)
        with rasterio.open(tmp_path / name[2:] / "masks" / name) as file:
            labels.append(file.read(1))
    assert np.array_equal(*labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("bands", "channels"), [(2, 2), (4, 2), (4, 4)])
def test_windows_of_a_geotiff_have_the_channels_of_the_model(bands: int, channels: int, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    settings = {"driver": "GTiff", "height": 8, "width": 8, "count": bands, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(np.full((bands, 8, 8), 9, np.uint8) * np.arange(1, bands + 1, dtype=np.uint8)[:, None, None])
    with Raster(tmp_path / "a.tif", channels) as raster:
        window = raster.read((1, 2, 3, 4))
    assert window.shape == (3, 4, channels)
    assert (window[..., -1] == 9 * bands).all()


@pytest.mark.filterwarnings("ignore")
def test_a_geotiff_without_the_extra_band_is_refused(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    settings = {"driver": "GTiff", "height": 8, "width": 8, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(SourceError, match="has 3 bands, but the model needs an extra channel"):
        Raster(tmp_path / "a.tif", 4)


@pytest.mark.filterwarnings("ignore")
def test_a_geotiff_with_control_points_keeps_them_and_their_reference_system(
    image: np.ndarray, icnet_file: Path, tmp_path: Path
) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row, column, column, -row) for row, column in ((0, 0), (0, 230), (150, 0))]
    settings = {"driver": "GTiff", "height": 150, "width": 230, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", gcps=points, crs="EPSG:32633", **settings) as file:
        file.write(np.moveaxis(image, -1, 0))
    predict(tmp_path / "a.tif", tmp_path / "out", icnet_file, tiles=96, overlap=32)
    with rasterio.open(tmp_path / "out/masks/a.tif") as written:
        found, crs = written.gcps
    assert [(point.row, point.col, point.x, point.y) for point in found] == [
        (point.row, point.col, point.x, point.y) for point in points
    ]
    assert crs == rasterio.CRS.from_epsg(32633)


@pytest.mark.filterwarnings("ignore")
def test_a_geotiff_of_16_bits_is_refused_with_the_way_out(icnet_file: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio: pip install 'rtseg[geo]'")
    settings = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(np.zeros((1, 64, 64), np.uint16))
    with pytest.raises(SourceError, match="uint16: convert it to 8 bits"):
        predict(tmp_path / "a.tif", tmp_path / "out", icnet_file, tiles=64, overlap=0)


@pytest.mark.parametrize("wrong", [{"tiles": 8}, {"tiles": 64, "overlap": 40}, {"tiles": 64, "overlap": -1}])
def test_wrong_tiles_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        PredictOptions((tmp_path,), tmp_path, **wrong)  # type: ignore[arg-type]
